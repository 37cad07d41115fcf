// The memory of the arrays that runs return.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "idle.h"
#include "memory.h"

namespace cnnrt {

// Of smaller ones, malloc gives hardly any back to the system.
constexpr size_t kLeastBlock = size_t{64} << 10;

// The blocks of one output of a plan. That of an array that nobody holds any more waits for the
// next run: a large block that is freed goes back to the system, and to touch new pages takes
// longer than many an operator (1.6 MB: 0.25 ms on Zen 3, of a Concat that takes 0.05). One is
// enough for a loop in which each result takes the place of the last.
class Blocks {
public:
    explicit Blocks(size_t bytes) : bytes_(bytes) {}

    std::unique_ptr<Memory> take() {
        auto block = idle_.take();
        return block ? std::move(block) : std::make_unique<Memory>(bytes_);
    }
    void give_back(std::unique_ptr<Memory> block) { idle_.give_back(std::move(block)); }
    void trim() { idle_.clear(); }
    int64_t idle_bytes() const { return idle_.size() * static_cast<int64_t>(bytes_); }

private:
    const size_t bytes_;
    Idle<Memory> idle_{1};
};

}  // namespace cnnrt
