#include "team.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <thread>

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

// How long a thread looks before it sleeps: a worker for work, and in a region for the others.
// Inside a run what is waited for is nearly always sooner. Where other programs are busy on the
// same CPUs a thread that sleeps too soon has to wait for its next turn at each barrier, while one
// that looks too long keeps the CPU from the thread that it waits for. EfficientNet-Lite0 on two
// threads (9 ms alone), beside one and two busy programs on two CPUs: 18 and 60 to 80 ms with 30
// us, 23 and 27 with 120, 60 and 35 with 900; giving the CPU away every time instead, 18 to 20 and
// 18 to 192.
constexpr auto kLooksForWork = std::chrono::microseconds(25);
constexpr auto kLooksForOthers = std::chrono::microseconds(100);

struct Job {
    Region* region;
    Barrier* barrier;
    int size;
};

struct Worker {
    std::atomic<bool> taken{true};  // by a region, or not started yet
    Job* job = nullptr;
    int thread = 0;
    Counter assigned, done;  // jobs

    void loop() {
        for (uint32_t count = 1;; ++count) {
            assigned.wait_for(count, kLooksForWork);
            const Job mine = *job;
            {
                const FlushDenormals flush;
                mine.region->run(thread, mine.size, *mine.barrier);
            }
            // Free before the caller may go on, so that its next region finds this worker.
            taken.store(false, std::memory_order_release);
            done.set(count);
        }
    }
};

struct Team {
    std::mutex starting;
    std::atomic<int> count{0};
    std::atomic<int> active{0};  // threads in regions, callers and workers
    std::atomic<int> budget{1};
    std::atomic<unsigned> generation{0};
    Worker* workers[kMaxThreads];

    // Counts one more thread in, unless there are `limit` already.
    bool enter(int limit) {
        int now = active.load(std::memory_order_relaxed);
        while (now < limit)
            if (active.compare_exchange_weak(now, now + 1, std::memory_order_relaxed)) return true;
        return false;
    }
    void leave(int threads) { active.fetch_sub(threads, std::memory_order_relaxed); }

    // One idle worker, or null. Starts one if fewer than `most` exist.
    Worker* take(int most) {
        const int n = count.load(std::memory_order_acquire);
        for (int i = 0; i < n; ++i) {
            Worker* w = workers[i];
            if (!w->taken.load(std::memory_order_relaxed) &&
                !w->taken.exchange(true, std::memory_order_acquire))
                return w;
        }
        return n < most ? start(most) : nullptr;
    }

    Worker* start(int most) {
        const std::lock_guard<std::mutex> lock(starting);
        const int n = count.load(std::memory_order_relaxed);
        if (n >= most) return nullptr;
        try {
            // Never freed: it may be waiting when the process ends.
            Worker* w = new Worker;
            std::thread([w] { w->loop(); }).detach();
            workers[n] = w;
            count.store(n + 1, std::memory_order_release);
            return w;
        } catch (...) {
            return nullptr;  // the system has no thread to give: run with fewer
        }
    }
};

Team& team() {
    static Team* const instance = [] {
        Team* t = new Team;
#if defined(CNNRT_POSIX)
        // In the child only the forking thread lives on.
        pthread_atfork([] { team().starting.lock(); }, [] { team().starting.unlock(); },
                       [] {
                           team().count.store(0, std::memory_order_relaxed);
                           team().active.store(0, std::memory_order_relaxed);
                           team().generation.fetch_add(1, std::memory_order_relaxed);
                           team().starting.unlock();
                       });
#endif
        return t;
    }();
    return *instance;
}
// Made when the library is loaded: a fork during its making would leave it half made in the child.
[[maybe_unused]] Team& at_load = team();

}  // namespace

template <class F>
void Counter::wait_for(uint32_t value, std::chrono::nanoseconds looking, F stop) {
    const auto reached = [&](uint32_t now) { return static_cast<int32_t>(now - value) >= 0; };
    Clock::time_point end{};
    for (int i = 0;; ++i) {
        if (reached(value_.load(std::memory_order_acquire)) || stop()) return;
        pause();
        if (i % 64 != 63) continue;
        const auto now = Clock::now();
        if (i == 63) end = now + looking;
        if (now >= end) break;
    }
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    for (uint32_t now; !reached(now = value_.load(std::memory_order_seq_cst)) && !stop();)
        value_.wait(now, std::memory_order_acquire);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

void Counter::wait_for(uint32_t value, std::chrono::nanoseconds looking) {
    wait_for(value, looking, [] { return false; });
}

void Barrier::wait(int thread) {
    const uint32_t phase = arrivals_[thread].value() + 1;
    arrivals_[thread].set(phase);
    for (int i = 0; i < threads_; ++i)
        if (i != thread)
            arrivals_[i].wait_for(phase, kLooksForOthers,
                                  [&] { return abandoned_.load(std::memory_order_relaxed); });
}

void run_region(Region& region, int threads) {
    const FlushDenormals flush;
    Team& t = team();
    if (threads > kMaxThreads) threads = kMaxThreads;
    const int limit = std::max(threads, t.budget.load(std::memory_order_relaxed));
    const unsigned generation = fork_generation();
    t.active.fetch_add(1, std::memory_order_relaxed);
    Worker* taken[kMaxThreads];
    int helpers = 0;
    while (helpers < threads - 1 && t.enter(limit)) {
        Worker* w = t.take(limit - 1);
        if (!w) {
            t.leave(1);
            break;
        }
        taken[helpers++] = w;
    }
    Barrier barrier(helpers + 1);
    if (helpers == 0) {
        region.run(0, 1, barrier);
        if (fork_generation() == generation) t.leave(1);
        return;
    }
    Job job{&region, &barrier, helpers + 1};
    uint32_t jobs[kMaxThreads];  // of each helper, this one included
    for (int i = 0; i < helpers; ++i) {
        Worker& w = *taken[i];
        w.job = &job;
        w.thread = i + 1;
        w.assigned.set(jobs[i] = w.assigned.value() + 1);
    }
    region.run(0, helpers + 1, barrier);
    if (fork_generation() != generation) return;  // in a child now, that has no workers
    for (int i = 0; i < helpers; ++i) taken[i]->done.wait_for(jobs[i], kLooksForOthers);
    t.leave(helpers + 1);
}

void set_thread_budget(int threads) {
    team().budget.store(std::clamp(threads, 1, kMaxThreads), std::memory_order_relaxed);
}

unsigned fork_generation() { return team().generation.load(std::memory_order_relaxed); }

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
