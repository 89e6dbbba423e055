// Goal: an object is named as long as somebody holds its handle and no longer, a number means one
// object only, and what is left when a connection ends is dead and nobody else's. Method: two
// tables, each the other's peer, with a link that counts and can be told to fail.
#include "libnemesis/invocation/held.h"

#include <gtest/gtest.h>

#include <vector>

#include "libnemesis/invocation/remote.h"
#include "tests/stubs/everything.if.h"

namespace nemesis::stubs_test {
namespace {

using namespace invocation;
using tests::base::Named;
using tests::base::NamedError;

struct Object final : Named {
    Result<marshal::String<31>, NamedError> name() override {
        return marshal::String<31>("object");
    }
    Result<void, NamedError> set_name(std::string_view) override { return {}; }
};

/// One side of a connection, whose releases go straight to the other.
struct Side final : DatagramCall, HandleLink {
    std::vector<Export> exports = std::vector<Export>(4);
    std::vector<Import> imports = std::vector<Import>(3);
    std::vector<std::byte> request = std::vector<std::byte>(512), reply = request, served = request;
    RemoteTransport transport{*this, request, reply};
    ConnectionHandles handles{exports, {}, nullptr};
    Side* other = nullptr;
    std::vector<void*> gone;
    int inside = 0, wants = 0;
    bool can_release = true, peer_dead = false;
    Failure way = Failure::None;

