// Goal: what is packed is found again: the number survives compression in every frame, the clip
// opens, a screen that shows a frame compares equal, one that does not differs.
#include <gtest/gtest.h>

#include <cstring>

#include "libnemesis/media/frame_number.h"
#include "tools/clip/clip_writer.h"
#include "tools/clip/screen_picture.h"

namespace nemesis::clip {
namespace {

std::optional<std::uint32_t> number_in(Picture const& p) {
    return media::read_number([&](std::uint32_t x, std::uint32_t y) -> std::uint32_t {
        auto const* pixel = p.rgb.data() + (std::size_t{y} * p.width + x) * 3;
        return (pixel[0] + pixel[1] + pixel[2]) / 3u;
    });
}

TEST(ClipTools, NumbersSurviveCompressionEvenWhenItIsRough) {
    for (int const quality : {20, 82}) {
        ClipWriter writer(320, 48, Duration::ms(40), quality);
        for (int i = 0; i < 70; i++) {
            Picture noise{320, 48, std::vector<std::uint8_t>(320 * 48 * 3)};
            for (std::size_t k = 0; k < noise.rgb.size(); k++)
                noise.rgb[k] = static_cast<std::uint8_t>(k * k * 31 + k * std::size_t(i));
            ASSERT_TRUE(writer.add(std::move(noise)).has_value());
        }
        auto const bytes = writer.finish();
        ASSERT_TRUE(bytes.has_value());
        auto const clip = media::Clip::open(*bytes);
        ASSERT_TRUE(clip.has_value());
        for (std::uint32_t i = 0; i < 70; i++) {
            EXPECT_TRUE(clip->intact(i));
            auto const picture = decode(*clip, i);
            ASSERT_TRUE(picture.has_value());
            EXPECT_EQ(number_in(*picture), i) << "quality " << quality;
        }
    }
}

TEST(ClipTools, FramesAreMadeToFit) {
    ClipWriter writer(320, 240, Duration::ms(40), 82, 20'000);
    Picture noise{320, 240, std::vector<std::uint8_t>(320 * 240 * 3)};
    for (std::size_t k = 0; k < noise.rgb.size(); k++)
        noise.rgb[k] = static_cast<std::uint8_t>(k * k * 31 >> 4);
    ASSERT_TRUE(writer.add(std::move(noise)).has_value());
    auto const bytes = writer.finish();
    EXPECT_LE(media::Clip::open(*bytes)->frame(0).size(), 20'000u);
}

TEST(ClipTools, ScenesRepeatWithoutAJump) {
    for (auto const* name : {"spheres", "shore"}) {
        auto const first = paint_scene(name, 256, 144, 0.0),
                   last = paint_scene(name, 256, 144, 0.998);
        auto const middle = paint_scene(name, 256, 144, 0.3);
        double step = 0, half = 0;
        for (std::size_t i = 0; i < first.rgb.size(); i++) {
            step += std::abs(first.rgb[i] - last.rgb[i]);
            half += std::abs(first.rgb[i] - middle.rgb[i]);
        }
        EXPECT_LT(step * 3, half) << name;
    }
    EXPECT_FALSE(is_scene("sphere"));
}

TEST(ClipTools, ScreensAreReadThroughEveryFilter) {
    // Two pixels a line; the same colours in every line, filtered in five ways.
    std::string const text = "2 5 3\n";
    unsigned char const lines[5][7] = {{0, 10, 20, 30, 40, 60, 90},
                                       {1, 10, 20, 30, 30, 40, 60},
                                       {2, 0, 0, 0, 0, 0, 0},
                                       {3, 5, 10, 15, 15, 20, 30},
                                       {4, 0, 0, 0, 0, 0, 0}};
    std::vector<std::byte> bytes(text.size() + sizeof lines);
    std::memcpy(bytes.data(), text.data(), text.size());
    std::memcpy(bytes.data() + text.size(), lines, sizeof lines);
    auto const picture = read_screen(bytes);
    ASSERT_TRUE(picture.has_value());
    for (std::size_t y = 0; y < 5; y++) {
        EXPECT_EQ(std::vector<std::uint8_t>(picture->rgb.begin() + long(y * 6),
                                            picture->rgb.begin() + long(y * 6 + 6)),
                  (std::vector<std::uint8_t>{10, 20, 30, 40, 60, 90}))
            << y;
    }
    bytes.pop_back();
    EXPECT_FALSE(read_screen(bytes).has_value());
}

}  // namespace
}  // namespace nemesis::clip
