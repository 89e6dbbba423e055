#pragma once
// A picture of the guest's screen, as peg hands it over: a line "WIDTH HEIGHT CHANNELS", then the
// lines of a PNG file unpacked but still filtered (one filter byte before each line).

#include <span>
#include <string>

#include "libnemesis/base/result.h"
#include "tools/clip/scenes.h"

namespace nemesis::clip {

/// Undoes the filters. errors: a sentence: sizes that do not fit, an unknown filter
[[nodiscard]] Result<Picture, std::string> read_screen(std::span<std::byte const> bytes);

}  // namespace nemesis::clip
