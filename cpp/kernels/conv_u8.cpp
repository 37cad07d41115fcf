// Convolution of bytes: Conv of conv.h with sums in int32.
#include "conv.h"
#include "output_u8.h"

namespace cnnrt::CNNRT_ISA {

void conv_u8(const ConvArgs& g, const Context& context, int64_t begin, int64_t end) {
    IntegerOutput output{};
    output.set(g, context);
    run_conv(g, context, begin, end, output);
}

int64_t conv_u8_tasks(const ConvArgs& g) { return conv_tasks_of<IntegerOutput>(g); }

int64_t conv_u8_scratch(const ConvArgs& g) { return conv_scratch_of<IntegerOutput>(g); }

}  // namespace cnnrt::CNNRT_ISA
