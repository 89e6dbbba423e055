#pragma once
// The header before a body: of a request and of a reply. The same for rings and for datagrams, but
// for announcements in a ring, of which nearly all have a *brief* header: one word.

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
    std::uint16_t kind;  ///< CallKind; above it, in a ring, the length of a brief announcement
    std::int64_t until;  ///< units: ns, the caller's time-out; INT64_MAX: none
    std::uint32_t body_bytes;
    std::uint32_t reserved;  ///< 0; of a Release: how many references
};
static_assert(sizeof(RequestHeader) == 32);

// The second word of a request's header says what it is for and, of a brief announcement, how long
// its body is: 1 + bytes / 8 in the 13 bits above the kind. Of such a header nothing else is
// written or looked at, so announcements of one operation whose arguments have a fixed size begin
// alike.

inline constexpr std::uint32_t what_at = offsetof(RequestHeader, object);
inline constexpr std::uint32_t length_at = offsetof(RequestHeader, body_bytes);
inline constexpr std::uint32_t brief_bytes_max = 8190 * 8;

/// The second word of any other header.
constexpr std::uint64_t what_word(std::uint32_t object, std::uint16_t operation, CallKind kind) {
    return object | std::uint64_t{operation} << 32 | static_cast<std::uint64_t>(kind) << 48;
}
/// That of a brief announcement. requires: bytes <= brief_bytes_max, a multiple of 8
constexpr std::uint64_t brief_word(std::uint32_t object, std::uint16_t operation,
                                   std::uint64_t bytes) {
    return what_word(object, operation, CallKind::Announcement) | (bytes / 8 + 1) << 51;
}
/// The kind, which may be any number below 8.
constexpr CallKind kind_of(std::uint64_t what) { return static_cast<CallKind>(what >> 48 & 7); }
/// Whether there is a length in the word, which has a meaning for announcements only.
constexpr bool is_brief(std::uint64_t what) { return what >> 51 != 0; }
/// requires: is_brief; units: bytes
constexpr std::uint64_t brief_bytes(std::uint64_t what) { return (what >> 51) * 8 - 8; }

/// Before a reply's body. shape: 16 bytes, little-endian
struct ReplyHeader {
    std::uint64_t call;
    std::uint16_t status;
    std::uint16_t reserved;
    std::uint32_t body_bytes;
};
static_assert(sizeof(ReplyHeader) == 16);

}  // namespace nemesis::invocation
