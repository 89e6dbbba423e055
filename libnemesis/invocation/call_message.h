#pragma once
// The header before a body: of a request and of a reply. The same for rings and for datagrams.

#include <cstddef>
#include <cstdint>

namespace nemesis::invocation {

/// What a request is.
enum class CallKind : std::uint16_t {
    Call = 0,          ///< a reply is wanted; the caller waits without donating
    Announcement = 1,  ///< no reply
    Donated = 2,       ///< a reply is wanted by synchronous send: the caller's time pays
    Cancel = 3,        ///< the caller no longer waits for `call`
    Release = 4,       ///< the caller drops `reserved` references to `object`; no body
};

/// Before a request's body. shape: 32 bytes, little-endian
struct RequestHeader {
    std::uint64_t call;  ///< comes back in the reply
    std::uint32_t object;
    std::uint16_t operation;
    std::uint16_t kind;  ///< CallKind
    std::int64_t until;  ///< units: ns, the caller's time-out; INT64_MAX: none
    std::uint32_t body_bytes;
    std::uint32_t reserved;  ///< 0; of a Release: how many references
};
static_assert(sizeof(RequestHeader) == 32);

/// Before a reply's body. shape: 16 bytes, little-endian
struct ReplyHeader {
    std::uint64_t call;
    std::uint16_t status;
    std::uint16_t reserved;
    std::uint32_t body_bytes;
};
static_assert(sizeof(ReplyHeader) == 16);

}  // namespace nemesis::invocation
