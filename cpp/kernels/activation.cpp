// The activations on stored floats.

#include "activation.h"

namespace cnnrt::CNNRT_ISA {
namespace {

template <class F>
CNNRT_INLINE void transform_run(const float* x, float* y, int64_t n, F f) {
    int64_t i = 0;
#if !defined(CNNRT_ISA_PORTABLE)
    // Two vectors at a time: each function is a chain of dependent operations, and a second chain
    // fills its gaps. A vector of the portable tier is four chains already, which fill SSE2's
    // registers.
    for (; i + 32 <= n; i += 32) {
        const f32x16 u = f(load(x + i)), v = f(load(x + i + 16));
        store(y + i, u);
        store(y + i + 16, v);
    }
#endif
    for (; i < n; i += 16) {
        const int lanes = n - i < 16 ? static_cast<int>(n - i) : 16;
        const f32x16 v = lanes == 16 ? load(x + i) : load_partial(x + i, lanes);
        store_partial(y + i, lanes, f(v));
    }
}

}  // namespace

void activate(const Epilogue& e, const float* from, float* to, int64_t n) {
    [[maybe_unused]] const f32x16 a = broadcast(e.alpha), b = broadcast(e.beta);
    // Forced inline: GCC leaves the longer ones out of line otherwise. On AVX2 their vectors then
    // pass through memory, and they take three times as long.
    switch (e.activation) {
#define ACTIVATION(name, value)                                                        \
    case Activation::name:                                                             \
        transform_run(from, to, n,                                                     \
                      [=](f32x16 x) __attribute__((always_inline)) { return value; }); \
        break;
#include "activations.def"
    }
}

void activate(const Epilogue& e, float* p, int64_t n) { activate(e, p, p, n); }

}  // namespace cnnrt::CNNRT_ISA
