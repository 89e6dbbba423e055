#pragma once
// The probes of one program: each has a name, expects something, and leaves one line,
// "[     OK ] name" or "[ FAILED ] name: why".
//
// context: the main thread of a domain that may end the machine.

#include <cstdint>
#include <string_view>

#include "libnemesis/activation/domain_status.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::parties {

inline std::uint64_t failures = 0, passes = 0;
inline char const* running = "";
inline bool has_failed = false;  ///< the running probe

/// The running probe has failed; only its first reason is told.
inline void failed(std::string_view why, std::uint64_t a = 0, std::uint64_t b = 0) {
    if (has_failed) return;
    has_failed = true;
    log::line("[ FAILED ] ", running, ": ", why, " ", a, " ", b);
}
inline bool expect(bool holds, std::string_view why, std::uint64_t a = 0, std::uint64_t b = 0) {
    if (!holds) failed(why, a, b);
    return holds;
}

/// Runs the probe `name` and says how it went.
template <typename F>
void probe(char const* name, F&& body) {
    running = name;
    has_failed = false;
    body();
    if (has_failed) {
        ++failures;
    } else {
        ++passes;
        log::line("[     OK ] ", name);
    }
}

/// Says how many have passed, and ends the machine.
[[noreturn]] inline void end_probes() {
    log::line(passes, " passed, ", failures, " failed");
    sys::machine_exit(failures == 0 && passes != 0 ? 0x10 : 0x11);
    __builtin_unreachable();
}

/// Looks every 50 us until `condition` holds; false after `limit`.
template <typename F>
bool wait_for(F&& condition, Duration limit = Duration::ms(100)) {
    auto const end = now() + limit;
    while (!condition()) {
        if (now() > end) return false;
        Thread::sleep_until(now() + Duration::us(50));
    }
    return true;
}

/// Of a domain that this one has made; all zero of others.
inline abi::DomainStatus status(abi::DomainId id) {
    return domain_status(id).value_or(abi::DomainStatus{});
}
/// Whether a domain that this one has made runs.
inline bool lives(abi::DomainId id) { return status(id).state == 1; }

/// Of the machine, now.
inline std::uint64_t frames_free() {
    return static_cast<std::uint64_t>(sys::machine_info(abi::MachineInfo::FramesFree));
}
/// Waits until nothing is given back any more. What is free then.
inline std::uint64_t frames_settled() {
    auto frames = frames_free();
    for (int same = 0; same < 20; ++same) {
        Thread::sleep_until(now() + Duration::us(500));
        if (frames_free() == frames) continue;
        frames = frames_free();
        same = 0;
    }
    return frames;
}

/// The decimal number at `at`, which is moved behind it.
inline std::uint64_t number(char const*& at) {
    while (*at == ' ') ++at;
    std::uint64_t n = 0;
    for (; *at >= '0' && *at <= '9'; ++at) n = n * 10 + static_cast<std::uint64_t>(*at - '0');
    return n;
}

}  // namespace nemesis::parties
