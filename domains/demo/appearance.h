#pragma once
// Colours of the demo: one look for all strips, one colour for each domain.

#include <string_view>

#include "libnemesis/media/canvas.h"

namespace nemesis::demo {

using media::Colour;

inline constexpr Colour kGround = 0x0d1117, kPanel = 0x161d29, kLine = 0x2a3446, kText = 0xe8edf4,
                        kDim = 0x8593a8, kGood = 0x3ddc97, kBad = 0xff4d57, kBadGround = 0x5a1620;

/// The colour between two, `part` of 256 from `a` to `b`.
constexpr Colour between(Colour a, Colour b, std::uint32_t part) {
    Colour result = 0;
    for (std::uint32_t shift = 0; shift < 24; shift += 8) {
        auto const from = (a >> shift) & 0xff, to = (b >> shift) & 0xff;
        result |= ((from * (256 - part) + to * part) >> 8) << shift;
    }
    return result;
}

/// The colour that stands for a domain wherever it is drawn.
constexpr Colour colour_of(std::string_view domain) {
    if (domain == "player_a") return 0x3ddc97;
    if (domain == "player_b") return 0x4aa8ff;
    if (domain == "status") return 0xb58cff;
    if (domain == "display") return 0x7fd1d8;
    if (domain == "director") return 0xf2d16b;
    if (domain == "keyboard" || domain == "serial") return 0xd8b07f;
    if (domain == "init") return 0xa0aec0;
    if (domain.starts_with("hog")) return 0xe8833a;
    return 0xc9d1d9;
}

}  // namespace nemesis::demo
