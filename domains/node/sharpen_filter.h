#pragma once
// SharpenFilter: the demo's filter object, the same wherever it runs.

#include "domains/node/tiles.if.h"

namespace nemesis::node {

/// Sharpens by the four neighbours, with a noise of two bits that depends on place only: the same
/// tile always gives the same result, on every machine. context: any, 4,096 pixels of work a tile
class SharpenFilter final : public tiles::Filter {
public:
    using Tile = marshal::Bytes<tiles::tile_bytes>;

    Result<Tile, tiles::FilterError> sharpen(std::uint16_t column, std::uint16_t row,
                                             ByteView pixels) override {
        constexpr int side = 64;
        auto const in = pixels.bytes();
        if (in.size() != tiles::tile_bytes) return fail(tiles::FilterError::BadTile);
        Tile out;
        (void)out.resize(tiles::tile_bytes);
        auto const pixel = [&](int x, int y) {
            x = x < 0 ? 0 : x >= side ? side - 1 : x;
            y = y < 0 ? 0 : y >= side ? side - 1 : y;
            return std::to_integer<int>(in[static_cast<std::size_t>(y * side + x)]);
        };
        for (int y = 0; y < side; ++y) {
            for (int x = 0; x < side; ++x) {
                auto const around =
                    pixel(x - 1, y) + pixel(x + 1, y) + pixel(x, y - 1) + pixel(x, y + 1);
                auto const noise = ((column * side + x) * 13 + (row * side + y) * 7) & 3;
                auto const value = 2 * pixel(x, y) - around / 4 + noise;
                out.span()[static_cast<std::size_t>(y * side + x)] =
                    static_cast<std::byte>(value < 0     ? 0
                                           : value > 255 ? 255
                                                         : value);
            }
        }
        return out;
    }
};

}  // namespace nemesis::node
