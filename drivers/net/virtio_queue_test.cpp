// Goal: a queue lends and takes back what it says, and a device that lies breaks it, whatever it
// writes, without an access outside. Method: the device is a few lines of this test that follow the
// standard; then one that writes anything.
#include "drivers/net/virtio_queue.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <deque>
#include <map>

#include "libnemesis/base/random.h"

namespace nemesis::virtio {
namespace {

/// The other side, by the standard's words.
struct Device {
    std::byte* page;
    std::uint16_t size;
    std::uint16_t seen = 0, used = 0;
    struct Lent {
        std::uint16_t number;
        std::uint64_t address;
        std::uint32_t bytes;
        bool is_written;
    };

    template <typename T>
    T load(std::uint64_t at) const {
        T value;
        std::memcpy(&value, page + at, sizeof(T));
        return value;
    }
    template <typename T>
    void store(std::uint64_t at, T value) {
        std::memcpy(page + at, &value, sizeof(T));
    }
    std::deque<Lent> look() {
        std::deque<Lent> all;
        for (; seen != load<std::uint16_t>(VirtioQueue::driver_at + 2); ++seen) {
            auto const number = load<std::uint16_t>(VirtioQueue::driver_at + 4 + 2 * (seen % size));
            auto const at = VirtioQueue::descriptors_at + 16 * number;
            all.push_back({number, load<std::uint64_t>(at), load<std::uint32_t>(at + 8),
                           (load<std::uint16_t>(at + 12) & 2) != 0});
        }
        return all;
    }
    void use(std::uint32_t number, std::uint32_t length) {
        auto const at = VirtioQueue::device_at + 4 + 8 * (used % size);
        store(at, number);
        store(at + 4, length);
        store(VirtioQueue::device_at + 2, ++used);
    }
};

struct Queue : testing::Test {
    alignas(4096) std::array<std::byte, 4096> page{};
    VirtioQueue queue{page, 8};
    Device device{page.data(), 8};

