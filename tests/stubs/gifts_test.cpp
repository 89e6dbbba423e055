// Goal: a handle in a message counts as given just as long as the peer has it or may get it: what
// is not sent, certainly not made, or cannot be taken is given by nobody afterwards. Method:
// generated proxies and dispatchers between two tables of handles; a transport that fails as it is
// told.
#include <gtest/gtest.h>

#include <vector>

#include "libnemesis/invocation/connection_handles.h"
#include "libnemesis/invocation/held.h"
#include "tests/stubs/handles.if.h"

namespace nemesis::invocation {
namespace {

using namespace tests::handles;

struct ThingObject final : Thing {
    Result<void, ThingError> nothing() override { return {}; }
};

/// One end of a connection: its table, and what a proxy sends over it.
struct End final : Transport, HandleLink {
    explicit End(std::size_t exports_count, std::size_t imports_count)
        : exports(exports_count), imports(imports_count) {
        handles_.set_imports(imports, this, this);
        handles_.set_no_root();
        handles_.on_unreferenced(
            {[](void* self, void*) { ++static_cast<End*>(self)->gone; }, this});
    }
    Result<Outgoing, Failure> begin(std::uint32_t) override {
        body.assign(4096, std::byte{});
        return Outgoing{body, 0};
    }
    void abandon(Outgoing const&) override { ++abandoned; }
    Result<Incoming, Failure> call(Outgoing const&, CallTarget target, std::uint32_t bytes,
                                   Instant) override {
        sent(target, bytes);
        if (fails != Failure::None) return fail(fails);
        return Incoming{static_cast<std::uint16_t>(status), {}, 0};
    }
    void done(Incoming const&) override {}
    Result<void, Failure> announce(Outgoing const&, CallTarget target,
                                   std::uint32_t bytes) override {
        sent(target, bytes);
        if (fails != Failure::None) return fail(fails);
        return {};
    }
    HandleTable* handles() override { return &handles_; }
    std::uint64_t enter() override { return 0; }
    void leave(std::uint64_t) override {}
    Result<void, Failure> reach() override { return {}; }
    bool release(std::uint32_t number, std::uint32_t count) override {
        if (can_release) {
            other->handles_.released(number, count);
            ++released;
        }
        return can_release;
    }
    void wanted() override { ++wants; }
    void sent(CallTarget target, std::uint32_t bytes) {
        operation = target.operation;
        body.resize(bytes);
    }

    /// Serves what the other end has sent, as a CallServer does.
    template <typename Interface>
    Served serve(Interface& object) {
        std::vector<std::byte> reply(4096);
        auto const served = Interface::info.dispatch(&object, other->operation, other->body, reply,
                                                     &handles_.arguments());
        handles_.end_arguments();
        return served;
    }
    std::uint32_t given() const { return handles_.exported() - 1; }

