// Kernels that move elements without reading their values have one instance per element size.
#pragma once

#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

// Calls f with a value of the unsigned integer type of `bytes` bytes: 1, 2, 4 or 8.
template <class F>
CNNRT_INLINE void with_element(int bytes, F f) {
    switch (bytes) {
        case 1:
            return f(uint8_t{});
        case 2:
            return f(uint16_t{});
        case 4:
            return f(uint32_t{});
        case 8:
            return f(uint64_t{});
    }
}

}  // namespace
}  // namespace cnnrt::CNNRT_ISA
