// Rectangles and letters.
#include "libnemesis/media/canvas.h"

#include <algorithm>

#include "font/terminus_8x16.h"

namespace nemesis::media {

namespace letters = font::terminus_8x16;

Canvas Canvas::part(std::int32_t x, std::int32_t y, std::int32_t width, std::int32_t height) const {
    auto const left = std::clamp(x, 0, width_), top = std::clamp(y, 0, height_);
    auto const right = std::clamp(x + width, left, width_);
    auto const bottom = std::clamp(y + height, top, height_);
    return Canvas(pixels_ + std::uint64_t(top) * stride_ + left, stride_, right - left,
                  bottom - top);
}

void Canvas::fill(std::int32_t x, std::int32_t y, std::int32_t width, std::int32_t height,
                  Colour colour) const {
    auto const area = part(x, y, width, height);
    for (std::int32_t row = 0; row < area.height_; row++) {
        std::fill_n(area.line(row), area.width_, colour);
    }
}

void Canvas::outline(std::int32_t x, std::int32_t y, std::int32_t width, std::int32_t height,
                     Colour colour) const {
    fill(x, y, width, 1, colour);
    fill(x, y + height - 1, width, 1, colour);
    fill(x, y, 1, height, colour);
    fill(x + width - 1, y, 1, height, colour);
}

std::int32_t Canvas::text(std::int32_t x, std::int32_t y, std::string_view words,
                          Ink const& ink) const {
    auto const scale = static_cast<std::int32_t>(ink.scale);
    for (char const c : words) {
        auto const* rows = letters::glyph(static_cast<unsigned char>(c));
        auto const cell = part(x, y, 8 * scale, 16 * scale);
        x += 8 * scale;
        if (cell.width_ != 8 * scale || y < 0) continue;  // letters are whole or not at all
        for (std::int32_t row = 0; row < cell.height_; row++) {
            auto const bits = rows[row / scale];
            auto* to = cell.line(row);
            for (std::int32_t column = 0; column < 8; column++) {
                auto const colour = (bits & (0x80 >> column)) != 0 ? ink.text : ink.ground;
                for (std::int32_t i = 0; i < scale; i++) *to++ = colour;
            }
        }
    }
    return x;
}

Words& Words::add(std::string_view words) {
    for (char const c : words) {
        if (length_ < sizeof(text_)) text_[length_++] = c;
    }
    return *this;
}

Words& Words::add(std::int64_t number, std::uint32_t width) {
    char digits[24];
    std::uint32_t n = 0;
    auto rest =
        number < 0 ? 0 - static_cast<std::uint64_t>(number) : static_cast<std::uint64_t>(number);
    do digits[n++] = static_cast<char>('0' + rest % 10);
    while ((rest /= 10) != 0);
    if (number < 0) digits[n++] = '-';
    for (auto i = n; i < width; i++) add(" ");
    while (n > 0) add(std::string_view(&digits[--n], 1));
    return *this;
}

Words& Words::add_tenths(std::int64_t tenths, std::uint32_t width) {
    add(tenths / 10, width > 2 ? width - 2 : 0).add(".");
    return add((tenths < 0 ? -tenths : tenths) % 10);
}

Words& Words::to(std::uint32_t column) {
    while (length_ < column && length_ < sizeof(text_)) text_[length_++] = ' ';
    return *this;
}

}  // namespace nemesis::media
