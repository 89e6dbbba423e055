# The target half of nemesis.cmake: flags of kernel, segment and domain code, and how images link.

set(NEMESIS_SYSROOT ${PROJECT_SOURCE_DIR}/build/sysroot CACHE PATH
    "Where tools/sysroot put the C and C++ libraries")
if(NOT EXISTS ${NEMESIS_SYSROOT}/stamp)
    message(FATAL_ERROR "No sysroot in ${NEMESIS_SYSROOT}: run ./peg build (or tools/sysroot/build.py) first")
endif()
set(CMAKE_EXECUTABLE_SUFFIX .elf)
set(CMAKE_EXECUTABLE_SUFFIX_CXX .elf)
set(nemesis_cmake_dir ${CMAKE_CURRENT_LIST_DIR})
set(nemesis_place_image ${PROJECT_SOURCE_DIR}/tools/image/place_image.py)

# Common to everything that runs on the target.
add_library(nemesis_target_flags INTERFACE)
target_compile_definitions(nemesis_target_flags INTERFACE NEMESIS_TARGET=1)
target_compile_options(nemesis_target_flags INTERFACE
    -mno-red-zone -fno-stack-protector -nostdlibinc -fomit-frame-pointer
    -ffunction-sections -fdata-sections -fno-common)

# -isystem pairs must not be merged: SHELL: keeps each pair together and in order.
set(nemesis_freestanding_headers
    "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-isystem ${nemesis_cmake_dir}/config_site -isystem ${NEMESIS_SYSROOT}/include/c++/v1>"
    "SHELL:-isystem ${NEMESIS_SYSROOT}/include")
set(nemesis_hosted_headers
    "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-isystem ${NEMESIS_SYSROOT}/include/c++/v1>"
    "SHELL:-isystem ${NEMESIS_SYSROOT}/include")

# Ring 0: upper half, no exceptions, no vector or x87 registers.
add_library(nemesis_kernel_flags INTERFACE)
target_link_libraries(nemesis_kernel_flags INTERFACE nemesis_target_flags)
target_compile_definitions(nemesis_kernel_flags INTERFACE NEMESIS_KERNEL=1)
target_compile_options(nemesis_kernel_flags INTERFACE
    ${nemesis_freestanding_headers}
    -ffreestanding -mcmodel=kernel -fno-pic
    -mno-mmx -mno-sse -msoft-float -mno-implicit-float -flto
    $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions> $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti>
    $<$<COMPILE_LANGUAGE:CXX>:-fno-threadsafe-statics>)

# libnemesis: throws nothing, keeps no statics, but exceptions of programs pass through it. It uses no
# vector or x87 registers, because domains without the FPU run it too.
add_library(nemesis_segment_flags INTERFACE)
target_link_libraries(nemesis_segment_flags INTERFACE nemesis_target_flags)
target_compile_definitions(nemesis_segment_flags INTERFACE NEMESIS_SEGMENT=1)
target_compile_options(nemesis_segment_flags INTERFACE
    ${nemesis_freestanding_headers}
    -ffreestanding -fPIE -fvisibility-inlines-hidden -fasynchronous-unwind-tables
    -mno-mmx -mno-sse -msoft-float -mno-implicit-float
    $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions> $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti>
    $<$<COMPILE_LANGUAGE:CXX>:-fno-threadsafe-statics>)

# Programs in ring 3: the whole of C++.
add_library(nemesis_domain_flags INTERFACE)
target_link_libraries(nemesis_domain_flags INTERFACE nemesis_target_flags)
target_compile_definitions(nemesis_domain_flags INTERFACE NEMESIS_DOMAIN=1 _GNU_SOURCE=1)
target_compile_options(nemesis_domain_flags INTERFACE
    ${nemesis_hosted_headers}
    -fPIE -fno-plt -fasynchronous-unwind-tables)

