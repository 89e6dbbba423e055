// Glyphs and rows on the frame buffer.
#include "kernel/text_screen.h"

#include "font/terminus_8x16.h"

namespace nemesis::kernel {

namespace font = nemesis::font::terminus_8x16;

TextScreen::TextScreen(std::uint32_t* pixels, boot::FrameBuffer const& shape) {
    bool const usable = pixels != nullptr && shape.bits_per_pixel == 32 && shape.pitch % 4 == 0 &&
                        shape.pitch / 4 >= shape.width && shape.width >= font::width * 20 &&
                        shape.height >= font::height * 4;
    if (!usable) return;
    pixels_ = pixels;
    pitch_ = shape.pitch / 4;
    width_ = shape.width;
    height_ = shape.height;
    columns_ = width_ / font::width;
    rows_ = height_ / font::height;
    red_first_ = shape.red_first != 0;
}

std::uint32_t TextScreen::in_order(std::uint32_t rgb) const {
    if (!red_first_) return rgb;
    return (rgb & 0x00ff00) | ((rgb & 0xff) << 16) | ((rgb >> 16) & 0xff);
}

void TextScreen::colours(std::uint32_t text, std::uint32_t ground) {
    text_ = in_order(text);
    ground_ = in_order(ground);
}

void TextScreen::scale(std::uint32_t factor) { scale_ = factor == 2 ? 2 : 1; }

void TextScreen::fill_rows(std::uint32_t first_line, std::uint32_t lines) {
    for (auto y = first_line; y < first_line + lines && y < height_; ++y) {
        auto* line = pixels_ + std::uint64_t{y} * pitch_;
        for (std::uint32_t x = 0; x < width_; ++x) line[x] = ground_;
    }
}

void TextScreen::clear() {
    column_ = row_ = 0;
    if (pixels_ != nullptr) fill_rows(0, height_);
}

void TextScreen::new_page(std::uint32_t page_ground) {
    if (pixels_ == nullptr) return;
    auto const bar = ground_;
    ground_ = in_order(page_ground);
    clear();
    ground_ = bar;
    fill_rows(0, scale_ * font::height);
}

void TextScreen::new_line() {
    if (pixels_ == nullptr) return;
    column_ = 0;
    row_ += scale_;
    if (row_ + scale_ > rows_) row_ = 0;
    fill_rows(row_ * font::height, scale_ * font::height);
}

void TextScreen::tab(std::uint32_t column) {
    if (column > column_ && column < columns_) column_ = column;
}

void TextScreen::put(char c) {
    if (column_ + scale_ > columns_) new_line();
    auto const code = static_cast<unsigned char>(c);
    auto const* glyph = font::glyph(code < 0x80 ? code : U'?');
    auto* at = pixels_ + std::uint64_t{row_} * font::height * pitch_ + column_ * font::width;
    for (std::uint32_t y = 0; y < font::height * scale_; ++y, at += pitch_) {
        auto const bits = glyph[y / scale_];
        for (std::uint32_t x = 0; x < font::width * scale_; ++x) {
            at[x] = ((bits << (x / scale_)) & 0x80) != 0 ? text_ : ground_;
        }
    }
    column_ += scale_;
}

void TextScreen::write(std::string_view text) {
    if (pixels_ == nullptr) return;
    for (char const c : text) {
        if (c == '\n')
            new_line();
        else if (c == '\t')
            tab((column_ / 8 + 1) * 8);
        else
            put(c);
    }
}

}  // namespace nemesis::kernel
