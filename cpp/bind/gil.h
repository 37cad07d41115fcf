// Work without the GIL that signals can interrupt.
#pragma once

#include <pybind11/pybind11.h>

#include <stdexcept>
#if defined(__unix__)
#include <cxxabi.h>
#include <unistd.h>
#endif

namespace cnnrt {

// Takes the GIL by calling `take`. While the interpreter shuts down, Python before 3.14 ends daemon
// threads that ask for the GIL. It unwinds their stacks, through destructors that need the GIL.
// Here such a thread sleeps until the process is gone, as in later Pythons.
template <class F>
void take_gil(F take) {
#if defined(__GLIBCXX__) && defined(__unix__)
    try {
        take();
    } catch (abi::__forced_unwind&) {
        for (;;) pause();
    }
#else
    take();
#endif
}

// Releases the GIL for its lifetime.
class GilRelease {
public:
    GilRelease() : state_(PyEval_SaveThread()) {}
    ~GilRelease() {
        take_gil([this] { PyEval_RestoreThread(state_); });
    }
    GilRelease(const GilRelease&) = delete;
    GilRelease& operator=(const GilRelease&) = delete;

private:
    PyThreadState* const state_;
};

// True if a Python signal handler has raised an exception, which is then set for the caller. Python
// runs the handlers on the main thread only.
inline bool poll_signals() {
    PyGILState_STATE state;
    take_gil([&] { state = PyGILState_Ensure(); });
    const bool raised = PyErr_CheckSignals() != 0;
    PyGILState_Release(state);
    return raised;
}

// Calls `run` without the GIL. Throws if it was stopped, that is if it returns false.
template <class F>
void without_gil(F run) {
    bool completed;
    {
        const GilRelease released;
        completed = run();
    }
    if (completed) return;
    if (PyErr_Occurred()) throw pybind11::error_already_set();
    throw std::runtime_error("the process was forked by a signal handler during this run");
}

}  // namespace cnnrt
