// The activations on stored floats.

#include "activation.h"

namespace cnnrt::CNNRT_ISA {
namespace {

template <class F>
CNNRT_INLINE void transform_run(float* p, int64_t n, F f) {
    int64_t i = 0;
#if !defined(CNNRT_ISA_PORTABLE)
    // Two vectors at a time: each function is a chain of dependent operations, and a second chain
    // fills its gaps. A vector of the portable tier is four chains already, which fill SSE2's
    // registers.
    for (; i + 32 <= n; i += 32) {
        const f32x16 u = f(load(p + i)), v = f(load(p + i + 16));
        store(p + i, u);
        store(p + i + 16, v);
    }
#endif
    for (; i < n; i += 16) {
        const int lanes = n - i < 16 ? static_cast<int>(n - i) : 16;
        const f32x16 x = lanes == 16 ? load(p + i) : load_partial(p + i, lanes);
        store_partial(p + i, lanes, f(x));
    }
}

}  // namespace

void activate(const Epilogue& e, float* p, int64_t n) {
    [[maybe_unused]] const f32x16 a = broadcast(e.alpha), b = broadcast(e.beta);
    // Forced inline: GCC leaves the longer ones out of line otherwise. On AVX2 their vectors then
    // pass through memory, and they take three times as long.
    switch (e.activation) {
#define ACTIVATION(name, value)                                                              \
    case Activation::name:                                                                   \
        transform_run(p, n, [=](f32x16 x) __attribute__((always_inline)) { return value; }); \
        break;
#include "activations.def"
    }
}

}  // namespace cnnrt::CNNRT_ISA
