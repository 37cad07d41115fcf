// Fully connected layer on plain rows with weights of float16, bfloat16 or int8.
//
// One row, or a few, wait for the weights to come from memory. Narrow weights are fewer bytes. They
// are widened in registers, and the result has the same bits as that of linear.
#include "linear.h"

namespace cnnrt::CNNRT_ISA {
namespace {

// Calls f with the weights' element type.
template <class F>
CNNRT_INLINE void with_weights(const LinearArgs& g, F f) {
    if (g.weight_type == DType::float16) return f(Float16{});
    if (g.weight_type == DType::bfloat16) return f(BFloat16{});
    f(int8_t{});
}

}  // namespace

void linear_narrow(const LinearArgs& g, const Context& context, int64_t begin, int64_t end) {
    with_weights(g, [&](auto weight) { linear_few<decltype(weight)>(g, context, begin, end); });
}

int64_t linear_narrow_tasks(const LinearArgs& g) {
    int64_t per = 1;
    with_weights(g, [&](auto weight) { per = kTileShape<float, decltype(weight)>.dense_blocks; });
    return ceil_div(blocks_of(g), per);
}

}  // namespace cnnrt::CNNRT_ISA