function(nemesis_library name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;HOST_SOURCES;TARGET_SOURCES;DEPENDS")
    set(sources ${arg_SOURCES} ${arg_TARGET_SOURCES})
    foreach(kind kernel segment domain)
        list(TRANSFORM arg_DEPENDS APPEND _${kind} OUTPUT_VARIABLE depends)
        if(sources)
            add_library(${name}_${kind} STATIC EXCLUDE_FROM_ALL ${sources})
            target_compile_options(${name}_${kind} PRIVATE ${nemesis_warnings})
            target_link_libraries(${name}_${kind} PRIVATE nemesis_${kind}_flags)
            target_link_libraries(${name}_${kind} PUBLIC ${depends})
        else()
            add_library(${name}_${kind} INTERFACE)
            target_link_libraries(${name}_${kind} INTERFACE ${depends})
        endif()
    endforeach()
endfunction()

function(nemesis_test)
endfunction()

function(nemesis_program)
endfunction()

# Tools of the host configuration are built by that configuration, on demand.
set(NEMESIS_HOST_BUILD ${PROJECT_SOURCE_DIR}/build/host)
set(NEMESIS_HOST_BIN ${NEMESIS_HOST_BUILD}/bin)
function(nemesis_host_program name)
    if(TARGET host_${name})
        return()
    endif()
    if(NOT EXISTS ${NEMESIS_HOST_BUILD}/build.ninja)
        execute_process(COMMAND ${CMAKE_COMMAND} --preset host
            WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} COMMAND_ERROR_IS_FATAL ANY OUTPUT_QUIET)
    endif()
    add_custom_target(host_${name}
        COMMAND ${CMAKE_COMMAND} --build ${NEMESIS_HOST_BUILD} --target ${name} -- --quiet
        BYPRODUCTS ${NEMESIS_HOST_BIN}/${name} USES_TERMINAL VERBATIM)
endfunction()

# How every image is linked: by the script given, nothing left over, nothing undefined.
function(nemesis_link_by name script)
    target_link_options(${name} PRIVATE -static -L${nemesis_cmake_dir} -T${script}
        -z max-page-size=4096 --build-id=none --eh-frame-hdr --no-dependent-libraries
        --orphan-handling=error --no-undefined --fatal-warnings)
    set_property(TARGET ${name} APPEND PROPERTY LINK_DEPENDS ${script}
        ${nemesis_cmake_dir}/debug_sections.ld ${nemesis_cmake_dir}/domain_sections.ld)
endfunction()

# Makes the link of `name` a link at the address of the image's hash: linked once at a fixed base,
# hashed, linked again. Collisions are settled in the register of this build's images.
function(nemesis_place name script)
    cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "OPTIONS")
    set_property(GLOBAL APPEND PROPERTY NEMESIS_IMAGES ${name})
    list(JOIN arg_OPTIONS " " options)
    set_target_properties(${name} PROPERTIES RULE_LAUNCH_LINK
        "python3 ${nemesis_place_image} --register ${PROJECT_BINARY_DIR}/images.json ${options} -- ")
    nemesis_link_by(${name} ${script})
    set_property(TARGET ${name} APPEND PROPERTY LINK_DEPENDS ${nemesis_place_image})
endfunction()

