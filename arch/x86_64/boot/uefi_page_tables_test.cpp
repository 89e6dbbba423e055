// Goal: in the boot tables every address leads where the header says, with four and with five
// levels, and nothing is written outside the room given. Method: tables are built in an array and
// walked as the processor would.
#include "arch/x86_64/boot/uefi_page_tables.h"

#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <vector>

#include "arch/x86_64/layout.h"

namespace nemesis::boot {
namespace {

constexpr std::uint64_t room_physical = 0x7fe0'0000;
constexpr std::uint64_t address_mask = 0x000f'ffff'ffff'f000;

struct Built {
    std::vector<std::uint64_t> words;
    BootTables tables;
};

Built build(BootTableOptions const& options) {
    Built b{std::vector<std::uint64_t>(boot_tables_needed(options) * 512, ~0ull), {}};
    auto const tables = make_boot_tables(options, b.words, room_physical);
    EXPECT_TRUE(tables.has_value());
    b.tables = *tables;
    return b;
}

/// The physical address behind `address`, as the processor would find it.
std::optional<std::uint64_t> translate(Built const& b, std::uint64_t address, int levels) {
    auto table = levels == 5 ? b.tables.root_5 : b.tables.root_4;
    for (int level = levels - 1; level >= 0; --level) {
        auto const index = (address >> (12 + 9 * level)) & 511;
        auto const entry = b.words.at((table - room_physical) / 8 + index);
        if ((entry & 1) == 0) return std::nullopt;
        if ((entry & 2) == 0 || (entry >> 63) != 0)
            return std::nullopt;  // all may be written, executed
        auto const size = 1ull << (12 + 9 * level);
        if (level == 0 || (entry & 0x80) != 0) {
            auto const base = entry & address_mask & ~(size - 1);
            return base + (address & (size - 1));
        }
        table = entry & address_mask;
    }
    return std::nullopt;
}

class BootTablesTest : public testing::TestWithParam<std::tuple<bool, std::uint64_t>> {};

TEST_P(BootTablesTest, EveryAddressLeadsToItsPlace) {
    auto const [page_1g, end] = GetParam();
    BootTableOptions const o{.kernel_virtual = arch::kKernelBase + 0x100000,
                             .kernel_physical = 0x1e15'b000,
                             .kernel_bytes = 0x352000,
                             .physical_end = end,
                             .page_1g = page_1g};
    auto const b = build(o);
    std::mt19937_64 random(0x5eed);
    auto const top = std::max<std::uint64_t>(end, 4ull << 30);
    for (int levels : {4, 5}) {
        for (int i = 0; i < 20000; ++i) {
            auto const p = random() % std::min<std::uint64_t>(top, 512ull << 30);
            ASSERT_EQ(translate(b, p, levels), p);
            ASSERT_EQ(translate(b, arch::kPhysicalMap + p, levels), p);
        }
        for (std::uint64_t offset = 0; offset < o.kernel_bytes; offset += 4096) {
            ASSERT_EQ(translate(b, o.kernel_virtual + offset, levels), o.kernel_physical + offset);
        }
        EXPECT_EQ(translate(b, o.kernel_virtual - 1, levels), std::nullopt);
        EXPECT_EQ(translate(b, o.kernel_virtual + o.kernel_bytes, levels), std::nullopt);
        EXPECT_EQ(translate(b, 0x0000'7fff'ffff'f000, levels), std::nullopt);
    }
}

INSTANTIATE_TEST_SUITE_P(
    Sizes, BootTablesTest,
    testing::Combine(testing::Bool(), testing::Values(96ull << 20, 4ull << 30, (6ull << 30) + 4096,
                                                      64ull << 30, 1ull << 50)));

TEST(BootTablesErrors, TooLittleRoomAndWrongPlacesAreRefused) {
    BootTableOptions good{.kernel_virtual = arch::kKernelBase,
                          .kernel_physical = 0,
                          .kernel_bytes = 4096,
                          .physical_end = 1 << 20,
                          .page_1g = true};
    std::vector<std::uint64_t> words(boot_tables_needed(good) * 512);
    EXPECT_TRUE(make_boot_tables(good, words, room_physical).has_value());
    EXPECT_EQ(
        make_boot_tables(good, std::span(words).first(words.size() - 1), room_physical).error(),
        TableError::OutOfTables);
    auto const refused = [&](auto spoil) {
        auto o = good;
        spoil(o);
        auto const result = make_boot_tables(o, words, room_physical);
        return !result.has_value() && result.error() == TableError::KernelOutside;
    };
    EXPECT_TRUE(refused([](auto& o) { o.kernel_bytes = 0; }));
    EXPECT_TRUE(refused([](auto& o) { o.kernel_virtual -= 4096; }));
    EXPECT_TRUE(refused([](auto& o) { o.kernel_virtual += 1; }));
    EXPECT_TRUE(refused([](auto& o) { o.kernel_physical = 0x800; }));
    EXPECT_TRUE(refused([](auto& o) { o.kernel_bytes = 4097; }));
    EXPECT_TRUE(refused([](auto& o) { o.kernel_virtual += 1ull << 30; }));
    EXPECT_TRUE(refused([](auto& o) { o.kernel_bytes = ~0xfffull; }));
}

}  // namespace
}  // namespace nemesis::boot
