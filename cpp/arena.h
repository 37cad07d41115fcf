// One arena for the buffers of a plan; those alive at the same time never overlap.
#pragma once

#include <cstdint>
#include <vector>

namespace cnnrt {

// A buffer that lives from its first to its last step.
struct Lifetime {
    int64_t bytes, first, last;
    int64_t offset = 0;  // in the arena, once that is laid out
};

// Sets the offsets of buffers, given in the order of their first steps. Returns the arena's bytes.
int64_t assign_offsets(std::vector<Lifetime>& buffers);

// The largest total of buffers alive in one step, in bytes: no arena can be smaller.
int64_t peak_live(const std::vector<Lifetime>& buffers);

}  // namespace cnnrt
