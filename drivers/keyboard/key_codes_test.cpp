// Goal: keys become what a terminal would send, whatever bytes come. Method: sequences of codes and
// what they must yield; then random bytes, after which a fresh press still means its letter.
#include "drivers/keyboard/key_codes.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "libnemesis/base/random.h"

namespace nemesis::keyboard {
namespace {

std::string typed(KeyCodes& keys, std::vector<int> const& codes) {
    std::string text;
    for (auto const code : codes) text += keys.feed(static_cast<std::uint8_t>(code));
    return text;
}
std::string typed(std::vector<int> const& codes) {
    KeyCodes keys;
    return typed(keys, codes);
}

TEST(KeyCodes, PressesMeanCharactersAndReleasesNothing) {
    EXPECT_EQ(typed({0x12, 0x92, 0x2e, 0xae, 0x23, 0xa3, 0x18, 0x98}), "echo");
    EXPECT_EQ(typed({0x39, 0x35, 0x0e, 0x0f, 0x1c, 0x01}), " /\b\t\n\033");
    EXPECT_EQ(typed({0x38, 0x3b, 0x58, 0x7f, 0x00}), "");
}

TEST(KeyCodes, EitherShiftHoldsUntilBothAreReleased) {
    EXPECT_EQ(typed({0x2a, 0x1e, 0x36, 0xaa, 0x1e, 0x08, 0xb6, 0x1e, 0x08}), "AA&a7");
    EXPECT_EQ(typed({0x36, 0x28, 0x1a, 0x0d, 0x27, 0x2b}), "\"{+:|");
}

TEST(KeyCodes, CapsLockIsForLettersOnly) {
    EXPECT_EQ(typed({0x3a, 0xba, 0x1e, 0x08, 0x2a, 0x1e, 0xaa, 0x3a, 0x1e}), "A7aa");
}

TEST(KeyCodes, ControlMakesControlCharacters) {
    EXPECT_EQ(typed({0x1d, 0x2e, 0x1e, 0x02, 0x9d, 0x2e}), std::string("\x03\x01") + "1c");
    EXPECT_EQ(typed({0xe0, 0x1d, 0x20, 0xe0, 0x9d, 0x20}),
              "\x04"
              "d");
}

TEST(KeyCodes, KeysOfTheCursorAreSequences) {
    EXPECT_EQ(typed({0xe0, 0x48, 0xe0, 0xc8, 0xe0, 0x50, 0xe0, 0x4b, 0xe0, 0x4d}),
              "\033[A\033[B\033[D\033[C");
    EXPECT_EQ(typed({0xe0, 0x47, 0xe0, 0x4f, 0xe0, 0x53, 0xe0, 0x35, 0xe0, 0x1c}),
              "\033[H\033[F\033[3~/\n");
}

TEST(KeyCodes, FeignedShiftsAndPauseChangeNothing) {
    EXPECT_EQ(typed({0xe0, 0x2a, 0xe0, 0x53, 0x1e, 0xe0, 0xaa, 0x1e}), "\033[3~aa");
    EXPECT_EQ(typed({0x2a, 0xe0, 0xaa, 0x1e}), "A");
    EXPECT_EQ(typed({0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5, 0x1e}), "a");
}

TEST(KeyCodes, WhateverComesTheNextPressesAreKeysAgain) {
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        Random random(seed);
        KeyCodes keys;
        for (int i = 0; i < 500; ++i) {
            auto const said = keys.feed(static_cast<std::uint8_t>(random.below(256)));
            ASSERT_LE(said.size(), 4u) << "seed " << seed;
            for (auto const c : said) ASSERT_TRUE(c > 0 && c < 127) << "seed " << seed;
        }
        // Let everything go; what is left is caps lock.
        (void)typed(keys, {0x80, 0x80, 0x80, 0xaa, 0xb6, 0x9d, 0xe0, 0x9d});
        auto const said = typed(keys, {0x1e, 0x08});
        EXPECT_TRUE(said == "a7" || said == "A7") << "seed " << seed << ": " << said;
    }
}

}  // namespace
}  // namespace nemesis::keyboard
