// Goal: generated proxies and dispatchers carry every kind of operation, its errors and its
// handles; a reply or a request of anybody's making cannot do more than fail the call. Method: a
// transport of two buffers between a proxy and the dispatcher of a real object.
#include <gtest/gtest.h>

#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "libnemesis/invocation/description.h"
#include "tests/stubs/random_values.h"

namespace nemesis::stubs_test {
namespace {

using invocation::AnyMaillon;
using invocation::Failure;
using invocation::InterfaceInfo;
using types::Everything;
using types::EverythingError;

class Object final : public Everything {
public:
    Result<marshal::String<31>, tests::base::NamedError> name() override {
        if (name_.size() == 0) return fail(tests::base::NamedError::Nameless);
        return name_;
    }
    Result<void, tests::base::NamedError> set_name(std::string_view name) override {
        (void)name_.assign(name);
        return {};
    }
    Result<void, EverythingError> nothing() override {
        ++calls;
        return {};
    }
    Result<types::Scalars, EverythingError> scalars(types::Scalars const& v) override { return v; }
    Result<types::Label, EverythingError> label(types::Label const& v) override { return v; }
    Result<types::Shape, EverythingError> shape(types::Shape const& v) override { return v; }
    Result<types::Nested, EverythingError> nested(types::Nested const& v) override { return v; }
    Result<EachResult, EverythingError> each(bool flag, std::uint8_t small, double real,
                                             types::Colour colour, std::string_view text,
                                             ByteView data,
                                             marshal::SequenceView<std::int32_t> numbers,
                                             std::span<tests::base::Point const> points,
                                             std::array<std::uint8_t, 3> const& list,
                                             std::optional<std::uint32_t> const& maybe) override {
        EachResult r;
        r.flag_back = flag, r.small_back = small, r.real_back = real, r.colour_back = colour;
        (void)r.text_back.assign(text);
        (void)r.data_back.assign(data.bytes());
        for (std::uint32_t i = 0; i < numbers.size(); ++i)
            (void)r.numbers_back.push_back(numbers[i]);
        (void)r.points_back.assign(points);
        r.list_back = list, r.maybe_back = maybe;
        return r;
    }
    Result<std::uint32_t, EverythingError> fails(std::uint32_t how) override {
        if (how == 1) return fail(EverythingError::Broken);
        if (how == 2) return fail(EverythingError::Later);
        if (how == 3) return fail(static_cast<EverythingError>(999));
        return how;
    }
    Result<void, EverythingError> throws() override { throw std::runtime_error("no"); }
    Result<void, EverythingError> tick(std::uint64_t count) override {
        ticks += count;
        return {};
    }
    Result<invocation::Maillon<types::Watcher>, EverythingError> watch(
        invocation::Maillon<types::Watcher> const& watcher) override {
        auto w = watcher;
        (void)w->happened(7);
        return watcher;
    }
    int calls = 0;
    std::uint64_t ticks = 0;

private:
    marshal::String<31> name_;
};

class CountingWatcher final : public types::Watcher {
public:
    Result<void, types::WatcherError> happened(std::uint32_t count) override {
        seen += count;
        return {};
    }
    std::uint32_t seen = 0;
};

/// Both ends of a connection in one process: handles are indices of one list.
class OneTable final : public invocation::HandleTable {
public:
    Result<invocation::WireHandle, Failure> give(AnyMaillon handle,
                                                 InterfaceInfo const& info) override {
        if (list.size() >= room) return fail(Failure::NoMemory);
        list.push_back(handle);
        return invocation::WireHandle{invocation::HandleOwner::Receiver,
                                      static_cast<std::uint32_t>(list.size()), info.hash.low};
    }
    Result<AnyMaillon, Failure> take(invocation::WireHandle const& wire,
                                     InterfaceInfo const& info) override {
        if (wire.hash != info.hash.low) return fail(Failure::WrongInterface);
        if (wire.number == 0 || wire.number > list.size()) return fail(Failure::NoSuchObject);
        return list[wire.number - 1];
    }
    std::vector<AnyMaillon> list;
    std::size_t room = 100;
};

class Loop final : public invocation::Transport {
public:
    explicit Loop(Everything& object) : object_(&object) {}
    Result<Outgoing, Failure> begin(std::uint32_t body_max) override {
        if (refuse_begin) return fail(Failure::Busy);
        request.assign(body_max, std::byte{0xAA});
        ++open;
        return Outgoing{request, 0};
    }
    void abandon(Outgoing const&) override { --open; }
    Result<Incoming, Failure> call(Outgoing const&, invocation::CallTarget target,
                                   std::uint32_t bytes, Instant) override {
        --open;
        request.resize(bytes);
        last = target;
        reply.assign(Everything::info.reply_max, std::byte{0xBB});
        auto const served =
            Everything::info.dispatch(object_, target.operation, request, reply, &table);
        reply.resize(served.body_bytes);
        if (spoil) spoil(reply);
        ++unread;
        auto const status = static_cast<std::uint16_t>(served.status);
        return Incoming{forced_status ? *forced_status : status, reply, 0};
    }
    void done(Incoming const&) override { --unread; }
    Result<void, Failure> announce(Outgoing const& out, invocation::CallTarget target,
                                   std::uint32_t bytes) override {
        auto const in = call(out, target, bytes, Instant::never());
        --unread;
        EXPECT_EQ(in->body.size(), 0u);
        return {};
    }
    invocation::HandleTable* handles() override { return &table; }

