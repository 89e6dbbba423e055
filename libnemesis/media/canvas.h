#pragma once
// Drawing into a piece of a frame buffer: rectangles, letters, clipped to the piece.
//
// Nothing is ever read back: the memory may be uncached or write-combining. A Canvas is a value of
// four words that owns nothing; a part of one is another.

#include <cstdint>
#include <string_view>

namespace nemesis::media {

/// A colour. units: 0xRRGGBB
using Colour = std::uint32_t;

/// How letters are drawn.
struct Ink {
    Colour text = 0xffffff;
    Colour ground = 0;
    std::uint32_t scale = 1;  ///< pixels a pixel of the font takes, in both directions
};

/// A rectangle of 32-bit pixels. owner: borrows them
class Canvas {
public:
    constexpr Canvas() = default;
    /// units: pixels; `stride` from one line to the next
    constexpr Canvas(std::uint32_t* pixels, std::uint32_t stride, std::int32_t width,
                     std::int32_t height)
        : pixels_(pixels), stride_(stride), width_(width), height_(height) {}

    std::int32_t width() const { return width_; }
    std::int32_t height() const { return height_; }
    /// A line's first pixel. requires: 0 <= y < height()
    std::uint32_t* line(std::int32_t y) const { return pixels_ + std::uint64_t(y) * stride_; }

    /// The part at (x, y), cut to what there is.
    Canvas part(std::int32_t x, std::int32_t y, std::int32_t width, std::int32_t height) const;
    void fill(std::int32_t x, std::int32_t y, std::int32_t width, std::int32_t height,
              Colour colour) const;
    void fill(Colour colour) const { fill(0, 0, width_, height_, colour); }
    /// A frame one pixel wide.
    void outline(std::int32_t x, std::int32_t y, std::int32_t width, std::int32_t height,
                 Colour colour) const;
    /// Letters of 8x16 pixels times the ink's scale; yields the x behind the last.
    std::int32_t text(std::int32_t x, std::int32_t y, std::string_view words, Ink const& ink) const;

private:
    std::uint32_t* pixels_ = nullptr;
    std::uint32_t stride_ = 0;
    std::int32_t width_ = 0, height_ = 0;
};

/// A short text under construction: words and numbers, padded to columns, cut at its end.
class Words {
public:
    Words& add(std::string_view words);
    Words& add(std::int64_t number, std::uint32_t width = 0);
    /// `tenths` / 10 with one decimal.
    Words& add_tenths(std::int64_t tenths, std::uint32_t width = 0);
    /// Spaces up to `column`.
    Words& to(std::uint32_t column);
    std::string_view text() const { return {text_, length_}; }

private:
    char text_[120];
    std::uint32_t length_ = 0;
};

}  // namespace nemesis::media
