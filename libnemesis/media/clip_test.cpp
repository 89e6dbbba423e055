// Goal: a clip is refused as a whole or safe as a whole; the number in a frame is read rightly or
// not at all. Method: a small clip is spoilt field by field; codes are spoilt bit by bit.
#include "libnemesis/media/clip.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "libnemesis/base/hash.h"
#include "libnemesis/media/frame_number.h"

namespace nemesis::media {
namespace {

/// A clip of two "pictures" of 5 and 3 bytes.
std::vector<std::byte> small_clip() {
    std::vector<std::byte> bytes(64 + 2 * 16 + 8, std::byte{7});
    ClipHeader h{};
    std::memcpy(h.magic, clip_magic, 8);
    h.version = 1;
    h.width = 320;
    h.height = 240;
    h.frame_count = 2;
    h.period_ns = 40'000'000;
    h.total_bytes = bytes.size();
    std::memcpy(bytes.data(), &h, sizeof h);
    std::span const all(bytes);
    ClipIndexEntry const index[2] = {{96, 5, crc32c(all.subspan(96, 5))},
                                     {101, 3, crc32c(all.subspan(101, 3))}};
    std::memcpy(bytes.data() + 64, index, sizeof index);
    return bytes;
}

template <typename T>
std::vector<std::byte> with(std::size_t offset, T value) {
    auto bytes = small_clip();
    std::memcpy(bytes.data() + offset, &value, sizeof value);
    return bytes;
}

TEST(Clip, GivesItsFrames) {
    auto const bytes = small_clip();
    auto const clip = Clip::open(bytes);
    ASSERT_TRUE(clip.has_value());
    EXPECT_EQ(clip->frame_count(), 2u);
    EXPECT_EQ(clip->period(), Duration::ms(40));
    EXPECT_EQ(clip->frame(1).size(), 3u);
    EXPECT_TRUE(clip->intact(0));
    auto const spoilt = with<std::uint8_t>(97, 9);
    EXPECT_FALSE(Clip::open(spoilt)->intact(0));
}

TEST(Clip, RefusesEveryFieldThatIsImpossible) {
    auto const refused = [](std::vector<std::byte> const& bytes) {
        auto const clip = Clip::open(bytes);
        return clip ? ClipError{-1} : clip.error();
    };
    EXPECT_EQ(refused({}), ClipError::Truncated);
    EXPECT_EQ(refused(with<char>(0, 'X')), ClipError::NotAClip);
    EXPECT_EQ(refused(with<std::uint32_t>(8, 2)), ClipError::UnknownVersion);
    EXPECT_EQ(refused(with<std::uint32_t>(12, 0)), ClipError::BadShape);
    EXPECT_EQ(refused(with<std::uint32_t>(20, 5000)), ClipError::BadShape);
    EXPECT_EQ(refused(with<std::uint64_t>(24, 0)), ClipError::BadShape);
    EXPECT_EQ(refused(with<std::uint64_t>(32, 105)), ClipError::Truncated);
    EXPECT_EQ(refused(with<std::uint64_t>(32, 80)), ClipError::Truncated);
    EXPECT_EQ(refused(with<std::uint64_t>(48, 1)), ClipError::ReservedNotZero);
    EXPECT_EQ(refused(with<std::uint64_t>(64, 90)), ClipError::BadIndex);
    EXPECT_EQ(refused(with<std::uint64_t>(80, ~0ull - 1)), ClipError::BadIndex);
    EXPECT_EQ(refused(with<std::uint32_t>(88, 4)), ClipError::BadIndex);
    auto shorter = small_clip();
    shorter.pop_back();
    EXPECT_EQ(refused(shorter), ClipError::Truncated);
}

TEST(FrameNumber, IsReadRightlyOrNotAtAll) {
    for (std::uint32_t number = 0; number <= number_max; number++) {
        auto const code = number_code(number);
        EXPECT_EQ(number_of(code), number);
        for (int bit = 0; bit < 16; bit++) {
            EXPECT_EQ(number_of(static_cast<std::uint16_t>(code ^ (1 << bit))), std::nullopt);
        }
    }
    EXPECT_EQ(number_of(0), std::nullopt);
    EXPECT_EQ(number_of(0xffff), std::nullopt);
}

TEST(FrameNumber, NeedsPlainBlocks) {
    auto const code = number_code(1234);
    auto const picture = [&](std::uint32_t x, std::uint32_t) -> std::uint32_t {
        return (code >> (15 - x / number_block_width)) & 1 ? number_light - 20 : number_dark + 20;
    };
    EXPECT_EQ(read_number(picture), 1234u);
    EXPECT_EQ(read_number([](std::uint32_t, std::uint32_t) { return 128u; }), std::nullopt);
    // Two frames, one above the other in the middle of the blocks: torn.
    EXPECT_EQ(read_number([&](std::uint32_t x, std::uint32_t y) -> std::uint32_t {
                  return y < 4 ? picture(x, y) : 255 - picture(x, y);
              }),
              std::nullopt);
}

}  // namespace
}  // namespace nemesis::media
