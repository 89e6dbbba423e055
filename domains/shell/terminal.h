#pragma once
// Terminal: what a screen of rows and columns shows of a text.
//
// Takes what the shell and its line editor write: characters, line ends, and the sequences that
// erase to the line's end and move the cursor within it. Behind the last column the text goes on in
// the next row; behind the last row everything moves up by one. Whoever paints asks for the cells
// that look other than when they were asked for last, so nothing is painted twice and nothing has
// to be read back from a frame buffer. What is not understood is left out. Pure; the size is
// bounded by columns_max and rows_max.

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace nemesis::shell {

/// See the head of this file.
class Terminal {
public:
    static constexpr std::uint32_t columns_max = 256, rows_max = 128;

    /// A cell as it is to look.
    struct Cell {
        char character = ' ';
        bool has_cursor = false;
        bool operator==(Cell const&) const = default;
    };

    /// units: characters; cut to the most that there may be, 0 is 1
    Terminal(std::uint32_t columns, std::uint32_t rows);

    std::uint32_t columns() const { return columns_; }
    std::uint32_t rows() const { return rows_; }
    void write(std::string_view text);
    /// The cell as it is to look now. requires: column < columns(), row < rows()
    Cell cell(std::uint32_t column, std::uint32_t row) const {
        return {cells_[row][column], row == row_ && column == std::min(column_, columns_ - 1)};
    }
    /// Calls `draw(column, row, cell)` for each cell that has changed since the last time; at first
    /// for all. context: O(cells)
    template <typename Draw>
    void refresh(Draw&& draw) {
        for (std::uint32_t row = 0; row < rows_; ++row) {
            for (std::uint32_t column = 0; column < columns_; ++column) {
                auto const wanted = cell(column, row);
                if (shown_[row][column] == wanted) continue;
                shown_[row][column] = wanted;
                draw(column, row, wanted);
            }
        }
    }

private:
    void put(char c);
    void next_row();
    void sequence(char c);

    std::uint32_t columns_, rows_;
    std::uint32_t column_ = 0, row_ = 0;  ///< column_ == columns_: the row is full
    int escape_ = 0;                      ///< 0 none, 1 after escape, 2 in a sequence
    std::uint32_t parameter_ = 0;
    char cells_[rows_max][columns_max];
    Cell shown_[rows_max][columns_max];
};

}  // namespace nemesis::shell