    std::vector<Export> exports;
    std::vector<Import> imports;
    ConnectionHandles handles_{exports, {}, this};
    End* other = nullptr;
    std::vector<std::byte> body;
    std::uint16_t operation = 0;
    Failure fails = Failure::None, status = Failure::None;
    bool can_release = true;
    int gone = 0, abandoned = 0, wants = 0, released = 0;
};

/// Remembers what it was given, for as long as it is told.
struct CarrierObject final : Carrier {
    Result<std::uint64_t, CarrierError> none(std::uint32_t value, std::string_view) override {
        return value;
    }
    Result<OneResult, CarrierError> one(bool flag, std::string_view,
                                        Maillon<Thing> const& thing) override {
        kept = Held<Thing>(thing);
        return OneResult{thing, flag};
    }
    Result<marshal::Sequence<Maillon<Thing>, 4>, CarrierError> all(
        Deep const&, std::array<Pair, 1> const&, std::optional<std::uint16_t> const&) override {
        return marshal::Sequence<Maillon<Thing>, 4>{};
    }
    Result<void, CarrierError> many(std::span<Maillon<Thing> const> things) override {
        calls += static_cast<int>(things.size());
        return {};
    }
    Result<void, CarrierError> lent(bool, GrantedView const&, Maillon<Thing> const&) override {
        return {};
    }
    Result<void, CarrierError> said(bool, Maillon<Thing> const& thing) override {
        kept = Held<Thing>(thing);
        ++calls;
        return {};
    }
    Held<Thing> kept;
    int calls = 0;
};

struct HandlesGiven : testing::Test {
    End giver{9, 4}, taker{9, 3};
    ThingObject thing[12];
    CarrierObject carrier;
    CarrierProxy<End> proxy{giver};
    HandlesGiven() {
        giver.other = &taker;
        taker.other = &giver;
    }
    std::vector<Maillon<Thing>> some(std::size_t count) {
        std::vector<Maillon<Thing>> all;
        for (std::size_t i = 0; i < count; ++i) all.emplace_back(&thing[i]);
        return all;
    }
};

constexpr Failure all_failures[] = {
    Failure::Unreachable, Failure::PeerDead,        Failure::TimedOut,     Failure::Cancelled,
    Failure::BadMessage,  Failure::NoSuchOperation, Failure::NoSuchObject, Failure::TooLong,
    Failure::Busy,        Failure::WrongInterface,  Failure::Refused,      Failure::NoMemory,
    Failure::Threw};

TEST_F(HandlesGiven, AreTakenBackWithAnAnnouncementThatIsNotSent) {
    giver.fails = Failure::PeerDead;
    EXPECT_EQ(proxy.said(true, &thing[0]).error(), CarrierError::PeerDead);
    EXPECT_EQ(giver.given(), 0u);
    EXPECT_EQ(giver.gone, 1);
}

TEST_F(HandlesGiven, AreTakenBackIfTheCallWasCertainlyNotMade) {
    for (bool const by_status : {false, true}) {
        for (auto const why : all_failures) {
            (by_status ? giver.status : giver.fails) = why;
            auto const made = proxy.one(true, "x", &thing[0]);
            ASSERT_EQ(static_cast<Failure>(made.error()), why);
            EXPECT_EQ(giver.given(), was_not_made(why) ? 0u : 1u) << text(why);
            giver.handles_.end();
            giver.handles_.set_no_root();
        }
        giver.fails = Failure::None;
    }
}

TEST_F(HandlesGiven, AreAllOrNone) {
    // Eight can be named; the ninth cannot, and nothing is sent.
    EXPECT_EQ(proxy.many(some(9)).error(), CarrierError::TooLong);
    EXPECT_EQ(giver.abandoned, 1);
    EXPECT_EQ(giver.given(), 0u);
    EXPECT_TRUE(proxy.many(some(8)).has_value());
    EXPECT_EQ(giver.given(), 8u);
}

TEST_F(HandlesGiven, ByAnAnnouncementAreThePeersUntilItLetsGo) {
    ASSERT_TRUE(proxy.said(true, &thing[3]).has_value());
    EXPECT_EQ(taker.serve<Carrier>(carrier).status, 0);
    EXPECT_EQ(carrier.calls, 1);
    EXPECT_EQ(giver.given(), 1u);
    EXPECT_EQ(giver.gone, 0);
    carrier.kept = {};
    EXPECT_EQ(giver.given(), 0u);
    EXPECT_EQ(giver.gone, 1);
    // Not kept: borrowed while it was served.
    ASSERT_TRUE(proxy.many(some(3)).has_value());
    EXPECT_EQ(taker.serve<Carrier>(carrier).status, 0);
    EXPECT_EQ(giver.given(), 0u);
}

TEST_F(HandlesGiven, AreGivenBackIfNotAllCanBeTaken) {
    for (bool const at_once : {true, false}) {
        taker.can_release = at_once;
        ASSERT_TRUE(proxy.many(some(7)).has_value());
        EXPECT_EQ(giver.given(), 7u);
        EXPECT_EQ(taker.serve<Carrier>(carrier).status,
                  static_cast<std::uint16_t>(Failure::BadMessage));
        EXPECT_EQ(carrier.calls, 0);
        EXPECT_EQ(giver.given(), at_once ? 0u : 7u);
        // What could not be told is, when there is room again.
        taker.can_release = true;
        taker.handles_.flush();
        EXPECT_EQ(giver.given(), 0u);
        EXPECT_EQ(taker.handles_.imported(), 0u);
    }
    EXPECT_EQ(giver.gone, 14);
    EXPECT_EQ(taker.released, 14) << "each once";
    // The same one several times counts as often, and a call that was not begun takes none.
    std::vector<Maillon<Thing>> twice{&thing[0], Maillon<Thing>(), &thing[0], &thing[1]};
    ASSERT_TRUE(proxy.many(twice).has_value());
    taker.handles_.refuse_untaken(Carrier::info, giver.operation, giver.body);
    EXPECT_EQ(giver.given(), 0u);
}

TEST_F(HandlesGiven, AndWhatIsHeldAlreadyStays) {
    ASSERT_TRUE(proxy.said(true, &thing[0]).has_value());
    EXPECT_EQ(taker.serve<Carrier>(carrier).status, 0);
    ASSERT_TRUE(proxy.many(some(7)).has_value());
    EXPECT_EQ(taker.serve<Carrier>(carrier).status,
              static_cast<std::uint16_t>(Failure::BadMessage));
    EXPECT_EQ(giver.given(), 1u);
    carrier.kept = {};
    EXPECT_EQ(giver.given(), 0u);
}

}  // namespace
}  // namespace nemesis::invocation