function(nemesis_segment name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPENDS")
    list(TRANSFORM arg_DEPENDS APPEND _segment OUTPUT_VARIABLE depends)
    add_executable(${name} ${arg_SOURCES})
    target_compile_options(${name} PRIVATE ${nemesis_warnings})
    # Nothing in the image refers to what it offers, so all of every library goes in.
    target_link_options(${name} PRIVATE --entry=0 --whole-archive)
    target_link_libraries(${name} PRIVATE nemesis_segment_flags ${depends}
        --no-whole-archive ${NEMESIS_SYSROOT}/lib/libbuiltins.a)
    set(exports ${CMAKE_CURRENT_BINARY_DIR}/${name}.exports.elf)
    nemesis_place(${name} ${nemesis_cmake_dir}/libnemesis.ld OPTIONS --shared-segment ${exports})
    set_property(GLOBAL PROPERTY NEMESIS_SEGMENT ${name})
    set_property(GLOBAL PROPERTY NEMESIS_SEGMENT_EXPORTS ${exports})
endfunction()

function(nemesis_domain name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "NO_CXX_RUNTIME;NO_SEGMENT;NO_START;MOVABLE" ""
        "SOURCES;DEPENDS;LIBRARIES")
    list(TRANSFORM arg_DEPENDS APPEND _domain OUTPUT_VARIABLE depends)
    add_executable(${name} ${arg_SOURCES})
    target_compile_options(${name} PRIVATE ${nemesis_warnings})
    target_link_options(${name} PRIVATE --gc-sections)
    target_link_libraries(${name} PRIVATE nemesis_domain_flags ${depends})
    if(NOT arg_NO_START)
        target_link_libraries(${name} PRIVATE $<TARGET_NAME_IF_EXISTS:domain_start_domain>)
    endif()
    if(arg_MOVABLE)
        nemesis_link_by(${name} ${nemesis_cmake_dir}/movable.ld)
        target_link_options(${name} PRIVATE -pie --no-dynamic-linker "SHELL:-z text" --hash-style=gnu)
    else()
        nemesis_place(${name} ${nemesis_cmake_dir}/domain.ld)
    endif()
    if(NOT arg_NO_SEGMENT)
        set_property(GLOBAL APPEND PROPERTY NEMESIS_DOMAINS_ON_SEGMENT ${name})
    endif()
    set(lib ${NEMESIS_SYSROOT}/lib)
    list(TRANSFORM arg_LIBRARIES REPLACE "^lib(.+)$" "${lib}/lib\\1.a" OUTPUT_VARIABLE libraries)
    if(arg_NO_CXX_RUNTIME)
        target_link_libraries(${name} PRIVATE ${libraries} ${lib}/libbuiltins.a)
    else()
        target_link_libraries(${name} PRIVATE ${libraries} --start-group ${lib}/libc++.a
            ${lib}/libc++abi.a ${lib}/libunwind.a ${lib}/libc.a ${lib}/libbuiltins.a --end-group)
    endif()
    set_property(TARGET ${name} APPEND PROPERTY LINK_DEPENDS ${NEMESIS_SYSROOT}/stamp)
endfunction()

function(nemesis_efi_program name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES")
    set(efi /usr/include/efi)
    add_library(${name}_objects OBJECT ${arg_SOURCES})
    target_compile_definitions(${name}_objects PRIVATE NEMESIS_EFI=1 GNU_EFI_USE_MS_ABI=1)
    target_compile_options(${name}_objects PRIVATE ${nemesis_warnings}
        "SHELL:-isystem ${efi} -isystem ${efi}/x86_64 -isystem ${efi}/protocol"
        ${nemesis_freestanding_headers} -nostdlibinc -ffreestanding -fpic -fshort-wchar
        -fno-stack-protector -mno-red-zone
        $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions> $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti>
        $<$<COMPILE_LANGUAGE:CXX>:-fno-threadsafe-statics>)
    set(out ${CMAKE_CURRENT_BINARY_DIR}/${name})
    add_custom_command(OUTPUT ${out}.efi
        # GNU objcopy: llvm-objcopy does not know --subsystem.
        # gnu-efi's start code adds the base to what lies at a relocation's place: lld must put the
        # addend there.
        COMMAND ld.lld-19 -nostdlib -znocombreloc --apply-dynamic-relocs
            -T /usr/lib/elf_x86_64_efi.lds -shared
            -Bsymbolic -L/usr/lib /usr/lib/crt0-efi-x86_64.o $<TARGET_OBJECTS:${name}_objects>
            -o ${out}.so -lefi -lgnuefi
        COMMAND objcopy -j .text -j .sdata -j .data -j .dynamic -j .dynsym -j ".rel*" -j .reloc
            --target efi-app-x86_64 --subsystem=10 ${out}.so ${out}.efi
        DEPENDS ${name}_objects $<TARGET_OBJECTS:${name}_objects>
        COMMAND_EXPAND_LISTS VERBATIM)
    add_custom_target(${name} ALL DEPENDS ${out}.efi)
    set_property(TARGET ${name} PROPERTY NEMESIS_FILE ${out}.efi)
endfunction()

function(nemesis_boot_file boot_name file)
    set(copy ${PROJECT_BINARY_DIR}/boot/${boot_name})
    add_custom_command(OUTPUT ${copy}
        COMMAND ${CMAKE_COMMAND} -E copy ${file} ${copy} DEPENDS ${file} ${ARGN} VERBATIM)
    string(MAKE_C_IDENTIFIER boot_${boot_name} target)
    add_custom_target(${target} ALL DEPENDS ${copy})
endfunction()

# Programs are bound to libnemesis here, because their folders may come before its.
# After all links, colliding images take their slots in order of their names.
function(nemesis_finish)
    get_property(images GLOBAL PROPERTY NEMESIS_IMAGES)
    if(images)
        list(TRANSFORM images APPEND .elf OUTPUT_VARIABLE names)
        add_custom_target(nemesis_images ALL
            COMMAND python3 ${nemesis_place_image} --register ${PROJECT_BINARY_DIR}/images.json
                --settle ${names}
            COMMENT "" VERBATIM)
        add_dependencies(nemesis_images ${images})
    endif()
    get_property(segment GLOBAL PROPERTY NEMESIS_SEGMENT)
    get_property(exports GLOBAL PROPERTY NEMESIS_SEGMENT_EXPORTS)
    get_property(programs GLOBAL PROPERTY NEMESIS_DOMAINS_ON_SEGMENT)
    if(segment)
        foreach(program ${programs})
            target_link_options(${program} PRIVATE --just-symbols=${exports})
            add_dependencies(${program} ${segment})
            set_property(TARGET ${program} APPEND PROPERTY LINK_DEPENDS $<TARGET_FILE:${segment}>)
        endforeach()
    endif()
endfunction()
