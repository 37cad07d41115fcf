// Objects that wait to be used again.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace cnnrt {

// Up to so many of them. May be used from several threads at once, without a lock, which a thread
// that forks could leave taken for ever in the child.
template <class T>
class Idle {
public:
    explicit Idle(size_t places) : places_(places) {}
    ~Idle() { clear(); }

    // None, if none waits.
    std::unique_ptr<T> take() {
        for (auto& place : places_)
            if (place.load(std::memory_order_relaxed))
                if (T* const found = place.exchange(nullptr, std::memory_order_acquire))
                    return std::unique_ptr<T>(found);
        return nullptr;
    }

    // False if there is no place for it: it is gone.
    bool give_back(std::unique_ptr<T> object) {
        for (auto& place : places_) {
            T* empty = nullptr;
            if (place.compare_exchange_strong(empty, object.get(), std::memory_order_release,
                                              std::memory_order_relaxed)) {
                object.release();
                return true;
            }
        }
        return false;
    }

    // How many there were.
    int64_t clear() {
        int64_t count = 0;
        while (take()) ++count;
        return count;
    }

    // How many wait at the moment.
    int64_t size() const {
        int64_t count = 0;
        for (const auto& place : places_) count += place.load(std::memory_order_relaxed) != nullptr;
        return count;
    }

private:
    std::vector<std::atomic<T*>> places_;
};

}  // namespace cnnrt
