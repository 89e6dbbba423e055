// Goal: the kernel never uses memory that any descriptor calls something else, loses none that is
// free, and gets a sorted, merged, bounded list, whatever the firmware hands over.
// Method: examples; then random maps (seeded) over a small space of pages, compared page by page
// with an oracle that marks each page; then random bytes as descriptors.
#include "arch/x86_64/boot/uefi_memory_map.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

namespace nemesis::boot {
namespace {

struct Descriptor {
    std::uint32_t type = 7, padding = 0;
    std::uint64_t physical = 0, virtual_address = 0, pages = 0, attributes = 0xf;
};

constexpr auto usable_type = static_cast<std::uint32_t>(MemoryType::Usable);
constexpr auto acpi_type = static_cast<std::uint32_t>(MemoryType::AcpiTables);
constexpr auto reserved_type = static_cast<std::uint32_t>(MemoryType::Reserved);
constexpr std::uint64_t stride = 48;  // as OVMF: longer than the structure

std::vector<std::byte> bytes_of(std::vector<Descriptor> const& descriptors) {
    std::vector<std::byte> bytes(descriptors.size() * stride);
    for (std::size_t i = 0; i < descriptors.size(); ++i) {
        std::memcpy(bytes.data() + i * stride, &descriptors[i], sizeof(Descriptor));
    }
    return bytes;
}

struct Converted {
    std::vector<MemoryRange> ranges;
    Result<std::uint32_t, MapError> result;
};

Converted convert(std::vector<std::byte> const& bytes, std::size_t room = kMemoryRangesMax,
                  std::uint64_t step = stride) {
    static auto const scratch = std::make_unique<MapScratch>();
    std::vector<MemoryRange> to(room);
    auto const count = convert_memory_map(bytes, step, to, *scratch);
    to.resize(count.value_or(0));
    return {to, count};
}

TEST(MemoryMap, BootServicesAndFreeMemoryBecomeOneRange) {
    auto const [ranges, count] = convert(bytes_of({{.type = 7, .physical = 0x300000, .pages = 16},
                                                   {.type = 3, .physical = 0x310000, .pages = 16},
                                                   {.type = 1, .physical = 0x320000, .pages = 16},
                                                   {.type = 4, .physical = 0x330000, .pages = 16},
                                                   {.type = 2, .physical = 0x340000, .pages = 16},
                                                   {.type = 5, .physical = 0x350000, .pages = 16},
                                                   {.type = 9, .physical = 0x360000, .pages = 1}}));
    ASSERT_TRUE(count.has_value());
    ASSERT_EQ(ranges.size(), 3u);
    EXPECT_EQ(ranges[0].base, 0x300000u);
    EXPECT_EQ(ranges[0].bytes, 0x40000u);
    EXPECT_EQ(ranges[0].type, usable_type);
    EXPECT_EQ(ranges[1].base, 0x340000u);  // the loader's data and runtime services
    EXPECT_EQ(ranges[1].bytes, 0x20000u);
    EXPECT_EQ(ranges[1].type, reserved_type);
    EXPECT_EQ(ranges[2].type, acpi_type);
}

TEST(MemoryMap, WhatOverlapsIsNotUsed) {
    auto const [ranges, count] =
        convert(bytes_of({{.type = 7, .physical = 0x100000, .pages = 256},
                          {.type = 6, .physical = 0x140000, .pages = 16}}));
    ASSERT_EQ(ranges.size(), 3u);
    EXPECT_EQ(ranges[0].end(), 0x140000u);
    EXPECT_EQ(ranges[1].type, reserved_type);
    EXPECT_EQ(ranges[2].base, 0x150000u);
    EXPECT_EQ(ranges[2].end(), 0x200000u);
}

TEST(MemoryMap, UsableMemoryIsCutInwardsAndTheRestOutwards) {
    auto const [ranges, count] = convert(bytes_of({{.type = 7, .physical = 0x100800, .pages = 4},
                                                   {.type = 0, .physical = 0x200800, .pages = 1}}));
    ASSERT_EQ(ranges.size(), 2u);
    EXPECT_EQ(ranges[0].base, 0x101000u);
    EXPECT_EQ(ranges[0].end(), 0x104000u);
    EXPECT_EQ(ranges[1].base, 0x200000u);
    EXPECT_EQ(ranges[1].end(), 0x202000u);
}

TEST(MemoryMap, TooManyRangesLoseTheReservedThenTheSmallest) {
    std::vector<Descriptor> all;
    for (std::uint64_t i = 0; i < 300; ++i) {
        all.push_back({.type = 7, .physical = i << 24, .pages = i + 1});
        all.push_back({.type = 6, .physical = (i << 24) + (8 << 20), .pages = 1});
    }
    auto const [ranges, count] = convert(bytes_of(all));
    ASSERT_EQ(ranges.size(), kMemoryRangesMax);
    for (std::size_t i = 0; i < ranges.size(); ++i) {
        EXPECT_EQ(ranges[i].type, usable_type);
        EXPECT_EQ(ranges[i].bytes, (300 - kMemoryRangesMax + i + 1) * 4096);
    }
}

TEST(MemoryMap, ErrorsAreNamed) {
    EXPECT_EQ(convert({}).result.error(), MapError::NoUsableMemory);
    EXPECT_EQ(convert(bytes_of({{.type = 6, .pages = 4}})).result.error(),
              MapError::NoUsableMemory);
    EXPECT_EQ(convert(bytes_of({{}}), 8, 39).result.error(), MapError::BadDescriptorSize);
    EXPECT_EQ(convert(bytes_of({{}}), 8, 0).result.error(), MapError::BadDescriptorSize);
    std::vector<Descriptor> many(kDescriptorsMax + 1, Descriptor{.pages = 1});
    EXPECT_EQ(convert(bytes_of(many)).result.error(), MapError::TooManyDescriptors);
    EXPECT_EQ(convert(bytes_of({{.physical = ~0ull, .pages = ~0ull}})).result.error(),
              MapError::NoUsableMemory);
}

TEST(MemoryMap, EndCountsMemoryButNotDevices) {
    auto const bytes = bytes_of({{.type = 7, .physical = 0x100000, .pages = 1},
                                 {.type = 5, .physical = 0x200000, .pages = 1},
                                 {.type = 11, .physical = 0xfd00000000, .pages = 100},
                                 {.type = 0, .physical = 0xffe00000, .pages = 1}});
    EXPECT_EQ(memory_end(bytes, stride), 0x201000u);
}

TEST(MemoryMap, RandomMapsAgreeWithAnOracleOfPages) {
    std::mt19937_64 random(0x5eed);
    constexpr std::uint64_t pages = 96;
    for (int round = 0; round < 5000; ++round) {
        std::vector<Descriptor> all(random() % 24);
        std::vector<int> page(pages, 0);  // 0 nothing, 1 usable, 2 ACPI, 3 reserved
        for (auto& d : all) {
            d.type = static_cast<std::uint32_t>(random() % 16);
            auto const first = random() % pages, count = random() % (pages - first) % 20;
            d.physical = first * 4096;
            d.pages = count;
            int const level = kernel_type(d.type) == MemoryType::Usable       ? 1
                              : kernel_type(d.type) == MemoryType::AcpiTables ? 2
                                                                              : 3;
            for (auto p = first; p < first + count; ++p) page[p] = std::max(page[p], level);
        }
        std::size_t const room = 1 + random() % 12;
        auto const [ranges, count] = convert(bytes_of(all), room);
        auto const usable_pages = std::count(page.begin(), page.end(), 1);
        ASSERT_EQ(count.has_value(), usable_pages > 0);
        ASSERT_LE(ranges.size(), room);
        std::uint64_t at = 0;
        std::vector<int> got(pages, 0);
        for (std::size_t i = 0; i < ranges.size(); ++i) {
            auto const& r = ranges[i];
            ASSERT_GE(r.base, at);
            ASSERT_GT(r.bytes, 0u);
            ASSERT_FALSE(i > 0 && ranges[i - 1].end() == r.base && ranges[i - 1].type == r.type)
                << "not merged";
            at = r.end();
            ASSERT_LE(at, pages * 4096);
            int const level = r.type == usable_type ? 1 : r.type == acpi_type ? 2 : 3;
            for (auto p = r.base / 4096; p < at / 4096; ++p) {
                got[p] = level;
                ASSERT_EQ(page[p], level);
            }
        }
        // Whole unless it was cut for want of room.
        if (ranges.size() < room && std::count(got.begin(), got.end(), 3) > 0) ASSERT_EQ(got, page);
    }
}

TEST(MemoryMap, RandomBytesAreSurvived) {
    std::mt19937_64 random(0xbad);
    for (int round = 0; round < 3000; ++round) {
        std::vector<std::byte> bytes(random() % 1500);
        for (auto& b : bytes) b = static_cast<std::byte>(random() % 3 ? 0 : random());
        auto const [ranges, count] = convert(bytes, 1 + random() % 192, 40 + random() % 32);
        std::uint64_t at = 0;
        for (auto const& r : ranges) {
            ASSERT_GE(r.base, at);
            ASSERT_GT(r.end(), r.base);
            ASSERT_LE(r.end(), 1ull << 52);
            at = r.end();
        }
    }
}

}  // namespace
}  // namespace nemesis::boot
