// The instruction-set tiers that were built and that this machine runs.
#pragma once

#include <string>
#include <vector>

#include "kernels/args.h"

namespace cnnrt {

// One kernel of a tier; see kernels/kernels.def.
struct Kernel {
    const char* name;
    size_t args_bytes;
    void (*run)(const void* args, const Context& context, int64_t begin, int64_t end);
    int64_t (*tasks)(const void* args);
    int64_t (*scratch)(const void* args);
};

struct Tier {
    const char* name;
    const Kernel* kernels;  // kKernels of them, in the order of kernels.def
};

constexpr int kKernels = 0
#define KERNEL(name, Args) +1
#include "kernels/kernels.def"
    ;

// The tiers that run here, best first; the last one is always "portable".
const std::vector<Tier>& tiers();

// Finds a tier by name. Throws std::invalid_argument, which lists the tiers that run here.
const Tier& tier(const std::string& name);

}  // namespace cnnrt
