# The host half of nemesis.cmake: libraries, tests and tools; target programs are nothing here.

set(NEMESIS_SANITIZER "" CACHE STRING "Value for -fsanitize=, or empty")
enable_testing()
find_package(Threads REQUIRED)
find_package(GTest REQUIRED)
include(GoogleTest)

add_compile_definitions(NEMESIS_HOST=1 NEMESIS_SLOW_ASSERTS=1)
# Later options win. Lines are what reports need; the types of templates take half of a build.
add_compile_options(-gline-tables-only)
if(NEMESIS_SANITIZER)
    # -O1 builds in three quarters of the time.
    add_compile_options(-O1 -fsanitize=${NEMESIS_SANITIZER}
        -fno-sanitize-recover=all -fno-omit-frame-pointer)
    add_link_options(-fsanitize=${NEMESIS_SANITIZER})
endif()

function(nemesis_library name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;HOST_SOURCES;TARGET_SOURCES;DEPENDS")
    set(sources ${arg_SOURCES} ${arg_HOST_SOURCES})
    if(sources)
        add_library(${name} STATIC ${sources})
        target_compile_options(${name} PRIVATE ${nemesis_warnings})
        target_link_libraries(${name} PUBLIC ${arg_DEPENDS})
    else()
        add_library(${name} INTERFACE)
        target_link_libraries(${name} INTERFACE ${arg_DEPENDS})
    endif()
endfunction()

# All that host-tsan builds.
add_custom_target(tsan_tests)

# What every test includes is read once.
file(WRITE ${PROJECT_BINARY_DIR}/generated/test_headers.cpp "")
add_library(nemesis_test_headers OBJECT ${PROJECT_BINARY_DIR}/generated/test_headers.cpp)
target_compile_options(nemesis_test_headers PRIVATE ${nemesis_warnings})
target_link_libraries(nemesis_test_headers PRIVATE GTest::gtest Threads::Threads)
target_precompile_headers(nemesis_test_headers PRIVATE <gtest/gtest.h>)

function(nemesis_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "LABEL;TIMEOUT;COST" "SOURCES;DEPENDS")
    if(NOT arg_LABEL)
        set(arg_LABEL unit)
    endif()
    if(NOT arg_LABEL MATCHES "^(unit|long|tsan|plain)$")
        message(FATAL_ERROR "${name}: no label '${arg_LABEL}'")
    endif()
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 300)
        if(arg_LABEL STREQUAL "long")
            set(arg_TIMEOUT 3000)
        endif()
    endif()
    if(NEMESIS_SANITIZER)
        math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * 3")
    endif()
    if("$ENV{NEMESIS_TIME_FACTOR}" MATCHES "^[0-9]+$")
        math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * $ENV{NEMESIS_TIME_FACTOR}")
    endif()
    if(NOT arg_COST)
        set(arg_COST 0)
    endif()
    add_executable(${name} ${arg_SOURCES})
    target_compile_options(${name} PRIVATE ${nemesis_warnings})
    target_precompile_headers(${name} REUSE_FROM nemesis_test_headers)
    target_link_libraries(${name} PRIVATE ${arg_DEPENDS} GTest::gtest GTest::gtest_main
        Threads::Threads)
    if(arg_LABEL STREQUAL "tsan")
        add_dependencies(tsan_tests ${name})
    endif()
    gtest_discover_tests(${name} TEST_PREFIX "${name}: " DISCOVERY_MODE PRE_TEST
        DISCOVERY_TIMEOUT 60
        PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT} COST ${arg_COST})
endfunction()

function(nemesis_program name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPENDS;LIBRARIES")
    add_executable(${name} ${arg_SOURCES})
    target_compile_options(${name} PRIVATE ${nemesis_warnings})
    target_link_libraries(${name} PRIVATE ${arg_DEPENDS} ${arg_LIBRARIES} Threads::Threads)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
endfunction()

function(nemesis_host_program)
endfunction()

function(nemesis_segment)
endfunction()

function(nemesis_domain)
endfunction()

function(nemesis_efi_program)
endfunction()

function(nemesis_boot_file)
endfunction()

function(nemesis_finish)
endfunction()
