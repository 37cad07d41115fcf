// A plan: an inference as a flat list of steps, and its execution.
//
// Python builds one per input shape. run() then touches no Python object, allocates nothing and
// takes no lock. It can also run some of the steps: for profiling, or around an operator that has
// no kernel.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "cpu.h"
#include "free_list.h"
#include "memory.h"

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

// When a thread worked on a step, in nanoseconds since the run began; negative: it did not.
struct Span {
    int64_t begin = -1, end = -1;
};
// Called from time to time during a long run, on the caller's thread. True stops the run.
using Poll = bool (*)();

// What one run needs besides the caller's arrays.
struct Workspace {
    Memory arena;
    Memory scratch;                 // of all threads, one after the other
    std::vector<uintptr_t> spaces;  // addresses of the memory spaces: constants, arena, externals
    int64_t image = 0;              // of a batch: the image whose externals `spaces` names

    // Moves to another image; `strides` are the bytes between images, by external.
    void go_to(int64_t other, const std::vector<int64_t>& strides) {
        for (size_t i = 0; i < strides.size(); ++i)
            spaces[kExternal + i] += static_cast<uintptr_t>((other - image) * strides[i]);
        image = other;
    }
};

// Thrown by a run that met an index beyond its axis.
struct IndexFault {
    Fault fault;
    size_t step;
};

class Plan {
public:
    explicit Plan(const Tier& tier);

    // Appends a step. `args` is the kernel's struct of kernels.def; `nanoseconds` is the expected
    // time on one thread.
    void add(int kernel, const void* args, bool serial, bool independent, double nanoseconds);
    void set_memory(int64_t arena_bytes, int threads);

    // Runs steps [first, last) with the external spaces that the workspace names. Records times if
    // given a table of spans, [threads][last - first]. Returns false if `poll` stopped the run; the
    // outputs are then unspecified. Throws IndexFault, after the last step.
    bool run(const Workspace& workspace, size_t first, size_t last, Poll poll = nullptr,
             Span* spans = nullptr) const;

    // Runs all steps for each image of a batch. There is a workspace for each thread, and all name
    // the externals of image 0; `strides` are the bytes between images. A thread runs whole images:
    // their tensors stay in its caches, and it waits for no other thread.
    bool run_images(const std::vector<std::unique_ptr<Workspace>>& workspaces, int64_t images,
                    const std::vector<int64_t>& strides, Poll poll) const;

    // Every run has its own workspace. Idle ones are kept for the next runs, up to one per CPU.
    std::unique_ptr<Workspace> take_workspace();
    void give_back(std::unique_ptr<Workspace> workspace);
    void trim();
    // The number of workspaces that exist, idle or in use.
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
    // Steps since the last barrier: all of them, and all but the last.
    Unsynced unsynced_, before_last_;
    std::atomic<int64_t> workspaces_{0};
    double unpolled_ = 0;  // nanoseconds of work since the last step with `poll`
    FreeList<Workspace> idle_;
};

}  // namespace cnnrt
