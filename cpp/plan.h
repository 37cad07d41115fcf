// A plan: the flat list of steps that an inference is, and its execution.
//
// Python builds it once per input shape; run() then touches no Python object, allocates nothing and
// takes no lock. The same steps can be run in part (for profiling, or around an operator that has
// no kernel).
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "cpu.h"
#include "idle.h"
#include "memory.h"

namespace cnnrt {

struct Step {
    const Kernel* kernel;
    std::unique_ptr<std::byte[]> args;
    int64_t tasks;
    bool serial;       // too small to share: thread 0 alone
    bool independent;  // needs nothing of the step before it, only of those before that
    int slices;        // parts that a thread does its share in, with a look for signals after each
    bool wait;         // a barrier comes before it (derived)
    bool poll;         // thread 0 looks at the clock after it (derived)
};

// When a thread worked on a step, in nanoseconds since the run began; negative where it did not.
struct Span {
    int64_t begin = -1, end = -1;
};
// Asked from time to time during a long run, on the caller's thread; true: the run is to stop.
using Poll = bool (*)();

// What one run needs besides the caller's arrays: the arena, each thread's scratch memory, and
// where the memory spaces begin (constants, arena, externals).
struct Workspace {
    Memory arena;
    Memory scratch;
    std::vector<uintptr_t> spaces;
    int64_t image = 0;  // of a batch, whose externals `spaces` names

    // To another image, the externals of which are so many bytes apart.
    void go_to(int64_t other, const std::vector<int64_t>& strides) {
        for (size_t i = 0; i < strides.size(); ++i)
            spaces[kExternal + i] += static_cast<uintptr_t>((other - image) * strides[i]);
        image = other;
    }
};

// Thrown by a run in which an index of the data was beyond its axis.
struct IndexFault {
    Fault fault;
    size_t step;
};

class Plan {
public:
    explicit Plan(const Tier& tier);

    // Appends a step; args is one of the structs of args.h; `nanoseconds` is the time that it is
    // expected to take on one thread. Throws std::invalid_argument.
    void add(int kernel, const void* args, bool serial, bool independent, double nanoseconds);
    void set_memory(int64_t arena_bytes, int threads);

    // Runs steps [first, last) with the external spaces that the workspace names. Given a table of
    // spans, one per thread and step, also notes when each was done. False: stopped by `poll`; the
    // outputs are then unspecified. Throws IndexFault when all is done.
    bool run(const Workspace& workspace, size_t first, size_t last, Poll poll = nullptr,
             Span* spans = nullptr) const;

    // Runs all steps for each image of a batch. The workspaces, one for each thread that is to have
    // images of its own, name the externals of the first; those of the next begin so many bytes on.
    // A thread does its images alone: their tensors stay in its caches, and it waits for nobody.
    bool run_images(const std::vector<std::unique_ptr<Workspace>>& workspaces, int64_t images,
                    const std::vector<int64_t>& strides, Poll poll) const;

    // Every run has a workspace of its own. Idle ones are kept for the next runs, up to one for
    // each CPU.
    std::unique_ptr<Workspace> take_workspace();
    void give_back(std::unique_ptr<Workspace> workspace);
    void trim();
    // Those that exist: idle, and in use at the moment.
    int64_t workspaces() const { return workspaces_.load(std::memory_order_relaxed); }

    const Tier& tier() const { return tier_; }
    size_t size() const { return steps_.size(); }
    const Step& step(size_t i) const { return steps_[i]; }
    int threads() const { return threads_; }
    int64_t arena_bytes() const { return arena_bytes_; }
    int64_t scratch_bytes() const { return scratch_bytes_; }  // of one thread

private:
    const Tier tier_;
    std::vector<Step> steps_;
    int64_t arena_bytes_ = 0, scratch_bytes_ = 0;
    int threads_ = 1;
    struct Unsynced {
        bool any = false, shared = false;
    };
    Unsynced unsynced_, before_last_;  // steps since the last barrier: all, and all but the last
    std::atomic<int64_t> workspaces_{0};
    double unpolled_ = 0;  // nanoseconds of work since the last step with `poll`
    Idle<Workspace> idle_;
};

}  // namespace cnnrt
