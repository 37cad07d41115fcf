// The element types of tensors.
#pragma once

#include <cstdint>

namespace cnnrt {

// Storage types for elements of which C++20 has no type of this size and meaning.
struct Bool {
    uint8_t value;  // 0 or 1
};
struct Float16 {
    uint16_t bits;  // IEEE 754 binary16
};
struct BFloat16 {
    uint16_t bits;  // the upper half of a float
};

enum class DType : int32_t {
#define DTYPE(id, name, type, kind, code) id = code,
#include "dtypes.def"
};

}  // namespace cnnrt
