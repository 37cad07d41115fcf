#include "plan.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "team.h"

namespace cnnrt {
namespace {

struct Run final : Region {
    const Step* steps;
    size_t count;
    const uintptr_t* spaces;
    char* scratch;
    int64_t scratch_bytes;
    Span* spans = nullptr;
    std::chrono::steady_clock::time_point start{};

    int64_t since_start() const {
        return std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count();
    }

    void run(int thread, int size, Barrier& barrier) override {
        const Context context{spaces, scratch + thread * scratch_bytes};
        Span* span = spans ? spans + static_cast<size_t>(thread) * count : nullptr;
        int64_t now = span ? since_start() : 0;
        for (size_t i = 0; i < count; ++i) {
            const Step& s = steps[i];
            if (size > 1 && i > 0 && s.wait) {
                barrier.wait(thread);
                if (span) now = since_start();
            }
            int64_t begin = 0, end = thread == 0 ? s.tasks : 0;
            if (!s.serial) {
                begin = s.tasks * thread / size;
                end = s.tasks * (thread + 1) / size;
            }
            if (begin >= end) continue;
            s.kernel->run(s.args.get(), context, begin, end);
            if (span) {
                span[i].begin = now;
                span[i].end = now = since_start();
            }
        }
    }
};

}  // namespace

void Plan::add(int kernel, const void* args, bool serial, bool independent) {
    const Kernel& k = tier_.kernels[kernel];
    Step s{&k,   std::make_unique<std::byte[]>(k.args_bytes), k.tasks(args), serial, independent,
           false};
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
}

void Plan::run(const Workspace& workspace, size_t first, size_t last, Span* spans) const {
    if (first >= last) return;
    Run r;
    r.steps = steps_.data() + first;
    r.count = last - first;
    r.spaces = workspace.spaces.data();
    r.scratch = workspace.scratch.data();
    r.scratch_bytes = scratch_bytes_;
    r.spans = spans;
    if (spans) r.start = std::chrono::steady_clock::now();
    const bool alone =
        std::all_of(r.steps, r.steps + r.count, [](const Step& s) { return s.serial; });
    run_region(r, alone ? 1 : threads_);
}

std::unique_ptr<Workspace> Plan::take_workspace() {
    {
        const std::lock_guard<std::mutex> lock(pool_lock_);
        if (!pool_.empty()) {
            std::unique_ptr<Workspace> w = std::move(pool_.back());
            pool_.pop_back();
            return w;
        }
    }
    auto w = std::make_unique<Workspace>();
    w->arena = Memory(static_cast<size_t>(arena_bytes_));
    w->scratch = Memory(static_cast<size_t>(scratch_bytes_ * threads_));
    workspaces_.fetch_add(1, std::memory_order_relaxed);
    return w;
}

void Plan::give_back(std::unique_ptr<Workspace> workspace) {
    static const size_t most = std::max(1u, std::thread::hardware_concurrency());
    {
        const std::lock_guard<std::mutex> lock(pool_lock_);
        if (pool_.size() < most) {
            pool_.push_back(std::move(workspace));
            return;
        }
    }
    workspaces_.fetch_sub(1, std::memory_order_relaxed);
}

void Plan::trim() {
    std::vector<std::unique_ptr<Workspace>> idle;
    {
        const std::lock_guard<std::mutex> lock(pool_lock_);
        idle.swap(pool_);
    }
    workspaces_.fetch_sub(static_cast<int64_t>(idle.size()), std::memory_order_relaxed);
}

}  // namespace cnnrt
