// Goal: what the writer packs, the reader reads; what would not load is refused when packed.
#include "tools/image/archive_writer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <span>

#include "libnemesis/base/hash.h"
#include "tools/image/manifest_compiler.h"

namespace nemesis::image {
namespace {

std::vector<std::byte> bytes_of(std::string_view s) {
    auto const b = std::as_bytes(std::span(s));
    return {b.begin(), b.end()};
}

/// The smallest program: one page of text at the first slot.
std::vector<std::byte> program() {
    std::vector<std::byte> out(4096, std::byte{0xF4});
    auto const put = [&](std::size_t at, std::uint64_t value, std::size_t size) {
        std::memcpy(&out[at], &value, size);
    };
    std::memset(out.data(), 0, 64 + 56);
    constexpr std::uint64_t base = image_region_4level.base;
    put(0, 0x00010102464C457F, 8), put(16, 2, 2), put(18, 62, 2), put(20, 1, 4),
        put(24, base + 0x100, 8);
    put(32, 64, 8), put(52, 64, 2), put(54, 56, 2), put(56, 1, 2);
    put(64, 1, 4), put(68, 5, 4), put(80, base, 8), put(96, 4096, 8), put(104, 4096, 8),
        put(112, 4096, 8);
    return out;
}

TEST(ArchiveWriter, WhatIsPackedIsRead) {
    ArchiveWriter writer;
    ASSERT_TRUE(writer.add("z", ArchiveKind::Data, bytes_of("payload")).has_value());
    ASSERT_TRUE(writer.add("init", ArchiveKind::Image, program()).has_value());
    ASSERT_TRUE(writer.add("empty", ArchiveKind::Data, {}).has_value());
    auto const packed = writer.finish();
    ASSERT_TRUE(packed.has_value()) << packed.error();
    EXPECT_EQ(packed->size() % archive_page, 0u);
    auto const archive = Archive::open(*packed);
    ASSERT_TRUE(archive.has_value());
    ASSERT_EQ(archive->size(), 3u);
    auto const z = archive->find("z");
    ASSERT_TRUE(z.has_value());
    EXPECT_EQ(std::memcmp(z->payload.data(), "payload", 7), 0);
    EXPECT_EQ(z->hash, code_hash(z->payload));
    EXPECT_EQ(archive->find("init")->payload.size(), 4096u);
}

TEST(ArchiveWriter, NamesAreChecked) {
    ArchiveWriter writer;
    EXPECT_FALSE(writer.add("", ArchiveKind::Data, {}).has_value());
    EXPECT_FALSE(writer.add("two words", ArchiveKind::Data, {}).has_value());
    EXPECT_TRUE(writer.add("a", ArchiveKind::Data, {}).has_value());
    EXPECT_EQ(writer.add("a", ArchiveKind::Data, {}).error(), "two entries are called 'a'");
    EXPECT_FALSE(parse_kind("picture").has_value());
}

TEST(ArchiveWriter, ABrokenImageIsNotPacked) {
    ArchiveWriter writer;
    auto broken = program();
    broken[68] = std::byte{7};
    ASSERT_TRUE(writer.add("init", ArchiveKind::Image, broken).has_value());
    EXPECT_EQ(writer.finish().error(), "entry 'init': a segment is writable and executable");
}

TEST(ArchiveWriter, WhatAManifestNamesMustBeThere) {
    auto const manifest = compile_manifest("domain init { memory 1MiB spare weight 1 data clip }");
    ASSERT_TRUE(manifest.has_value());
    ArchiveWriter writer;
    ASSERT_TRUE(writer.add("boot.manifest", ArchiveKind::Manifest, *manifest).has_value());
    EXPECT_EQ(writer.finish().error(),
              "manifest 'boot.manifest': domain 'init' needs the image 'init', which is not in the "
              "archive");
    ASSERT_TRUE(writer.add("init", ArchiveKind::Image, program()).has_value());
    ASSERT_TRUE(writer.add("clip", ArchiveKind::Manifest, *manifest).has_value());
    EXPECT_EQ(writer.finish().error(),
              "manifest 'boot.manifest': domain 'init' needs the data 'clip', which is there as "
              "manifest");
}

}  // namespace
}  // namespace nemesis::image
