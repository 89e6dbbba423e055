// Goal: a terminal shows what was written, and what is painted is what it shows. Method: texts and
// the rows that they make; the line editor in front of it; random bytes, painted into a picture of
// the test's own that must be equal cell by cell.
#include "domains/shell/terminal.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "domains/shell/line_editor.h"
#include "libnemesis/base/random.h"

namespace nemesis::shell {
namespace {

/// What somebody sees who paints only what he is told.
struct Picture {
    explicit Picture(Terminal& terminal)
        : terminal(terminal),
          cells(terminal.rows(), std::vector<Terminal::Cell>(terminal.columns())) {}
    std::size_t paint() {
        std::size_t painted = 0;
        terminal.refresh([&](std::uint32_t column, std::uint32_t row, Terminal::Cell cell) {
            cells.at(row).at(column) = cell;
            ++painted;
        });
        return painted;
    }
    std::string row(std::size_t number) const {
        std::string text;
        for (auto const& cell : cells.at(number)) text += cell.character;
        text.erase(text.find_last_not_of(' ') + 1);
        return text;
    }
    /// The cursor's column and row; of several none.
    std::pair<int, int> cursor() const {
        std::pair found(-1, -1);
        for (std::size_t y = 0; y < cells.size(); ++y)
            for (std::size_t x = 0; x < cells[y].size(); ++x)
                if (cells[y][x].has_cursor) {
                    if (found.first >= 0) return {-2, -2};
                    found = {static_cast<int>(x), static_cast<int>(y)};
                }
        return found;
    }
    Terminal& terminal;
    std::vector<std::vector<Terminal::Cell>> cells;
};

struct TerminalTest : testing::Test {
    std::unique_ptr<Terminal> terminal = std::make_unique<Terminal>(20, 4);
    Picture picture{*terminal};
    void show(std::string_view text) {
        terminal->write(text);
        (void)picture.paint();
    }
};

TEST_F(TerminalTest, TextGoesFromRowToRow) {
    show("one\ntwo\r\nthree");
    EXPECT_EQ(picture.row(0), "one");
    EXPECT_EQ(picture.row(1), "two");
    EXPECT_EQ(picture.row(2), "three");
    EXPECT_EQ(picture.cursor(), std::pair(5, 2));
}

TEST_F(TerminalTest, LongTextGoesOnInTheNextRow) {
    show("abcdefghijklmnopqrst");
    EXPECT_EQ(picture.cursor(), std::pair(19, 0));
    show("uv");
    EXPECT_EQ(picture.row(0), "abcdefghijklmnopqrst");
    EXPECT_EQ(picture.row(1), "uv");
    EXPECT_EQ(picture.cursor(), std::pair(2, 1));
}

TEST_F(TerminalTest, BehindTheLastRowEverythingMovesUp) {
    show("1\n2\n3\n4\n5\n6");
    for (int i = 0; i < 4; ++i) EXPECT_EQ(picture.row(i), std::to_string(i + 3));
    show("\n");
    EXPECT_EQ(picture.row(2), "6");
    EXPECT_EQ(picture.row(3), "");
}

TEST_F(TerminalTest, SequencesMoveAndErase) {
    show("hello\x1b[3D");
    EXPECT_EQ(picture.cursor(), std::pair(2, 0));
    show("\x1b[K");
    EXPECT_EQ(picture.row(0), "he");
    show("y\x1b[99D\x1b[C.\b\b\b\b*\r#\a");
    EXPECT_EQ(picture.row(0), "#.y");
    show("\x1b[99C!\x1b[2J\x1b[31mx\x1bZy\tz\x01\xff");
    EXPECT_EQ(picture.row(0), "#.y                !");
    EXPECT_EQ(picture.row(1), "xy      z?");
}

TEST_F(TerminalTest, ShowsALineAsItIsEdited) {
    LineEditor editor("> ");
    editor.begin();
    for (auto const c : std::string_view("ecgo a\x1b[D\x1b[D\x1b[D\x1b[D\x1b[3~h\x05!")) {
        (void)editor.feed(c);
        show(editor.take_output());
    }
    EXPECT_EQ(picture.row(0), "> echo a!");
    EXPECT_EQ(picture.cursor(), std::pair(9, 0));
    (void)editor.feed('\x15');
    show(editor.take_output());
    EXPECT_EQ(picture.row(0), ">");
    EXPECT_EQ(picture.cursor(), std::pair(2, 0));
}

TEST_F(TerminalTest, OnlyWhatHasChangedIsPainted) {
    EXPECT_EQ(picture.paint(), 80u);
    EXPECT_EQ(picture.paint(), 0u);
    terminal->write("a");
    EXPECT_EQ(picture.paint(), 2u);  // the letter, and the cursor behind it
    terminal->write("\ra");
    EXPECT_EQ(picture.paint(), 0u);
}

TEST_F(TerminalTest, WhatIsPaintedIsWhatItShowsWhateverIsWritten) {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        Random random(seed);
        auto const columns = static_cast<std::uint32_t>(1 + random.below(30));
        auto const rows = static_cast<std::uint32_t>(1 + random.below(6));
        auto const shown = std::make_unique<Terminal>(columns, rows);
        Picture painted(*shown);
        for (int i = 0; i < 300; ++i) {
            std::string text;
            for (auto n = random.below(12); n > 0; --n) {
                constexpr std::string_view often = "\n\r\b\t\x1b[[KCD129;ab ";
                text += random.below(4) == 0 ? static_cast<char>(random.below(256))
                                             : often[random.below(often.size())];
            }
            shown->write(text);
            (void)painted.paint();
            for (std::uint32_t y = 0; y < rows; ++y)
                for (std::uint32_t x = 0; x < columns; ++x) {
                    auto const cell = shown->cell(x, y);
                    ASSERT_EQ(painted.cells[y][x], cell) << "seed " << seed;
                    ASSERT_TRUE(cell.character >= ' ' && cell.character < 127) << "seed " << seed;
                }
            ASSERT_GE(painted.cursor().first, 0) << "seed " << seed;
        }
    }
}

TEST(TerminalSize, IsBounded) {
    auto const none = std::make_unique<Terminal>(0, 0);
    EXPECT_EQ(std::pair(none->columns(), none->rows()), std::pair(1u, 1u));
    none->write("ab\n\x1b[Kc");
    auto const all = std::make_unique<Terminal>(1u << 31, 1u << 31);
    EXPECT_EQ(std::pair(all->columns(), all->rows()),
              std::pair(Terminal::columns_max, Terminal::rows_max));
}

}  // namespace
}  // namespace nemesis::shell
