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

    // An object for which `fits` is true; null if there is none. While another thread looks at an
    // object, it is not in the list.
    template <class F>
    std::unique_ptr<T> take_if(F fits) {
        for (auto& slot : slots_) {
            if (!slot.load(std::memory_order_relaxed)) continue;
            std::unique_ptr<T> found(slot.exchange(nullptr, std::memory_order_acquire));
            if (found && fits(*found)) return found;
            if (found) give_back(found);
        }
        return nullptr;
    }
    std::unique_ptr<T> take() {
        return take_if([](const T&) { return true; });
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
