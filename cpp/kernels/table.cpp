// The dispatch table of one tier.

#include "../cpu.h"
#include "kernel.h"

namespace cnnrt::CNNRT_ISA {
namespace {

template <class Args, void (*F)(const Args&, const Context&, int64_t, int64_t)>
void run(const void* args, const Context& context, int64_t begin, int64_t end) {
    F(*static_cast<const Args*>(args), context, begin, end);
}
template <class Args, int64_t (*F)(const Args&)>
int64_t count(const void* args) {
    return F(*static_cast<const Args*>(args));
}
int64_t no_scratch(const void*) { return 0; }

}  // namespace

extern const Kernel kTable[kKernels];
const Kernel kTable[kKernels] = {
#define KERNEL(name, Args) \
    {#name, sizeof(Args), run<Args, name>, count<Args, name##_tasks>, no_scratch},
#define KERNEL_WITH_SCRATCH(name, Args) \
    {#name, sizeof(Args), run<Args, name>, count<Args, name##_tasks>, count<Args, name##_scratch>},
#include "kernels.def"
};

}  // namespace cnnrt::CNNRT_ISA
