# Toolchain file: cross-compiles for Linux with musl, such as Alpine, by zig, whose C++ compiler is Clang and
# brings libc++ and musl. The headers of Python are the building machine's, which differ in nothing that
# the module uses.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_CXX_COMPILER "${CMAKE_CURRENT_LIST_DIR}/../.ci/zig-c++")
set(PYTHON_MODULE_EXTENSION ".so" CACHE INTERNAL "")
