// Writes seeds for fuzz_base: one small sound input for each reader, so that the fuzzer starts
// behind the magic numbers.   fuzz_seeds FOLDER
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "libnemesis/base/hash.h"
#include "libnemesis/base/trace_format.h"
#include "tools/image/archive_writer.h"
#include "tools/image/files.h"
#include "tools/image/manifest_compiler.h"

namespace {

using namespace nemesis;
using Bytes = std::vector<std::byte>;

constexpr std::string_view manifest_text =
    "domain a { contract 1ms/4ms deadline 3ms weight 2 memory 1MiB fpu privileges { kps } argument "
    "\"x %i\"\n"
    "  device pci class 0x300 device ports 0x3f8..0x3ff irq 4 data clip }\n"
    "domain b * 2 { spare weight 1 memory 64KiB slots 2 endpoints 3 }\n"
    "channel a.x -> b0.y { slots 4 of 64B }\n";

Bytes bytes_of(std::string_view s) {
    auto const b = std::as_bytes(std::span(s));
    return {b.begin(), b.end()};
}

/// Headers of a program with text, data, a thread-local template and a dynamic table, in one page.
Bytes elf(bool movable) {
    Bytes out(0x400);
    auto const put = [&](std::size_t at, std::uint64_t value, std::size_t size) {
        std::memcpy(&out[at], &value, size);
    };
    std::uint64_t const base = movable ? 0 : image_region_4level.base;
    put(0, 0x00010102464C457F, 8), put(16, movable ? 3 : 2, 2), put(18, 62, 2), put(20, 1, 4),
        put(24, base + 0x300, 8);
    put(32, 64, 8), put(52, 64, 2), put(54, 56, 2), put(56, movable ? 4 : 3, 2);
    auto const header = [&](std::size_t i, std::uint64_t type, std::uint64_t flags,
                            std::uint64_t offset, std::uint64_t address, std::uint64_t size,
                            std::uint64_t align) {
        std::size_t const at = 64 + i * 56;
        put(at, type, 4), put(at + 4, flags, 4), put(at + 8, offset, 8),
            put(at + 16, base + address, 8);
        put(at + 32, size, 8), put(at + 40, size, 8), put(at + 48, align, 8);
    };
    header(0, 1, 5, 0, 0, 0x400, 4096);
    header(1, 1, 6, 0, 0x1000, 0x400, 4096);
    header(2, 7, 4, 0x200, 0x1200, 0x10, 16);
    if (movable) {
        header(3, 2, 6, 0x220, 0x1220, 0x40, 8);
        put(0x220, 7, 8), put(0x228, 0x280, 8), put(0x230, 8, 8), put(0x238, 24, 8),
            put(0x240, 9, 8), put(0x248, 24, 8);
        put(0x280, 0x1300, 8), put(0x288, 8, 8), put(0x290, 0x300, 8);
    }
    return out;
}

Bytes trace_dump() {
    std::vector<std::uint64_t> memory(TraceRing::bytes_needed(16) / 8);
    TraceRing ring(std::as_writable_bytes(std::span(memory)), 16, 0, 1'000'000'000, 0);
    for (std::uint16_t kind = 1; kind <= 18; kind++) {
        ring.write(Instant::ns(kind * 10), TraceKind(kind), 1, 1, 1, 100);
    }
    auto const bytes = std::as_bytes(std::span(memory));
    return {bytes.begin(), bytes.end()};
}

Bytes archive() {
    image::ArchiveWriter writer;
    (void)writer.add("a", ArchiveKind::Data, bytes_of("x"));
    (void)writer.add("b", ArchiveKind::Data, bytes_of("y"));
    return writer.finish().value_or(Bytes{});
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return std::fputs("usage: fuzz_seeds FOLDER\n", stderr), 2;
    std::filesystem::create_directories(argv[1]);
    struct Seed {
        char const* name;
        unsigned reader;
        Bytes bytes;
    };
    Seed const seeds[] = {
        {"elf", 0, elf(false)},
        {"elf_movable", 0, elf(true)},
        {"archive", 1, archive()},
        {"manifest", 2, image::compile_manifest(manifest_text).value_or(Bytes{})},
        {"text", 3, bytes_of(manifest_text)},
        {"trace", 4, trace_dump()},
    };
    for (Seed const& seed : seeds) {
        Bytes bytes{std::byte(seed.reader)};
        bytes.insert(bytes.end(), seed.bytes.begin(), seed.bytes.end());
        auto const written = image::write_file(std::string(argv[1]) + "/" + seed.name, bytes);
        if (!written) return std::fprintf(stderr, "fuzz_seeds: %s\n", written.error().c_str()), 1;
    }
    return 0;
}
