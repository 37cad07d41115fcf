// Aligned memory, for weights, arenas and scratch.
#pragma once

#include <cstddef>
#include <utility>

namespace cnnrt {

// `bytes` of memory on a 64-byte boundary; large ones on huge pages where the system has them.
// The content is unspecified. Throws std::bad_alloc.
class Memory {
public:
    Memory() = default;
    explicit Memory(size_t bytes);
    // Memory that this object does not own and that must outlive it, such as a part of a mapped
    // file.
    static Memory view(char* data, size_t bytes) {
        Memory memory;
        memory.data_ = data;
        memory.bytes_ = bytes;
        memory.owned_ = false;
        return memory;
    }
    ~Memory();
    Memory(Memory&& other) noexcept { *this = std::move(other); }
    Memory& operator=(Memory&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
        std::swap(owned_, other.owned_);
        return *this;
    }

    char* data() const { return data_; }
    size_t bytes() const { return bytes_; }
    bool owned() const { return owned_; }
    // Makes owned memory at least this large; the content is then unspecified. Pages that have been
    // touched stay, where the system can move them: a new page costs as much as 4 KiB of work.
    void grow(size_t bytes);

private:
    char* data_ = nullptr;
    size_t bytes_ = 0;
    bool owned_ = true;
};

}  // namespace cnnrt
