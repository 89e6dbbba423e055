// Goal: names over a channel mean the same as names at hand, late answers are not taken for others,
// and nothing that either side writes harms the other. Method: both ends over plain memory; the
// bell serves at once, late, or scribbles first.
#include "names/name_channel.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "libnemesis/base/random.h"

namespace nemesis::names {
namespace {

struct Stretch {
    explicit Stretch(std::uint64_t bytes) : memory(bytes + ring_line) {}
    std::span<std::byte> bytes() {
        auto const address = reinterpret_cast<std::uintptr_t>(memory.data());
        std::size_t const skipped = -address % ring_line;
        return std::span(memory).subspan(skipped, memory.size() - ring_line);
    }
    std::vector<std::byte> memory;
};

struct Channel : testing::Test, NameBell {
    Channel()
        : memory(NameTree::bytes_for(300)),
          space(*NameSpace::create(memory, 3)),
          service(*RingSink<>::create(request_ring, requests.bytes(), requests_taken.bytes()),
                  *RingSource<>::create(reply_ring, replies.bytes(), replies_taken.bytes()), space,
                  ServeRights::ReadWrite),
          client(*RingSource<>::create(request_ring, requests.bytes(), requests_taken.bytes()),
                 *RingSink<>::create(reply_ring, replies.bytes(), replies_taken.bytes()), *this) {}
    ~Channel() override = default;

    BellWait call(Instant) override {
        if (before_service) before_service();
        if (silent) return BellWait::TimedOut;
        auto const served = service.serve();
        if (after_service) after_service();
        return served ? BellWait::Event : BellWait::PeerDead;
    }
    BellWait wait(Instant) override { return BellWait::TimedOut; }

    Stretch requests{request_ring.source_bytes()}, requests_taken{request_ring.sink_bytes()};
    Stretch replies{reply_ring.source_bytes()}, replies_taken{reply_ring.sink_bytes()};
    std::vector<std::byte> memory;
    NameSpace space;
    NameChannelService service;
    NameChannelClient client;
    std::function<void()> before_service, after_service;
    bool silent = false;
};

TEST_F(Channel, AllOperationsReachTheOtherSide) {
    ASSERT_TRUE(client.make_directory("d", {}));
    ASSERT_TRUE(client.bind("d/x", {1, 2}, BindMode::New, {}));
    EXPECT_EQ(client.resolve("d/x", {}), (Handle{1, 2}));
    EXPECT_EQ(client.bind("d/x", {3, 4}, BindMode::New, {}).error(), NameError::Exists);
    ASSERT_TRUE(client.bind("d/x", {3, 4}, BindMode::Replace, {}));
    EXPECT_EQ(space.resolve("d/x"), (Handle{3, 4}));
    EXPECT_EQ(client.unbind("d", {}).error(), NameError::NotEmpty);
    ASSERT_TRUE(client.unbind("d/x", {}));
    EXPECT_EQ(client.resolve("d/x", {}).error(), NameError::NotFound);
    EXPECT_EQ(client.resolve(std::string(1024, 'x'), {}).error(), NameError::TooLong);
}

TEST_F(Channel, AMountOverTheChannelListsLikeTheOriginal) {
    std::string const tail(250, 'n');
    for (int i = 100; i < 150; i++) ASSERT_TRUE(space.bind(std::to_string(i) + tail, {1, 1}));
    std::vector<std::byte> own_memory(NameTree::bytes_for(10));
    auto own = *NameSpace::create(own_memory, 4);
    ASSERT_TRUE(own.make_directory("m"));
    ASSERT_TRUE(own.mount("m", client));
    NameList page;
    std::string after;
    int next = 100;
    do {
        ASSERT_TRUE(own.list("m", after, page));
        for (auto const& entry : page.names()) {
            after = entry.name();
            EXPECT_EQ(after, std::to_string(next++) + tail);
        }
    } while (page.more);
    EXPECT_EQ(next, 150);
}

TEST_F(Channel, ALateAnswerIsNotTakenForTheNext) {
    ASSERT_TRUE(space.bind("a", {1, 1}));
    ASSERT_TRUE(space.bind("b", {2, 2}));
    silent = true;
    EXPECT_EQ(client.resolve("a", {}).error(), NameError::DeadlinePassed);
    silent = false;
    EXPECT_EQ(client.resolve("b", {}), (Handle{2, 2}));
    // A peer that takes nothing is no peer.
    silent = true;
    for (std::uint64_t i = 0; i < request_ring.slots; i++) {
        EXPECT_EQ(client.resolve("a", {}).error(), NameError::DeadlinePassed);
    }
    EXPECT_EQ(client.resolve("a", {}).error(), NameError::Unreachable);
}

TEST_F(Channel, WhatEitherSideScribblesHarmsOnlyItself) {
    for (int i = 0; i < 20; i++) ASSERT_TRUE(space.bind("n" + std::to_string(i), {1, 1}));
    Random random(5);
    // Not the counters, which the ring's own tests scribble on: headers and bytes of the slots.
    auto const scribble = [&](std::span<std::byte> stretch) {
        for (auto n = random.below(40); n > 0; n--) {
            auto const slots = (stretch.size() - ring_line) / 4;
            auto const at = ring_line + random.below(4) * slots +
                            random.below(random.below(2) == 0 ? 48 : slots);
            stretch[at] = static_cast<std::byte>(random.below(256));
        }
    };
    before_service = [&] { scribble(requests.bytes()); };
    after_service = [&] { scribble(replies.bytes()); };
    for (int i = 0; i < 20'000; i++) {
        NameList page;
        if (i % 2 == 0) {
            auto const listed = client.list("", "n1", page, {});
            if (listed) EXPECT_LE(page.count, NameList::entries_max);
        } else {
            static_cast<void>(client.resolve("n3", {}));
        }
    }
    EXPECT_TRUE(space.check_invariants());
}

}  // namespace
}  // namespace nemesis::names
