// OpenMP as the executor of parallel regions: the threads of the OpenMP runtime that the process
// has loaded, in the place of the thread pool's.
//
// Nothing is linked: a library that needs libgomp.so.1 brings a copy of its own in its wheel, and a
// process with PyTorch then has two. Entry points are looked up in what is loaded. GOMP_parallel is
// the entry of a parallel region that GCC's code calls. GCC's runtime (libgomp), LLVM's (libomp)
// and Intel's (libiomp5) all export it.
#pragma once

#include <string>

#include "thread_pool.h"

namespace cnnrt {

// Finds a runtime, once. The first of these is taken: one whose names are global, one that is
// loaded, one that the system installs. Returns the path of its file, or an empty string if there
// is none or the library was built without OpenMP.
std::string load_openmp();

// True if the library was built with OpenMP (CNNRT_OPENMP of CMakeLists.txt).
bool openmp_is_built();

// True after load_openmp has found a runtime, but not in a forked child: libgomp waits there for
// threads that only its parent has.
bool openmp_is_usable();

// True inside a parallel region of the runtime. Another one would get a single thread.
bool inside_openmp_region();

// Runs the body on up to `threads` threads of the runtime, which may give fewer.
void run_openmp_region(Region& region, int threads, Barrier& barrier);

}  // namespace cnnrt
