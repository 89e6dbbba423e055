// Goal: the bitmap is the set it claims to be. Method: seeded random operations against std::set,
// at sizes around every border between words and levels.
#include "libnemesis/base/bitmap.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "libnemesis/base/random.h"

namespace nemesis {
namespace {

template <typename Set>
void compare(Set& bitmap, std::uint32_t bits, std::uint32_t none, std::uint64_t seed) {
    SCOPED_TRACE("bits " + std::to_string(bits) + ", seed " + std::to_string(seed));
    Random random(seed);
    std::set<std::uint32_t> model;
    for (int step = 0; step < 3000; step++) {
        auto const i = static_cast<std::uint32_t>(random.below(bits));
        switch (random.below(4)) {
            case 0:
                bitmap.set(i), model.insert(i);
                break;
            case 1:
                bitmap.clear(i), model.erase(i);
                break;
            case 2: {
                auto const at = model.lower_bound(i);
                ASSERT_EQ(bitmap.find_from(i), at == model.end() ? none : *at);
                break;
            }
            default: {
                ASSERT_EQ(bitmap.find_first(), model.empty() ? none : *model.begin());
                if (random.below(2) == 0 && !model.empty()) {
                    ASSERT_EQ(bitmap.take_first(), *model.begin());
                    model.erase(model.begin());
                }
            }
        }
        ASSERT_EQ(bitmap.test(i), model.contains(i));
        ASSERT_EQ(bitmap.empty(), model.empty());
    }
    ASSERT_TRUE(bitmap.check_invariants());
    for (std::uint32_t const i : model) ASSERT_EQ(bitmap.take_first(), i);
    ASSERT_EQ(bitmap.take_first(), none);
}

template <std::uint32_t n>
void compare_static() {
    Bitmap<n> bitmap;
    compare(bitmap, n, Bitmap<n>::none, n);
}

TEST(Bitmap, IsASetAtEverySize) {
    compare_static<1>();
    compare_static<63>();
    compare_static<64>();
    compare_static<65>();
    compare_static<4095>();
    compare_static<4096>();
    compare_static<4097>();
    compare_static<262144>();
    static_assert(Bitmap<4096>::shape.levels == 2 && Bitmap<4096>::shape.words == 65);
}

TEST(BitmapView, IsASetAtEverySize) {
    for (std::uint32_t bits : {1u, 2u, 64u, 100u, 4096u, 5000u, 262144u, 262145u}) {
        std::vector<std::uint64_t> words(BitmapView::words_needed(bits));
        BitmapView bitmap(words, bits);
        compare(bitmap, bits, bitmap.none(), bits);
    }
}

TEST(Bitmap, SearchBeyondTheLastNumberFindsNothing) {
    Bitmap<4096> bitmap;
    bitmap.set(0);
    EXPECT_EQ(bitmap.find_from(1), bitmap.none);
    EXPECT_EQ(bitmap.find_from(4095), bitmap.none);
    EXPECT_EQ(bitmap.find_from(4096), bitmap.none);
    EXPECT_EQ(bitmap.find_from(0xFFFF'FFFF), bitmap.none);
}

}  // namespace
}  // namespace nemesis
