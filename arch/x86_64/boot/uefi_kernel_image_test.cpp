// Goal: a kernel file that was accepted can be placed without touching a byte outside its room; a
// spoilt, truncated or foreign file is refused before anything is loaded.
// Method: a small kernel is made in memory; every truncation, every byte set to many values, and
// random changes (seeded) of it are parsed, and placed when accepted. AddressSanitizer watches.
#include "arch/x86_64/boot/uefi_kernel_image.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace nemesis::boot {
namespace {

struct Header {
    std::uint8_t ident[16] = {0x7F, 'E', 'L', 'F', 2, 1, 1};
    std::uint16_t type = 2, machine = 62;
    std::uint32_t version = 1;
    std::uint64_t entry = arch::kKernelBase + 0x101010, phoff = 64, shoff = 0;
    std::uint32_t flags = 0;
    std::uint16_t ehsize = 64, phentsize = 56, phnum = 3, shentsize = 0, shnum = 0, shstrndx = 0;
};
struct Program {
    std::uint32_t type, flags;
    std::uint64_t offset, vaddr, paddr, filesz, memsz, align;
};

constexpr std::uint64_t base = arch::kKernelBase + 0x100000;

std::vector<std::byte> make_kernel() {
    Program const programs[3] = {{1, 5, 0x1000, base, 0x100000, 0x120, 0x120, 4096},
                                 {1, 5, 0x2000, base + 0x1000, 0x101000, 0x800, 0x800, 4096},
                                 {1, 6, 0x3000, base + 0x2000, 0x102000, 0x80, 0x3000, 4096}};
    std::vector<std::byte> file(0x3080, std::byte{0xCC});
    Header const header;
    std::memset(file.data(), 0, 0x1000);
    std::memcpy(file.data(), &header, sizeof(header));
    std::memcpy(file.data() + 64, programs, sizeof(programs));
    return file;
}

/// Parses and, if accepted, places into a room of exactly the right size.
bool accepted(std::span<std::byte const> file, std::vector<std::byte>* placed = nullptr) {
    auto const image = ElfImage::parse(file, kernel_rules);
    if (!image) return false;
    EXPECT_TRUE(image->check_invariants(kernel_rules));
    EXPECT_LE(kernel_bytes(*image), kKernelBytesMax);
    EXPECT_GE(image->begin(), arch::kKernelBase);
    std::vector<std::byte> room(kernel_bytes(*image), std::byte{0xEE});
    place_kernel(*image, room);
    if (placed != nullptr) *placed = room;
    return true;
}

TEST(KernelImage, GoodOneIsPlacedAndZeroed) {
    std::vector<std::byte> placed;
    ASSERT_TRUE(accepted(make_kernel(), &placed));
    ASSERT_EQ(placed.size(), 0x5000u);
    EXPECT_EQ(placed[0x11f], std::byte{0xCC});
    EXPECT_EQ(placed[0x120], std::byte{0});
    EXPECT_EQ(placed[0x17ff], std::byte{0xCC});
    EXPECT_EQ(placed[0x1800], std::byte{0});
    EXPECT_EQ(placed[0x207f], std::byte{0xCC});
    EXPECT_EQ(placed[0x2080], std::byte{0});
    EXPECT_EQ(placed[0x4fff], std::byte{0});
}

TEST(KernelImage, EveryTruncationIsRefused) {
    auto const file = make_kernel();
    for (std::size_t size = 0; size < file.size(); ++size) {
        std::vector<std::byte> const shorter(file.begin(),
                                             file.begin() + static_cast<std::ptrdiff_t>(size));
        ASSERT_FALSE(accepted(shorter)) << size;
    }
}

TEST(KernelImage, WritableTextUserAddressesAndGiantsAreRefused) {
    auto const spoil = [](std::size_t program, auto change) {
        auto file = make_kernel();
        Program p;
        std::memcpy(&p, file.data() + 64 + program * sizeof(p), sizeof(p));
        change(p);
        std::memcpy(file.data() + 64 + program * sizeof(p), &p, sizeof(p));
        return accepted(file);
    };
    EXPECT_FALSE(spoil(1, [](Program& p) { p.flags = 7; }));
    EXPECT_FALSE(spoil(0, [](Program& p) { p.vaddr = 0x100000; }));
    EXPECT_FALSE(spoil(0, [](Program& p) { p.vaddr = 0x4000'0000'0000; }));
    EXPECT_FALSE(spoil(2, [](Program& p) { p.memsz = 128ull << 20; }));
    EXPECT_FALSE(spoil(2, [](Program& p) { p.memsz = ~0ull; }));
    EXPECT_FALSE(spoil(2, [](Program& p) { p.vaddr = ~0xfffull; }));
    EXPECT_FALSE(spoil(2, [](Program& p) { p.offset = ~0xfffull; }));
    EXPECT_FALSE(spoil(1, [](Program& p) { p.vaddr = base; }));
}

TEST(KernelImage, EveryHeaderByteAndRandomChangesAreSurvived) {
    auto file = make_kernel();
    for (std::size_t at = 0; at < 64 + 3 * sizeof(Program); ++at) {
        auto const old = file[at];
        for (int value = 0; value < 256; ++value) {
            file[at] = static_cast<std::byte>(value);
            (void)accepted(file);
        }
        file[at] = old;
    }
    std::mt19937_64 random(0x5eed);
    for (int round = 0; round < 30000; ++round) {
        auto changed = make_kernel();
        for (auto n = 1 + random() % 4; n > 0; --n) {
            changed[random() % (64 + 3 * sizeof(Program))] = static_cast<std::byte>(random());
        }
        (void)accepted(changed);
    }
}

}  // namespace
}  // namespace nemesis::boot
