# The target half of nemesis.cmake: flags of kernel, segment and domain code, and how images link.

set(NEMESIS_SYSROOT ${PROJECT_SOURCE_DIR}/build/sysroot CACHE PATH
    "Where tools/sysroot put the C and C++ libraries")
if(NOT EXISTS ${NEMESIS_SYSROOT}/stamp)
    message(FATAL_ERROR "No sysroot in ${NEMESIS_SYSROOT}: run ./peg build (or tools/sysroot/build.py) first")
endif()
set(nemesis_cmake_dir ${CMAKE_CURRENT_LIST_DIR})
set(nemesis_place_image ${PROJECT_SOURCE_DIR}/tools/image/place_image.py)

# Common to everything that runs on the target.
add_library(nemesis_target_flags INTERFACE)
target_compile_definitions(nemesis_target_flags INTERFACE NEMESIS_TARGET=1)
target_compile_options(nemesis_target_flags INTERFACE
    -mno-red-zone -fno-stack-protector -nostdlibinc
    -ffunction-sections -fdata-sections -fno-common)

set(nemesis_c_headers -isystem ${NEMESIS_SYSROOT}/include)
set(nemesis_freestanding_headers
    $<$<COMPILE_LANGUAGE:CXX>:-isystem>$<$<COMPILE_LANGUAGE:CXX>:${nemesis_cmake_dir}/config_site>)
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
    -mno-mmx -mno-sse -msoft-float -mno-implicit-float -fno-omit-frame-pointer
    $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions> $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti>
    $<$<COMPILE_LANGUAGE:CXX>:-fno-threadsafe-statics>)

# libnemesis: throws nothing, keeps no statics, but exceptions of programs pass through it.
add_library(nemesis_segment_flags INTERFACE)
target_link_libraries(nemesis_segment_flags INTERFACE nemesis_target_flags)
target_compile_definitions(nemesis_segment_flags INTERFACE NEMESIS_SEGMENT=1)
target_compile_options(nemesis_segment_flags INTERFACE
    ${nemesis_freestanding_headers}
    -ffreestanding -fPIC -fvisibility-inlines-hidden -fasynchronous-unwind-tables
    $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions> $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti>
    $<$<COMPILE_LANGUAGE:CXX>:-fno-threadsafe-statics>)

# Programs in ring 3: the whole of C++.
add_library(nemesis_domain_flags INTERFACE)
target_link_libraries(nemesis_domain_flags INTERFACE nemesis_target_flags)
target_compile_definitions(nemesis_domain_flags INTERFACE NEMESIS_DOMAIN=1 _GNU_SOURCE=1)
target_compile_options(nemesis_domain_flags INTERFACE
    ${nemesis_hosted_headers}
    -fPIC -fno-plt -fasynchronous-unwind-tables)

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

# Makes the link of `name` a link at the address of the image's hash: linked once at a fixed base,
# hashed, linked again. Collisions are settled in the register of this build's images.
function(nemesis_place name script)
    set_target_properties(${name} PROPERTIES
        RULE_LAUNCH_LINK "python3 ${nemesis_place_image} --register ${PROJECT_BINARY_DIR}/images.json --")
    target_link_options(${name} PRIVATE -static -T ${script} -z max-page-size=4096
        -z noseparate-code --build-id=none --gc-sections --eh-frame-hdr
        --no-dependent-libraries --orphan-handling=error --no-undefined)
    set_property(TARGET ${name} APPEND PROPERTY LINK_DEPENDS ${script} ${nemesis_place_image})
endfunction()

function(nemesis_segment name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPENDS")
    list(TRANSFORM arg_DEPENDS APPEND _segment OUTPUT_VARIABLE depends)
    add_executable(${name} ${arg_SOURCES})
    target_compile_options(${name} PRIVATE ${nemesis_warnings})
    target_link_libraries(${name} PRIVATE nemesis_segment_flags ${depends})
    nemesis_place(${name} ${nemesis_cmake_dir}/libnemesis.ld)
    set_property(GLOBAL PROPERTY NEMESIS_SEGMENT ${name})
endfunction()

function(nemesis_domain name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "NO_CXX_RUNTIME;NO_SEGMENT" ""
        "SOURCES;DEPENDS;LIBRARIES")
    list(TRANSFORM arg_DEPENDS APPEND _domain OUTPUT_VARIABLE depends)
    add_executable(${name} ${arg_SOURCES})
    target_compile_options(${name} PRIVATE ${nemesis_warnings})
    target_link_libraries(${name} PRIVATE nemesis_domain_flags ${depends} ${arg_LIBRARIES})
    nemesis_place(${name} ${nemesis_cmake_dir}/domain.ld)
    set_property(GLOBAL APPEND PROPERTY NEMESIS_DOMAINS ${name})
    if(NOT arg_NO_SEGMENT)
        set_property(GLOBAL APPEND PROPERTY NEMESIS_DOMAINS_ON_SEGMENT ${name})
    endif()
    if(NOT arg_NO_CXX_RUNTIME)
        set(lib ${NEMESIS_SYSROOT}/lib)
        target_link_libraries(${name} PRIVATE --start-group ${lib}/libc++.a ${lib}/libc++abi.a
            ${lib}/libunwind.a ${lib}/libc.a ${lib}/libbuiltins.a --end-group)
        set_property(TARGET ${name} APPEND PROPERTY LINK_DEPENDS ${NEMESIS_SYSROOT}/stamp)
    endif()
endfunction()

function(nemesis_efi_program name)
endfunction()

function(nemesis_finish)
endfunction()
