// Goal: what ring.h says about one thread using both ends: geometry, full, empty, batches, arming,
// impossible counters. What two threads see is in tests/model.
#include "libnemesis/base/ring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

namespace nemesis {
namespace {

struct Pair {
    explicit Pair(RingGeometry g = {.slots = 4, .slot_bytes = 8}) : geometry(g) {
        source_memory.resize(g.source_bytes() / ring_line + 1);
        source.emplace(*RingSource<>::create(g, std::as_writable_bytes(std::span(source_memory)),
                                             std::as_bytes(std::span(&sink_memory, 1))));
        sink.emplace(*RingSink<>::create(g, std::as_bytes(std::span(source_memory)),
                                         std::as_writable_bytes(std::span(&sink_memory, 1))));
    }
    auto send(std::uint64_t v) { return source->send(std::as_bytes(std::span(&v, 1))); }
    Result<std::uint64_t, RingError> receive() {
        std::uint64_t v;
        auto const r = sink->receive(std::as_writable_bytes(std::span(&v, 1)));
        if (!r) return fail(r.error());
        return v;
    }
    RingGeometry geometry;
    std::vector<RingWords> source_memory;
    RingWords sink_memory{};
    std::optional<RingSource<>> source;
    std::optional<RingSink<>> sink;
};

TEST(Ring, GivesMessagesInOrderUntilEmptyAndTakesThemUntilFull) {
    Pair ring;
    for (std::uint64_t round = 0; round < 10; round++) {
        for (std::uint64_t i = 0; i < 4; i++) EXPECT_TRUE(ring.send(round * 4 + i).has_value());
        EXPECT_EQ(ring.send(99).error(), RingError::Full);
        for (std::uint64_t i = 0; i < 4; i++) EXPECT_EQ(*ring.receive(), round * 4 + i);
        EXPECT_EQ(ring.receive().error(), RingError::Empty);
    }
}

TEST(Ring, OneWaitCausesOneEvent) {
    Pair ring;
    EXPECT_EQ(*ring.send(0), RingSend::Nothing);
    EXPECT_EQ(*ring.receive(), 0u);
    EXPECT_EQ(*ring.sink->arm(), RingWait::MaySuspend);
    EXPECT_EQ(*ring.send(1), RingSend::Event);
    EXPECT_EQ(*ring.send(2), RingSend::Nothing);
    EXPECT_EQ(*ring.sink->arm(2), RingWait::Ready);
    EXPECT_EQ(*ring.sink->arm(4), RingWait::MaySuspend);
    EXPECT_EQ(*ring.send(3), RingSend::Nothing);
    EXPECT_EQ(*ring.send(4), RingSend::Event);
    EXPECT_EQ(*ring.source->arm(2), RingWait::MaySuspend);
    std::uint64_t v;
    EXPECT_EQ(*ring.sink->receive(std::as_writable_bytes(std::span(&v, 1))), RingSend::Nothing);
    EXPECT_EQ(*ring.sink->receive(std::as_writable_bytes(std::span(&v, 1))), RingSend::Event);
    EXPECT_EQ(v, 2u);
}

TEST(Ring, BatchesGoRoundTheEnd) {
    Pair ring({.slots = 8, .slot_bytes = 1});
    std::string sent, received;
    char next = 'a';
    for (int round = 0; round < 50; round++) {
        std::string chunk;
        for (int i = 0; i < 1 + round % 7; i++)
            chunk += next = next == 'z' ? 'a' : static_cast<char>(next + 1);
        auto const out = ring.source->send_some(std::as_bytes(std::span(chunk)));
        sent += chunk.substr(0, out->slots);
        char buffer[5];
        auto const in = ring.sink->receive_some(std::as_writable_bytes(std::span(buffer)));
        received.append(buffer, in->slots);
    }
    EXPECT_GT(received.size(), 100u);
    EXPECT_EQ(received, sent.substr(0, received.size()));
}

TEST(Ring, SlotsAreWrittenAndReadInPlace) {
    Pair ring;
    EXPECT_EQ(*ring.source->free_slots(2), 4u);
    std::memset(ring.source->slot(0).data(), 1, 8);
    std::memset(ring.source->slot(1).data(), 2, 8);
    EXPECT_EQ(*ring.sink->full_slots(), 0u);
    ring.source->publish(2);
    ASSERT_EQ(*ring.sink->full_slots(), 2u);
    EXPECT_EQ(ring.sink->slot(1)[0], std::byte{2});
    ring.sink->release(2);
    EXPECT_EQ(*ring.sink->full_slots(), 0u);
}

TEST(Ring, ImpossibleCountersOfThePeerAreRefusedAndChangeNothing) {
    for (std::uint64_t counter : {5ull, 1ull << 63, ~0ull}) {
        Pair ring;
        ring.source_memory[0].position = counter;
        EXPECT_EQ(ring.receive().error(), RingError::PeerCounter);
        EXPECT_EQ(ring.sink->arm().error(), RingError::PeerCounter);
        ring.source_memory[0].position = 0;
        EXPECT_EQ(ring.receive().error(), RingError::Empty);
        ring.sink_memory.position = counter;
        for (int i = 0; i < 4; i++) EXPECT_TRUE(ring.send(1).has_value());
        EXPECT_EQ(ring.send(1).error(), RingError::PeerCounter);
        EXPECT_EQ(ring.source->known_free(), 0u);
    }
    Pair ring;
    EXPECT_TRUE(ring.send(1).has_value());
    EXPECT_EQ(*ring.sink->full_slots(), 1u);
    ring.source_memory[0].position = 0;  // takes back what was believed
    EXPECT_EQ(ring.sink->full_slots(2).error(), RingError::PeerCounter);
}

TEST(Ring, OneAtATimeNeedsNoLook) {
    Pair ring;
    for (std::uint64_t i = 0; i < 20; i++) {
        EXPECT_FALSE(ring.sink->has_just_one());
        std::memcpy(ring.source->next_unlooked(), &i, 8);
        ring.source->publish_unlooked();
        ASSERT_TRUE(ring.sink->has_just_one());
        std::uint64_t seen;
        std::memcpy(&seen, ring.sink->oldest(), 8);
        EXPECT_EQ(seen, i);
        ring.sink->release_the_one();
        EXPECT_EQ(ring.sink->known_full(), 0u);
    }
    // Then the ring as ever.
    EXPECT_EQ(*ring.source->free_slots_now(), 4u);
    EXPECT_TRUE(ring.send(1).has_value());
    EXPECT_TRUE(ring.send(2).has_value());
    EXPECT_FALSE(ring.sink->has_just_one());
    EXPECT_EQ(*ring.receive(), 1u);
    EXPECT_TRUE(ring.sink->has_just_one());
    EXPECT_EQ(*ring.receive(), 2u);
    for (std::uint64_t counter : {0ull, 2ull, 40ull, ~0ull}) {
        ring.source_memory[0].position = counter;
        EXPECT_FALSE(ring.sink->has_just_one());
    }
    ring.sink_memory.position = 60;
    EXPECT_EQ(ring.source->free_slots_now().error(), RingError::PeerCounter);
    ring.sink_memory.position = 10;
    EXPECT_EQ(ring.source->free_slots_now().error(), RingError::PeerCounter);
}

TEST(Ring, CreditThatIsKnownSparesTheLook) {
    Pair ring;
    for (std::uint64_t i = 0; i < 20; i++) {
        ASSERT_NE(ring.source->known_free(), 0u);
        EXPECT_TRUE(ring.send(i).has_value());
        EXPECT_EQ(*ring.receive(), i);
        ring.source->credit_one();
        EXPECT_EQ(ring.source->known_free(), 4u);
    }
    // A sink that has not given it back is found out by the next look.
    EXPECT_TRUE(ring.send(1).has_value());
    ring.source->credit_one();
    EXPECT_EQ(ring.source->arm(4).error(), RingError::PeerCounter);
    for (int i = 0; i < 4; i++) ring.source->publish();
    EXPECT_EQ(ring.source->known_free(), 0u);
    EXPECT_EQ(ring.source->free_slots().error(), RingError::PeerCounter);
}

TEST(Ring, RowsGoRoundTheEnd) {
    Pair ring;
    std::uint64_t sent = 0, received = 0;
    for (std::uint64_t round = 0; round < 40; ++round) {
        auto const free = ring.source->take_rows();
        ASSERT_TRUE(free.has_value());
        ASSERT_EQ(free->count + free->rest, 4 - (sent - received));
        EXPECT_EQ(ring.source->known_free(), 0u);
        std::uint64_t const wanted = 1 + round % 4;
        std::uint64_t written = 0;
        for (; written < wanted && written < free->count + free->rest; ++written) {
            auto* const slot = written < free->count ? free->first + written * 8
                                                     : free->begin + (written - free->count) * 8;
            std::uint64_t const value = sent + written;
            std::memcpy(slot, &value, 8);
        }
        EXPECT_EQ(*ring.sink->full_slots_now(), sent - received) << "published too early";
        EXPECT_TRUE(ring.sink->is_up_to_date());
        ring.source->publish_taken(written);
        EXPECT_EQ(ring.sink->is_up_to_date(), written == 0);
        sent += written;
        ASSERT_EQ(*ring.sink->full_slots_now(), sent - received);
        auto const full = ring.sink->known_rows(3);
        ASSERT_EQ(full.count + full.rest, std::min<std::uint64_t>(3, sent - received));
        for (std::uint64_t i = 0; i < full.count + full.rest; ++i) {
            auto* const slot =
                i < full.count ? full.first + i * 8 : full.begin + (i - full.count) * 8;
            std::uint64_t value = 0;
            std::memcpy(&value, slot, 8);
            EXPECT_EQ(value, received + i);
        }
        ring.sink->release_unasked(full.count + full.rest);
        received += full.count + full.rest;
    }
    EXPECT_GT(received, 60u);
    // Nothing is taken on the word of an impossible counter.
    ring.sink_memory.position = received + 5;
    EXPECT_EQ(ring.source->take_rows().error(), RingError::PeerCounter);
}

TEST(Ring, WhatDoesNotFitIsRefused) {
    Pair ring;
    std::byte nine[9]{};
    EXPECT_EQ(ring.source->send(nine).error(), RingError::TooLong);
    EXPECT_EQ(ring.sink->receive(nine).error(), RingError::TooLong);
    alignas(ring_line) std::byte small[ring_line + 31];
    std::byte const line[ring_line]{};
    auto const create = [&](RingGeometry g) {
        auto const ring = RingSource<>::create(g, small, line);
        return ring ? RingError::Full : ring.error();
    };
    EXPECT_EQ(create({.slots = 4, .slot_bytes = 8}), RingError::BadGeometry);
    EXPECT_EQ(create({.slots = 3, .slot_bytes = 8}), RingError::BadGeometry);
    EXPECT_EQ(create({.slots = 0, .slot_bytes = 8}), RingError::BadGeometry);
    EXPECT_EQ(create({.slots = 2, .slot_bytes = 7}), RingError::BadGeometry);
    EXPECT_EQ(create({.slots = 1ull << 62, .slot_bytes = 8}), RingError::BadGeometry);
    EXPECT_TRUE(RingSource<>::create({.slots = 2, .slot_bytes = 8}, small, line).has_value());
}

}  // namespace
}  // namespace nemesis
