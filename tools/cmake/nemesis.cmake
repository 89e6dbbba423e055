# The build functions of Nemesis.
#
#   nemesis_library(NAME SOURCES ... [DEPENDS ...] [HOST_SOURCES ...] [TARGET_SOURCES ...])
#       Pure logic for the host and the target. On the host the target is called NAME; on x86_64
#       there are three, built only when something links them, one for each kind of code:
#       NAME_kernel, NAME_segment (what goes into the shared image libnemesis), NAME_domain.
#       DEPENDS names other nemesis libraries without such an ending. Without sources: headers only.
#   nemesis_test(NAME SOURCES ... [DEPENDS ...] [LABEL unit|long|tsan|plain] [TIMEOUT seconds]
#                [COST seconds])
#       Host only: a GoogleTest program; each of its tests is a test of ctest. Default label: unit.
#       long: only with peg test --long; tsan: also under ThreadSanitizer; plain: not under
#       sanitizers (exhaustive searches that would take minutes there). COST: begins before others.
#   nemesis_program(NAME SOURCES ... [DEPENDS ...] [LIBRARIES ...])
#       Host only: a tool or a simulator, build/host/bin/NAME. LIBRARIES are packages' (CLI11::CLI11
#       and the like).
#   nemesis_host_program(NAME)
#       Target only: makes a tool of the host configuration usable in the target's build rules:
#       COMMAND ${NEMESIS_HOST_BIN}/NAME ... DEPENDS ${NEMESIS_HOST_BIN}/NAME host_NAME.
#   nemesis_segment(NAME SOURCES ... [DEPENDS ...])
#       Target only: the shared image (libnemesis.elf), read-only, at the address of its hash.
#   nemesis_domain(NAME SOURCES ... [DEPENDS ...] [LIBRARIES ...] [NO_CXX_RUNTIME] [NO_SEGMENT]
#                  [NO_START] [MOVABLE])
#       Target only: a program for ring 3, NAME.elf, linked against libnemesis at the address of its
#       hash; it enters at _start. LIBRARIES are the sysroot's (libturbojpeg). Every program links the
#       nemesis library domain_start if there is one (unless NO_START): the place for _start,
#       dl_iterate_phdr and so on. NO_CXX_RUNTIME leaves out libc++ and libc, NO_SEGMENT libnemesis.
#       MOVABLE: linked at 0 with its relocations, for the loader, which computes the address.
#   nemesis_efi_program(NAME SOURCES ...)
#       Target only: NAME.efi in the folder's binary directory, built with gnu-efi.
#   nemesis_boot_file(BOOT_NAME FILE [DEPENDENCIES ...])
#       Target only: puts FILE where peg looks for what a machine boots: build/x86_64/boot/BOOT_NAME
#       (kernel.elf, boot.archive, BOOTX64.EFI).
#
#   nemesis_interface(NAME FILES a.if ... [DEPENDS other interfaces])
#       Runs stubgen on interface files of this folder. NAME is used like a library without sources:
#       who depends on it includes "FOLDER/a.if.h".
#
# Interface targets (x86_64 only) that carry the flags: nemesis_kernel_flags, nemesis_segment_flags,
# nemesis_domain_flags. NEMESIS_TARGET is true in the x86_64 configuration.

include_guard(GLOBAL)

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_CXX_SCAN_FOR_MODULES OFF)
# Assertions stay on: no NDEBUG in any configuration.
foreach(language C CXX ASM)
    set(CMAKE_${language}_FLAGS_RELEASE "-O2 -g")
endforeach()

option(NEMESIS_WERROR "Warnings are errors" ON)

set(nemesis_warnings -Wall -Wextra -Wshadow -Wimplicit-fallthrough -Wvla
    $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor>
    $<$<COMPILE_LANGUAGE:CXX>:-Woverloaded-virtual>
    $<$<COMPILE_LANGUAGE:CXX>:-Wextra-semi>
    -Wthread-safety)
if(NEMESIS_WERROR)
    list(APPEND nemesis_warnings -Werror)
endif()

add_compile_options(
    $<$<COMPILE_LANGUAGE:C,CXX>:-ffile-prefix-map=${PROJECT_SOURCE_DIR}/=>
    $<$<COMPILE_LANGUAGE:C,CXX>:-ffile-prefix-map=${PROJECT_BINARY_DIR}/=build/>
    $<$<COMPILE_LANGUAGE:C,CXX>:-no-canonical-prefixes>)
# Generated headers (interface stubs) are included by the path of their source.
include_directories(${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/generated)

function(nemesis_interface name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "FILES;DEPENDS")
    if(NEMESIS_TARGET)
        nemesis_host_program(stubgen)
        set(stubgen ${NEMESIS_HOST_BIN}/stubgen)
        set(needed ${stubgen} host_stubgen)
    else()
        set(stubgen $<TARGET_FILE:stubgen>)
        set(needed stubgen)
    endif()
    set(headers)
    foreach(file ${arg_FILES})
        file(RELATIVE_PATH path ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${file})
        set(header ${PROJECT_BINARY_DIR}/generated/${path}.h)
        add_custom_command(OUTPUT ${header} BYPRODUCTS ${PROJECT_BINARY_DIR}/generated/${path}.md
            COMMAND ${stubgen} ${path} --root ${PROJECT_SOURCE_DIR}
                --out ${PROJECT_BINARY_DIR}/generated --depfile ${header}.d
            DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${file} ${needed} DEPFILE ${header}.d
            COMMENT "Stubs of ${path}" VERBATIM)
        list(APPEND headers ${header})
    endforeach()
    add_custom_target(${name}_stubs DEPENDS ${headers})
    nemesis_library(${name} DEPENDS nemesis_invocation ${arg_DEPENDS})
    foreach(target ${name} ${name}_kernel ${name}_segment ${name}_domain)
        if(TARGET ${target})
            add_dependencies(${target} ${name}_stubs)
        endif()
    endforeach()
endfunction()

if(NEMESIS_TARGET)
    include(${CMAKE_CURRENT_LIST_DIR}/target.cmake)
else()
    include(${CMAKE_CURRENT_LIST_DIR}/programs_on_host.cmake)
endif()
