#include "cpu.h"

#include <stdexcept>
#include <string_view>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__x86_64__)
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

#if defined(__x86_64__)
// What CPUID reports, and which registers the operating system saves. Not __builtin_cpu_supports:
// the compiler library of zig answers no to all its questions, and older ones know fewer names.
struct X86 {
    bool level3 = false, level4 = false;  // x86-64-v3 and x86-64-v4, as -march has them
    bool avx_vnni = false, avx512_vnni = false, avx512_vbmi = false;
};

bool has(unsigned word, unsigned bits) { return (word & bits) == bits; }

X86 read_x86() {
    X86 found;
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) ||
        !has(c, bit_SSE3 | bit_SSSE3 | bit_SSE4_1 | bit_SSE4_2 | bit_CMPXCHG16B | bit_POPCNT |
                    bit_MOVBE | bit_FMA | bit_F16C | bit_AVX | bit_OSXSAVE))
        return found;
    unsigned saved = 0;
    asm volatile("xgetbv" : "=a"(saved), "=d"(d) : "c"(0));
    if (!has(saved, 0x6)) return found;  // the registers of SSE and AVX
    if (!__get_cpuid(0x80000001, &a, &b, &c, &d) || !has(c, bit_LAHF_LM | bit_LZCNT)) return found;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !has(b, bit_BMI | bit_BMI2 | bit_AVX2))
        return found;
    found.level3 = true;
#if !defined(__APPLE__)  // macOS shows that it saves these from their first use on
    const bool saves_avx512 = has(saved, 0xe0);
#else
    const bool saves_avx512 = true;
#endif
    if (saves_avx512 &&
        has(b, bit_AVX512F | bit_AVX512DQ | bit_AVX512CD | bit_AVX512BW | bit_AVX512VL)) {
        found.level4 = true;
        found.avx512_vnni = has(c, bit_AVX512VNNI);
        found.avx512_vbmi = has(c, bit_AVX512VBMI);
    }
    found.avx_vnni = __get_cpuid_count(7, 1, &a, &b, &c, &d) && has(a, bit_AVXVNNI);
    return found;
}

[[maybe_unused]] const X86& x86() {
    static const X86 found = read_x86();
    return found;
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
