// The activations on stored floats, for the kernels whose results they are applied to.

#include "activation.h"

namespace cnnrt::CNNRT_ISA {
namespace {

template <class F>
CNNRT_INLINE void transform_run(float* p, int64_t n, F f) {
    int64_t i = 0;
#if !defined(CNNRT_ISA_PORTABLE)
    // Two vectors at a time: the functions are chains of dependent operations, and the second fills
    // the gaps of the first. The portable tier's vectors are four such chains each, and as many as
    // SSE2 has registers for.
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
    // Inlined by force: GCC leaves the longer ones out of line otherwise, and on AVX2 they then
    // take three times as long, their vectors going through memory.
    switch (e.activation) {
#define ACTIVATION(name, value)                                                              \
    case Activation::name:                                                                   \
        transform_run(p, n, [=](f32x16 x) __attribute__((always_inline)) { return value; }); \
        break;
#include "activations.def"
#undef ACTIVATION
    }
}

}  // namespace cnnrt::CNNRT_ISA
