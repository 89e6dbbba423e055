// starter: what the bench of spawning loads. The first instruction of its main reads the counter.
// Argument "s": it stays; else it exits with what it read.
#include "libnemesis/state.h"
#include "libnemesis/syscalls.h"

/// A pointer in each kind of data, so that there is something to relocate.
char const* const volatile constants[] = {"one", "two", "three"};
char const* volatile data[] = {"four", "five"};
#ifdef STARTER_BYTES
extern "C" char const starter_filler[STARTER_BYTES];
[[gnu::used]] char const starter_filler[STARTER_BYTES] = {1};
#endif

extern "C" [[gnu::used]] void starter_main(nemesis::abi::Environment const& env,
                                           std::uint64_t stamp) {
    using namespace nemesis;
#ifdef STARTER_BYTES
    if (*static_cast<char const volatile*>(starter_filler) != 1) sys::exit(0);
#endif
    if (constants[2][0] != 't' || data[1][0] != 'f') sys::exit(0);
    if (env.arguments[0] == 's')
        for (;;) sys::suspend(INT64_MAX);
    sys::exit(stamp);
}

extern "C" [[gnu::naked]] void nem_main(nemesis::abi::Environment const&) {
    asm volatile("rdtsc\n mov %eax, %esi\n jmp starter_main");
}
