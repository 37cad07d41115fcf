#include "thread_pool.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <thread>

#include "openmp.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define CNNRT_POSIX 1
#endif
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace cnnrt {
namespace {

inline void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}
using Clock = std::chrono::steady_clock;

// How long a thread spins before it sleeps: a worker between regions, and any thread inside one.
// Inside a region the wait is nearly always shorter. On a busy machine, a thread that sleeps too
// soon waits for its next time slice at each barrier. One that spins too long keeps the CPU from
// the thread it waits for. EfficientNet-Lite0 on two threads of two CPUs takes 9 ms alone. Beside
// one (two) busy programs it took 18 (60 to 80) ms with 30 us, 23 (27) with 120, and 60 (35) with
// 900. Yielding every time instead, it took 18 to 20 (18 to 192).
constexpr auto kSpinBetweenRegions = std::chrono::microseconds(25);
constexpr auto kSpinInRegion = std::chrono::microseconds(100);

struct Job {
    Region* region;
    Barrier* barrier;
    int size;
};

struct Worker {
    std::atomic<bool> taken{true};  // by a region, or not yet started
    Job* job = nullptr;
    int thread = 0;
    Counter assigned, done;  // counts of jobs

    void loop() {
        for (uint32_t count = 1;; ++count) {
            assigned.wait_for(count, kSpinBetweenRegions);
            const Job mine = *job;
            {
                const FlushDenormals flush;
                mine.region->run(thread, mine.size, *mine.barrier);
            }
            // Released before the caller continues, so that its next region finds this worker.
            taken.store(false, std::memory_order_release);
            done.set(count);
        }
    }
};

struct ThreadPool {
    std::mutex starting;
    std::atomic<int> count{0};
    std::atomic<int> active{0};  // threads in regions, callers and workers
    std::atomic<int> budget{1};
    std::atomic<unsigned> generation{0};
    Worker* workers[kMaxThreads];

    // Counts one more thread as active, unless `limit` are already.
    bool enter(int limit) {
        int now = active.load(std::memory_order_relaxed);
        while (now < limit)
            if (active.compare_exchange_weak(now, now + 1, std::memory_order_relaxed)) return true;
        return false;
    }
    void leave(int threads) { active.fetch_sub(threads, std::memory_order_relaxed); }

    // An idle worker, or null. Starts one if fewer than `max_workers` exist.
    Worker* take(int max_workers) {
        const int n = count.load(std::memory_order_acquire);
        for (int i = 0; i < n; ++i) {
            Worker* w = workers[i];
            if (!w->taken.load(std::memory_order_relaxed) &&
                !w->taken.exchange(true, std::memory_order_acquire))
                return w;
        }
        return n < max_workers ? start(max_workers) : nullptr;
    }

    Worker* start(int max_workers) {
        const std::lock_guard<std::mutex> lock(starting);
        const int n = count.load(std::memory_order_relaxed);
        if (n >= max_workers) return nullptr;
        try {
            // Never freed: it may still be waiting when the process ends.
            Worker* w = new Worker;
            std::thread([w] { w->loop(); }).detach();
            workers[n] = w;
            count.store(n + 1, std::memory_order_release);
            return w;
        } catch (...) {
            return nullptr;  // the system has no thread left: run with fewer
        }
    }
};

ThreadPool& pool() {
    static ThreadPool* const instance = [] {
        ThreadPool* p = new ThreadPool;
#if defined(CNNRT_POSIX)
        // Only the forking thread exists in the child.
        pthread_atfork([] { pool().starting.lock(); }, [] { pool().starting.unlock(); },
                       [] {
                           pool().count.store(0, std::memory_order_relaxed);
                           pool().active.store(0, std::memory_order_relaxed);
                           pool().generation.fetch_add(1, std::memory_order_relaxed);
                           pool().starting.unlock();
                       });
#endif
        return p;
    }();
    return *instance;
}
// Constructed when the library is loaded: a fork during construction would leave the child half of
// it.
[[maybe_unused]] ThreadPool& at_load = pool();

thread_local int region_limit = kMaxThreads;

// Runs the body on this thread and on workers that were taken.
void run_pool_region(Region& region, Worker* const* taken, int helpers, Barrier& barrier) {
    const unsigned generation = fork_generation();
    Job job{&region, &barrier, helpers + 1};
    uint32_t jobs[kMaxThreads];  // the count of jobs of each helper, with this one
    for (int i = 0; i < helpers; ++i) {
        Worker& w = *taken[i];
        w.job = &job;
        w.thread = i + 1;
        w.assigned.set(jobs[i] = w.assigned.value() + 1);
    }
    region.run(0, helpers + 1, barrier);
    if (fork_generation() != generation) return;  // this is a forked child, which has no workers
    for (int i = 0; i < helpers; ++i) taken[i]->done.wait_for(jobs[i], kSpinInRegion);
}

}  // namespace

