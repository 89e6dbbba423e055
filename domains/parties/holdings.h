#pragma once
// How many endpoints a domain has in use: counted before and after somebody else's death, nothing
// may be left. A survivor counts its own, or serves the count to who wants to know.
//
// context: any

#include <cstdint>
#include <optional>

#include "domains/parties/holdings.if.h"
#include "libnemesis/clock.h"
#include "libnemesis/state.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::parties {

/// Endpoints of the calling domain that are not free. bound: a call for each that it has
inline std::uint32_t endpoints_used() {
    std::uint32_t used = 0;
    for (std::uint32_t n = 0; n < dib().endpoint_count; ++n)
        used += sys::endpoint_state(n) != static_cast<std::int64_t>(abi::EndpointState::Free);
    return used;
}

/// The least number that a domain tells within half a millisecond: by then it has closed what it
/// was about to close. Stops when a call fails, which yields nothing. context: a thread
inline std::optional<std::uint32_t> endpoints_settled(Holdings& holdings) {
    constexpr int asks = 10;
    auto least = UINT32_MAX;
    for (int i = 0; i < asks; ++i) {
        auto const used = holdings.endpoints();
        if (!used) return std::nullopt;
        if (*used < least) least = *used;
        Thread::sleep_until(now() + Duration::us(50));
    }
    return least;
}

/// Tells it of its own domain. context: served in place
class HoldingsObject final : public Holdings {
public:
    Result<std::uint32_t, HoldingsError> endpoints() override { return endpoints_used(); }
};

}  // namespace nemesis::parties
