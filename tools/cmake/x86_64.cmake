# Toolchain of the target configuration: x86-64 without an operating system.
# The linker is called directly: for this target the clang driver would call the host's gcc.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_C_COMPILER clang-19)
set(CMAKE_CXX_COMPILER clang++-19)
set(CMAKE_ASM_COMPILER clang-19)
set(CMAKE_AR llvm-ar-19)
set(CMAKE_RANLIB llvm-ranlib-19)
set(CMAKE_NM llvm-nm-19)
foreach(language C CXX ASM)
    set(CMAKE_${language}_COMPILER_TARGET x86_64-unknown-none-elf)
    set(CMAKE_${language}_LINK_EXECUTABLE
        "ld.lld-19 <LINK_FLAGS> -o <TARGET> <OBJECTS> <LINK_LIBRARIES>")
    # What the program loads or links is written out by nemesis.cmake, never guessed by CMake.
    set(CMAKE_${language}_STANDARD_LIBRARIES "")
endforeach()
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(NEMESIS_TARGET ON)
