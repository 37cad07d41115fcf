// The limits of this machine: bytes read, and barriers between two threads. Compiled by machine.py
// for the CPU it runs on; plain vectors of the compiler, no intrinsics.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Each thread announces itself on a line of its own and waits for the others' (as
// cpp/thread_pool.cpp).
struct alignas(64) Line {
    std::atomic<uint32_t> phase{0};
};

void wait(Line* lines, int thread, int threads) {
    const uint32_t phase = lines[thread].phase.load(std::memory_order_relaxed) + 1;
    lines[thread].phase.store(phase, std::memory_order_release);
    for (int i = 0; i < threads; ++i)
        while (i != thread &&
               static_cast<int32_t>(lines[i].phase.load(std::memory_order_acquire) - phase) < 0)
            pause();
}

// Runs body(thread) on all threads between two barriers, `repeats` times; the shortest, in seconds.
template <class F>
double shortest(int threads, int repeats, F body) {
    std::unique_ptr<Line[]> lines(new Line[threads]);
    double best = 1e30;
    auto work = [&](int thread) {
        for (int r = 0; r < repeats; ++r) {
            wait(lines.get(), thread, threads);
            const auto start = Clock::now();
            body(thread);
            wait(lines.get(), thread, threads);
            const double s = seconds_since(start);
            if (thread == 0 && s < best) best = s;
        }
    };
    std::vector<std::thread> others;
    for (int t = 1; t < threads; ++t) others.emplace_back(work, t);
    work(0);
    for (auto& t : others) t.join();
    return best;
}

// A register: eight sums of twice its size would be kept in memory.
#if defined(__AVX512F__)
typedef float Vec __attribute__((vector_size(64)));
#elif defined(__AVX__)
typedef float Vec __attribute__((vector_size(32)));
#else
typedef float Vec __attribute__((vector_size(16)));
#endif
constexpr int64_t kVec = sizeof(Vec);

}  // namespace

extern "C" {

// GB/s of reading a buffer of `bytes` per thread again and again, all threads together.
double read_bandwidth(int64_t bytes, int threads, int repeats) {
    const int64_t n = bytes / kVec / 8 * 8;
    const int64_t passes = bytes < (64 << 20) ? (64 << 20) / bytes : 1;
    std::vector<Vec*> data(threads);
    for (auto& p : data) {
        p = static_cast<Vec*>(std::aligned_alloc(4096, (n * kVec + 4095) / 4096 * 4096));
        if (!p) return 0;
#if defined(__linux__)
        madvise(p, n * kVec, MADV_HUGEPAGE);
#endif
        for (int64_t i = 0; i < n; ++i) p[i] = Vec{} + 1.0f;
    }
    std::vector<float> sink(threads * 16);
    const double s = shortest(threads, repeats, [&](int thread) {
        const Vec* p = data[thread];
        Vec x[8] = {};
        for (int64_t r = 0; r < passes; ++r)
            for (int64_t i = 0; i < n; i += 8) {
#pragma GCC unroll 8
                for (int j = 0; j < 8; ++j) x[j] += p[i + j];
            }
        for (int j = 1; j < 8; ++j) x[0] += x[j];
        sink[thread * 16] = x[0][0];
    });
    for (auto* p : data) std::free(p);
    return static_cast<double>(n) * kVec * passes * threads / s / 1e9;
}

// Nanoseconds of a barrier between two threads: one mean of 500 barriers per batch.
void barrier_times(double* ns, int batches) {
    constexpr int kBarriers = 500;
    Line lines[2];
    std::thread other([&] {
        for (int i = 0; i < (batches + 1) * kBarriers; ++i) wait(lines, 1, 2);
    });
    for (int b = -1; b < batches; ++b) {  // the first batch waits for the other thread to start
        const auto start = Clock::now();
        for (int i = 0; i < kBarriers; ++i) wait(lines, 0, 2);
        if (b >= 0) ns[b] = seconds_since(start) * 1e9 / kBarriers;
    }
    other.join();
}

}  // extern "C"
