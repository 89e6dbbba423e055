// Goal: what name_space.h and inheritance.h promise, one promise a test. Method: small name spaces,
// with servers that are name spaces themselves or made to misbehave.
#include "names/name_space.h"

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "names/inheritance.h"
#include "names/name_space_server.h"

namespace nemesis::names {
namespace {

struct Space {
    explicit Space(std::uint32_t names = 200, Gate* gate = nullptr)
        : memory(NameTree::bytes_for(names)), space(*NameSpace::create(memory, 7, gate)) {}
    NameSpace* operator->() { return &space; }

    std::vector<std::byte> memory;
    NameSpace space;
};

Handle h(std::uint64_t n) { return {n, n + 1000}; }

/// All names of a directory, page by page: "a", "d/", "m@".
std::vector<std::string> listing(NameSpace const& space, std::string_view path) {
    std::vector<std::string> all;
    std::string after;
    NameList page;
    do {
        if (auto const listed = space.list(path, after, page); !listed) {
            all.push_back("error: " + std::string(text(listed.error())));
            return all;
        }
        for (auto const& entry : page.names()) {
            after = entry.name();
            all.push_back(after + (entry.kind == NameKind::Object      ? ""
                                   : entry.kind == NameKind::Directory ? "/"
                                                                       : "@"));
        }
    } while (page.more);
    return all;
}
using Names = std::vector<std::string>;

/// A server that answers as it is told.
struct Puppet final : NameServer {
    std::function<Result<Handle, NameError>(std::string_view, Request const&)> on_resolve;
    std::function<Result<void, NameError>(NameList&)> on_list;

