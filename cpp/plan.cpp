#include "plan.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "thread_pool.h"

namespace cnnrt {
namespace {

using Clock = std::chrono::steady_clock;

// A run polls for signals this often, and a step that is expected to take longer is divided into
// slices. An interruption then ends it within a second, even if the estimate is wrong by ten.
constexpr auto kPollInterval = std::chrono::milliseconds(50);
constexpr double kSliceNanoseconds = 50e6;
// Estimated work between two readings of the clock, each of which costs 20 ns.
constexpr double kPollNanoseconds = 100e3;
// The least time that a step is assumed to take: some estimates are 0.
constexpr double kMinNanoseconds = 5e3;

struct Run final : Region {
    const Step* steps;
    size_t count;
    const Workspace* workspace = nullptr;  // of one run by all threads
    int64_t scratch_bytes;
    // If not 0, images that are run by one thread each, in its own workspace.
    int64_t images = 0;
    const std::unique_ptr<Workspace>* workspaces = nullptr;
    const std::vector<int64_t>* strides = nullptr;
    Span* spans = nullptr;
    int in_turn = 0;  // if not 0, one thread does the shares of as many, step by step
    Clock::time_point start{};
    Poll poll = nullptr;
    Clock::time_point polled = Clock::now();
    // Once set, all threads go on from barrier to barrier to the end, but run no kernel.
    std::atomic<bool> stopped{false};
    std::mutex lock;
    Fault fault;  // that of the first step and, within it, of the first thread
    size_t fault_step = 0;
    int fault_thread = 0;

    int64_t since_start() const { return std::chrono::nanoseconds(Clock::now() - start).count(); }

    void run(int thread, int size, Barrier& barrier) override {
        if (in_turn)
            run_in_turn(barrier);
        else if (workspace)
            run_steps(thread, thread, size, barrier, workspace->spaces.data(),
                      workspace->scratch.data() + thread * scratch_bytes);
        for (int64_t i = thread; i < images; i += size) {
            Workspace& own = *workspaces[thread];
            own.go_to(i, *strides);
            run_steps(thread, 0, 1, barrier, own.spaces.data(), own.scratch.data());
            if (poll && thread == 0) poll_signals(barrier);
        }
    }

    // Runs part `part` of `parts` of each step's tasks.
    void run_steps(int thread, int part, int parts, Barrier& barrier, const uintptr_t* spaces,
                   char* scratch) {
        Fault found;
        size_t found_step = 0;
        Context context{spaces, scratch, &found, false};
        Span* span = spans ? spans + static_cast<size_t>(thread) * count : nullptr;
        int64_t now = span ? since_start() : 0;
        for (size_t i = 0; i < count; ++i) {
            const Step& s = steps[i];
            if (found.size < 0) found_step = i;
            if (parts > 1 && i > 0 && s.wait) {
                barrier.wait(part, parts);
                if (span) now = since_start();
            }
            if (run_share(s, part, parts, thread, context, barrier) && span) {
                span[i].begin = now;
                span[i].end = now = since_start();
            }
        }
        if (found.size >= 0) report(found, found_step, thread);
    }

    // Runs all parts of each step on this thread, for their times.
    void run_in_turn(Barrier& barrier) {
        Fault found;
        size_t found_step = 0;
        for (size_t i = 0; i < count; ++i) {
            if (found.size < 0) found_step = i;
            for (int part = 0; part < in_turn; ++part) {
                Context context{workspace->spaces.data(),
                                workspace->scratch.data() + part * scratch_bytes, &found, false};
                const int64_t begin = since_start();
                if (run_share(steps[i], part, in_turn, 0, context, barrier) && spans)
                    spans[static_cast<size_t>(part) * count + i] = {begin, since_start()};
            }
        }
        if (found.size >= 0) report(found, found_step, 0);
    }

    // Runs part `part` of `parts` of a step's tasks. Returns false if there are none.
    bool run_share(const Step& s, int part, int parts, int thread, Context& context,
                   Barrier& barrier) {
        if (s.serial && part > 0) return false;
        const int shares = s.serial ? 1 : parts;
        context.shared = shares > 1;
        const int64_t first = s.tasks * part / shares;
        const int64_t share = s.tasks * (part + 1) / shares - first;
        for (int k = 0; k < s.slices && !stopped.load(std::memory_order_relaxed); ++k) {
            const int64_t begin = first + share * k / s.slices;
            const int64_t end = first + share * (k + 1) / s.slices;
            if (begin < end) s.kernel->run(s.args.get(), context, begin, end);
            if (s.poll && poll && thread == 0) poll_signals(barrier);
        }
        return share > 0;
    }

