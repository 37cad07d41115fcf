# Toolchain file: cross-compiles for AArch64 with Debian's g++-aarch64-linux-gnu. The headers of
# Python are the building machine's, which differ in nothing that the module uses.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(PYTHON_MODULE_EXTENSION ".so" CACHE INTERNAL "")