    Side() {
        handles.set_imports(imports, &transport, this);
        handles.on_unreferenced(
            {[](void* self, void* object) { static_cast<Side*>(self)->gone.push_back(object); },
             this});
    }
    Result<std::uint32_t, Failure> call(std::span<std::byte const> sent, std::span<std::byte> back,
                                        Instant) override {
        auto const n = serve_request(other->handles, sent, other->served);
        std::copy_n(other->served.begin(), n, back.begin());
        return n;
    }
    Result<void, Failure> announce(std::span<std::byte const>) override { return {}; }
    std::uint64_t enter() override { return static_cast<std::uint64_t>(inside++); }
    void leave(std::uint64_t was) override { EXPECT_EQ(static_cast<int>(was), --inside); }
    Result<void, Failure> reach() override {
        if (way != Failure::None) return fail(way);
        return {};
    }
    bool release(std::uint32_t number, std::uint32_t count) override {
        if (can_release) other->handles.released(number, count);
        return can_release;
    }
    void wanted() override { ++wants; }
    bool is_dead() const override { return peer_dead; }
};

struct HeldHandles : testing::Test {
    Side owner, holder;
    Object object[6];
    HeldHandles() {
        owner.other = &holder;
        holder.other = &owner;
    }
    WireHandle give(int n) { return *owner.handles.give(Maillon<Named>(&object[n]), Named::info); }
    Maillon<Named> take(int n) {
        return Maillon<Named>(*holder.handles.take(give(n), Named::info));
    }
    bool is_gone(int n) {
        return owner.gone == std::vector<void*>{static_cast<Named*>(&object[n])};
    }
};

TEST_F(HeldHandles, TheLastOneLetsGo) {
    auto first = Held<Named>::adopt(take(0));
    auto second = Held<Named>::adopt(take(0));  // the same object, given twice
    auto third = first;
    EXPECT_EQ(holder.handles.imported(), 1u);
    EXPECT_EQ(first->name()->view(), "object");
    first = {};
    third = {};
    EXPECT_TRUE(owner.gone.empty());
    second = {};
    EXPECT_TRUE(is_gone(0));
    EXPECT_EQ(holder.handles.imported(), 0u);
    EXPECT_EQ(owner.handles.exported(), 0u);
}

TEST_F(HeldHandles, AGiftOnItsWayCountsForTheOwner) {
    auto held = Held<Named>::adopt(take(0));
    auto const on_its_way = give(0);
    held = {};
    EXPECT_TRUE(owner.gone.empty());
    auto late = Held<Named>::adopt(Maillon<Named>(*holder.handles.take(on_its_way, Named::info)));
    EXPECT_TRUE(late->name().has_value());
    late = {};
    EXPECT_TRUE(is_gone(0));
}

TEST_F(HeldHandles, ArgumentsAreBorrowedUntilTheOperationReturns) {
    {
        Maillon<Named> argument(*holder.handles.arguments().take(give(0), Named::info));
        EXPECT_TRUE(argument->name().has_value());
        Held<Named> kept(argument);
        holder.handles.end_arguments();
        EXPECT_TRUE(owner.gone.empty());
    }
    EXPECT_TRUE(is_gone(0));
    owner.gone.clear();
    (void)holder.handles.arguments().take(give(1), Named::info);
    holder.handles.end_arguments();
    EXPECT_TRUE(is_gone(1));
}

TEST_F(HeldHandles, ANumberMeansOneObject) {
    auto const old = give(0);
    auto held = Held<Named>::adopt(Maillon<Named>(*holder.handles.take(old, Named::info)));
    auto const stale = held.maillon();
    held = {};
    auto const next = give(1);  // at the same place of the owner's table
    EXPECT_NE(next.number, old.number);
    EXPECT_EQ(owner.handles.find(old.number), nullptr);
    EXPECT_EQ(tests::base::NamedProxy<>(holder.transport, old.number).name().error(),
              NamedError::NoSuchObject);
    EXPECT_EQ(Maillon<Named>(stale)->name().error(), NamedError::NoSuchObject);
    owner.handles.released(old.number, 1);
    EXPECT_NE(owner.handles.find(next.number), nullptr);
    WireHandle const back{HandleOwner::Receiver, old.number, Named::info.hash.low};
    EXPECT_EQ(owner.handles.take(back, Named::info).error(), Failure::NoSuchObject);
}

TEST_F(HeldHandles, WhatIsHeldWhenTheConnectionEndsIsDeadAndNobodyElses) {
    auto held = Held<Named>::adopt(take(0));
    EXPECT_FALSE(held.is_dead());
    holder.handles.end();
    EXPECT_TRUE(held.is_dead());
    EXPECT_EQ(held->name().error(), NamedError::PeerDead);
    EXPECT_FALSE(holder.handles.is_idle());
    // Another connection in the same memory: the place is not used while it is held.
    auto other = Held<Named>::adopt(take(1));
    EXPECT_EQ(held->name().error(), NamedError::PeerDead);
    EXPECT_TRUE(other->name().has_value());
    held = {};
    EXPECT_EQ(holder.handles.imported(), 1u);
    other = {};
    EXPECT_TRUE(holder.handles.is_idle());
}

TEST_F(HeldHandles, AHandleIsDeadWithItsDomainWithoutACall) {
    Object own;
    auto held = Held<Named>::adopt(take(0));
    Held<Named> const mine{Maillon<Named>(&own)}, nobodys;
    holder.peer_dead = true;
    EXPECT_TRUE(held.is_dead());
    EXPECT_FALSE(mine.is_dead() || nobodys.is_dead());
}

TEST_F(HeldHandles, AReleaseThatHasToWaitIsMadeGood) {
    auto held = Held<Named>::adopt(take(0));
    holder.can_release = false;
    held = {};
    EXPECT_TRUE(owner.gone.empty());
    EXPECT_EQ(holder.wants, 2);  // the first handle, and this
    // Given again meanwhile, it is the same; and is released for both.
    held = Held<Named>::adopt(take(0));
    EXPECT_TRUE(held->name().has_value());
    held = {};
    holder.can_release = true;
    holder.handles.flush();
    EXPECT_TRUE(is_gone(0));
    EXPECT_EQ(holder.handles.imported(), 0u);
}

TEST_F(HeldHandles, TablesAreBoundedAndWhatCannotBeGivenIsNobodys) {
    for (int i = 0; i < 3; ++i) (void)give(i);
    EXPECT_EQ(owner.handles.give(Maillon<Named>(&object[3]), Named::info).error(),
              Failure::NoMemory);
    EXPECT_TRUE(is_gone(3));
    for (std::uint32_t n = 1; n <= 3; ++n)
        ASSERT_TRUE(
            holder.handles.take({HandleOwner::Sender, n, Named::info.hash.low}, Named::info));
    EXPECT_EQ(
        holder.handles.take({HandleOwner::Sender, 9, Named::info.hash.low}, Named::info).error(),
        Failure::NoMemory);
}

TEST_F(HeldHandles, AThirdDomainsObjectIsForwardedAndHeldAsLong) {
    Side to_third, third;
    to_third.other = &third;
    third.other = &to_third;
    auto held = Held<Named>::adopt(take(0));
    EXPECT_EQ(to_third.handles.give(held.maillon(), Named::info).error(), Failure::Refused);
    to_third.handles.set_forwarding(true);
    auto const wire = *to_third.handles.give(held.maillon(), Named::info);
    EXPECT_EQ(wire.owner, HandleOwner::Sender);
    auto far = Held<Named>::adopt(Maillon<Named>(*third.handles.take(wire, Named::info)));
    held = {};
    EXPECT_EQ(far->name()->view(), "object");
    // Back in the middle it is the handle to the first again, not a proxy to a proxy.
    auto const home = Maillon<Named>(
        *to_third.handles.take(*third.handles.give(far.maillon(), Named::info), Named::info));
    EXPECT_TRUE(holder.handles.give(home, Named::info)->owner == HandleOwner::Receiver);
    auto adopted = Held<Named>::adopt(home);
    far = {};
    EXPECT_TRUE(owner.gone.empty());
    adopted = {};
    EXPECT_TRUE(is_gone(0));
}

TEST_F(HeldHandles, TheRootWasNotGivenAndIsNotReported) {
    owner.handles.set_root(static_cast<Named*>(&object[5]), Named::info);
    (void)give(0);
    owner.handles.end();
    EXPECT_TRUE(is_gone(0));
    owner.handles.set_no_root();
    EXPECT_EQ(tests::base::NamedProxy<>(holder.transport).name().error(), NamedError::NoSuchObject);
    owner.handles.end();
    EXPECT_TRUE(is_gone(0));
}

TEST_F(HeldHandles, WithoutAWayTheCallFails) {
    auto held = Held<Named>::adopt(take(0));
    holder.way = Failure::Busy;
    EXPECT_EQ(held->name().error(), NamedError::Busy);
    holder.way = Failure::None;
    EXPECT_TRUE(held->name().has_value());
}

}  // namespace
}  // namespace nemesis::stubs_test