    void report(const Fault& found, size_t step, int thread) {
        const std::lock_guard<std::mutex> guard(lock);
        if (fault.size >= 0 && (step > fault_step || (step == fault_step && thread > fault_thread)))
            return;
        fault = found;
        fault_step = step;
        fault_thread = thread;
    }

    void poll_signals(Barrier& barrier) {
        if (Clock::now() - polled < kPollInterval) return;
        const unsigned generation = fork_generation();
        bool stop = poll();
        if (fork_generation() != generation) {  // a signal handler has forked: in the child now
            barrier.abandon();
            stop = true;
        }
        if (stop) stopped.store(true, std::memory_order_relaxed);
        polled = Clock::now();
    }
};

}  // namespace

void Plan::add(int kernel, const void* args, bool serial, bool independent, double nanoseconds) {
    const Kernel& k = tier_.kernels[kernel];
    Step s{};
    s.kernel = &k;
    s.args = std::make_unique<std::byte[]>(k.args_bytes);
    s.tasks = k.tasks(args);
    s.serial = serial;
    s.independent = independent;
    const double max_slices = static_cast<double>(std::clamp<int64_t>(s.tasks, 1, 1 << 20));
    s.slices = static_cast<int>(std::clamp(nanoseconds / kSliceNanoseconds, 1.0, max_slices));
    unpolled_ += std::max(nanoseconds, kMinNanoseconds);
    s.poll = unpolled_ > kPollNanoseconds;
    if (s.poll) unpolled_ = 0;
    std::memcpy(s.args.get(), args, k.args_bytes);
    scratch_bytes_ = std::max(scratch_bytes_, (k.scratch(args) + 127) / 64 * 64);
    if (s.tasks <= 1) s.serial = true;
    // Thread 0 needs no barrier between steps that it runs by itself. A step that is independent of
    // the one before it still needs all steps before that one.
    const Unsynced pending = independent ? before_last_ : unsynced_;
    s.wait = pending.shared || (pending.any && !s.serial);
    before_last_ = s.wait ? Unsynced{} : unsynced_;
    unsynced_ = {true, before_last_.shared || !s.serial};
    steps_.push_back(std::move(s));
}

void Plan::set_memory(int64_t arena_bytes, Threads threads) {
    arena_bytes_ = arena_bytes;
    threads_ = {std::clamp(threads.count, 1, kMaxThreads), threads.threading};
}

bool Plan::run(const Workspace& workspace, size_t first, size_t last, Poll poll, Span* spans,
               bool in_turn) const {
    if (first >= last) return true;
    Run r;
    r.steps = steps_.data() + first;
    r.count = last - first;
    r.workspace = &workspace;
    r.scratch_bytes = scratch_bytes_;
    r.spans = spans;
    if (spans) r.start = Clock::now();
    r.poll = poll;
    const bool alone =
        std::all_of(r.steps, r.steps + r.count, [](const Step& s) { return s.serial; });
    if (in_turn) r.in_turn = threads_.count;
    run_region(r, alone || in_turn ? Threads{} : threads_);
    if (r.fault.size >= 0) throw IndexFault{r.fault, first + r.fault_step};
    return !r.stopped.load(std::memory_order_relaxed);
}

bool Plan::run_images(const std::vector<std::unique_ptr<Workspace>>& workspaces, int64_t images,
                      const std::vector<int64_t>& strides, Poll poll) const {
    Run r;
    r.steps = steps_.data();
    r.count = steps_.size();
    r.workspaces = workspaces.data();
    r.scratch_bytes = scratch_bytes_;
    // Every thread runs the same number of images; the rest are run by all threads together.
    r.images = images - images % threads_.count;
    r.strides = &strides;
    r.poll = poll;
    if (r.images > 0) run_region(r, threads_);
    if (r.fault.size >= 0) throw IndexFault{r.fault, r.fault_step};
    bool completed = !r.stopped.load(std::memory_order_relaxed);
    for (int64_t i = r.images; i < images && completed; ++i) {
        workspaces[0]->go_to(i, strides);
        completed = run(*workspaces[0], 0, steps_.size(), poll);
    }
    return completed;
}

}  // namespace cnnrt
