#pragma once
// Making a clip: pictures are stamped with their number, compressed and packed.

#include <cstddef>
#include <string>
#include <vector>

#include "libnemesis/base/result.h"
#include "libnemesis/base/units.h"
#include "libnemesis/media/clip.h"
#include "tools/clip/scenes.h"

namespace nemesis::clip {

/// Paints `number` into the picture's corner (libnemesis/media/frame_number.h).
/// requires: the picture is at least media::number_width wide and a block high
void stamp(Picture& picture, std::uint32_t number);

/// Collects pictures of one size.
class ClipWriter {
public:
    /// requires: sides fit a clip; quality 1..100. Frames that come out larger than `bytes_max` are
    /// compressed again at lower quality until they fit: what a frame costs to decode grows with
    /// it.
    ClipWriter(std::uint32_t width, std::uint32_t height, Duration period, int quality,
               std::uint64_t bytes_max = UINT64_MAX);
    ~ClipWriter();
    ClipWriter(ClipWriter const&) = delete;
    ClipWriter& operator=(ClipWriter const&) = delete;

    /// Adds the next frame, stamped with its number. errors: a sentence (the compressor's)
    [[nodiscard]] Result<void, std::string> add(Picture picture);
    std::uint32_t count() const { return static_cast<std::uint32_t>(frames_.size()); }
    /// The clip's bytes. errors: no frames
    [[nodiscard]] Result<std::vector<std::byte>, std::string> finish() const;

private:
    std::uint32_t width_, height_;
    Duration period_;
    int quality_;
    std::uint64_t bytes_max_;
    void* compressor_;
    std::vector<std::vector<std::byte>> frames_;
};

/// Decodes a frame as the players do: the whole picture, accurate transform, smooth chroma.
/// errors: a sentence
[[nodiscard]] Result<Picture, std::string> decode(media::Clip const& clip, std::uint32_t frame);

}  // namespace nemesis::clip
