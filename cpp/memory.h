// Aligned memory, for weights, arenas and scratch.
#pragma once

#include <cstddef>
#include <utility>

namespace cnnrt {

// `bytes` of memory on a 64-byte boundary; large ones on huge pages where the system has them.
// Its content is unspecified. Throws std::bad_alloc.
class Memory {
public:
    Memory() = default;
    explicit Memory(size_t bytes);
    ~Memory();
    Memory(Memory&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    Memory& operator=(Memory&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }

    char* data() const { return data_; }
    size_t bytes() const { return bytes_; }

private:
    char* data_ = nullptr;
    size_t bytes_ = 0;
};

}  // namespace cnnrt
