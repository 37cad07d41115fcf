#include "memory.h"

#include <cstdint>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace cnnrt {

Memory::Memory(size_t bytes) : bytes_(bytes) {
    constexpr size_t kLine = 64, kHugePage = size_t{2} << 20;
    const size_t alignment = bytes >= 2 * kHugePage ? kHugePage : kLine;
    if (bytes > SIZE_MAX - alignment) throw std::bad_alloc();
    // The vector kernels may read one whole vector at the end of an array of any length.
    const size_t rounded = (bytes + kLine + alignment - 1) / alignment * alignment;
    data_ = static_cast<char*>(std::aligned_alloc(alignment, rounded));
    if (!data_) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (alignment == kHugePage) madvise(data_, rounded, MADV_HUGEPAGE);
#endif
}

Memory::~Memory() {
    if (owned_) std::free(data_);
}

}  // namespace cnnrt
