// Parallel regions, the barrier inside them, and the thread pool of the process that runs them.
//
// A region may run on the threads of an OpenMP runtime instead (openmp.h). What follows is true of
// the pool.
//
// Workers are started when first needed. A waiting thread spins for tens of microseconds, so that
// inferences in a row find it awake, and then sleeps in the kernel.
//
// All regions share one budget of threads, in which the callers' own threads count. A region takes
// workers only while fewer threads than the budget are in regions. Models that run at the same time
// therefore share the machine instead of multiplying their threads. No result depends on how many
// threads came, and no caller waits for another. A forked child starts with an empty pool and a
// whole budget, whatever its parent was doing.
//
// OpenMP's runtimes do not promise all of this. They keep threads for each calling thread, which
// spin on after a region, and libgomp hangs in a child forked after one. The budget holds for both.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>

namespace cnnrt {

constexpr int kMaxThreads = 256;

// A number that one thread counts up and others wait for, on a cache line of its own.
class alignas(64) Counter {
public:
    uint32_t value() const { return value_.load(std::memory_order_relaxed); }
    void set(uint32_t value) {
        // Sequentially consistent with sleepers_: this thread sees the sleeper, or it sees the
        // value.
        value_.store(value, std::memory_order_seq_cst);
        if (sleepers_.load(std::memory_order_seq_cst) != 0) value_.notify_all();
    }
    // Returns when the value has been reached or stop() is true. Spins for `spin`, then sleeps.
    template <class F>
    void wait_for(uint32_t value, std::chrono::nanoseconds spin, F stop);
    void wait_for(uint32_t value, std::chrono::nanoseconds spin);

private:
    std::atomic<uint32_t> value_{0};
    std::atomic<uint32_t> sleepers_{0};
};

// Waits until all threads of a region have arrived. Each thread announces itself on its own counter
// and reads the others': one cache-line transfer between two cores.
class Barrier {
public:
    // For at most `threads` threads.
    explicit Barrier(int threads) : arrivals_(reinterpret_cast<Counter*>(storage_)) {
        for (int i = 0; i < threads; ++i)
            new (arrivals_ + i) Counter;  // only as many as there are threads
    }
    Barrier(const Barrier&) = delete;
    Barrier& operator=(const Barrier&) = delete;
    // Called by thread `thread` of `threads`, all of which must call it.
    void wait(int thread, int threads);
    // Called by the only thread left, in a forked child: no other thread will arrive.
    void abandon() { abandoned_.store(true, std::memory_order_relaxed); }

private:
    std::atomic<bool> abandoned_{false};
    Counter* const arrivals_;
    alignas(64) std::byte storage_[kMaxThreads * sizeof(Counter)];
};

// The body of a parallel region; runs on `size` threads, of which the caller is thread 0.
class Region {
public:
    virtual void run(int thread, int size, Barrier& barrier) = 0;

protected:
    ~Region() = default;
};

// The threads that regions run on: those of the thread pool, or those of the OpenMP runtime.
enum class Threading { kPool, kOpenMP };

struct Threads {
    int count = 1;
    Threading threading = Threading::kPool;
};

// Runs the body on up to as many threads and returns when all are done. Does not throw, and takes
// no lock unless it starts a worker. With OpenMP, a forked child uses the pool, and a caller inside
// an OpenMP region its own thread alone.
void run_region(Region& region, Threads threads);

// Sets how many threads may be in regions at the same time. A region may ask for more than that.
void set_thread_budget(int threads);

// Sets how many threads the regions that this thread starts may have, whatever they ask for. It
// holds until the next call; 0: as many as they ask for.
void limit_regions(int threads);

// The number of forks between this process and the ancestor that loaded the library. A region that
// sees it change has lost its workers.
unsigned fork_generation();

// Sets flush-to-zero and denormals-are-zero for its lifetime, on this thread.
class FlushDenormals {
public:
    FlushDenormals();
    ~FlushDenormals();

private:
    uint64_t saved_;
};

}  // namespace cnnrt
