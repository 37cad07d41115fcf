// The dispatch table of one tier; or of an overlay, which has the OVERLAY_KERNELs alone.

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
[[maybe_unused]] int64_t no_scratch(const void*) { return 0; }

constexpr Kernel kTable[] = {
#define ENTRY(name, Args) \
    {#name, sizeof(Args), run<Args, name>, count<Args, name##_tasks>, no_scratch},
#define ENTRY_WITH_SCRATCH(name, Args) \
    {#name, sizeof(Args), run<Args, name>, count<Args, name##_tasks>, count<Args, name##_scratch>},
#if !defined(CNNRT_OVERLAY)
#define KERNEL(name, Args) ENTRY(name, Args)
#define KERNEL_WITH_SCRATCH(name, Args) ENTRY_WITH_SCRATCH(name, Args)
#endif
#define OVERLAY_KERNEL(name, Args) ENTRY(name, Args)
#define OVERLAY_KERNEL_WITH_SCRATCH(name, Args) ENTRY_WITH_SCRATCH(name, Args)
#include "kernels.def"
};

}  // namespace

extern const KernelList kKernelList;
const KernelList kKernelList{kTable, sizeof kTable / sizeof kTable[0]};

}  // namespace cnnrt::CNNRT_ISA
