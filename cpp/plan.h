// A plan: an inference as a flat list of steps, and its execution.
//
// Python builds one per input shape. run() then touches no Python object, allocates nothing and
// takes no lock. It can also run some of the steps: for profiling, or around an operator that has
// no kernel.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "cpu.h"
#include "poll.h"
#include "run_memory.h"
#include "thread_pool.h"

namespace cnnrt {

struct Step {
    const Kernel* kernel;
    std::unique_ptr<std::byte[]> args;
    int64_t tasks;
    bool serial;       // too small to share: thread 0 runs it alone
    bool independent;  // reads no result of the step before it, only earlier ones
    int slices;        // chunks of a thread's share; signals are polled between them
    bool wait;         // a barrier comes before it (derived)
    bool poll;         // thread 0 reads the clock after it (derived)
};

// When a thread worked on a step, in nanoseconds since the run began; negative if it did not.
struct Span {
    int64_t begin = -1, end = -1;
};

// Thrown by a run that met an index beyond its axis.
struct IndexFault {
    Fault fault;
    size_t step;
};

class Plan {
public:
    // Runs take their workspaces from `memory`, which all plans of a model share.
    Plan(const Tier& tier, std::shared_ptr<RunMemory> memory)
        : tier_(tier), memory_(std::move(memory)) {}

    // Appends a step. `args` is the kernel's struct of kernels.def; `nanoseconds` is the expected
    // time on one thread.
    void add(int kernel, const void* args, bool serial, bool independent, double nanoseconds);
    void set_memory(int64_t arena_bytes, Threads threads);

    // Runs steps [first, last) with the external spaces that the workspace names. Records times if
    // given a table of spans, [threads][last - first]. With `in_turn` the caller alone does the
    // shares of all threads, one after the other. Returns false if `poll` stopped the run; the
    // outputs are then unspecified. Throws IndexFault, after the last step.
    bool run(const Workspace& workspace, size_t first, size_t last, Poll poll = nullptr,
             Span* spans = nullptr, bool in_turn = false) const;

    // Runs all steps for each image of a batch. There is a workspace for each thread, and all name
    // the externals of image 0; `strides` are the bytes between images. A thread runs whole images:
    // their tensors stay in its caches, and it waits for no other thread.
    bool run_images(const std::vector<std::unique_ptr<Workspace>>& workspaces, int64_t images,
                    const std::vector<int64_t>& strides, Poll poll) const;

    std::unique_ptr<Workspace> take_workspace() const {
        return memory_->workspaces.take(arena_bytes_, scratch_bytes_ * threads_.count);
    }
    void give_back(std::unique_ptr<Workspace> workspace) const {
        memory_->workspaces.give_back(std::move(workspace));
    }

    const Tier& tier() const { return tier_; }
    size_t size() const { return steps_.size(); }
    const Step& step(size_t i) const { return steps_[i]; }
    int threads() const { return threads_.count; }
    const std::shared_ptr<RunMemory>& memory() const { return memory_; }
    int64_t arena_bytes() const { return arena_bytes_; }
    int64_t scratch_bytes() const { return scratch_bytes_; }  // of one thread

private:
    const Tier tier_;
    std::vector<Step> steps_;
    int64_t arena_bytes_ = 0, scratch_bytes_ = 0;
    Threads threads_;
    struct Unsynced {
        bool any = false, shared = false;
    };
    // Steps since the last barrier: all of them, and all but the last.
    Unsynced unsynced_, before_last_;
    double unpolled_ = 0;  // nanoseconds of work since the last step with `poll`
    const std::shared_ptr<RunMemory> memory_;
};

}  // namespace cnnrt
