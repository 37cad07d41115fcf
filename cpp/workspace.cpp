#include "workspace.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "thread_pool.h"

namespace cnnrt {

WorkspacePool::WorkspacePool()
    : idle_(std::clamp<unsigned>(std::thread::hardware_concurrency(), 1, kMaxThreads)) {}

std::unique_ptr<Workspace> WorkspacePool::take(int64_t arena_bytes, int64_t scratch_bytes) {
    const auto arena = static_cast<size_t>(arena_bytes);
    const auto scratch = static_cast<size_t>(scratch_bytes);
    auto found = idle_.take();
    if (found && found->arena.bytes() >= arena && found->scratch.bytes() >= scratch) return found;
    // The first one that is large enough; if none is, the first one grows.
    std::vector<std::unique_ptr<Workspace>> smaller;
    while (found && (found->arena.bytes() < arena || found->scratch.bytes() < scratch)) {
        smaller.push_back(std::move(found));
        found = idle_.take();
    }
    if (!found && !smaller.empty()) {
        found = std::move(smaller.front());
        smaller.erase(smaller.begin());
    }
    for (auto& other : smaller) give_back(std::move(other));
    if (found)
        count(*found, -1);
    else
        found = std::make_unique<Workspace>();
    found->arena.grow(arena);
    found->scratch.grow(scratch);
    count(*found, 1);
    return found;
}

void WorkspacePool::give_back(std::unique_ptr<Workspace> workspace) {
    if (idle_.give_back(workspace)) return;
    count(*workspace, -1);
}

void WorkspacePool::trim() {
    while (const auto idle = idle_.take()) count(*idle, -1);
}

void WorkspacePool::count(const Workspace& workspace, int64_t sign) {
    size_.fetch_add(sign, std::memory_order_relaxed);
    arena_bytes_.fetch_add(sign * static_cast<int64_t>(workspace.arena.bytes()),
                           std::memory_order_relaxed);
    scratch_bytes_.fetch_add(sign * static_cast<int64_t>(workspace.scratch.bytes()),
                             std::memory_order_relaxed);
}

}  // namespace cnnrt
