// Which instruction-set tiers were built, and which of them this machine runs.
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

// The kernels of one compilation of a kernel list: a tier's, or an overlay's.
struct KernelList {
    const Kernel* kernels;
    int count;
};

struct Tier {
    std::string name;
    std::vector<Kernel> kernels;        // kKernels of them, in the order of kernels.def
    std::vector<std::string> overlays;  // the overlays that replaced kernels; see tiers.def
};

constexpr int kKernels = 0
#define KERNEL(name, Args) +1
#include "kernels/kernels.def"
    ;

// The tiers that run here, best first, each with all overlays that run here. The last one is always
// "portable".
const std::vector<Tier>& tiers();

// The tier with this name. "avx512+novnni" leaves out the overlay vnni and those built on it.
// Throws std::invalid_argument, which lists the tiers that run here.
Tier tier(const std::string& name);

}  // namespace cnnrt
