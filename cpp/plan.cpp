#include "plan.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "team.h"

namespace cnnrt {
namespace {

using Clock = std::chrono::steady_clock;

// A run looks for signals this often, and a step that is expected to take longer is cut into
// slices: an interruption is to end it within a second even if the expectation is wrong by ten.
constexpr auto kPollInterval = std::chrono::milliseconds(50);
constexpr double kSliceNanoseconds = 50e6;
// Work between two looks at the clock, which costs 20 ns.
constexpr double kPollNanoseconds = 100e3;
// What a step is taken to need at least: some estimates are 0.
constexpr double kLeastNanoseconds = 5e3;

struct Run final : Region {
    const Step* steps;
    size_t count;
    const Workspace* workspace = nullptr;  // of all threads
    int64_t scratch_bytes;
    // Instead, if there are any: images, each run by one thread alone, in a workspace of its own.
    int64_t images = 0;
    const std::unique_ptr<Workspace>* workspaces = nullptr;
    const std::vector<int64_t>* strides = nullptr;
    Span* spans = nullptr;
    Clock::time_point start{};
    Poll poll = nullptr;
    Clock::time_point polled = Clock::now();
    // Once set, all threads go on to the end from barrier to barrier, but do nothing.
    std::atomic<bool> stopped{false};
    std::mutex lock;
    Fault fault;  // of the first step, and there of the first thread, that met one
    size_t fault_step = 0;
    int fault_thread = 0;

    int64_t since_start() const { return std::chrono::nanoseconds(Clock::now() - start).count(); }

    void run(int thread, int size, Barrier& barrier) override {
        if (workspace)
            run_steps(thread, thread, size, barrier, workspace->spaces.data(),
                      workspace->scratch.data() + thread * scratch_bytes);
        for (int64_t i = thread; i < images; i += size) {
            Workspace& own = *workspaces[thread];
            own.go_to(i, *strides);
            run_steps(thread, 0, 1, barrier, own.spaces.data(), own.scratch.data());
            if (poll && thread == 0) look(barrier);
        }
    }

    // Part `part` of `parts` of each step's tasks.
    void run_steps(int thread, int part, int parts, Barrier& barrier, const uintptr_t* spaces,
                   char* scratch) {
        Fault mine;
        size_t mine_step = 0;
        Context context{spaces, scratch, &mine, false};
        Span* span = spans ? spans + static_cast<size_t>(thread) * count : nullptr;
        int64_t now = span ? since_start() : 0;
        for (size_t i = 0; i < count; ++i) {
            const Step& s = steps[i];
            if (mine.size < 0) mine_step = i;
            if (parts > 1 && i > 0 && s.wait) {
                barrier.wait(part);
                if (span) now = since_start();
            }
            if (s.serial && part > 0) continue;
            const int shares = s.serial ? 1 : parts;
            context.shared = shares > 1;
            const int64_t first = s.tasks * part / shares;
            const int64_t share = s.tasks * (part + 1) / shares - first;
            for (int k = 0; k < s.slices && !stopped.load(std::memory_order_relaxed); ++k) {
                const int64_t begin = first + share * k / s.slices;
                const int64_t end = first + share * (k + 1) / s.slices;
                if (begin < end) s.kernel->run(s.args.get(), context, begin, end);
                if (s.poll && poll && thread == 0) look(barrier);
            }
            if (span && share > 0) {
                span[i].begin = now;
                span[i].end = now = since_start();
            }
        }
        if (mine.size >= 0) note(mine, mine_step, thread);
    }

    void note(const Fault& found, size_t step, int thread) {
        const std::lock_guard<std::mutex> guard(lock);
        if (fault.size >= 0 && (step > fault_step || (step == fault_step && thread > fault_thread)))
            return;
        fault = found;
        fault_step = step;
        fault_thread = thread;
    }

    void look(Barrier& barrier) {
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

Plan::Plan(const Tier& tier)
    : tier_(tier),
      idle_(std::clamp<unsigned>(std::thread::hardware_concurrency(), 1, kMaxThreads)) {}

void Plan::add(int kernel, const void* args, bool serial, bool independent, double nanoseconds) {
    const Kernel& k = tier_.kernels[kernel];
    Step s{};
    s.kernel = &k;
    s.args = std::make_unique<std::byte[]>(k.args_bytes);
    s.tasks = k.tasks(args);
    s.serial = serial;
    s.independent = independent;
    const double most = static_cast<double>(std::clamp<int64_t>(s.tasks, 1, 1 << 20));
    s.slices = static_cast<int>(std::clamp(nanoseconds / kSliceNanoseconds, 1.0, most));
    unpolled_ += std::max(nanoseconds, kLeastNanoseconds);
    s.poll = unpolled_ > kPollNanoseconds;
    if (s.poll) unpolled_ = 0;
    std::memcpy(s.args.get(), args, k.args_bytes);
    scratch_bytes_ = std::max(scratch_bytes_, (k.scratch(args) + 127) / 64 * 64);
    if (s.tasks <= 1) s.serial = true;
    // Thread 0 needs no barrier between steps that it does alone. A step that is independent of the
    // one before it still needs all that came before that one.
    const Unsynced pending = independent ? before_last_ : unsynced_;
    s.wait = pending.shared || (pending.any && !s.serial);
    before_last_ = s.wait ? Unsynced{} : unsynced_;
    unsynced_ = {true, before_last_.shared || !s.serial};
    steps_.push_back(std::move(s));
}

void Plan::set_memory(int64_t arena_bytes, int threads) {
    arena_bytes_ = arena_bytes;
    threads_ = std::clamp(threads, 1, kMaxThreads);
    trim();
}

bool Plan::run(const Workspace& workspace, size_t first, size_t last, Poll poll,
               Span* spans) const {
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
    run_region(r, alone ? 1 : threads_);
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
    // Those that are left when every thread has had as many are done by all threads together.
    r.images = images - images % threads_;
    r.strides = &strides;
    r.poll = poll;
    if (r.images > 0) run_region(r, threads_);
    if (r.fault.size >= 0) throw IndexFault{r.fault, r.fault_step};
    bool whole = !r.stopped.load(std::memory_order_relaxed);
    for (int64_t i = r.images; i < images && whole; ++i) {
        workspaces[0]->go_to(i, strides);
        whole = run(*workspaces[0], 0, steps_.size(), poll);
    }
    return whole;
}

std::unique_ptr<Workspace> Plan::take_workspace() {
    if (auto waiting = idle_.take()) return waiting;
    auto w = std::make_unique<Workspace>();
    w->arena = Memory(static_cast<size_t>(arena_bytes_));
    w->scratch = Memory(static_cast<size_t>(scratch_bytes_ * threads_));
    workspaces_.fetch_add(1, std::memory_order_relaxed);
    return w;
}

void Plan::give_back(std::unique_ptr<Workspace> workspace) {
    if (!idle_.give_back(std::move(workspace))) workspaces_.fetch_sub(1, std::memory_order_relaxed);
}

void Plan::trim() { workspaces_.fetch_sub(idle_.clear(), std::memory_order_relaxed); }

}  // namespace cnnrt
