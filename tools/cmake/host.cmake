# Toolchain of the host configuration: clang-19 with the machine's own C++ library, because
# Debian's GoogleTest is built against that one.
set(CMAKE_C_COMPILER clang-19)
set(CMAKE_CXX_COMPILER clang++-19)
set(CMAKE_ASM_COMPILER clang-19)
set(NEMESIS_TARGET OFF)
