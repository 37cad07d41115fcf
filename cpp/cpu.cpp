#include "cpu.h"

#include <stdexcept>

namespace cnnrt {

#if defined(CNNRT_HAVE_AVX512)
namespace avx512 {
extern const Kernel kTable[kKernels];
}
#endif
#if defined(CNNRT_HAVE_AVX2)
namespace avx2 {
extern const Kernel kTable[kKernels];
}
#endif
#if defined(CNNRT_HAVE_NEON)
namespace neon {
extern const Kernel kTable[kKernels];
}
#endif
namespace portable {
extern const Kernel kTable[kKernels];
}

const std::vector<Tier>& tiers() {
    static const std::vector<Tier> found = [] {
        std::vector<Tier> list;
        // __builtin_cpu_supports also checks that the operating system saves the registers.
#if defined(CNNRT_BY_HALVES)
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
            list.push_back({"avx512", avx512::kTable});
#elif defined(CNNRT_HAVE_AVX512)
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
            list.push_back({"avx512", avx512::kTable});
#endif
#if defined(CNNRT_HAVE_AVX2)
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
            __builtin_cpu_supports("bmi2"))
            list.push_back({"avx2", avx2::kTable});
#endif
#if defined(CNNRT_HAVE_NEON)
        list.push_back({"neon", neon::kTable});
#endif
        list.push_back({"portable", portable::kTable});
        return list;
    }();
    return found;
}

const Tier& tier(const std::string& name) {
    std::string names;
    for (const Tier& t : tiers()) {
        if (t.name == name) return t;
        if (!names.empty()) names += ", ";
        names += t.name;
    }
    throw std::invalid_argument("no instruction-set tier '" + name + "' on this machine; it has " +
                                names);
}

}  // namespace cnnrt
