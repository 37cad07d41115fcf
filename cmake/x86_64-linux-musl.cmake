# Toolchain file: cross-compiles for Linux with musl, such as Alpine, by zig, whose C++ compiler is Clang
# and brings libc++ and musl. ZIG is the program. The headers of Python are the building machine's, which
# differ in nothing that the module uses.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_CXX_COMPILER "$ENV{ZIG}")
set(CMAKE_CXX_COMPILER_ARG1 "c++ -target x86_64-linux-musl")
set(CNNRT_TUNE) # zig takes the last of -march and -mtune for the processor
set(PYTHON_MODULE_EXTENSION ".so" CACHE INTERNAL "")
