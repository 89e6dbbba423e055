#pragma once
// Status: how a remote call ended, beside the errors its interface declares. The numbers are on the
// wire; up to 12 they are those of a protected call's failures, so that stubs see one list.

#include <cstdint>
#include <string_view>

namespace nemesis::remote {

/// Each with its cause; declared errors of interfaces are numbered from 64 on and pass unchanged.
enum class Status : std::uint16_t {
    Ok = 0,
    Unreachable = 1,      ///< no association could be made in time; the call was not made
    PeerDead = 2,         ///< the association has ended; the call may have been made
    TimedOut = 3,         ///< the deadline passed; the call may have been made
    Cancelled = 4,        ///< taken back by the caller; the call may have been made
    BadMessage = 5,       ///< the implementation could not read the request
    NoSuchOperation = 6,  ///< the object's interface has no such operation
    NoSuchObject = 7,     ///< no such object, or none that this peer holds; the call was not made
    TooLong = 8,          ///< more than message_bytes_max; the call was not made
    Busy = 9,             ///< `window` calls in flight, or too many peers; the call was not made
    WrongInterface = 10,  ///< the hashes differ: stubs of another version
    Refused = 11,         ///< the other side's policy says no
    NoMemory = 12,        ///< chunks used up: here, the call was not made; there, its reply is lost
};

/// The reason in words. owner: static
constexpr std::string_view text(Status status) {
    switch (status) {
        case Status::Ok:
            return "done";
        case Status::Unreachable:
            return "no answer from that node: the call was not made";
        case Status::PeerDead:
            return "the node has gone or begun anew: resolve the name again";
        case Status::TimedOut:
            return "the deadline passed; the call may have been made";
        case Status::Cancelled:
            return "taken back; the call may have been made";
        case Status::BadMessage:
            return "the request could not be read";
        case Status::NoSuchOperation:
            return "the interface has no such operation";
        case Status::NoSuchObject:
            return "no such object, or its handle has been released";
        case Status::TooLong:
            return "a message has 90,112 bytes at most: send less at a time";
        case Status::Busy:
            return "too many calls in flight: wait for one";
        case Status::WrongInterface:
            return "the interfaces differ: build both sides alike";
        case Status::Refused:
            return "refused by the other side";
        case Status::NoMemory:
            return "no memory for the message: give the node more chunks";
    }
    return "declared error";
}

}  // namespace nemesis::remote
