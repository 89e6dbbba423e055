#pragma once
// The number that every frame of a clip carries in its picture, for machines to read.
//
// Sixteen blocks in the picture's top left corner, each 16 pixels wide and 8 high, dark for 0 and
// light for 1: twelve bits of number, most significant first, then four check bits. The check bits
// are such that any one wrong block is noticed, and so are pictures that are all dark or all light.
// The blocks lie on the borders of JPEG's own, so that compression leaves them plain.

#include <cstdint>
#include <optional>

namespace nemesis::media {

inline constexpr std::uint32_t number_blocks = 16;
inline constexpr std::uint32_t number_block_width = 16;
inline constexpr std::uint32_t number_block_height = 8;
inline constexpr std::uint32_t number_width = number_blocks * number_block_width;
inline constexpr std::uint32_t number_max = 4095;
/// What the blocks are painted with. units: 0..255 in each of red, green and blue
inline constexpr std::uint8_t number_dark = 24, number_light = 232;

/// The sixteen bits that stand for `number`, the first block's in the highest.
/// requires: number <= number_max
constexpr std::uint16_t number_code(std::uint32_t number) {
    std::uint32_t const check = (number ^ (number >> 4) ^ (number >> 8) ^ 0xA) & 0xF;
    return static_cast<std::uint16_t>(number << 4 | check);
}

/// What sixteen bits stand for; nothing if the check bits do not fit.
constexpr std::optional<std::uint32_t> number_of(std::uint16_t code) {
    std::uint32_t const number = code >> 4;
    if (number_code(number) != code) return std::nullopt;
    return number;
}

/// Reads the number out of a picture. `brightness(x, y)` is a pixel's, 0..255. A block counts only
/// if its inside is plain: clearly dark or clearly light all over.
template <typename F>
constexpr std::optional<std::uint32_t> read_number(F&& brightness) {
    std::uint16_t code = 0;
    for (std::uint32_t block = 0; block < number_blocks; block++) {
        std::uint32_t light = 0, dark = 0;
        for (std::uint32_t y = 2; y < number_block_height - 2; y++) {
            for (std::uint32_t x = 4; x < number_block_width - 4; x++) {
                std::uint32_t const value = brightness(block * number_block_width + x, y);
                light += value > 160;
                dark += value < 96;
            }
        }
        std::uint32_t const all = (number_block_height - 4) * (number_block_width - 8);
        if (light != all && dark != all) return std::nullopt;
        code = static_cast<std::uint16_t>(code << 1 | (light == all));
    }
    return number_of(code);
}

}  // namespace nemesis::media
