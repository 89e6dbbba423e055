#pragma once
// A clip: a film as a list of JPEG pictures, in one piece of memory (docs/formats/clip.md).
//
// Header, index, pictures. Clips come out of the boot archive or from a host's disk, so nothing in
// them is believed: Clip::open checks header and index as a whole, and a Clip that exists has only
// frames that lie inside it. What is inside a frame is the JPEG decoder's to judge.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "libnemesis/base/byte_view.h"
#include "libnemesis/base/result.h"
#include "libnemesis/base/units.h"

namespace nemesis::media {

inline constexpr char clip_magic[8] = {'N', 'E', 'M', 'C', 'L', 'I', 'P', '1'};
/// A frame's number has 12 bits (frame_number.h).
inline constexpr std::uint32_t clip_frames_max = 4096;
inline constexpr std::uint32_t clip_side_max = 4096;

/// shape: 64 bytes, little-endian; the index follows, then the pictures
struct ClipHeader {
    char magic[8];
    std::uint32_t version;  ///< 1
    std::uint32_t width;    ///< pixels
    std::uint32_t height;   ///< pixels
    std::uint32_t frame_count;
    std::uint64_t period_ns;    ///< from one frame to the next
    std::uint64_t total_bytes;  ///< of the whole clip
    std::uint64_t reserved[3];
};
static_assert(sizeof(ClipHeader) == 64);

/// Where one picture lies. shape: 16 bytes
struct ClipIndexEntry {
    std::uint64_t offset;  ///< from the clip's first byte
    std::uint32_t bytes;
    std::uint32_t crc32c;  ///< of the picture
};
static_assert(sizeof(ClipIndexEntry) == 16);

/// Why bytes are no clip.
enum class ClipError {
    Truncated,  ///< shorter than the header says
    NotAClip,
    UnknownVersion,
    BadShape,  ///< no pixels, too many, no frames, too many, or no period
    ReservedNotZero,
    BadIndex,  ///< a picture lies outside, or is empty
};

/// One sentence for a log line. owner: static
std::string_view text(ClipError error);

/// A checked clip. owner: borrows the bytes, which must not change
class Clip {
public:
    /// Checks the clip at the start of `bytes`, which may be longer. errors: ClipError
    [[nodiscard]] static Result<Clip, ClipError> open(std::span<std::byte const> bytes);

    std::uint32_t width() const { return header_.width; }
    std::uint32_t height() const { return header_.height; }
    std::uint32_t frame_count() const { return header_.frame_count; }
    Duration period() const { return Duration::ns(static_cast<std::int64_t>(header_.period_ns)); }

    /// A frame's JPEG file. requires: n < frame_count()
    std::span<std::byte const> frame(std::uint32_t n) const;
    /// Whether the frame's bytes are those that were packed. requires: n < frame_count()
    bool intact(std::uint32_t n) const;

private:
    ClipIndexEntry entry(std::uint32_t n) const;

    ClipHeader header_{};
    ByteView bytes_;
};

}  // namespace nemesis::media