template <class F>
void Counter::wait_for(uint32_t value, std::chrono::nanoseconds spin, F stop) {
    const auto reached = [&](uint32_t now) { return static_cast<int32_t>(now - value) >= 0; };
    Clock::time_point end{};
    for (int i = 0;; ++i) {
        if (reached(value_.load(std::memory_order_acquire)) || stop()) return;
        pause();
        if (i % 64 != 63) continue;
        const auto now = Clock::now();
        if (i == 63) end = now + spin;
        if (now >= end) break;
    }
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    for (uint32_t now; !reached(now = value_.load(std::memory_order_seq_cst)) && !stop();)
        value_.wait(now, std::memory_order_acquire);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

void Counter::wait_for(uint32_t value, std::chrono::nanoseconds spin) {
    wait_for(value, spin, [] { return false; });
}

void Barrier::wait(int thread, int threads) {
    const uint32_t phase = arrivals_[thread].value() + 1;
    arrivals_[thread].set(phase);
    for (int i = 0; i < threads; ++i)
        if (i != thread)
            arrivals_[i].wait_for(phase, kSpinInRegion,
                                  [&] { return abandoned_.load(std::memory_order_relaxed); });
}

void run_region(Region& region, Threads threads) {
    const FlushDenormals flush;
    ThreadPool& p = pool();
    const bool openmp = threads.threading == Threading::kOpenMP && openmp_is_usable();
    const int wanted = openmp && inside_openmp_region() ? 1 : std::min(threads.count, region_limit);
    const int limit = std::max(wanted, p.budget.load(std::memory_order_relaxed));
    const unsigned generation = fork_generation();
    p.active.fetch_add(1, std::memory_order_relaxed);
    Worker* taken[kMaxThreads];
    int helpers = 0;
    while (helpers < wanted - 1 && p.enter(limit)) {
        if (!openmp && !(taken[helpers] = p.take(limit - 1))) {
            p.leave(1);
            break;
        }
        ++helpers;
    }
    Barrier barrier(helpers + 1);
    if (helpers == 0)
        region.run(0, 1, barrier);
    else if (openmp)
        run_openmp_region(region, helpers + 1, barrier);
    else
        run_pool_region(region, taken, helpers, barrier);
    // A forked child, where the counts are those of the child, has none of the helpers.
    if (fork_generation() == generation) p.leave(helpers + 1);
}

void set_thread_budget(int threads) {
    pool().budget.store(std::clamp(threads, 1, kMaxThreads), std::memory_order_relaxed);
}

void limit_regions(int threads) {
    region_limit = threads > 0 ? std::min(threads, kMaxThreads) : kMaxThreads;
}

unsigned fork_generation() { return pool().generation.load(std::memory_order_relaxed); }

#if defined(__x86_64__)
FlushDenormals::FlushDenormals() : saved_(_mm_getcsr()) {
    _mm_setcsr(static_cast<unsigned>(saved_) | 0x8040u);
}
FlushDenormals::~FlushDenormals() { _mm_setcsr(static_cast<unsigned>(saved_)); }
#elif defined(__aarch64__)
FlushDenormals::FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" ::"r"(saved_ | (uint64_t{1} << 24)));
}
FlushDenormals::~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(saved_)); }
#else
FlushDenormals::FlushDenormals() : saved_(0) {}
FlushDenormals::~FlushDenormals() {}
#endif

}  // namespace cnnrt
