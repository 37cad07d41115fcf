#include "memory.h"

#include <cstdint>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace cnnrt {
namespace {

constexpr size_t kLine = 64, kHugePage = size_t{2} << 20;
// Blocks of at least this size are mapped, each on its own. In the heap, the arenas of changing
// image sizes leave gaps. Over 1200 sizes up to 256 x 256, a process grew from 248 MB to 302
// without mapping. With a limit of 4 MiB it grew from 208 to 252, and with this one from 206 to
// 207.
[[maybe_unused]] constexpr size_t kMinMapped = size_t{256} << 10;

constexpr size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

// A kernel may read one whole vector at the end of an array of any length.
constexpr size_t in_heap(size_t bytes) { return round_up(bytes + kLine, kLine); }

#if defined(__linux__)
// Rounded up to the largest page size of x86-64 and AArch64.
constexpr size_t in_pages(size_t bytes) { return round_up(bytes + kLine, size_t{64} << 10); }

char* map(size_t bytes) {
    const size_t length = in_pages(bytes);
    void* const found = mmap(nullptr, length + kHugePage, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED) throw std::bad_alloc();
    char* const first = static_cast<char*>(found);
    const size_t before = -reinterpret_cast<uintptr_t>(first) % kHugePage;
    char* const data = first + before;
    if (before > 0) munmap(first, before);
    munmap(data + length, kHugePage - before);
    madvise(data, length, MADV_HUGEPAGE);
    return data;
}
#endif

}  // namespace

Memory::Memory(size_t bytes) : bytes_(bytes) {
    if (bytes > SIZE_MAX - 2 * kHugePage) throw std::bad_alloc();
#if defined(__linux__)
    if (bytes >= kMinMapped) {
        data_ = map(bytes);
        return;
    }
#endif
    data_ = static_cast<char*>(std::aligned_alloc(kLine, in_heap(bytes)));
    if (!data_) throw std::bad_alloc();
}

Memory::~Memory() {
    if (!owned_ || !data_) return;
#if defined(__linux__)
    if (bytes_ >= kMinMapped) {
        munmap(data_, in_pages(bytes_));
        return;
    }
#endif
    std::free(data_);
}

void Memory::grow(size_t bytes) {
    if (bytes <= bytes_) return;
    Memory larger(bytes);
#if defined(__linux__)
    // In one call, so that it stays one mapping: a later call could not move two.
    if (data_ && bytes_ >= kMinMapped &&
        mremap(data_, in_pages(bytes_), in_pages(bytes), MREMAP_MAYMOVE | MREMAP_FIXED,
               larger.data_) != MAP_FAILED)
        data_ = nullptr;
#endif
    *this = std::move(larger);
}

}  // namespace cnnrt
