// Checking a clip before anything is taken from it.
#include "libnemesis/media/clip.h"

#include "libnemesis/base/assert.h"
#include "libnemesis/base/hash.h"

namespace nemesis::media {

std::string_view text(ClipError error) {
    switch (error) {
        case ClipError::Truncated:
            return "the clip is shorter than its header says";
        case ClipError::NotAClip:
            return "this is no clip (magic is not NEMCLIP1)";
        case ClipError::UnknownVersion:
            return "the clip has a version this reader does not know";
        case ClipError::BadShape:
            return "the clip's size, number of frames or rate is impossible";
        case ClipError::ReservedNotZero:
            return "a reserved field of the clip is not zero";
        case ClipError::BadIndex:
            return "a frame of the clip lies outside of it";
    }
    return "unknown clip error";
}

Result<Clip, ClipError> Clip::open(std::span<std::byte const> bytes) {
    Clip clip;
    ByteView const all(bytes);
    auto const header = all.read<ClipHeader>(0);
    if (!header) return fail(ClipError::Truncated);
    auto const& h = clip.header_ = *header;
    if (__builtin_memcmp(h.magic, clip_magic, sizeof clip_magic) != 0) {
        return fail(ClipError::NotAClip);
    }
    if (h.version != 1) return fail(ClipError::UnknownVersion);
    if (h.reserved[0] != 0 || h.reserved[1] != 0 || h.reserved[2] != 0) {
        return fail(ClipError::ReservedNotZero);
    }
    bool const shaped = h.width > 0 && h.width <= clip_side_max && h.height > 0 &&
                        h.height <= clip_side_max && h.frame_count > 0 &&
                        h.frame_count <= clip_frames_max && h.period_ns > 0 &&
                        h.period_ns <= 10'000'000'000;
    if (!shaped) return fail(ClipError::BadShape);
    auto const part = all.part(0, h.total_bytes);
    if (!part) return fail(ClipError::Truncated);
    clip.bytes_ = *part;
    auto const pictures = sizeof(ClipHeader) + h.frame_count * sizeof(ClipIndexEntry);
    if (!part->contains(0, pictures)) return fail(ClipError::Truncated);
    for (std::uint32_t i = 0; i < h.frame_count; i++) {
        auto const e = clip.entry(i);
        if (e.bytes == 0 || e.offset < pictures || !part->contains(e.offset, e.bytes)) {
            return fail(ClipError::BadIndex);
        }
    }
    return clip;
}

ClipIndexEntry Clip::entry(std::uint32_t n) const {
    return *bytes_.read<ClipIndexEntry>(sizeof(ClipHeader) + n * sizeof(ClipIndexEntry));
}

std::span<std::byte const> Clip::frame(std::uint32_t n) const {
    ASSERT(n < header_.frame_count);
    auto const e = entry(n);
    return bytes_.part(e.offset, e.bytes)->bytes();
}

bool Clip::intact(std::uint32_t n) const {
    ASSERT(n < header_.frame_count);
    return crc32c(frame(n)) == entry(n).crc32c;
}

}  // namespace nemesis::media
