#pragma once
// What can go wrong with a call besides the errors that its interface declares.
//
// Each interface's error type begins with these values; its own are numbered from
// `declared_error_first` on. A call that fails has either not been made or its fate is unknown:
// `was_not_made` tells.

#include <cstdint>
#include <string_view>

namespace nemesis::invocation {

/// Why a call brought no result, and what is left to do.
enum class Failure : std::uint16_t {
    None = 0,
    Unreachable = 1,      ///< no connection to the object could be made: resolve its name again
    PeerDead = 2,         ///< the other domain has died: resolve the name again
    TimedOut = 3,         ///< the time-out passed; the call may have been made
    Cancelled = 4,        ///< taken back by the caller; the call may have been made
    BadMessage = 5,       ///< the bytes are no such value, or the peer broke the protocol
    NoSuchOperation = 6,  ///< the other side's interface is another one
    NoSuchObject = 7,     ///< the handle has been released, or never was one
    TooLong = 8,          ///< an argument or a result is longer than its bound
    Busy = 9,             ///< too many calls in flight: wait for one, or drop
    WrongInterface = 10,  ///< the hashes differ: stubs of another version
    Refused = 11,         ///< the other side's policy says no
    NoMemory = 12,        ///< quota or table used up
    Threw = 13,  ///< the implementation threw an exception that the interface does not know
};

/// The number of an interface's first own error.
inline constexpr std::uint16_t declared_error_first = 64;

/// Whether a call that failed so has certainly not been made.
constexpr bool was_not_made(Failure f) {
    return f == Failure::Unreachable || f == Failure::TooLong || f == Failure::Busy ||
           f == Failure::WrongInterface || f == Failure::NoSuchObject ||
           f == Failure::NoSuchOperation;
}

/// The reason in words. context: any
constexpr std::string_view text(Failure f) {
    switch (f) {
        case Failure::None:
            return "no failure";
        case Failure::Unreachable:
            return "object unreachable";
        case Failure::PeerDead:
            return "the other domain is dead";
        case Failure::TimedOut:
            return "timed out";
        case Failure::Cancelled:
            return "cancelled";
        case Failure::BadMessage:
            return "malformed message";
        case Failure::NoSuchOperation:
            return "no such operation";
        case Failure::NoSuchObject:
            return "no such object";
        case Failure::TooLong:
            return "longer than its bound";
        case Failure::Busy:
            return "too many calls in flight";
        case Failure::WrongInterface:
            return "interfaces differ";
        case Failure::Refused:
            return "refused";
        case Failure::NoMemory:
            return "no memory";
        case Failure::Threw:
            return "the implementation threw";
    }
    return "declared error";
}

}  // namespace nemesis::invocation
