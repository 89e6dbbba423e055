#pragma once
// The datagrams of remote invocation, version 1: docs/formats/remote_invocation.md.
//
// Plain little-endian structs, copied in and out; a datagram is taken only if its length is exactly
// what its kind says (`read_datagram`), so nothing behind that checks lengths again. A message of
// up to message_bytes_max bytes travels in up to 64 fragments, all but the last of fragment_bytes.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace nemesis::remote {

inline constexpr std::uint8_t protocol_version = 1;
inline constexpr std::size_t fragment_bytes = 1408;
inline constexpr std::size_t fragments_max = 64;
inline constexpr std::size_t message_bytes_max = fragment_bytes * fragments_max;
inline constexpr std::size_t datagram_bytes_max = fragment_bytes + 64;
/// Replies of up to so many are acknowledged by the next datagram that says `low`.
inline constexpr std::uint32_t fragments_acknowledged_late = 4;
/// Calls of one direction of an association that are not settled.
inline constexpr std::uint32_t window = 16;

/// What a datagram is.
enum class Kind : std::uint8_t {
    Hello = 1,       ///< wants an association; `source` is the key for it
    Welcome = 2,     ///< the answer: both keys are known now
    Reset = 3,       ///< there is no such association here
    Ping = 4,        ///< are you there? carries `low`
    Pong = 5,        ///< I am; carries `low` too
    Request = 6,     ///< a fragment of a request
    Ack = 7,         ///< fragments of a request that have come
    Poll = 8,        ///< what has become of the call?
    Reply = 9,       ///< a fragment of a reply
    ReplyAck = 10,   ///< fragments of a reply that have come
    Cancel = 11,     ///< the caller no longer waits
    Cancelled = 12,  ///< and nothing of the call will come
    Announce = 13,   ///< a request without a reply
};

inline constexpr std::uint16_t flag_ask = 1;         ///< answer at once with what has come
inline constexpr std::uint16_t flag_dispatched = 2;  ///< the request has reached the implementation

/// Before everything else. shape: 32 bytes
struct Header {
    std::uint8_t version = protocol_version;
    Kind kind{};
    std::uint8_t fragment = 0;
    std::uint8_t fragments = 1;
    std::uint16_t flags = 0;
    std::uint16_t status = 0;
    std::uint64_t destination = 0;  ///< the receiver's key for the association; 0 in Hello
    std::uint64_t source = 0;       ///< the sender's
    std::uint64_t number = 0;       ///< of the call or announcement
};
static_assert(sizeof(Header) == 32);

/// After the header of Request and Announce, before the bytes. shape: 32 bytes
struct CallPart {
    std::uint64_t low = 0;       ///< the caller's lowest call that is not settled
    std::int64_t time_left = 0;  ///< units: ns until the caller's deadline, when sent
    std::uint32_t bytes = 0;     ///< of the whole message
    std::uint32_t object = 0;
    std::uint16_t operation = 0;
    std::uint16_t reserved[3] = {};
};
static_assert(sizeof(CallPart) == 32);

/// After the header of Reply, before the bytes. shape: 8 bytes
struct ReplyPart {
    std::uint32_t bytes = 0;
    std::uint32_t reserved = 0;
};
static_assert(sizeof(ReplyPart) == 8);

/// After the header of Hello and Welcome. shape: 16 bytes
struct HelloPart {
    std::uint64_t incarnation = 0;  ///< of the sender's node, never the same twice
    std::uint32_t window = 0;
    std::uint32_t reserved = 0;
};
static_assert(sizeof(HelloPart) == 16);

/// How many fragments a message has; at least one.
constexpr std::uint32_t fragments_of(std::uint32_t bytes) {
    return bytes == 0 ? 1
                      : static_cast<std::uint32_t>((bytes + fragment_bytes - 1) / fragment_bytes);
}
/// How many bytes fragment `index` has. requires: index < fragments_of(bytes)
constexpr std::uint32_t fragment_size(std::uint32_t bytes, std::uint32_t index) {
    std::uint32_t const before = index * static_cast<std::uint32_t>(fragment_bytes);
    return bytes - before < fragment_bytes ? bytes - before
                                           : static_cast<std::uint32_t>(fragment_bytes);
}
/// A bit for each of `fragments` fragments.
constexpr std::uint64_t all_fragments(std::uint32_t fragments) {
    return fragments == 64 ? ~0ull : (1ull << fragments) - 1;
}

/// A datagram taken apart. Only the part of its kind is filled in. owner: `payload` borrows
struct Datagram {
    Header header;
    CallPart call;
    ReplyPart reply;
    HelloPart hello;
    std::uint64_t word =
        0;  ///< Ack, ReplyAck: a bit for each fragment; Ping, Pong, Poll, Cancel: low
    std::span<std::byte const> payload;
};

/// Takes foreign bytes apart. errors: nullopt if they are no datagram of this version whose parts
/// fit each other; context: any, O(1)
std::optional<Datagram> read_datagram(std::span<std::byte const> bytes);

}  // namespace nemesis::remote
