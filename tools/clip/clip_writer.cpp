// Stamping, compressing, packing, and the host's own decoding.
#include "tools/clip/clip_writer.h"

#include <turbojpeg.h>

#include <algorithm>
#include <cstring>

#include "libnemesis/base/hash.h"
#include "libnemesis/media/frame_number.h"

namespace nemesis::clip {

void stamp(Picture& picture, std::uint32_t number) {
    auto const code = media::number_code(number);
    for (std::uint32_t y = 0; y < media::number_block_height; y++) {
        auto* line = picture.rgb.data() + std::size_t{y} * picture.width * 3;
        for (std::uint32_t x = 0; x < media::number_width; x++) {
            bool const light = (code >> (15 - x / media::number_block_width)) & 1;
            std::fill_n(line + std::size_t{x} * 3, 3,
                        light ? media::number_light : media::number_dark);
        }
    }
}

ClipWriter::ClipWriter(std::uint32_t width, std::uint32_t height, Duration period, int quality,
                       std::uint64_t bytes_max)
    : width_(width),
      height_(height),
      period_(period),
      quality_(quality),
      bytes_max_(bytes_max),
      compressor_(tjInitCompress()) {}

ClipWriter::~ClipWriter() { tjDestroy(compressor_); }

Result<void, std::string> ClipWriter::add(Picture picture) {
    if (count() == media::clip_frames_max)
        return fail(std::string("a clip has at most 4096 frames"));
    stamp(picture, count());
    unsigned char* jpeg = nullptr;
    unsigned long bytes = 0;
    for (int quality = quality_;; quality -= 8) {
        auto const result = tjCompress2(compressor_, picture.rgb.data(), static_cast<int>(width_),
                                        0, static_cast<int>(height_), TJPF_RGB, &jpeg, &bytes,
                                        TJSAMP_420, quality, TJFLAG_ACCURATEDCT);
        if (result != 0) {
            tjFree(jpeg);
            return fail(std::string(tjGetErrorStr2(compressor_)));
        }
        if (bytes <= bytes_max_ || quality <= 9) break;
    }
    auto const* begin = reinterpret_cast<std::byte const*>(jpeg);
    frames_.emplace_back(begin, begin + bytes);
    tjFree(jpeg);
    return {};
}

Result<std::vector<std::byte>, std::string> ClipWriter::finish() const {
    if (frames_.empty()) return fail(std::string("there are no frames"));
    std::uint64_t at = sizeof(media::ClipHeader) + frames_.size() * sizeof(media::ClipIndexEntry);
    std::vector<media::ClipIndexEntry> index;
    for (auto const& frame : frames_) {
        index.push_back({at, static_cast<std::uint32_t>(frame.size()), crc32c(frame)});
        at += frame.size();
    }
    media::ClipHeader header{};
    std::memcpy(header.magic, media::clip_magic, sizeof header.magic);
    header.version = 1;
    header.width = width_;
    header.height = height_;
    header.frame_count = count();
    header.period_ns = static_cast<std::uint64_t>(period_.ns());
    header.total_bytes = at;
    std::vector<std::byte> out(at);
    std::memcpy(out.data(), &header, sizeof header);
    std::memcpy(out.data() + sizeof header, index.data(), index.size() * sizeof index[0]);
    for (std::size_t i = 0; i < frames_.size(); i++) {
        std::memcpy(out.data() + index[i].offset, frames_[i].data(), frames_[i].size());
    }
    return out;
}

Result<Picture, std::string> decode(media::Clip const& clip, std::uint32_t frame) {
    Picture picture{clip.width(), clip.height(),
                    std::vector<std::uint8_t>(std::size_t{clip.width()} * clip.height() * 3)};
    auto const jpeg = clip.frame(frame);
    auto* decoder = tjInitDecompress();
    auto const result =
        tjDecompress2(decoder, reinterpret_cast<unsigned char const*>(jpeg.data()), jpeg.size(),
                      picture.rgb.data(), static_cast<int>(clip.width()), 0,
                      static_cast<int>(clip.height()), TJPF_RGB, 0);
    std::string const why = result != 0 ? tjGetErrorStr2(decoder) : "";
    tjDestroy(decoder);
    if (result != 0) return fail(why);
    return picture;
}

}  // namespace nemesis::clip
