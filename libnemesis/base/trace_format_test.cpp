// Goal: what the ring wrote is read back oldest first, also after it has wrapped; damaged or cut
// dumps are refused with a reason and never read beyond their end.
#include "libnemesis/base/trace_format.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "libnemesis/base/random.h"

namespace nemesis {
namespace {

struct Ring {
    explicit Ring(std::uint32_t capacity)
        : memory(TraceRing::bytes_needed(capacity) / 8),
          ring(std::as_writable_bytes(std::span(memory)), capacity, 0, 1'000'000'000, 42) {}
    void write(int n) {
        for (int i = 0; i < n; i++, next++) {
            ring.write(Instant::ns(next * 10), TraceKind::Mark, 1, 2,
                       static_cast<std::uint64_t>(next), 4);
        }
    }
    std::vector<std::byte> dump() const {
        auto const bytes = std::as_bytes(std::span(memory));
        return {bytes.begin(), bytes.end()};
    }
    std::vector<std::uint64_t> memory;
    TraceRing ring;
    std::int64_t next = 0;
};

TEST(TraceRing, IsReadBackOldestFirst) {
    for (int n : {0, 1, 7, 8, 9, 100}) {
        Ring ring(8);
        ring.write(n);
        auto const dump = ring.dump();
        auto const file = TraceFile::open(dump);
        ASSERT_TRUE(file.has_value()) << text(file.error());
        ASSERT_EQ(file->size(), static_cast<std::uint64_t>(std::min(n, 8)));
        ASSERT_EQ(file->lost(), static_cast<std::uint64_t>(std::max(0, n - 8)));
        for (std::uint64_t i = 0; i < file->size(); i++)
            EXPECT_EQ(file->record(i).a, file->lost() + i);
        EXPECT_EQ(file->header().time_base, 42u);
    }
}

TEST(TraceFile, DamageIsRefusedWithItsReason) {
    Ring ring(8);
    ring.write(12);
    auto const with = [&](std::size_t at, std::uint64_t value, std::size_t size) {
        auto dump = ring.dump();
        std::memcpy(&dump[at], &value, size);
        auto const file = TraceFile::open(dump);
        EXPECT_FALSE(file.has_value());
        return file ? TraceError(-1) : file.error();
    };
    EXPECT_EQ(with(0, 0, 4), TraceError::NotATrace);
    EXPECT_EQ(with(8, 9, 4), TraceError::UnknownVersion);
    EXPECT_EQ(with(16, 16, 4), TraceError::BadRecordSize);
    EXPECT_EQ(with(20, 0, 4), TraceError::BadCapacity);
    EXPECT_EQ(with(20, 7, 4), TraceError::BadCapacity);
    EXPECT_EQ(with(20, 0x8000'0000, 4), TraceError::BadCapacity);
    EXPECT_EQ(with(20, 16, 4), TraceError::Truncated);
    EXPECT_EQ(with(32, 0, 8), TraceError::BadFrequency);
    EXPECT_EQ(with(48, 1, 8), TraceError::ReservedNotZero);
    EXPECT_EQ(with(64, ~0ull, 8), TraceError::TimeOutOfRange);
    EXPECT_EQ(with(64 + 32, 1, 8), TraceError::TimeRunsBack);
}

TEST(TraceFile, CutAnywhereIsRefusedAndAnyCountIsHandled) {
    Ring ring(8);
    ring.write(12);
    auto const whole = ring.dump();
    for (std::size_t size = 0; size < whole.size(); size++) {
        auto const cut = std::make_unique<std::byte[]>(size);
        std::memcpy(cut.get(), whole.data(), size);
        ASSERT_FALSE(TraceFile::open({cut.get(), size}).has_value());
    }
    Random random(3);
    for (int round = 0; round < 2000; round++) {
        auto dump = whole;
        std::uint64_t const written = random.next() >> random.below(64);
        std::memcpy(&dump[24], &written, 8);
        (void)TraceFile::open(dump);
    }
}

TEST(TraceName, KeepsSixteenBytes) {
    char out[16];
    auto const round_trip = [&](std::string_view s) {
        return std::string(out, TraceName(s).copy_to(out));
    };
    EXPECT_EQ(round_trip("player_a"), "player_a");
    EXPECT_EQ(round_trip("guarantees-off"), "guarantees-off");
    EXPECT_EQ(round_trip("a-name-longer-than-sixteen"), "a-name-longer-th");
    EXPECT_EQ(round_trip(""), "");
    EXPECT_EQ(round_trip("a\nb"), "a?b");
}

}  // namespace
}  // namespace nemesis
