#include "openmp.h"

#if defined(CNNRT_OPENMP)

#include <dlfcn.h>

#include <atomic>
#include <csetjmp>
#include <cstring>
#include <mutex>
#include <vector>

#if defined(__APPLE__)
#include <mach-o/dyld.h>
#else
#include <link.h>
#endif

namespace cnnrt {
namespace {

// The functions of a runtime, with the types of GCC's ABI and of omp.h.
struct Runtime {
    void (*parallel)(void (*body)(void*), void* data, unsigned threads, unsigned flags);
    int (*thread_num)();
    int (*num_threads)();
    int (*in_parallel)();
};

Runtime functions;
std::string path_of_runtime;
std::atomic<bool> found{false};
std::mutex finding;

template <class F>
bool look_up(void* library, const char* name, F*& function) {
    function = reinterpret_cast<F*>(dlsym(library, name));
    return function != nullptr;
}

// Takes the functions of an open library if it has all of them.
bool take(void* library) {
    Runtime r{};
    if (!look_up(library, "GOMP_parallel", r.parallel) ||
        !look_up(library, "omp_get_thread_num", r.thread_num) ||
        !look_up(library, "omp_get_num_threads", r.num_threads) ||
        !look_up(library, "omp_in_parallel", r.in_parallel))
        return false;
    functions = r;
    Dl_info info{};
    const bool named = dladdr(reinterpret_cast<void*>(r.parallel), &info) && info.dli_fname;
    path_of_runtime = named ? info.dli_fname : "unknown";
    return true;
}

// Wheels rename the runtimes that they bring, as in libgomp-e985bcbb.so.1.0.0.
bool is_runtime(const char* path) {
    const char* slash = std::strrchr(path, '/');
    const char* name = slash ? slash + 1 : path;
    for (const char* prefix : {"libgomp", "libomp", "libiomp5"})
        if (std::strncmp(name, prefix, std::strlen(prefix)) == 0) return true;
    return false;
}

// The files of loaded runtimes, in the order of loading.
std::vector<std::string> loaded_runtimes() {
    std::vector<std::string> paths;
#if defined(__APPLE__)
    for (uint32_t i = 0; i < _dyld_image_count(); ++i) {
        const char* path = _dyld_get_image_name(i);
        if (path && is_runtime(path)) paths.emplace_back(path);
    }
#else
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* list) {
            if (info->dlpi_name && is_runtime(info->dlpi_name))
                static_cast<std::vector<std::string>*>(list)->emplace_back(info->dlpi_name);
            return 0;
        },
        &paths);
#endif
    return paths;
}

bool find() {
    // What a library that was linked with OpenMP would get.
    if (dlsym(RTLD_DEFAULT, "GOMP_parallel") && take(RTLD_DEFAULT)) return true;
    // Python loads modules and what they need for themselves: their names are not global.
    for (const std::string& path : loaded_runtimes())
        if (void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD); library && take(library))
            return true;
#if defined(__APPLE__)
    const char* const installed[] = {"libomp.dylib", "libiomp5.dylib"};
#else
    const char* const installed[] = {"libgomp.so.1", "libomp.so.5", "libomp.so", "libiomp5.so"};
#endif
    // Never closed: its threads live as long as the process.
    for (const char* name : installed)
        if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL); library && take(library))
            return true;
    return false;
}

// A region on its way through the runtime.
struct Team {
    Region& region;
    Barrier& barrier;
    const unsigned generation = fork_generation();
    std::jmp_buf leave{};
};

void run_thread(void* data) {
    Team& team = *static_cast<Team*>(data);
    {
        const FlushDenormals flush;
        team.region.run(functions.thread_num(), functions.num_threads(), team.barrier);
    }
    // A signal handler has forked inside the region. The child is this thread alone, and the
    // runtime would wait for the others: its frames are left behind, with its threads.
    if (fork_generation() != team.generation) std::longjmp(team.leave, 1);
}

}  // namespace

std::string load_openmp() {
    const std::lock_guard<std::mutex> lock(finding);
    if (!found.load(std::memory_order_relaxed) && find())
        found.store(true, std::memory_order_release);
    return path_of_runtime;
}

bool openmp_is_built() { return true; }

bool openmp_is_usable() { return found.load(std::memory_order_acquire) && fork_generation() == 0; }

bool inside_openmp_region() { return functions.in_parallel() != 0; }

void run_openmp_region(Region& region, int threads, Barrier& barrier) {
    Team team{region, barrier};
    if (setjmp(team.leave) == 0)
        functions.parallel(run_thread, &team, static_cast<unsigned>(threads), 0);
}

}  // namespace cnnrt

#else

namespace cnnrt {

std::string load_openmp() { return {}; }
bool openmp_is_built() { return false; }
bool openmp_is_usable() { return false; }
bool inside_openmp_region() { return false; }
void run_openmp_region(Region& region, int, Barrier& barrier) { region.run(0, 1, barrier); }

}  // namespace cnnrt

#endif
