// Goal: whatever is in the file, the kernel gets one line of printable words that ends.
// Method: examples, then random bytes (seeded) with an oracle.
#include "arch/x86_64/boot/uefi_command_line.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace nemesis::boot {
namespace {

std::string line_of(std::initializer_list<std::string> parts, std::size_t room = 256) {
    std::string text(room, 'x');
    CommandLine line(std::span(text.data(), room));
    for (auto const& part : parts) (void)line.append(part);
    return text.c_str();
}

TEST(CommandLine, WordsAreSeparatedByOneSpace) {
    EXPECT_EQ(line_of({}), "");
    EXPECT_EQ(line_of({"a b"}), "a b");
    EXPECT_EQ(line_of({"  a\r\n\tb  \n"}), "a b");
    EXPECT_EQ(line_of({"a\n", "b"}), "a b");
    EXPECT_EQ(line_of({"", "b"}), "b");
    EXPECT_EQ(line_of({"\xef\xbb\xbf"
                       "a\x7f"}),
              "a");
}

TEST(CommandLine, WhatDoesNotFitIsLeftOutAndSaid) {
    char room[8];
    CommandLine line(room);
    EXPECT_TRUE(line.append("abc"));
    EXPECT_FALSE(line.append("defgh"));
    EXPECT_STREQ(room, "abc def");
    EXPECT_FALSE(line.append("i"));
    EXPECT_STREQ(room, "abc def");
}

TEST(CommandLine, RandomBytesNeverBreakTheLine) {
    std::mt19937_64 random(0x5eed);
    for (int round = 0; round < 20000; ++round) {
        std::size_t const room = 1 + random() % 40;
        std::string text(room + 8, '\x01');
        CommandLine line(std::span(text.data(), room));
        for (int parts = 0; parts < 3; ++parts) {
            std::string bytes(random() % 30, 0);
            for (auto& c : bytes) c = static_cast<char>(random() % 4 ? random() % 256 : ' ');
            (void)line.append(bytes);
        }
        auto const end = text.find('\0');
        ASSERT_LT(end, room);
        ASSERT_EQ(text.substr(room), std::string(8, '\x01'));
        auto const result = text.substr(0, end);
        ASSERT_EQ(result.find("  "), std::string::npos);
        ASSERT_TRUE(result.empty() || (result.front() != ' ' && result.back() != ' '));
        for (char const c : result) ASSERT_TRUE(c >= ' ' && c <= '~');
    }
}

}  // namespace
}  // namespace nemesis::boot
