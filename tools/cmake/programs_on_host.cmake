# The host half of nemesis.cmake: libraries, tests and tools; target programs are nothing here.

set(NEMESIS_SANITIZER "" CACHE STRING "Value for -fsanitize=, or empty")
enable_testing()
find_package(Threads REQUIRED)
find_package(GTest REQUIRED)
include(GoogleTest)

add_compile_definitions(NEMESIS_HOST=1 NEMESIS_SLOW_ASSERTS=1)
if(NEMESIS_SANITIZER)
    add_compile_options(-fsanitize=${NEMESIS_SANITIZER} -fno-sanitize-recover=all
        -fno-omit-frame-pointer)
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

function(nemesis_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT" "SOURCES;DEPENDS;LABELS")
    if(NOT arg_LABELS)
        set(arg_LABELS unit)
    endif()
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 300)
        if("long" IN_LIST arg_LABELS)
            set(arg_TIMEOUT 3000)
        endif()
    endif()
    if(NEMESIS_SANITIZER)
        math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * 3")
    endif()
    if("$ENV{NEMESIS_TIME_FACTOR}" MATCHES "^[0-9]+$")
        math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * $ENV{NEMESIS_TIME_FACTOR}")
    endif()
    add_executable(${name} ${arg_SOURCES})
    target_compile_options(${name} PRIVATE ${nemesis_warnings})
    target_link_libraries(${name} PRIVATE ${arg_DEPENDS} GTest::gtest GTest::gtest_main
        Threads::Threads)
    gtest_discover_tests(${name} TEST_PREFIX "${name}: " DISCOVERY_MODE PRE_TEST
        DISCOVERY_TIMEOUT 60
        PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT})
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
