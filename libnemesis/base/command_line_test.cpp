// Goal: words of a command line are found whatever stands around them, numbers only where there
// are any, and nothing is read behind its end.
#include "libnemesis/base/command_line.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace nemesis {
namespace {

CommandLine line(std::string text) {
    text.resize(512, '\0');
    return CommandLine([&](std::uint64_t n) {
        std::uint64_t word = 0;
        std::memcpy(&word, text.data() + 8 * n, 8);
        return word;
    });
}

TEST(CommandLine, FindsWordsByTheirBeginning) {
    auto const l = line("console=com1  seconds=20 headless");
    EXPECT_EQ(l.after("console="), "com1");
    EXPECT_EQ(l.number_after("seconds="), 20);
    EXPECT_TRUE(l.has("headless"));
    EXPECT_FALSE(l.has("hogs=off"));
    EXPECT_EQ(l.after("hogs=").data(), nullptr);
    EXPECT_FALSE(l.has("onds="));  // not in the middle of a word
}

TEST(CommandLine, TheFirstOfTwoCounts) {
    EXPECT_EQ(line("seconds=3 seconds=4").number_after("seconds="), 3);
}

TEST(CommandLine, WhatIsNoNumberIsNone) {
    for (auto const* text : {"", " ", "seconds", "seconds=", "seconds=x", "seconds=3x",
                             "seconds=-1", "seconds=1000001", "seconds=99999999999999999999"})
        EXPECT_EQ(line(text).number_after("seconds="), 0) << text;
    EXPECT_EQ(line("seconds=1000000").number_after("seconds="), 1'000'000);
}

TEST(CommandLine, ALineWithoutEndEndsWithItsMemory) {
    auto const l = line(std::string(600, 'x'));
    EXPECT_EQ(l.after("x").size(), 510U);
}

}  // namespace
}  // namespace nemesis
