#include "cpu.h"

#include <stdexcept>
#include <string_view>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(CNNRT_HAVE_avx2)
#include <cpuid.h>
#endif

namespace cnnrt {

// kKernelList of every compilation, in cpp/kernels/table.cpp.
#define TIER(name, runs)                 \
    namespace name {                     \
    extern const KernelList kKernelList; \
    }
#define OVERLAY(tier, name, runs)            \
    namespace tier##_##name {                \
        extern const KernelList kKernelList; \
    }
#include "tiers.def"
#undef TIER
#undef OVERLAY

namespace {

#if defined(CNNRT_HAVE_avx2)
// Older compilers do not know this name in __builtin_cpu_supports. Its registers are AVX2's.
bool has_avx_vnni() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

#if defined(CNNRT_HAVE_neon)
#if defined(__linux__)
// HWCAP_ASIMDDP and HWCAP2_I8MM of Linux's hwcap.h, as numbers: older systems lack the names.
bool arm_has_dotprod() { return getauxval(AT_HWCAP) >> 20 & 1; }
bool arm_has_i8mm() { return getauxval(AT_HWCAP2) >> 13 & 1; }
#elif defined(__APPLE__)
bool has_feature(const char* name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool arm_has_dotprod() { return has_feature("hw.optional.arm.FEAT_DotProd"); }
bool arm_has_i8mm() { return has_feature("hw.optional.arm.FEAT_I8MM"); }
#else
bool arm_has_dotprod() { return false; }
bool arm_has_i8mm() { return false; }
#endif
#endif

struct Overlay {
    const char* name;
    bool runs;
    const KernelList& list;
};

// The tier with its overlays up to the first that does not run here or has the name `without`.
Tier make_tier(const char* name, const KernelList& list, const std::vector<Overlay>& overlays,
               std::string_view without) {
    Tier tier{name, {list.kernels, list.kernels + list.count}, {}};
    if (!without.empty()) tier.name += "+no" + std::string(without);
    for (const Overlay& overlay : overlays) {
        if (!overlay.runs || overlay.name == without) break;
        tier.overlays.emplace_back(overlay.name);
        for (int i = 0; i < overlay.list.count; ++i)
            for (Kernel& kernel : tier.kernels)
                if (std::string_view(kernel.name) == overlay.list.kernels[i].name)
                    kernel = overlay.list.kernels[i];
    }
    return tier;
}

std::vector<Tier> make_tiers(std::string_view without = {}) {
    struct Built {
        const char* name;
        bool runs;
        const KernelList& list;
        std::vector<Overlay> overlays;
    };
    std::vector<Built> built;
#define TIER(name, runs) built.push_back({#name, static_cast<bool>(runs), name::kKernelList, {}});
#define OVERLAY(tier, name, runs) \
    built.back().overlays.push_back({#name, static_cast<bool>(runs), tier##_##name::kKernelList});
#include "tiers.def"
#undef TIER
#undef OVERLAY
    std::vector<Tier> list;
    for (const Built& b : built)
        if (b.runs) list.push_back(make_tier(b.name, b.list, b.overlays, without));
    return list;
}

}  // namespace

const std::vector<Tier>& tiers() {
    static const std::vector<Tier> found = make_tiers();
    return found;
}

Tier tier(const std::string& name) {
    std::string names;
    for (const Tier& t : tiers()) {
        if (t.name == name) return t;
        if (!names.empty()) names += ", ";
        names += t.name;
        for (const std::string& overlay : t.overlays) {
            const std::string without = t.name + "+no" + overlay;
            names += ", ";
            names += without;
            if (without != name) continue;
            for (const Tier& less : make_tiers(overlay))
                if (less.name == name) return less;
        }
    }
    throw std::invalid_argument("no instruction-set tier '" + name + "' on this machine; it has " +
                                names);
}

}  // namespace cnnrt
