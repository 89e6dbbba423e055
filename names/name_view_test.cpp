// Goal: a view gives what is below its root, without what is kept; nothing leads around that, and
// nothing is changed through it. Method: a small name space behind the view, a server that lies,
// and a random tree whose view is compared with what the paths say.
#include "names/name_view.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "libnemesis/base/random.h"
#include "names/inheritance.h"
#include "names/name_space.h"
#include "names/name_space_server.h"

namespace nemesis::names {
namespace {

constexpr Handle kOurs{1, 1};
Handle h(std::uint64_t n) { return {n, n + 1000}; }
bool is_for_others(Handle const& handle) { return handle.function >= 1000; }

struct Space {
    explicit Space(std::uint32_t names = 300)
        : memory(NameTree::bytes_for(names)), space(*NameSpace::create(memory, 11)) {}
    std::vector<std::byte> memory;
    NameSpace space;
};

/// All names of a directory, page by page; "!" and the reason where it fails.
std::vector<std::string> listing(NameServer& server, std::string_view path) {
    std::vector<std::string> all;
    NameList page;
    do {
        auto const after = all.empty() ? std::string() : all.back();
        if (auto const listed = server.list(path, after, page, {}); !listed)
            return {"!" + std::string(text(listed.error()))};
        for (auto const& entry : page.names()) all.emplace_back(entry.name());
    } while (page.more);
    return all;
}
using Names = std::vector<std::string>;

class View : public testing::Test {
protected:
    View() {
        for (auto const* const directory : {"a", "a/b", "kept", "keptnot", "a/kept"})
            EXPECT_TRUE(own.space.make_directory(directory).has_value());
        for (auto const* const path : {"a/x", "a/b/y", "kept/z", "keptnot/z", "a/kept/z"})
            EXPECT_TRUE(own.space.bind(path, h(5)).has_value());
        EXPECT_TRUE(own.space.bind("a/ours", kOurs).has_value());
    }
    Space own;
    NameSpaceServer server{own.space, ServeRights::ReadWrite};
    std::string_view kept[2] = {"kept", "/a/kept"};
    NameView view{server, {.kept = kept, .is_given = is_for_others}};
};

TEST_F(View, WhatIsKeptIsNotThere) {
    EXPECT_EQ(listing(view, ""), (Names{"a", "keptnot"}));
    EXPECT_EQ(listing(view, "/a"), (Names{"b", "x"}));
    EXPECT_TRUE(view.resolve("a/x", {}).has_value());
    EXPECT_TRUE(view.resolve("keptnot/z", {}).has_value());
    for (auto const* const path : {"kept", "kept/z", "/kept/z", "a/kept/z", "a/ours"})
        EXPECT_EQ(view.resolve(path, {}).error(), NameError::NotFound) << path;
    for (auto const* const path : {"kept", "/kept", "a/kept"})
        EXPECT_EQ(listing(view, path), Names{"!" + std::string(text(NameError::NotFound))}) << path;
    // No other way of writing a path leads to it.
    for (auto const* const path : {"//kept/z", "a/../kept/z", "./kept/z", "kept//z"})
        EXPECT_EQ(view.resolve(path, {}).error(), NameError::BadName) << path;
}

TEST_F(View, ItsRootIsADirectoryOfTheServers) {
    NameView below(server, {.root = "/a", .kept = kept, .is_given = is_for_others});
    EXPECT_EQ(listing(below, ""), (Names{"b", "x"}));
    EXPECT_EQ(*below.resolve("b/y", {}), h(5));
    EXPECT_EQ(below.resolve("a/x", {}).error(), NameError::NotFound);
    EXPECT_EQ(below.resolve("kept/z", {}).error(), NameError::NotFound);
    NameView inside(server, {.root = "kept", .kept = kept});
    EXPECT_EQ(inside.resolve("z", {}).error(), NameError::NotFound);
    EXPECT_EQ(listing(inside, ""), Names{"!" + std::string(text(NameError::NotFound))});
    std::string const longest(path_bytes_max, 'a');
    EXPECT_EQ(below.resolve(longest, {}).error(), NameError::TooLong);
}

TEST_F(View, NothingIsChangedThroughIt) {
    EXPECT_EQ(view.bind("a/new", h(9), BindMode::New, {}).error(), NameError::ReadOnly);
    EXPECT_EQ(view.make_directory("new", {}).error(), NameError::ReadOnly);
    EXPECT_EQ(view.unbind("a/x", {}).error(), NameError::ReadOnly);
    EXPECT_TRUE(own.space.resolve("a/x").has_value());
}

TEST_F(View, AChildInheritsFromIt) {
    Space child;
    InheritRule const rules[] = {{"a", Inherit::Shared}};
    ASSERT_TRUE(inherit(child.space, view, rules).has_value());
    EXPECT_EQ(*child.space.resolve("a/b/y"), h(5));
    EXPECT_FALSE(child.space.resolve("kept/z").has_value());
    // Shared: asked each time. Private: the child's own.
    EXPECT_TRUE(own.space.bind("a/later", h(6)).has_value());
    EXPECT_TRUE(own.space.bind("keptnot/later", h(6)).has_value());
    EXPECT_EQ(*child.space.resolve("a/later"), h(6));
    EXPECT_EQ(child.space.resolve("keptnot/later").error(), NameError::NotFound);
    EXPECT_TRUE(child.space.bind("keptnot/own", h(7)).has_value());
    EXPECT_FALSE(own.space.resolve("keptnot/own").has_value());
    EXPECT_EQ(child.space.bind("a/own", h(7)).error(), NameError::ReadOnly);
}

/// A server whose lists never end, or never go forward.
struct Liar final : NameServer {
    bool has_names = true;
    Result<Handle, NameError> resolve(std::string_view, Request const&) override { return h(1); }
    Result<void, NameError> list(std::string_view, std::string_view, NameList& names,
                                 Request const&) override {
        names.count = has_names ? 1 : 0;
        names.more = true;
        names.entries[0].set("same", NameKind::Object);
        return {};
    }
    Result<void, NameError> bind(std::string_view, Handle, BindMode, Request const&) override {
        return {};
    }
    Result<void, NameError> make_directory(std::string_view, Request const&) override { return {}; }
    Result<void, NameError> unbind(std::string_view, Request const&) override { return {}; }
};

TEST(NameView, AServerThatNeverComesToAnEndIsABadAnswer) {
    Liar liar;
    NameView view(liar, {});
    NameList page;
    EXPECT_EQ(view.list("", "", page, {}).error(), NameError::BadAnswer);
    liar.has_names = false;
    EXPECT_EQ(view.list("", "", page, {}).error(), NameError::BadAnswer);
}

TEST(NameView, LongDirectoriesComeCompleteWhateverIsLeftOut) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        SCOPED_TRACE(seed);
        Random random(seed);
        Space own(600);
        NameSpaceServer server(own.space);
        Names expected;
        auto const few = random.below(10);
        for (int i = 0; i < 120; ++i) {
            auto const name = "n" + std::to_string(1000 + i);
            auto const given = random.below(10) < few;
            ASSERT_TRUE(own.space.bind(name, given ? h(1) : kOurs).has_value());
            if (given) expected.push_back(name);
        }
        NameView view(server, {.is_given = is_for_others});
        EXPECT_EQ(listing(view, ""), expected);
    }
}

}  // namespace
}  // namespace nemesis::names
