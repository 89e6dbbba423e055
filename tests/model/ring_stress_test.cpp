// Goal: the ring works between two real threads, and ThreadSanitizer (preset host-tsan) sees no
// race between them. Method: messages with a checksum through small rings; both sides suspend
// whenever they may, on a stand-in for the kernel's "suspend unless an event is pending". A lost
// wake-up shows as a suspend of ten seconds. What this can miss on one machine, ring_model_test
// cannot.
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "libnemesis/base/random.h"
#include "libnemesis/base/ring.h"

namespace nemesis {
namespace {

/// An event count with one waiter.
class Event {
public:
    void send() {
        std::lock_guard const lock(mutex_);
        pending_ = true;
        changed_.notify_one();
    }
    /// Suspends unless an event is pending; false if none came for ten seconds.
    bool suspend() {
        std::unique_lock lock(mutex_);
        bool const came =
            changed_.wait_for(lock, std::chrono::seconds(10), [&] { return pending_; });
        pending_ = false;
        return came;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool pending_ = false;
};

struct Line {
    alignas(ring_line) std::byte bytes[ring_line];
};

struct Channel {
    explicit Channel(RingGeometry const& g)
        : geometry(g), source(g.source_bytes() / ring_line + 1), sink(1) {}
    RingGeometry geometry;
    std::vector<Line> source;
    std::vector<Line> sink;
    Event for_source;
    Event for_sink;

    auto make_source() {
        return *RingSource<>::create(geometry, std::as_writable_bytes(std::span(source)),
                                     std::as_bytes(std::span(sink)));
    }
    auto make_sink() {
        return *RingSink<>::create(geometry, std::as_bytes(std::span(source)),
                                   std::as_writable_bytes(std::span(sink)));
    }
};

struct Message {
    std::uint64_t number;
    std::uint64_t check[7];
    static Message make(std::uint64_t n) {
        Message m{n, {}};
        for (std::uint64_t& word : m.check) word = n = SplitMix(n).next();
        return m;
    }
};
static_assert(sizeof(Message) == 64);

void pass_messages(std::uint64_t slots, std::uint64_t count) {
    Channel channel({.slots = slots, .slot_bytes = sizeof(Message)});
    std::thread producer([&] {
        auto source = channel.make_source();
        for (std::uint64_t n = 0; n < count;) {
            Message const m = Message::make(n);
            auto const sent = source.send(std::as_bytes(std::span(&m, 1)));
            if (sent) {
                n++;
                if (*sent == RingSend::Event) channel.for_sink.send();
                continue;
            }
            ASSERT_EQ(sent.error(), RingError::Full);
            if (*source.arm() == RingWait::MaySuspend) {
                ASSERT_TRUE(channel.for_source.suspend()) << "the source's wake-up is lost";
            }
        }
    });
    auto sink = channel.make_sink();
    for (std::uint64_t n = 0; n < count;) {
        Message m;
        auto const received = sink.receive(std::as_writable_bytes(std::span(&m, 1)));
        if (received) {
            Message const expected = Message::make(n);
            if (std::memcmp(&m, &expected, sizeof m) != 0) FAIL() << "message " << n << " is wrong";
            n++;
            if (*received == RingSend::Event) channel.for_source.send();
            continue;
        }
        ASSERT_EQ(received.error(), RingError::Empty);
        if (*sink.arm() == RingWait::MaySuspend && !channel.for_sink.suspend()) {
            FAIL() << "the sink's wake-up is lost";
        }
    }
    producer.join();
}

TEST(RingStress, MessagesThroughSmallRings) {
    for (std::uint64_t slots : {1u, 2u, 4u, 64u}) pass_messages(slots, 30'000);
}

TEST(RingStress, AStreamOfBytes) {
    constexpr std::uint64_t count = 300'000;
    Channel channel({.slots = 256, .slot_bytes = 1});
    std::thread producer([&] {
        auto source = channel.make_source();
        Random random(1);
        std::vector<std::byte> chunk;
        for (std::uint64_t n = 0; n < count;) {
            chunk.resize(std::min<std::uint64_t>(1 + random.below(300), count - n));
            for (std::uint64_t i = 0; i < chunk.size(); i++) chunk[i] = std::byte((n + i) * 7);
            auto const sent = source.send_some(chunk);
            ASSERT_TRUE(sent.has_value());
            n += sent->slots;
            if (sent->send == RingSend::Event) channel.for_sink.send();
            if (sent->slots == 0 && *source.arm(100) == RingWait::MaySuspend) {
                ASSERT_TRUE(channel.for_source.suspend());
            }
        }
    });
    auto sink = channel.make_sink();
    std::byte buffer[128];
    for (std::uint64_t n = 0; n < count;) {
        auto const received = sink.receive_some(buffer);
        ASSERT_TRUE(received.has_value());
        for (std::uint64_t i = 0; i < received->slots; i++)
            ASSERT_EQ(buffer[i], std::byte((n + i) * 7));
        n += received->slots;
        if (received->send == RingSend::Event) channel.for_source.send();
        if (received->slots == 0 && *sink.arm() == RingWait::MaySuspend) {
            ASSERT_TRUE(channel.for_sink.suspend());
        }
    }
    producer.join();
}

}  // namespace
}  // namespace nemesis
