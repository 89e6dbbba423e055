#pragma once
// A binding: what two domains share for protected calls. Two stretches, each written by one side
// and read by the other, and one connection of two endpoints.
//
//     a side's stretch:  | what it has read of the other ring: 64 | RingWords 64 | slots |
//
// Behind the slots of the client's stretch, on the next page, lies the area for granted arguments
// (granted.h), if one was agreed. Requests lie in the client's stretch, replies in the server's.
// One message a slot: a header (call_message.h), then the body. Both rings have as many slots, so a
// client with no more calls in flight than slots always finds its replies a place.

#include <cstdint>
#include <span>

#include "kernel/abi/dib.h"
#include "kernel/abi/syscalls.h"
#include "libnemesis/base/ring.h"
#include "libnemesis/invocation/call_message.h"
#include "libnemesis/invocation/interface.h"

namespace nemesis::invocation {

inline constexpr std::uint32_t calls_in_flight_max = 64;

/// The agreed shape of a binding. Part of what was agreed, never read from shared memory.
struct BindingShape {
    std::uint32_t slots = 16;  ///< a power of two, at most calls_in_flight_max
    std::uint32_t request_bytes = 0, reply_bytes = 0;  ///< longest bodies
    std::uint32_t granted_bytes = 0;  ///< the area for granted arguments: whole pages

    /// With room for the granted arguments of one call.
    static constexpr BindingShape of(InterfaceInfo const& info, std::uint32_t slots = 16) {
        return {slots, info.request_max, info.reply_max, granted_pages(info.granted_max)};
    }
    /// So many bytes as whole pages. requires: at most granted_bytes_max
    static constexpr std::uint32_t granted_pages(std::uint32_t bytes) {
        return (bytes + page_bytes - 1) & ~(page_bytes - 1);
    }
    constexpr RingGeometry requests() const {
        return {slots, (sizeof(RequestHeader) + request_bytes + 7) & ~7ull};
    }
    constexpr RingGeometry replies() const {
        return {slots, (sizeof(ReplyHeader) + reply_bytes + 7) & ~7ull};
    }
    constexpr bool is_valid() const {
        return slots <= calls_in_flight_max && requests().is_valid() && replies().is_valid() &&
               request_bytes <= (1u << 20) && reply_bytes <= (1u << 20) &&
               granted_bytes <= granted_bytes_max && granted_bytes % page_bytes == 0;
    }
    constexpr std::uint64_t client_ring_bytes() const {
        return requests().source_bytes() + sizeof(RingWords);
    }
    /// Where the area for granted arguments begins in the client's stretch.
    constexpr std::uint64_t granted_at() const {
        return (client_ring_bytes() + page_bytes - 1) & ~std::uint64_t{page_bytes - 1};
    }
    constexpr std::uint64_t client_bytes() const {
        return granted_bytes == 0 ? client_ring_bytes() : granted_at() + granted_bytes;
    }
    constexpr std::uint64_t server_bytes() const {
        return replies().source_bytes() + sizeof(RingWords);
    }

private:
    static constexpr std::uint32_t page_bytes = 4096;
};

/// One side's part of a binding. owner: the stretches outlive it
struct BindingEnd {
    std::span<std::byte> outgoing;        ///< what this side writes
    std::span<std::byte const> incoming;  ///< what the peer writes
    std::uint32_t endpoint = 0;
};

/// What a request or an answer of this end results in when the peer's synchronous send ended it
/// (kernel/abi/syscalls.h): no event is pending then.
constexpr std::int64_t told_by(std::uint32_t endpoint) { return abi::kTold + endpoint; }
/// An event that was told and is not what was waited for: it becomes pending, as if it had never
/// been told. requires: activations off; `told` is more than 0
void keep_told(std::int64_t told);
/// The event that is pending on an endpoint is none any more: what it was about has been done.
/// requires: activations off
void forget_event(std::uint32_t endpoint);

/// Whether the peer of `endpoint` has died, or closed its end.
bool peer_is_dead(std::uint32_t endpoint);

}  // namespace nemesis::invocation
