#pragma once
// A page of text on a linear frame buffer of 32-bit pixels: boot messages and the panic's page.
//
// Written top to bottom; past the last row writing goes on at the top, each row cleared as it is
// entered, so that nothing is ever read back from the frame buffer. No state but this object, no
// hardware but the pixels: host tests paint into an array.

#include <cstdint>
#include <string_view>

#include "arch/x86_64/boot/boot_info.h"

namespace nemesis::kernel {

/// Where the next character goes, in which colours, on which pixels. owner: borrows the pixels
class TextScreen {
public:
    TextScreen() = default;
    /// units: pixels of 32 bits, `shape.pitch` bytes a line. A shape that is not usable (no pixels,
    /// another depth, a pitch shorter than a line) makes a screen that ignores writing.
    TextScreen(std::uint32_t* pixels, boot::FrameBuffer const& shape);

    std::uint32_t columns() const { return columns_; }
    std::uint32_t rows() const { return rows_; }
    std::uint32_t row() const { return row_; }

    /// Colours of what is written from now on. units: 0xRRGGBB, put into the buffer's own order
    void colours(std::uint32_t text, std::uint32_t ground);
    /// How many pixels one pixel of a glyph takes in both directions, 1 or 2.
    void scale(std::uint32_t factor);
    /// Fills everything with the ground colour and goes to the top.
    void clear();
    /// Goes to column 0 of the next row and clears it; at scale 2 a row is two rows high.
    void new_line();
    /// Fills everything with `page_ground`, and the first row of the present scale with the ground
    /// colour, a bar for a title; goes to the top.
    void new_page(std::uint32_t page_ground);
    /// Writes text; a new line character ends the row, too long a row is continued in the next.
    void write(std::string_view text);
    /// Goes to `column` in this row, if it is not past it already.
    void tab(std::uint32_t column);

private:
    void put(char c);
    void fill_rows(std::uint32_t first_line, std::uint32_t lines);
    std::uint32_t in_order(std::uint32_t rgb) const;

    std::uint32_t* pixels_ = nullptr;
    std::uint32_t pitch_ = 0, width_ = 0, height_ = 0;  ///< pitch in pixels
    std::uint32_t columns_ = 0, rows_ = 0;              ///< at scale 1
    std::uint32_t column_ = 0, row_ = 0, scale_ = 1;
    std::uint32_t text_ = 0xffffff, ground_ = 0;
    bool red_first_ = false;
};

}  // namespace nemesis::kernel
