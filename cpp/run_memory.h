// The memory of runs, which all plans of a model share: workspaces, and the arrays that are
// returned.
//
// Idle memory waits for the next run, which may be at another input size. Freed memory would go
// back to the system, and touching new pages is slow: 1000 cost 3 ms on Zen 4.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "free_list.h"
#include "kernels/args.h"
#include "memory.h"

namespace cnnrt {

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

// The workspaces. Every run takes one. Idle ones are kept, up to one per CPU, and only grow. It
// takes no lock, for the reason that FreeList gives.
class WorkspacePool {
public:
    WorkspacePool();

    // A workspace of at least these sizes. Throws std::bad_alloc.
    std::unique_ptr<Workspace> take(int64_t arena_bytes, int64_t scratch_bytes);
    void give_back(std::unique_ptr<Workspace> workspace);
    // Destroys the idle ones.
    void trim();

    // The number of workspaces, idle or in use, and their bytes.
    int64_t size() const { return size_.load(std::memory_order_relaxed); }
    int64_t arena_bytes() const { return arena_bytes_.load(std::memory_order_relaxed); }
    int64_t scratch_bytes() const { return scratch_bytes_.load(std::memory_order_relaxed); }

private:
    void count(const Workspace& workspace, int64_t sign);

    std::atomic<int64_t> size_{0}, arena_bytes_{0}, scratch_bytes_{0};
    FreeList<Workspace> idle_;
};

// malloc keeps smaller arrays in its heap, so pooling them saves nothing.
constexpr size_t kMinPooledBytes = size_t{64} << 10;

// The memory of outputs that the user has dropped. As many are kept as a run returns, which is
// enough for a loop in which each result replaces the one before.
class OutputPool {
public:
    // Memory of at least `bytes`, and of no more than twice as many.
    std::unique_ptr<Memory> take(size_t bytes);
    void give_back(std::unique_ptr<Memory> memory);
    void trim();
    // Sets the number of outputs of kMinPooledBytes or more that a run returns.
    void keep(size_t count);
    int64_t idle_bytes() const { return idle_bytes_.load(std::memory_order_relaxed); }

private:
    static constexpr size_t kMost = 64;
    std::atomic<size_t> kept_{0};
    std::atomic<int64_t> idle_bytes_{0};
    FreeList<Memory> free_{kMost};
};

struct RunMemory {
    WorkspacePool workspaces;
    OutputPool outputs;

    void trim() {
        workspaces.trim();
        outputs.trim();
    }
};

}  // namespace cnnrt
