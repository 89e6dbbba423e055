#pragma once
// Announcements of one operation that lie one behind the other in a ring and have the same brief
// header (call_message.h), served by one function: the object is found once, and a message costs
// one comparison, its bytes and the call.
//
// The client may write the slots meanwhile: a header's word and the body are read once each. What
// is no body of the operation is passed over, as by the way that serves a single one. Only
// operations without handles have such a function.

#include <cstddef>
#include <cstdint>
#include <span>

#include "libnemesis/base/ring.h"
#include "libnemesis/invocation/call_message.h"
#include "libnemesis/invocation/interface.h"
#include "libnemesis/marshal/message.h"

namespace nemesis::invocation {

/// What generated functions do (Announced): `serve` gets the body of each. `exact`: they must be
/// `exact_bytes` long.
template <bool exact, std::uint32_t exact_bytes, typename Serve>
[[gnu::always_inline]] inline std::uint64_t serve_run(RingSink<> const& requests,
                                                      std::uint64_t what, std::uint64_t most,
                                                      Serve&& serve) {
    auto const bytes = brief_bytes(what);
    if (exact && bytes != exact_bytes) [[unlikely]]
        return 1;
    auto const slots = requests.known_rows(most);
    auto const slot_bytes = requests.slot_bytes();
    auto const* at = slots.first;
    auto const all = slots.count + slots.rest;
    auto row = slots.count, rest = slots.rest;
    for (;;) {
        serve(std::span(at + sizeof(RequestHeader), exact ? exact_bytes : bytes));
        at += slot_bytes;
        if (--row == 0) [[unlikely]] {
            if (rest == 0) return all;
            at = slots.begin;
            row = rest;
            rest = 0;
        }
        if (marshal::load_once<std::uint64_t>(at + what_at) != what) [[unlikely]]
            return all - row - rest;
    }
}

}  // namespace nemesis::invocation
