// clip: makes clips and compares screens with them.
//   clip make SCENE WIDTHxHEIGHT FRAMES OUT         a computed scene at 25 frames a second
//   clip pack WIDTHxHEIGHT PERIOD_NS BYTES OUT      raw pictures (rgb24) from the standard input,
//       each compressed to at most BYTES, so that its decoding has a bound
//   clip info CLIP                                  what is in it, as JSON
//   clip frame CLIP N OUT                           one frame, decoded, as PPM
//   clip compare CLIP LEFT TOP                      a screen (screen_picture.h) from the standard
//       input: which frame does it show at (LEFT, TOP), and how many pixels differ from it? As JSON
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libnemesis/media/frame_number.h"
#include "tools/clip/clip_writer.h"
#include "tools/clip/screen_picture.h"
#include "tools/image/files.h"

namespace nemesis::clip {
namespace {

using Done = Result<void, std::string>;
constexpr int kQuality = 82;
constexpr auto kPeriod = Duration::ms(40);

std::optional<std::uint64_t> number(std::string_view text) {
    std::uint64_t value = 0;
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

struct Size {
    std::uint32_t width, height;
};
Result<Size, std::string> size(std::string_view text) {
    auto const x = text.find('x');
    auto const w = number(text.substr(0, x)),
               h = x == text.npos ? std::nullopt : number(text.substr(x + 1));
    if (!w || !h || *w < media::number_width || *h < 16 || *w > media::clip_side_max ||
        *h > media::clip_side_max) {
        return fail("'" + std::string(text) + "' is no size; write WIDTHxHEIGHT, at least 256x16");
    }
    return Size{static_cast<std::uint32_t>(*w), static_cast<std::uint32_t>(*h)};
}

Done write_clip(ClipWriter const& writer, std::string const& path) {
    auto const bytes = TRY(writer.finish());
    return image::write_file(path, bytes);
}

Done make(std::string_view scene, std::string_view shape, std::string_view frames,
          std::string const& out) {
    if (!is_scene(scene)) return fail("there is no scene '" + std::string(scene) + "'");
    auto const s = TRY(size(shape));
    auto const count = number(frames);
    if (!count || *count == 0 || *count > media::clip_frames_max)
        return fail("'" + std::string(frames) + "' is no number of frames");
    ClipWriter writer(s.width, s.height, kPeriod, kQuality);
    for (std::uint64_t i = 0; i < *count; i++) {
        TRY_VOID(writer.add(paint_scene(scene, s.width, s.height, double(i) / double(*count))));
    }
    return write_clip(writer, out);
}

Done pack(std::string_view shape, std::string_view period, std::string_view most,
          std::string const& out) {
    auto const s = TRY(size(shape));
    auto const ns = number(period);
    if (!ns || *ns == 0) return fail("'" + std::string(period) + "' is no period");
    auto const bytes = number(most);
    if (!bytes || *bytes == 0) return fail("'" + std::string(most) + "' is no number of bytes");
    ClipWriter writer(s.width, s.height, Duration::ns(static_cast<std::int64_t>(*ns)), kQuality,
                      *bytes);
    Picture picture{s.width, s.height,
                    std::vector<std::uint8_t>(std::size_t{s.width} * s.height * 3)};
    while (writer.count() < media::clip_frames_max &&
           std::fread(picture.rgb.data(), 1, picture.rgb.size(), stdin) == picture.rgb.size()) {
        TRY_VOID(writer.add(picture));
    }
    return write_clip(writer, out);
}

/// A clip and the file it lies in.
struct Opened {
    std::vector<std::byte> bytes;
    media::Clip clip;
};
Result<Opened, std::string> open(std::string const& path) {
    Opened opened{TRY(image::read_file(path)), {}};
    auto const clip = media::Clip::open(opened.bytes);
    if (!clip) return fail(path + ": " + std::string(text(clip.error())));
    opened.clip = *clip;
    return opened;
}

Done info(std::string const& path) {
    auto const opened = TRY(open(path));
    std::uint64_t damaged = 0, largest = 0;
    for (std::uint32_t i = 0; i < opened.clip.frame_count(); i++) {
        damaged += !opened.clip.intact(i);
        largest = std::max<std::uint64_t>(largest, opened.clip.frame(i).size());
    }
    std::printf(
        "{\"width\": %u, \"height\": %u, \"frames\": %u, \"period_ns\": %lld, \"bytes\": %zu, "
        "\"largest\": %llu, "
        "\"damaged\": %llu}\n",
        opened.clip.width(), opened.clip.height(), opened.clip.frame_count(),
        static_cast<long long>(opened.clip.period().ns()), opened.bytes.size(),
        static_cast<unsigned long long>(largest), static_cast<unsigned long long>(damaged));
    return {};
}

Done frame(std::string const& path, std::string_view which, std::string const& out) {
    auto const opened = TRY(open(path));
    auto const n = number(which);
    if (!n || *n >= opened.clip.frame_count())
        return fail("there is no frame '" + std::string(which) + "'");
    auto const picture = TRY(decode(opened.clip, static_cast<std::uint32_t>(*n)));
    auto const head =
        "P6\n" + std::to_string(picture.width) + " " + std::to_string(picture.height) + "\n255\n";
    std::vector<std::byte> bytes(head.size() + picture.rgb.size());
    std::memcpy(bytes.data(), head.data(), head.size());
    std::memcpy(bytes.data() + head.size(), picture.rgb.data(), picture.rgb.size());
    return image::write_file(out, bytes);
}

std::vector<std::byte> standard_input() {
    std::vector<std::byte> bytes;
    std::byte buffer[65536];
    while (auto const n = std::fread(buffer, 1, sizeof buffer, stdin))
        bytes.insert(bytes.end(), buffer, buffer + n);
    return bytes;
}

Done compare(std::string const& path, std::string_view left_text, std::string_view top_text) {
    auto const opened = TRY(open(path));
    auto const& clip = opened.clip;
    auto const screen = TRY(read_screen(standard_input()));
    auto const left = number(left_text), top = number(top_text);
    if (!left || !top || *left + clip.width() > screen.width ||
        *top + clip.height() > screen.height) {
        return fail(std::string("the clip does not fit the screen at that place"));
    }
    auto const line = [&](std::uint32_t y) {
        return screen.rgb.data() + ((*top + y) * screen.width + *left) * 3;
    };
    auto const shown = media::read_number([&](std::uint32_t x, std::uint32_t y) -> std::uint32_t {
        auto const* p = line(y) + std::size_t{x} * 3;
        return (p[0] + p[1] + p[2]) / 3u;
    });
    if (!shown || *shown >= clip.frame_count()) {
        std::puts("{\"number\": null}");
        return {};
    }
    auto const wanted = TRY(decode(clip, *shown));
    std::uint64_t different = 0;
    int worst = 0;
    for (std::uint32_t y = 0; y < clip.height(); y++) {
        auto const* have = line(y);
        auto const* want = wanted.rgb.data() + std::size_t{y} * clip.width() * 3;
        for (std::uint32_t x = 0; x < clip.width(); x++) {
            int distance = 0;
            for (int c = 0; c < 3; c++)
                distance = std::max(distance, std::abs(have[x * 3 + c] - want[x * 3 + c]));
            different += distance != 0;
            worst = std::max(worst, distance);
        }
    }
    std::printf("{\"number\": %u, \"different_pixels\": %llu, \"worst\": %d}\n", *shown,
                static_cast<unsigned long long>(different), worst);
    return {};
}

Done run(std::vector<std::string> const& a) {
    if (a.size() == 5 && a[0] == "make") return make(a[1], a[2], a[3], a[4]);
    if (a.size() == 5 && a[0] == "pack") return pack(a[1], a[2], a[3], a[4]);
    if (a.size() == 2 && a[0] == "info") return info(a[1]);
    if (a.size() == 4 && a[0] == "frame") return frame(a[1], a[2], a[3]);
    if (a.size() == 4 && a[0] == "compare") return compare(a[1], a[2], a[3]);
    return fail(std::string(
        "usage: clip make SCENE WxH FRAMES OUT | pack WxH PERIOD_NS BYTES OUT | info CLIP | "
        "frame CLIP N OUT | compare CLIP LEFT TOP"));
}

}  // namespace
}  // namespace nemesis::clip

int main(int argc, char** argv) {
    auto const done = nemesis::clip::run(std::vector<std::string>(argv + 1, argv + argc));
    if (!done) std::fprintf(stderr, "clip: %s\n", done.error().c_str());
    return done ? 0 : 1;
}
