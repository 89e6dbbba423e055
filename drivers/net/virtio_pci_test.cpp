// Goal: a device's registers are found where configuration space says they are, and nonsense is
// refused. Method: a configuration space of this test's making, then a spoilt one at a time.
#include "drivers/net/virtio_pci.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>

#include "libnemesis/base/random.h"

namespace nemesis::virtio {
namespace {

constexpr std::uint32_t kFunction = 3u << 11;

/// One function at bus 0, device 3; all other places are empty.
struct Space {
    std::array<std::uint32_t, 64> words{};
    std::uint64_t reads = 0;

    void capability(std::uint32_t at, std::uint32_t next, std::uint8_t kind, std::uint32_t bar,
                    std::uint32_t offset, std::uint32_t bytes, std::uint32_t length = 20) {
        words[at / 4] = 9u | next << 8 | length << 16 | std::uint32_t{kind} << 24;
        words[at / 4 + 1] = bar;
        words[at / 4 + 2] = offset;
        words[at / 4 + 3] = bytes;
    }
    Space() {
        words[0] = 0x1041'1af4;
        words[1] = 1u << 20;
        words[0x20 / 4] = 0xfe00'000c;  // BAR 4: 64 bits, prefetchable
        words[0x24 / 4] = 0x1;
        words[0x34 / 4] = 0x40;
        capability(0x40, 0x54, 1, 4, 0, 0x1000);
        capability(0x54, 0x68, 2, 4, 0x3000, 0x1000);
        words[(0x54 + 16) / 4] = 4;
        capability(0x68, 0, 4, 4, 0x2000, 0x1000);
    }
    static std::uint32_t read(void* self, std::uint32_t number) {
        auto& space = *static_cast<Space*>(self);
        ++space.reads;
        return (number & ~0xffu) == kFunction ? space.words[(number & 0xff) / 4] : 0xffff'ffff;
    }
    auto layout() { return find_layout(&read, this, kFunction); }
};

TEST(VirtioPci, TheDeviceAndItsPartsAreFound) {
    Space space;
    EXPECT_EQ(find_function(&Space::read, &space, 0x1af4, 0x1041, 0x1000), kFunction);
    EXPECT_FALSE(find_function(&Space::read, &space, 0x1af4, 0x1042, 0x1001));
    auto const layout = space.layout();
    ASSERT_TRUE(layout);
    EXPECT_EQ(layout->common.physical, 0x1'fe00'0000u);
    EXPECT_EQ(layout->notify.physical, 0x1'fe00'3000u);
    EXPECT_EQ(layout->device.physical, 0x1'fe00'2000u);
    EXPECT_EQ(layout->notify_multiplier, 4u);
}

TEST(VirtioPci, WhatMakesNoSenseIsRefused) {
    std::function<void(Space&)> const spoil[] = {
        [](Space& s) { s.words[1] = 0; },                                  // no capabilities
        [](Space& s) { s.words[0x20 / 4] |= 1; },                          // ports
        [](Space& s) { s.words[0x44 / 4] = 7; },                           // no such BAR
        [](Space& s) { s.capability(0x40, 0x54, 1, 5, 0, 0x1000); },       // a BAR that is 0
        [](Space& s) { s.capability(0x40, 0x54, 1, 4, 0, 55); },           // too small
        [](Space& s) { s.capability(0x40, 0x54, 1, 4, 2, 0x1000); },       // not aligned
        [](Space& s) { s.capability(0x40, 0x54, 1, 4, 0, 0xffff'ffff); },  // too large
        [](Space& s) { s.capability(0x40, 0x54, 1, 4, 0, 0x1000, 8); },    // too short to say
        [](Space& s) { s.capability(0x54, 0x68, 2, 4, 0x3000, 0x1000, 16); },
        [](Space& s) { s.words[0x24 / 4] = 0xffff'ffff, s.words[0x48 / 4] = 0xffff'f000; },
    };
    for (auto const& one : spoil) {
        Space space;
        one(space);
        EXPECT_FALSE(space.layout()) << &one - spoil;
    }
}

TEST(VirtioPci, ACircleOfCapabilitiesEnds) {
    Space space;
    space.capability(0x68, 0x40, 3, 4, 0x2000, 0x1000);
    space.reads = 0;
    EXPECT_FALSE(space.layout());
    EXPECT_LT(space.reads, 500u);
}

TEST(VirtioPci, AnySpaceIsReadWithinItsBounds) {
    Random random(3);
    for (int i = 0; i < 20'000; ++i) {
        Space space;
        for (int n = 0; n < 6; ++n)
            space.words[random.below(64)] = static_cast<std::uint32_t>(random.next());
        auto const layout = space.layout();
        if (!layout) continue;
        EXPECT_GE(layout->common.bytes, common_bytes);
        EXPECT_GT(layout->common.physical + layout->common.bytes, layout->common.physical);
    }
}

}  // namespace
}  // namespace nemesis::virtio