    void lend(std::uint16_t number, std::uint32_t bytes = 100, bool is_written = true) {
        queue.give(number, 0x1000 + number, bytes, is_written);
        (void)queue.publish();
    }
};

TEST_F(Queue, WhatIsLentArrivesAndComesBackInTheDevicesOrder) {
    lend(3, 60);
    lend(5, 70, false);
    auto const lent = device.look();
    ASSERT_EQ(lent.size(), 2u);
    EXPECT_EQ(lent[0].number, 3);
    EXPECT_EQ(lent[0].address, 0x1003u);
    EXPECT_EQ(lent[0].bytes, 60u);
    EXPECT_TRUE(lent[0].is_written);
    EXPECT_FALSE(lent[1].is_written);
    EXPECT_FALSE((*queue.take()).has_value());
    device.use(5, 0);
    device.use(3, 60);
    auto const first = queue.take();
    ASSERT_TRUE(first && *first);
    EXPECT_EQ((*first)->number, 5);
    auto const second = queue.take();
    ASSERT_TRUE(second && *second);
    EXPECT_EQ((*second)->number, 3);
    EXPECT_EQ((*second)->length, 60u);
    EXPECT_FALSE((*queue.take()).has_value());
    EXPECT_EQ(queue.lent(), 0);
}

TEST_F(Queue, IndicesWrapAndManyRoundsGoRight) {
    Random random(7);
    std::map<std::uint16_t, std::uint32_t> lent;
    std::deque<Device::Lent> at_device;
    for (int round = 0; round < 200'000; ++round) {
        if (auto const number = queue.free_buffer(); number && random.below(2) == 0) {
            auto const bytes = static_cast<std::uint32_t>(random.between(1, 2000));
            lend(*number, bytes);
            lent[*number] = bytes;
        }
        for (auto const& one : device.look()) {
            ASSERT_EQ(lent.at(one.number), one.bytes);
            at_device.push_back(one);
        }
        if (!at_device.empty() && random.below(2) == 0) {
            auto const at =
                at_device.begin() + static_cast<std::ptrdiff_t>(random.below(at_device.size()));
            device.use(at->number, at->bytes);
            at_device.erase(at);
        }
        if (random.below(3) == 0) {
            auto const taken = queue.take();
            ASSERT_TRUE(taken);
            if (*taken) {
                ASSERT_EQ(lent.at((*taken)->number), (*taken)->length);
                lent.erase((*taken)->number);
            }
        }
        ASSERT_TRUE(queue.check_invariants());
        ASSERT_EQ(queue.lent(), lent.size());
    }
}

TEST_F(Queue, NotificationAndInterruptsAreAskedForByFlags) {
    queue.give(0, 1, 1, false);
    EXPECT_TRUE(queue.publish());
    device.store<std::uint16_t>(VirtioQueue::device_at, 1);
    queue.give(1, 1, 1, false);
    EXPECT_FALSE(queue.publish());
    queue.set_interrupts(false);
    EXPECT_EQ(device.load<std::uint16_t>(VirtioQueue::driver_at), 1);
    queue.set_interrupts(true);
    EXPECT_EQ(device.load<std::uint16_t>(VirtioQueue::driver_at), 0);
}

TEST_F(Queue, MoreUsedThanLentBreaksIt) {
    lend(0);
    device.store<std::uint16_t>(VirtioQueue::device_at + 2, 2);
    EXPECT_EQ(queue.take().error(), DeviceError::BadIndex);
    // For ever, even if the device thinks better of it.
    device.store<std::uint16_t>(VirtioQueue::device_at + 2, 0);
    EXPECT_EQ(queue.take().error(), DeviceError::BadIndex);
}

TEST_F(Queue, AnIndexThatGoesBackBreaksIt) {
    lend(0);
    lend(1);
    device.use(0, 0);
    ASSERT_TRUE(queue.take());
    device.store<std::uint16_t>(VirtioQueue::device_at + 2, 0);
    EXPECT_EQ(queue.take().error(), DeviceError::BadIndex);
}

TEST_F(Queue, ANumberThatWasNotLentBreaksIt) {
    lend(0);
    device.use(1, 0);
    EXPECT_EQ(queue.take().error(), DeviceError::BadNumber);
}

TEST_F(Queue, ANumberOutsideBreaksIt) {
    lend(0);
    device.use(0x1'0000, 0);  // 0 in its low half
    EXPECT_EQ(queue.take().error(), DeviceError::BadNumber);
}

TEST_F(Queue, ABufferGivenBackTwiceBreaksIt) {
    lend(0);
    lend(1);
    device.use(0, 1);
    device.use(0, 1);
    ASSERT_TRUE(queue.take());
    EXPECT_EQ(queue.take().error(), DeviceError::BadNumber);
}

TEST_F(Queue, ALengthBeyondTheBufferBreaksIt) {
    lend(0, 100);
    device.use(0, 101);
    EXPECT_EQ(queue.take().error(), DeviceError::BadLength);
}

TEST_F(Queue, ALengthOfWhatIsOnlyReadMeansNothing) {
    lend(0, 100, false);
    device.use(0, 0xffff'ffff);
    auto const taken = queue.take();
    ASSERT_TRUE(taken && *taken);
    EXPECT_EQ((*taken)->length, 0u);
}

TEST_F(Queue, ADeviceThatWritesAnythingHarmsNobody) {
    Random random(11);
    std::uint64_t taken = 0, broken = 0;
    for (int life = 0; life < 2'000; ++life) {
        page.fill({});
        queue = VirtioQueue(page, 8);
        device = Device{page.data(), 8};
        for (int step = 0; step < 100; ++step) {
            if (auto const number = queue.free_buffer()) lend(*number);
            (void)device.look();
            switch (random.below(4)) {
                case 0:
                    device.use(static_cast<std::uint32_t>(random.below(9)),
                               static_cast<std::uint32_t>(random.below(102)));
                    break;
                case 1:
                    if (random.below(8) == 0)
                        device.store(VirtioQueue::device_at + random.below(68),
                                     static_cast<std::uint16_t>(random.next()));
                    break;
                default:
                    break;
            }
            auto const got = queue.take();
            ASSERT_TRUE(queue.check_invariants());
            if (!got) {
                ++broken;
                break;
            }
            if (!*got) continue;
            ++taken;
            ASSERT_LT((*got)->number, 8);
            ASSERT_LE((*got)->length, 100u);
        }
    }
    EXPECT_GT(taken, 1'000u);
    EXPECT_GT(broken, 1'000u);
}

}  // namespace
}  // namespace nemesis::virtio
