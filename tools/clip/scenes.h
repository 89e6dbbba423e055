#pragma once
// The pictures of the default clips, computed: no film has to be fetched for the first run.
//
// Both scenes are functions of the time alone and come back to their beginning after `phase` has
// gone from 0 to 1, so that a clip can be repeated without a jump.

#include <cstdint>
#include <string_view>
#include <vector>

namespace nemesis::clip {

/// shape: width * height * 3 bytes, red, green, blue, line by line from the top
struct Picture {
    std::uint32_t width = 0, height = 0;
    std::vector<std::uint8_t> rgb;
};

/// Whether there is a scene of that name: "spheres" or "shore".
bool is_scene(std::string_view name);

/// Paints one frame. requires: is_scene(name), 0 <= phase < 1
Picture paint_scene(std::string_view name, std::uint32_t width, std::uint32_t height, double phase);

}  // namespace nemesis::clip