    Result<Handle, NameError> resolve(std::string_view path, Request const& request) override {
        return on_resolve(path, request);
    }
    Result<void, NameError> list(std::string_view, std::string_view, NameList& names,
                                 Request const&) override {
        return on_list(names);
    }
    Result<void, NameError> bind(std::string_view, Handle, BindMode, Request const&) override {
        return fail(NameError::Unreachable);
    }
    Result<void, NameError> make_directory(std::string_view, Request const&) override {
        return fail(NameError::Unreachable);
    }
    Result<void, NameError> unbind(std::string_view, Request const&) override {
        return fail(NameError::Unreachable);
    }
};

TEST(NameSpace, BindsResolvesReplacesAndForgets) {
    Space s;
    ASSERT_TRUE(s->make_directory("services"));
    ASSERT_TRUE(s->bind("services/clock", h(1)));
    EXPECT_EQ(s->resolve("/services/clock"), h(1));
    EXPECT_EQ(s->bind("services/clock", h(2)).error(), NameError::Exists);
    ASSERT_TRUE(s->bind("services/clock", h(2), BindMode::Replace));
    EXPECT_EQ(s->resolve("services/clock"), h(2));
    EXPECT_EQ(s->unbind("services").error(), NameError::NotEmpty);
    ASSERT_TRUE(s->unbind("services/clock"));
    EXPECT_EQ(s->resolve("services/clock").error(), NameError::NotFound);
    EXPECT_TRUE(s->unbind("services"));
    EXPECT_TRUE(s.space.check_invariants());
}

TEST(NameSpace, SaysWhyANameIsNotResolved) {
    Space s;
    ASSERT_TRUE(s->make_directory("d"));
    ASSERT_TRUE(s->bind("o", h(1)));
    EXPECT_EQ(s->resolve("x").error(), NameError::NotFound);
    EXPECT_EQ(s->resolve("x/y").error(), NameError::NotFound);
    EXPECT_EQ(s->resolve("o/x").error(), NameError::NotADirectory);
    EXPECT_EQ(s->resolve("d").error(), NameError::IsADirectory);
    EXPECT_EQ(s->resolve("").error(), NameError::IsADirectory);
    EXPECT_EQ(s->resolve("d//x").error(), NameError::BadName);
    EXPECT_EQ(s->resolve("o/").error(), NameError::BadName);
    EXPECT_EQ(s->resolve("d/").error(), NameError::BadName);
    EXPECT_EQ(s->resolve(std::string(256, 'n')).error(), NameError::TooLong);
    EXPECT_EQ(s->resolve(std::string(300, 'n')).error(), NameError::TooLong);
    EXPECT_EQ(s->resolve(std::string(2000, 'n')).error(), NameError::TooLong);
    EXPECT_EQ(s->bind("", h(1)).error(), NameError::Exists);
    EXPECT_EQ(s->bind("e", {}).error(), NameError::BadHandle);
    EXPECT_EQ(s->bind("x/y", h(1)).error(), NameError::NotFound);
    EXPECT_EQ(s->bind("o/y", h(1)).error(), NameError::NotADirectory);
    EXPECT_EQ(s->bind("d", h(1), BindMode::Replace).error(), NameError::IsADirectory);
    EXPECT_EQ(s->unbind("/").error(), NameError::InUse);
}

TEST(NameSpace, ListsInOrderPageByPage) {
    Space s;
    Names expected;
    for (int i = 10; i < 60; i++) {
        std::string const name = "n" + std::to_string(i);
        ASSERT_TRUE(i % 2 ? s->bind(name, h(1)) : s->make_directory(name));
        expected.push_back(i % 2 ? name : name + "/");
    }
    EXPECT_EQ(listing(s.space, "/"), expected);
    EXPECT_EQ(listing(s.space, "n10"), Names());
    EXPECT_EQ(listing(s.space, "n11"),
              Names{"error: " + std::string(text(NameError::NotADirectory))});
}

TEST(NameSpace, AMountedServersNamesAppearWithPrefix) {
    Space s, other;
    ASSERT_TRUE(other->make_directory("export"));
    ASSERT_TRUE(other->make_directory("export/deep"));
    ASSERT_TRUE(other->bind("export/deep/clock", h(5)));
    NameSpaceServer server(other.space);
    ASSERT_TRUE(s->make_directory("b"));
    auto const id = s->mount("b", server, {.prefix = "/export"});
    ASSERT_TRUE(id);
    EXPECT_EQ(s->resolve("b/deep/clock"), h(5));
    EXPECT_EQ(s->resolve("b/deep").error(), NameError::IsADirectory);
    EXPECT_EQ(listing(s.space, ""), Names{"b@"});
    EXPECT_EQ(listing(s.space, "b"), Names{"deep/"});
    EXPECT_EQ(s->unbind("b").error(), NameError::InUse);
    EXPECT_EQ(s->bind("b/deep/x", h(1)).error(), NameError::ReadOnly);
    ASSERT_TRUE(s->unmount(*id));
    EXPECT_EQ(s->unmount(*id).error(), NameError::NoSuchMount);
    EXPECT_EQ(s->resolve("b/deep/clock").error(), NameError::NotFound);
    EXPECT_TRUE(s->unbind("b"));
    EXPECT_TRUE(s.space.check_invariants());
}

TEST(NameSpace, UnionsKeepTheirOrder) {
    Space s, front, back;
    ASSERT_TRUE(s->make_directory("u"));
    ASSERT_TRUE(s->bind("u/own", h(1)));
    ASSERT_TRUE(s->bind("u/x", h(2)));
    for (auto const& [space, n] : {std::pair(&front, 10), std::pair(&back, 20)}) {
        ASSERT_TRUE((*space)->bind("x", h(n)));
        ASSERT_TRUE((*space)->bind("y", h(n + 1)));
    }
    ASSERT_TRUE(back->bind("z", h(22)));
    NameSpaceServer f(front.space, ServeRights::ReadWrite), b(back.space);
    auto const before = s->mount("u", f, {.order = LayerOrder::Before, .accepts_names = true});
    ASSERT_TRUE(s->mount("u", b, {.order = LayerOrder::After}));
    EXPECT_EQ(s->resolve("u/x"), h(10));
    EXPECT_EQ(s->resolve("u/own"), h(1));
    EXPECT_EQ(s->resolve("u/z"), h(22));
    EXPECT_EQ(listing(s.space, "u"), (Names{"own", "x", "y", "z"}));
    // New names go to the first layer that accepts them.
    ASSERT_TRUE(s->bind("u/new", h(30)));
    EXPECT_EQ(front->resolve("new"), h(30));
    ASSERT_TRUE(s->unmount(*before));
    EXPECT_EQ(s->resolve("u/x"), h(2));
    ASSERT_TRUE(s->bind("u/new", h(31)));
    EXPECT_EQ(s->mount("u", f, {.order = LayerOrder::Replace}).error(), NameError::InUse);
    EXPECT_TRUE(s.space.check_invariants());
}

TEST(NameSpace, ALayerThatCannotAnswerIsNotPassedOver) {
    Space s, back;
    ASSERT_TRUE(s->make_directory("u"));
    ASSERT_TRUE(back->bind("x", h(1)));
    NameSpaceServer b(back.space);
    Puppet dead;
    dead.on_resolve = [](auto, auto&) { return fail(NameError::Unreachable); };
    dead.on_list = [](auto&) { return fail(NameError::DeadlinePassed); };
    ASSERT_TRUE(s->mount("u", b));
    ASSERT_TRUE(s->mount("u", dead, {.order = LayerOrder::Before}));
    EXPECT_EQ(s->resolve("u/x").error(), NameError::Unreachable);
    NameList page;
    EXPECT_EQ(s->list("u", "", page).error(), NameError::DeadlinePassed);
    EXPECT_EQ(s->bind("u/n", h(1)).error(), NameError::ReadOnly);
}

TEST(NameSpace, DeadlineAndHopsReachTheServer) {
    Space s;
    ASSERT_TRUE(s->make_directory("m"));
    Puppet puppet;
    Request seen;
    std::string path;
    puppet.on_resolve = [&](std::string_view p, Request const& r) {
        seen = r;
        path = p;
        return h(1);
    };
    ASSERT_TRUE(s->mount("m", puppet, {.prefix = "pre/fix"}));
    EXPECT_TRUE(s->resolve("m/a/b", {Instant::ns(77), 5}));
    EXPECT_EQ(seen.deadline, Instant::ns(77));
    EXPECT_EQ(seen.hops, 4);
    EXPECT_EQ(path, "pre/fix/a/b");
    EXPECT_EQ(s->resolve("m/a", {Instant::never(), 0}).error(), NameError::TooManyHops);
    std::string const long_name = std::string(250, 'l');
    std::string const long_path =
        "m/" + long_name + "/" + long_name + "/" + long_name + "/" + long_name;
    EXPECT_EQ(s->resolve(long_path + "/" + std::string(13, 'k')).error(), NameError::TooLong);
}

TEST(NameSpace, ServersThatMountEachOtherEndByHops) {
    // Two puppets that pass requests on to each other's name spaces, unseen by leads_to.
    Space a, b;
    ASSERT_TRUE(a->make_directory("b"));
    ASSERT_TRUE(b->make_directory("a"));
    Puppet to_a, to_b;
    to_a.on_resolve = [&](auto path, auto& r) {
        return a.space.resolve("b/" + std::string(path), r);
    };
    to_b.on_resolve = [&](auto path, auto& r) {
        return b.space.resolve("a/" + std::string(path), r);
    };
    ASSERT_TRUE(a->mount("b", to_b));
    ASSERT_TRUE(b->mount("a", to_a));
    EXPECT_EQ(a->resolve("b/x").error(), NameError::TooManyHops);
}

TEST(NameSpace, CyclesAreRefusedWhenTheyCanBeSeen) {
    Space a, b, c;
    NameSpaceServer sa(a.space), sb(b.space), sc(c.space);
    for (Space* s : {&a, &b, &c}) {
        ASSERT_TRUE((*s)->make_directory("m"));
        ASSERT_TRUE((*s)->make_directory("m/n"));
        ASSERT_TRUE((*s)->make_directory("k"));
    }
    EXPECT_EQ(a->mount("m", sa).error(), NameError::Cycle);
    ASSERT_TRUE(a->mount("m", sb));
    ASSERT_TRUE(b->mount("m", sc));
    EXPECT_EQ(c->mount("m", sa).error(), NameError::Cycle);
    // Aliases: of an ancestor, of itself, and around two corners.
    EXPECT_EQ(c->alias("m/n", "m").error(), NameError::Cycle);
    EXPECT_EQ(c->alias("m", "m").error(), NameError::Cycle);
    EXPECT_EQ(c->alias("k", "/").error(), NameError::Cycle);
    ASSERT_TRUE(c->make_directory("k/l"));
    ASSERT_TRUE(c->alias("m/n", "k"));
    EXPECT_EQ(c->alias("k/l", "m").error(), NameError::Cycle);
    EXPECT_TRUE(c.space.check_invariants());
}

TEST(NameSpace, AnAliasShowsADirectoryTwice) {
    Space s;
    ASSERT_TRUE(s->make_directory("deep"));
    ASSERT_TRUE(s->make_directory("deep/er"));
    ASSERT_TRUE(s->make_directory("near"));
    ASSERT_TRUE(s->bind("deep/er/x", h(1)));
    auto const id = s->alias("near", "deep/er", {.accepts_names = true});
    ASSERT_TRUE(id);
    EXPECT_EQ(s->resolve("near/x"), h(1));
    ASSERT_TRUE(s->bind("near/y", h(2)));
    EXPECT_EQ(s->resolve("deep/er/y"), h(2));
    ASSERT_TRUE(s->unbind("near/x"));
    ASSERT_TRUE(s->unbind("near/y"));
    EXPECT_EQ(s->unbind("deep/er").error(), NameError::InUse);
    ASSERT_TRUE(s->unmount(*id));
    EXPECT_TRUE(s->unbind("deep/er"));
    EXPECT_TRUE(s.space.check_invariants());
}

TEST(NameSpace, LayersAliasesAndMemoryHaveBounds) {
    Space s(3000), other;
    NameSpaceServer server(other.space);
    ASSERT_TRUE(s->make_directory("u"));
    for (std::uint32_t i = 0; i + 1 < layers_max; i++) {
        ASSERT_TRUE(s->mount("u", server, {.order = LayerOrder::After}));
    }
    EXPECT_EQ(s->mount("u", server, {.order = LayerOrder::Before}).error(),
              NameError::TooManyLayers);
    ASSERT_TRUE(s->make_directory("t"));
    for (std::uint32_t i = 0; i < aliases_max; i++) {
        std::string const name = "a" + std::to_string(i);
        ASSERT_TRUE(s->make_directory(name));
        ASSERT_TRUE(s->alias(name, "t"));
    }
    ASSERT_TRUE(s->make_directory("one_more"));
    EXPECT_EQ(s->alias("one_more", "t").error(), NameError::TooManyLayers);

    Space small(3);
    ASSERT_TRUE(small->make_directory("m"));
    std::uint32_t const free = small->cells_free();
    EXPECT_EQ(small->mount("m", server, {.prefix = std::string(200, 'p')}).error(),
              NameError::Full);
    EXPECT_EQ(small->cells_free(), free);
    EXPECT_TRUE(small.space.check_invariants());
}

TEST(NameSpace, UnionsWithinUnionsEndAsTangled) {
    // Each level is shown twice: 2^16 ways down, none of which ends in an object.
    Space s;
    constexpr int levels = 16;
    for (int i = 0; i <= levels; i++) ASSERT_TRUE(s->make_directory("d" + std::to_string(i)));
    for (int i = 0; i < levels; i++) {
        std::string const here = "d" + std::to_string(i), below = "d" + std::to_string(i + 1);
        ASSERT_TRUE(s->alias(here, below, {.order = LayerOrder::After}));
        ASSERT_TRUE(s->alias(here, below, {.order = LayerOrder::After}));
    }
    EXPECT_EQ(s->resolve("d0/x").error(), NameError::Tangled);
    NameList page;
    EXPECT_EQ(s->list("d0", "", page).error(), NameError::Tangled);
    EXPECT_EQ(page.count, 0u);
}

TEST(NameSpace, WhatAServerSaysIsChecked) {
    Space s;
    ASSERT_TRUE(s->make_directory("m"));
    Puppet liar;
    ASSERT_TRUE(s->mount("m", liar));
    liar.on_resolve = [](auto, auto&) { return Handle{}; };
    EXPECT_EQ(s->resolve("m/x").error(), NameError::BadAnswer);
    auto const listed = [&](std::function<void(NameList&)> fill) {
        liar.on_list = [&](NameList& names) -> Result<void, NameError> {
            fill(names);
            return {};
        };
        NameList page;
        auto const result = s->list("m", "b", page);
        return result ? NameError::NotFound : result.error();
    };
    EXPECT_EQ(listed([](NameList& n) { n.count = 1000; }), NameError::BadAnswer);
    EXPECT_EQ(listed([](NameList& n) { n.more = true; }), NameError::BadAnswer);
    for (std::string const& name : {std::string(), std::string("a"), std::string("b"),
                                    std::string("c/d"), std::string("..")}) {
        EXPECT_EQ(listed([&](NameList& n) { n.entries[n.count++].set(name, NameKind::Object); }),
                  NameError::BadAnswer)
            << name;
    }
    EXPECT_EQ(listed([](NameList& n) { n.entries[n.count++].set("c", NameKind(9)); }),
              NameError::BadAnswer);
    EXPECT_EQ(listed([](NameList& n) {
                  n.entries[n.count++].set("d", NameKind::Object);
                  n.entries[n.count++].set("c", NameKind::Object);
              }),
              NameError::BadAnswer);
}

TEST(NameSpace, NamesMayChangeWhileAServerIsAsked) {
    Space s, back;
    ASSERT_TRUE(s->make_directory("u"));
    ASSERT_TRUE(s->make_directory("v"));
    ASSERT_TRUE(s->bind("v/x", h(666)));
    ASSERT_TRUE(back->bind("x", h(1)));
    NameSpaceServer b(back.space);
    Puppet changing;
    std::vector<MountId> ids;
    int asked = 0;
    changing.on_resolve = [&](auto, auto&) -> Result<Handle, NameError> {
        if (asked++ == 0) {
            // The layer that is being asked goes, and its memory becomes a layer of another union.
            EXPECT_TRUE(s->unmount(ids.at(0)));
            EXPECT_TRUE(s->mount("v", b, {.order = LayerOrder::Before}));
        }
        return fail(NameError::NotFound);
    };
    ids.push_back(*s->mount("u", changing));
    ids.push_back(*s->mount("u", b, {.order = LayerOrder::After}));
    EXPECT_EQ(s->resolve("u/x"), h(1));
    EXPECT_EQ(asked, 1);
    // The same of one that is mounted alone: what it hid counts again.
    ASSERT_TRUE(s->make_directory("w"));
    ASSERT_TRUE(s->bind("w/x", h(2)));
    Puppet alone;
    std::optional<MountId> its;
    alone.on_resolve = [&](auto, auto&) -> Result<Handle, NameError> {
        EXPECT_TRUE(s->unmount(*its));
        return fail(NameError::NotFound);
    };
    its = *s->mount("w", alone);
    EXPECT_EQ(s->resolve("w/x"), h(2));
    // Changes without end: an error, not a loop.
    Puppet restless;
    std::uint64_t n = 0;
    restless.on_resolve = [&](auto, auto&) -> Result<Handle, NameError> {
        EXPECT_TRUE(s->bind("n" + std::to_string(n++), h(1)));
        return fail(NameError::NotFound);
    };
    ASSERT_TRUE(s->mount("u", restless, {.order = LayerOrder::Before}));
    EXPECT_EQ(s->resolve("u/y").error(), NameError::InUse);
    EXPECT_EQ(n, restarts_max);
}

TEST(NameSpace, TheGateIsClosedInsideAndOpenWhileAServerIsAsked) {
    struct Counting final : Gate {
        int inside = 0, entered = 0;
        void enter() override {
            EXPECT_EQ(inside, 0);
            inside++;
            entered++;
        }
        void leave() override {
            EXPECT_EQ(inside, 1);
            inside--;
        }
    } gate;
    Space s(100, &gate);
    ASSERT_TRUE(s->make_directory("m"));
    Puppet puppet;
    puppet.on_resolve = [&](auto, auto&) -> Result<Handle, NameError> {
        EXPECT_EQ(gate.inside, 0);
        EXPECT_EQ(s->resolve("m").error(), NameError::IsADirectory);
        return h(1);
    };
    ASSERT_TRUE(s->mount("m", puppet));
    EXPECT_TRUE(s->resolve("m/x"));
    EXPECT_EQ(gate.inside, 0);
    EXPECT_GE(gate.entered, 4);
}

TEST(Inheritance, PartsAreCopiedSharedOrLeftOut) {
    Space parent, elsewhere, child;
    for (char const* d : {"global", "local", "local/deep", "secret", "m"}) {
        ASSERT_TRUE(parent->make_directory(d));
    }
    ASSERT_TRUE(parent->bind("global/clock", h(1)));
    ASSERT_TRUE(parent->bind("local/deep/x", h(2)));
    ASSERT_TRUE(parent->bind("top", h(3)));
    ASSERT_TRUE(parent->bind("secret/key", h(4)));
    for (int i = 0; i < 40; i++) ASSERT_TRUE(parent->bind("local/n" + std::to_string(i), h(5)));
    ASSERT_TRUE(elsewhere->bind("far", h(6)));
    NameSpaceServer far(elsewhere.space);
    ASSERT_TRUE(parent->mount("m", far));
    NameSpaceServer server(parent.space, ServeRights::ReadWrite);
    InheritRule const rules[] = {{"global", Inherit::Shared}, {"/secret", Inherit::Nothing}};
    ASSERT_TRUE(inherit(child.space, server, rules));
    EXPECT_EQ(listing(child.space, ""), (Names{"global@", "local/", "m@", "top"}));
    EXPECT_EQ(listing(child.space, "local").size(), 41u);
    // Private: later changes are not seen by the other.
    ASSERT_TRUE(parent->bind("local/deep/x", h(7), BindMode::Replace));
    EXPECT_EQ(child->resolve("local/deep/x"), h(2));
    ASSERT_TRUE(child->bind("mine", h(8)));
    EXPECT_EQ(parent->resolve("mine").error(), NameError::NotFound);
    // Shared: they are, in both directions; and what is mounted stays where it is.
    ASSERT_TRUE(parent->bind("global/filter", h(9)));
    EXPECT_EQ(child->resolve("global/filter"), h(9));
    ASSERT_TRUE(child->bind("global/new", h(10)));
    EXPECT_EQ(parent->resolve("global/new"), h(10));
    EXPECT_EQ(child->resolve("m/far"), h(6));
    EXPECT_EQ(child->resolve("secret/key").error(), NameError::NotFound);
    EXPECT_TRUE(child.space.check_invariants());

    Space all;
    InheritRule const everything[] = {{"", Inherit::Shared}};
    ASSERT_TRUE(inherit(all.space, server, everything));
    EXPECT_EQ(all->resolve("local/deep/x"), h(7));
    ASSERT_TRUE(all->bind("mine", h(11)));
    EXPECT_EQ(parent->resolve("mine").error(), NameError::NotFound);
    Space conventional, little(5);
    ASSERT_TRUE(inherit(conventional.space, server, conventional_rules));
    EXPECT_EQ(conventional->resolve("secret/key"), h(4));
    EXPECT_EQ(conventional->resolve("global/clock"), h(1));
    EXPECT_EQ(inherit(little.space, server, conventional_rules).error(), NameError::Full);
}

}  // namespace
}  // namespace nemesis::names
