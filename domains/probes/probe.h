#pragma once
// What a probe is written with: a name, a body, and what it expects.
//
// A probe asserts one property of the kernel or of libnemesis, from ring 3. It runs as a thread of
// probe_runner and makes the domains it needs (target.h). After each probe all its targets are
// destroyed and no frame may be missing.

#include <cstdint>

#include "libnemesis/base/units.h"
#include "libnemesis/clock.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::probes {

struct Probe {
    char const* name;
    void (*run)();
};

struct ProbeList {
    Probe const* first;
    std::uint32_t count;
};

/// Notes a failure of the running probe; only the first is printed.
void failed(char const* file, int line, char const* what, std::uint64_t a, std::uint64_t b,
            bool values);

inline bool check(bool holds, char const* file, int line, char const* what) {
    if (!holds) failed(file, line, what, 0, 0, false);
    return holds;
}
template <typename A, typename B>
bool check_equal(A const& a, B const& b, char const* file, int line, char const* what) {
    auto const x = static_cast<std::uint64_t>(a), y = static_cast<std::uint64_t>(b);
    if (x != y) failed(file, line, what, x, y, true);
    return x == y;
}

inline bool check_below(std::int64_t a, std::int64_t b, char const* file, int line,
                        char const* what) {
    if (a >= b)
        failed(file, line, what, static_cast<std::uint64_t>(a), static_cast<std::uint64_t>(b),
               true);
    return a < b;
}

// The expression as text is what makes these macros.
#define EXPECT(condition) ::nemesis::probes::check((condition), __FILE__, __LINE__, #condition)
#define EXPECT_EQ(a, b) ::nemesis::probes::check_equal((a), (b), __FILE__, __LINE__, #a " == " #b)
#define EXPECT_BELOW(a, b) ::nemesis::probes::check_below((a), (b), __FILE__, __LINE__, #a " < " #b)
#define REQUIRE(condition)              \
    do {                                \
        if (!EXPECT(condition)) return; \
    } while (false)
#define REQUIRE_EQ(a, b)              \
    do {                              \
        if (!EXPECT_EQ(a, b)) return; \
    } while (false)

constexpr std::int64_t code(abi::Error e) { return static_cast<std::int64_t>(e); }

inline void sleep(Duration d) { Thread::sleep_until(now() + d); }

/// Looks every 50 us until `condition` holds; false after `limit`.
template <typename F>
bool wait_for(F&& condition, Duration limit = Duration::ms(200)) {
    auto const end = now() + limit;
    while (!condition()) {
        if (now() > end) return false;
        sleep(Duration::us(50));
    }
    return true;
}

/// Whether a load (store, call) at `address` by the runner itself works. A fault is caught.
bool can_read(std::uint64_t address, std::uint64_t* value = nullptr);
bool can_write(std::uint64_t address, std::uint64_t value);

/// Repeatable numbers: the seed is printed with the probe's name.
inline constexpr std::uint64_t kSeed = 20260101;

/// A number from the kernel's command line, `name=123`, or `otherwise`.
std::uint64_t option(char const* name, std::uint64_t otherwise);

ProbeList memory_probes();
ProbeList activation_probes();
ProbeList event_probes();
ProbeList donation_probes();
ProbeList section_probes();
ProbeList fault_probes();
ProbeList floating_probes();
ProbeList contract_probes();
ProbeList interrupt_probes();
ProbeList thread_probes();
ProbeList death_probes();
ProbeList hostile_probes();
ProbeList scale_probes();

}  // namespace nemesis::probes
