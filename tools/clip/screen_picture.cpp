// PNG's five line filters, undone.
#include "tools/clip/screen_picture.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace nemesis::clip {
namespace {

int paeth(int a, int b, int c) {
    int const p = a + b - c;
    int const pa = std::abs(p - a), pb = std::abs(p - b), pc = std::abs(p - c);
    return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

}  // namespace

Result<Picture, std::string> read_screen(std::span<std::byte const> bytes) {
    auto const* begin = reinterpret_cast<unsigned char const*>(bytes.data());
    std::string_view const all(reinterpret_cast<char const*>(begin), bytes.size());
    auto const end_of_line = all.substr(0, 40).find('\n');
    unsigned width = 0, height = 0, channels = 0;
    if (end_of_line == std::string_view::npos ||
        std::sscanf(std::string(all.substr(0, end_of_line)).c_str(), "%u %u %u", &width, &height,
                    &channels) != 3 ||
        width == 0 || width > 16384 || height > 16384 || (channels != 3 && channels != 4)) {
        return fail(std::string("the screen's first line must be WIDTH HEIGHT CHANNELS"));
    }
    std::size_t const line_bytes = std::size_t{width} * channels;
    if (all.size() - end_of_line - 1 != (line_bytes + 1) * height)
        return fail(std::string("the screen has another size than it says"));
    Picture picture{width, height, std::vector<std::uint8_t>(std::size_t{width} * height * 3)};
    std::vector<unsigned char> before(line_bytes + channels), line(line_bytes + channels);
    auto const* from = begin + end_of_line + 1;
    for (unsigned y = 0; y < height; y++) {
        int const filter = *from++;
        if (filter > 4) return fail(std::string("a line of the screen has an unknown filter"));
        for (std::size_t i = channels; i < line_bytes + channels; i++) {
            int const a = line[i - channels], b = before[i], c = before[i - channels];
            int const predicted = filter == 0   ? 0
                                  : filter == 1 ? a
                                  : filter == 2 ? b
                                  : filter == 3 ? (a + b) / 2
                                                : paeth(a, b, c);
            line[i] = static_cast<unsigned char>(*from++ + predicted);
        }
        auto* to = picture.rgb.data() + std::size_t{y} * width * 3;
        for (unsigned x = 0; x < width; x++) {
            std::copy_n(&line[channels + std::size_t{x} * channels], 3, to + std::size_t{x} * 3);
        }
        std::swap(line, before);
        std::fill_n(line.begin(), channels, 0);
    }
    return picture;
}

}  // namespace nemesis::clip
