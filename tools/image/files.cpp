#include "tools/image/files.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace nemesis::image {

namespace {

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

std::string reason(std::string const& path) { return path + ": " + std::strerror(errno); }

}  // namespace

Result<std::vector<std::byte>, std::string> read_file(std::string const& path) {
    File const file(std::fopen(path.c_str(), "rb"), std::fclose);
    if (!file) return fail(reason(path));
    std::vector<std::byte> bytes;
    std::byte buffer[1 << 16];
    while (std::size_t const n = std::fread(buffer, 1, sizeof buffer, file.get())) {
        bytes.insert(bytes.end(), buffer, buffer + n);
    }
    if (std::ferror(file.get())) return fail(reason(path));
    return bytes;
}

Result<void, std::string> write_file(std::string const& path, std::span<std::byte const> bytes) {
    std::string const temporary = path + ".new";
    std::FILE* const file = std::fopen(temporary.c_str(), "wb");
    if (!file) return fail(reason(temporary));
    bool const written = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
    bool const closed = std::fclose(file) == 0;
    if (!written || !closed || std::rename(temporary.c_str(), path.c_str()) != 0) {
        std::string const why = reason(path);
        std::remove(temporary.c_str());
        return fail(why);
    }
    return {};
}

}  // namespace nemesis::image
