#pragma once
// ASSERT: stops the program (domain, host test) or the machine (kernel) when OUR code is wrong.
//
// Never used on data that another domain, a disk or the wire controls: that is validated and
// refused. ASSERT stays on in release builds. ASSERT_SLOW is for walks that cost more than O(1)
// and is on only where NEMESIS_SLOW_ASSERTS is defined (host tests).

namespace nemesis {

/// Ends the program or the machine with a message. Provided once by each environment: the kernel,
/// libnemesis, and libnemesis/base/assert_host.cpp for host programs. Does not return.
[[noreturn]] void assertion_failed(char const* condition, char const* file, int line);

}  // namespace nemesis

#define ASSERT(condition)                              \
    (__builtin_expect(static_cast<bool>(condition), 1) \
         ? static_cast<void>(0)                        \
         : ::nemesis::assertion_failed(#condition, __FILE_NAME__, __LINE__))

#ifdef NEMESIS_SLOW_ASSERTS
#define ASSERT_SLOW(condition) ASSERT(condition)
#else
#define ASSERT_SLOW(condition) static_cast<void>(0)
#endif
