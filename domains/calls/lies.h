#pragma once
// The lies of lying_server, and how lied_to_client orders one.
//
// Beside the binding, which holds nothing but what a binding holds, the two have one line each at
// the end of their stretches: the client writes an order and sends an event, the server makes its
// side of the ring as new and says which order that was. Then the binding is opened anew, and every
// call of the client meets that lie.

#include <cstddef>
#include <cstdint>
#include <span>

#include "domains/calls/work.if.h"
#include "libnemesis/invocation/binding.h"

namespace nemesis::calls {

/// What the server does with each call.
enum class Lie : std::uint32_t {
    None,          ///< the answer is right: the probe can see one
    IndexAhead,    ///< more replies than there are slots
    IndexBehind,   ///< fewer replies than before
    ReadAhead,     ///< more requests read than were written
    ReadBehind,    ///< fewer requests read than before
    OtherId,       ///< the reply to some other call
    TooLong,       ///< a body longer than the slot
    Status,        ///< a status that nobody has declared
    Twice,         ///< the reply comes a second time
    Rewritten,     ///< a good reply, written again and again while it is read
    Never,         ///< no reply
    Late,          ///< the reply comes with the next call, which gets none
    GarbagePage,   ///< random words in the whole side of the ring
    GarbageSlot,   ///< right counters; the slots are random words
    GarbageBody,   ///< right id too, random status, length and body
    GarbageValue,  ///< status of success and a possible length too, random body
};
inline constexpr std::uint32_t lies_named = static_cast<std::uint32_t>(Lie::GarbagePage);
inline constexpr std::uint32_t lies_random = 4;

/// Few slots: the indices come round within one order.
inline constexpr std::uint32_t lied_slots = 4;
inline invocation::BindingShape lied_shape() {
    return invocation::BindingShape::of(Work::info, lied_slots);
}

/// The client's line. shape: the last 32 bytes of its stretch
struct Order {
    std::uint64_t number;  ///< counts; written last
    std::uint64_t seed;
    Lie lie;
    std::uint32_t reserved;
    std::uint64_t unused;
};
/// The server's line. shape: the last 32 bytes of its stretch
struct Answered {
    std::uint64_t number;
    std::uint64_t unused[3];
};

/// The line at the end of a stretch.
template <typename Line, typename Byte>
auto line_of(std::span<Byte> stretch) {
    static_assert(sizeof(Line) == 32);
    return stretch.last(sizeof(Line)).data();
}

}  // namespace nemesis::calls
