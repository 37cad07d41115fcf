#include "run_memory.h"

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
    auto found = idle_.take_if([&](const Workspace& idle) {
        return idle.arena.bytes() >= arena && idle.scratch.bytes() >= scratch;
    });
    if (found) return found;
    found = idle_.take();  // it grows
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

std::unique_ptr<Memory> OutputPool::take(size_t bytes) {
    auto found = free_.take_if(
        [&](const Memory& idle) { return idle.bytes() >= bytes && idle.bytes() / 2 <= bytes; });
    if (!found) return std::make_unique<Memory>(bytes);
    idle_bytes_.fetch_sub(static_cast<int64_t>(found->bytes()), std::memory_order_relaxed);
    return found;
}

void OutputPool::give_back(std::unique_ptr<Memory> memory) {
    // The newest stay: they are of the size that is used now.
    while (free_.size() >= static_cast<int64_t>(kept_.load(std::memory_order_relaxed))) {
        const auto old = free_.take();
        if (!old) break;
        idle_bytes_.fetch_sub(static_cast<int64_t>(old->bytes()), std::memory_order_relaxed);
    }
    const auto bytes = static_cast<int64_t>(memory->bytes());
    idle_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    if (!free_.give_back(memory)) idle_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
}

void OutputPool::trim() {
    while (const auto idle = free_.take())
        idle_bytes_.fetch_sub(static_cast<int64_t>(idle->bytes()), std::memory_order_relaxed);
}

void OutputPool::keep(size_t count) {
    count = std::min(count, kMost);
    size_t known = kept_.load(std::memory_order_relaxed);
    while (known < count && !kept_.compare_exchange_weak(known, count, std::memory_order_relaxed))
        continue;
}

}  // namespace cnnrt
