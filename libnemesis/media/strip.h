#pragma once
// A strip of the screen: whole lines, given to one domain by the display driver.
//
// Protocol, over the channel that the manifest makes between driver and client:
//   1. The client writes its identity into its page (StripRequest) and sends an event.
//   2. The driver offers the client the stretch over the strip's lines, with the rights to read and
//      write, describes it (StripGrant) and sends an event.
//   3. The client accepts the stretch. From then on it paints without asking anybody; paint outside
//      of the strip is a fault of the client's own.
// The request names who will accept, so a client can only give its own strip away. What the driver
// wrote is checked: numbers that do not fit together are refused.

#include <cstdint>
#include <string_view>

#include "kernel/abi/dib.h"
#include "libnemesis/base/units.h"
#include "libnemesis/media/canvas.h"

namespace nemesis::media {

inline constexpr std::uint64_t strip_magic = 0x3130504952545321;

/// What a client writes. `magic` last.
struct StripRequest {
    std::uint64_t magic;
    abi::DomainId client;
};

/// What the driver writes. `magic` last. units: pixels, lines, bytes
struct StripGrant {
    std::uint64_t magic;
    abi::DomainId owner;
    std::uint64_t stretch;  ///< of the owner
    std::uint64_t address;  ///< of the strip's first pixel
    std::uint32_t width, height;
    std::uint32_t pitch;    ///< bytes from line to line
    std::uint32_t refused;  ///< 1: the screen has no such strip
};

/// A strip that was taken: where it is, and a canvas over it.
struct Strip {
    Canvas canvas;
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;
};

/// Asks for the strip behind channel `name` and accepts it. Blocks until the driver has answered or
/// `until`. errors: an empty canvas when there is no channel, no screen, or no answer; one log line
/// says which.
Strip take_strip(std::string_view name, Instant until = Instant::never());

}  // namespace nemesis::media
