// A lock-free list of objects that are kept for their next use.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace cnnrt {

// Holds up to `capacity` objects; may be used from several threads at once. It takes no lock: a
// thread that forks could leave one locked for ever in the child.
template <class T>
class FreeList {
public:
    explicit FreeList(size_t capacity) : slots_(capacity) {}
    ~FreeList() { clear(); }

    // Null if the list is empty.
    std::unique_ptr<T> take() {
        for (auto& slot : slots_)
            if (slot.load(std::memory_order_relaxed))
                if (T* const found = slot.exchange(nullptr, std::memory_order_acquire))
                    return std::unique_ptr<T>(found);
        return nullptr;
    }

    // False if the list is full; the caller then keeps the object.
    bool give_back(std::unique_ptr<T>& object) {
        for (auto& slot : slots_) {
            T* empty = nullptr;
            if (slot.compare_exchange_strong(empty, object.get(), std::memory_order_release,
                                             std::memory_order_relaxed)) {
                object.release();
                return true;
            }
        }
        return false;
    }

    // Destroys the objects.
    void clear() {
        while (take()) continue;
    }

    // The number of objects held at the moment.
    int64_t size() const {
        int64_t count = 0;
        for (const auto& slot : slots_) count += slot.load(std::memory_order_relaxed) != nullptr;
        return count;
    }

private:
    std::vector<std::atomic<T*>> slots_;
};

}  // namespace cnnrt