    std::vector<std::byte> request, reply;
    invocation::CallTarget last;
    OneTable table;
    std::optional<std::uint16_t> forced_status;
    void (*spoil)(std::vector<std::byte>&) = nullptr;
    bool refuse_begin = false;
    int open = 0, unread = 0;

private:
    Everything* object_;
};

struct Calls : testing::Test {
    Object object;
    Loop loop{object};
    types::EverythingProxy<> proxy{loop};
    void TearDown() override {
        EXPECT_EQ(loop.open, 0);
        EXPECT_EQ(loop.unread, 0);
    }
};

TEST_F(Calls, CarryEveryKindOfArgument) {
    Random random(7);
    ASSERT_TRUE(proxy.nothing());
    EXPECT_EQ(object.calls, 1);
    for (int i = 0; i < 500; ++i) {
        auto const s = random_value<types::Scalars>(random);
        ASSERT_TRUE(*proxy.scalars(s) == s);
        auto const l = random_value<types::Label>(random);
        ASSERT_TRUE(*proxy.label(l) == l);
        auto const sh = random_value<types::Shape>(random);
        ASSERT_TRUE(*proxy.shape(sh) == sh);
        auto const n = random_value<types::Nested>(random);
        ASSERT_TRUE(*proxy.nested(n) == n);
        auto const text = random_value<marshal::String<20>>(random);
        auto const data = random_value<marshal::Bytes<40>>(random);
        auto const numbers = random_value<marshal::Sequence<std::int32_t, 6>>(random);
        auto const points = random_value<marshal::Sequence<tests::base::Point, 3>>(random);
        auto const list = random_value<std::array<std::uint8_t, 3>>(random);
        auto const maybe = random_value<std::optional<std::uint32_t>>(random);
        auto const each = proxy.each(true, 200, 2.5, types::Colour::Blue, text, data.view(),
                                     numbers.span(), points.span(), list, maybe);
        ASSERT_TRUE(each);
        EXPECT_TRUE(each->flag_back && each->small_back == 200 && each->real_back == 2.5);
        EXPECT_EQ(each->colour_back, types::Colour::Blue);
        EXPECT_TRUE(each->text_back == text && each->data_back == data);
        EXPECT_TRUE(each->numbers_back == numbers && each->points_back == points);
        EXPECT_TRUE(each->list_back == list && each->maybe_back == maybe);
    }
}

TEST_F(Calls, InheritedOperationsComeFirst) {
    EXPECT_EQ(proxy.name().error(), tests::base::NamedError::Nameless);
    EXPECT_EQ(loop.last.operation, 0);
    ASSERT_TRUE(proxy.set_name("lamp"));
    EXPECT_EQ(proxy.name()->view(), "lamp");
    EXPECT_TRUE(invocation::extends(Everything::info, tests::base::Named::info));
    EXPECT_FALSE(invocation::extends(tests::base::Named::info, Everything::info));
    tests::base::Named& named = proxy;
    EXPECT_EQ(named.name()->view(), "lamp");
}

TEST_F(Calls, DeclaredErrorsArriveAndOthersDoNot) {
    EXPECT_EQ(*proxy.fails(0), 0u);
    EXPECT_EQ(proxy.fails(1).error(), EverythingError::Broken);
    EXPECT_EQ(proxy.fails(2).error(), EverythingError::Later);
    EXPECT_EQ(proxy.fails(3).error(), EverythingError::BadMessage);
    EXPECT_EQ(proxy.throws().error(), EverythingError::Threw);
    // An error of the interface that this operation does not declare.
    loop.forced_status = static_cast<std::uint16_t>(EverythingError::Broken);
    EXPECT_EQ(proxy.nothing().error(), EverythingError::BadMessage);
}

TEST_F(Calls, AnnouncementsHaveNoReply) {
    ASSERT_TRUE(proxy.tick(5));
    ASSERT_TRUE(proxy.tick(6));
    EXPECT_EQ(object.ticks, 11u);
}

TEST_F(Calls, TooLongArgumentsAreTheCallersError) {
    EXPECT_EQ(proxy.set_name(std::string(32, 'x')).error(), tests::base::NamedError::TooLong);
    loop.refuse_begin = true;
    EXPECT_EQ(proxy.nothing().error(), EverythingError::Busy);
}

TEST_F(Calls, HandlesTravelAndComeBackAsTheSamePointer) {
    CountingWatcher watcher;
    auto const back = proxy.watch(invocation::Maillon<types::Watcher>(&watcher));
    ASSERT_TRUE(back);
    EXPECT_EQ(watcher.seen, 7u);
    EXPECT_EQ(back->reference(), static_cast<types::Watcher*>(&watcher));
    EXPECT_TRUE(back->is_direct());
    // An unset handle is one too, and its operations fail.
    auto none = proxy.watch({});
    ASSERT_TRUE(none);
    EXPECT_EQ((*none)->happened(1).error(), types::WatcherError::Unreachable);
    loop.table.room = 0;
    EXPECT_EQ(proxy.watch(invocation::Maillon<types::Watcher>(&watcher)).error(),
              EverythingError::TooLong);
}

TEST_F(Calls, RepliesOfAnybodysMakingOnlyFail) {
    loop.spoil = [](std::vector<std::byte>& reply) { reply.resize(reply.size() + 8); };
    EXPECT_EQ(proxy.nothing().error(), EverythingError::BadMessage);
    static Random random(11);
    loop.spoil = [](std::vector<std::byte>& reply) {
        for (auto n = random.below(6); n > 0 && !reply.empty(); --n)
            reply[random.below(reply.size())] = static_cast<std::byte>(random.next());
        if (random.below(3) == 0) reply.resize(random.below(reply.size() + 9));
    };
    for (int i = 0; i < 5000; ++i) {
        (void)proxy.nested(random_value<types::Nested>(random));
        (void)proxy.each(true, 1, 1, types::Colour::Red, "a", {}, {}, {}, {}, {});
        (void)proxy.watch({});
    }
}

TEST_F(Calls, RequestsOfAnybodysMakingOnlyFail) {
    Random random(12);
    std::vector<std::byte> reply(Everything::info.reply_max);
    for (int i = 0; i < 30000; ++i) {
        std::vector<std::byte> request(random.below(Everything::info.request_max + 9));
        auto const words = request.size() / 8;
        for (auto& b : request) b = std::byte{0};
        for (std::size_t w = 0; w < words; ++w) {
            // Plausible references more often than not.
            std::uint64_t word =
                random.below(3) == 0 ? random.next() : random.below(64) * 8 | random.below(9) << 32;
            std::memcpy(&request[w * 8], &word, 8);
        }
        auto const served = Everything::info.dispatch(
            &object, static_cast<std::uint16_t>(random.below(20)), request, reply, &loop.table);
        ASSERT_LE(served.body_bytes, reply.size());
    }
}

TEST(Description, CanBeReadToItsEnd) {
    for (auto const* info : {&Everything::info, &tests::base::Named::info, &types::Watcher::info}) {
        invocation::DescriptionReader r(info->description);
        EXPECT_EQ(r.number(4), invocation::description_magic);
        EXPECT_EQ(r.number(4), info->version);
        EXPECT_EQ(r.number(8), info->hash.low);
        EXPECT_EQ(r.number(8), info->hash.high);
        EXPECT_EQ(r.text(), info->name);
        auto const operations = r.number(2);
        EXPECT_EQ(operations, info->operations);
        for (std::uint64_t i = 0; i < operations; ++i) {
            EXPECT_FALSE(r.text().empty());
            (void)r.number(1);
            for (int side = 0; side < 2; ++side) {
                for (auto n = r.number(1); n > 0; --n) {
                    EXPECT_FALSE(r.text().empty());
                    r.skip_type();
                }
            }
            for (auto n = r.number(1); n > 0; --n) {
                EXPECT_GE(r.number(2), invocation::declared_error_first);
                EXPECT_FALSE(r.text().empty());
            }
        }
        EXPECT_TRUE(r.at_end());
    }
}

TEST(Description, CutOrDamagedItOnlyFails) {
    Random random(13);
    std::vector<std::uint8_t> const whole(Everything::info.description.begin(),
                                          Everything::info.description.end());
    for (int i = 0; i < 5000; ++i) {
        auto bytes = whole;
        bytes.resize(random.below(bytes.size() + 1));
        for (int n = 0; n < 3 && !bytes.empty(); ++n)
            bytes[random.below(bytes.size())] = static_cast<std::uint8_t>(random.next());
        invocation::DescriptionReader r(bytes);
        for (int n = 0; n < 300 && !r.failed(); ++n) {
            (void)r.text();
            r.skip_type();
        }
    }
}

TEST(Versions, AMismatchNamesBoth) {
    auto mine = invocation::InterfaceIdentity::of(Everything::info);
    auto theirs = mine;
    theirs.version = 1;
    theirs.hash.low ^= 1;
    char text[256];
    auto const said = invocation::describe_mismatch(mine, theirs, text);
    EXPECT_NE(said.find("client speaks tests.everything.Everything version 2"), said.npos) << said;
    EXPECT_NE(said.find("server offers tests.everything.Everything version 1"), said.npos) << said;
    char small[10];
    EXPECT_EQ(invocation::describe_mismatch(mine, theirs, small).size(), 10u);
}

}  // namespace
}  // namespace nemesis::stubs_test
