#pragma once
// Errors that system calls return: a negative number in the first result register.
//
// An error never has a side effect unless the call's description says so. `text` gives the one-line
// reason a person reads.

#include <cstdint>

namespace nemesis::abi {

/// Why a call did nothing, and what is left to do.
enum class Error : std::int64_t {
    None = 0,
    BadCall = -1,        ///< no such call: check the number against kernel/abi/syscalls.h
    BadArgument = -2,    ///< a value is outside its range
    BadHandle = -3,      ///< endpoint, stretch, interrupt or domain does not exist or is not yours
    NotPermitted = -4,   ///< the domain lacks the privilege or right
    NoMemory = -5,       ///< the machine has no free frame left
    QuotaExceeded = -6,  ///< the domain's quota is used up: ask its parent for a larger one
    Busy = -7,           ///< taken: address range, endpoint, interrupt, or another admission runs
    Again = -8,          ///< one bounded step is done: call again to continue
    Refused = -9,      ///< admission: the contract does not fit; the second result says what would
    PeerDead = -10,    ///< the other side of the endpoint is gone
    NotOffered = -11,  ///< nothing was offered to the caller: a unilateral map is refused
    InSection = -12,   ///< a system call inside a kernel-privileged section
    Pending = -13,     ///< events are pending: handle them first
    NotMapped = -14,   ///< no frame at that page
    Exists = -15,      ///< something is there already
};

constexpr char const* text(Error e) {
    switch (e) {
        case Error::None:
            return "no error";
        case Error::BadCall:
            return "no such system call";
        case Error::BadArgument:
            return "argument out of range";
        case Error::BadHandle:
            return "no such object, or not yours";
        case Error::NotPermitted:
            return "privilege or right missing";
        case Error::NoMemory:
            return "no free frames";
        case Error::QuotaExceeded:
            return "quota used up";
        case Error::Busy:
            return "in use";
        case Error::Again:
            return "bounded step done, call again";
        case Error::Refused:
            return "contract refused by admission";
        case Error::PeerDead:
            return "peer is dead";
        case Error::NotOffered:
            return "not offered to you";
        case Error::InSection:
            return "system call inside a privileged section";
        case Error::Pending:
            return "events are pending";
        case Error::NotMapped:
            return "page is not mapped";
        case Error::Exists:
            return "exists already";
    }
    return "unknown error";
}

}  // namespace nemesis::abi
