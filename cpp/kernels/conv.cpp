// Convolution of float32: Conv of conv.h.
#include "conv.h"

namespace cnnrt::CNNRT_ISA {

void conv(const ConvArgs& g, const Context& context, int64_t begin, int64_t end) {
    FloatOutput output{};
    output.epilogue = g.epilogue;
    run_conv(g, context, begin, end, output);
}

int64_t conv_tasks(const ConvArgs& g) { return conv_tasks_of<FloatOutput>(g); }

int64_t conv_scratch(const ConvArgs& g) { return conv_scratch_of<FloatOutput>(g); }

}  // namespace cnnrt::CNNRT_ISA
