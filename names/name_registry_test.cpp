// Goal: names belong to who bound them, are bounded for each client, go with their client, and lead
// on to mounted servers. Method: single cases, then random operations of several clients against a
// model that is a map of paths.
#include "names/name_registry.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "libnemesis/base/random.h"

namespace nemesis::names {
namespace {

constexpr std::uint64_t mount_function = 77;
constexpr std::uint32_t share = 64;

struct Registry {
    std::vector<std::byte> memory{NameTree::bytes_for(4000)};
    NameSpace space{*NameSpace::create(memory, 7)};
    std::vector<NodeAccount> accounts{space.cells()};
    std::vector<NameClient> clients{4};
    NameRegistry registry{
        space, accounts, clients, {.cells_per_client = share, .mount_function = mount_function}};
    NameRegistry* operator->() { return &registry; }

    void leave(std::uint32_t client) {
        while (registry.leave_step(client)) {
        }
    }
};

TEST(NameRegistry, NamesBelongToWhoBoundThem) {
    Registry r;
    auto const a = *r->enter(), b = *r->enter();
    ASSERT_TRUE(r->bind(a, "clock", {1, 2}, BindMode::New));
    EXPECT_EQ(r->bind(b, "clock", {3, 4}, BindMode::New).error(), NameError::Exists);
    EXPECT_EQ(r->bind(b, "clock", {3, 4}, BindMode::Replace).error(), NameError::NotYours);
    EXPECT_EQ(r->unbind(b, "clock").error(), NameError::NotYours);
    ASSERT_TRUE(r->bind(a, "clock", {5, 6}, BindMode::Replace));
    EXPECT_EQ(*r->resolve("/clock"), (Handle{5, 6}));
    ASSERT_TRUE(r->unbind(a, "clock"));
    EXPECT_EQ(r->resolve("clock").error(), NameError::NotFound);
    EXPECT_EQ(r->client(a).cells, 0u);
    EXPECT_TRUE(r->check_invariants());
}

TEST(NameRegistry, NamesGoWithTheirClient) {
    Registry r;
    auto const a = *r->enter(), b = *r->enter();
    ASSERT_TRUE(r->make_directory(a, "services"));
    ASSERT_TRUE(r->make_directory(a, "services/deep"));
    ASSERT_TRUE(r->bind(a, "services/mine", {1, 1}, BindMode::New));
    ASSERT_TRUE(r->bind(b, "services/deep/theirs", {2, 2}, BindMode::New));
    r.leave(a);
    EXPECT_EQ(r->resolve("services/mine").error(), NameError::NotFound);
    EXPECT_TRUE(r->resolve("services/deep/theirs"));
    EXPECT_TRUE(r->check_invariants());
    // The directories were kept for b's name only.
    r.leave(b);
    EXPECT_EQ(r->space().own_node("services"), 0u);
    EXPECT_EQ(r.space.cells_free(), r.space.cells() - 2);
    EXPECT_TRUE(r->check_invariants());
}

TEST(NameRegistry, AShareIsAllThatAClientGets) {
    Registry r;
    auto const a = *r->enter(), b = *r->enter();
    std::string const longest(255, 'x');  // 1 cell and 5 pieces
    for (int i = 0; i < 10; ++i)
        ASSERT_TRUE(r->bind(a, std::to_string(i) + longest.substr(1), {1, 1}, BindMode::New));
    EXPECT_EQ(r->bind(a, "a" + longest.substr(1), {1, 1}, BindMode::New).error(), NameError::Full);
    for (int i = 0; i < 4; ++i)
        ASSERT_TRUE(r->bind(a, std::to_string(i), {1, 1}, BindMode::New)) << i;
    EXPECT_EQ(r->make_directory(a, "more").error(), NameError::Full);
    EXPECT_EQ(r->client(a).cells, share);
    EXPECT_TRUE(r->bind(b, "more", {1, 1}, BindMode::New));
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(r->enter());
    EXPECT_FALSE(r->enter()) << "more clients than there are places";
    EXPECT_TRUE(r->check_invariants());
}

TEST(NameRegistry, BelowAMountPointSomebodyElseIsAsked) {
    Registry r;
    auto const a = *r->enter();
    ASSERT_TRUE(r->make_directory(a, "net"));
    ASSERT_TRUE(r->bind(a, "net/b", {9, mount_function}, BindMode::New));
    ASSERT_TRUE(r->bind(a, "net/object", {8, 1}, BindMode::New));
    EXPECT_FALSE(r->referral("net/object/x", true)) << "no name server";
    EXPECT_FALSE(r->referral("net/b", false));
    auto const itself = r->referral("/net/b", true);
    ASSERT_TRUE(itself);
    EXPECT_EQ(itself->server, (Handle{9, mount_function}));
    EXPECT_EQ(itself->rest, 6u);
    auto const below = r->referral("/net/b/clock/face", false);
    ASSERT_TRUE(below);
    EXPECT_EQ(std::string_view("/net/b/clock/face").substr(below->rest), "clock/face");
    NameList page;
    ASSERT_TRUE(r->list("net", "", page));
    ASSERT_EQ(page.count, 2u);
    EXPECT_EQ(page.entries[0].kind, NameKind::MountPoint);
    EXPECT_EQ(page.entries[1].kind, NameKind::Object);
}

/// Who has which name, by path; directories have handle {0, 0}.
struct Model {
    struct Entry {
        std::uint32_t client;
        Handle handle;
        bool abandoned = false;
    };
    std::map<std::string, Entry> names;

    bool has_below(std::string const& path) const {
        auto const at = names.lower_bound(path + "/");
        return at != names.end() && at->first.starts_with(path + "/");
    }
    void sweep() {
        for (bool again = true; again;) {
            again = false;
            for (auto const& [path, e] : names) {
                if (!e.abandoned || has_below(path)) continue;
                names.erase(std::string(path));
                again = true;
                break;
            }
        }
    }
    void leave(std::uint32_t client) {
        for (auto at = names.begin(); at != names.end();) {
            auto& e = at->second;
            if (e.abandoned || e.client != client)
                ++at;
            else if (e.handle == Handle{})
                e.abandoned = true, ++at;
            else
                at = names.erase(at);
        }
        sweep();
    }
};

TEST(NameRegistry, RandomClientsAsTheModel) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        SCOPED_TRACE(seed);
        Registry r;
        Model model;
        Random random(seed);
        for (int i = 0; i < 4; ++i) (void)r->enter();
        for (int step = 0; step < 600; ++step) {
            std::string path;
            for (auto depth = random.between(1, 3); depth != 0; --depth)
                path += (path.empty() ? "" : "/") + std::string(1, char('a' + random.below(4)));
            auto const client = static_cast<std::uint32_t>(random.below(4));
            auto const slash = path.rfind('/');
            auto const parent = slash == path.npos ? "" : path.substr(0, slash);
            auto const is_directory = [&](std::string const& p) {
                auto const at = model.names.find(p);
                return p.empty() || (at != model.names.end() && at->second.handle == Handle{});
            };
            auto const at = model.names.find(path);
            bool const there = at != model.names.end();
            bool const mine = there && !at->second.abandoned && at->second.client == client;
            bool const fits = r->client(client).cells < share;
            Handle const handle{1 + random.below(9), 1};
            switch (random.below(5)) {
                case 0:
                    EXPECT_EQ(r->bind(client, path, handle, BindMode::New).has_value(),
                              is_directory(parent) && !there && fits);
                    if (is_directory(parent) && !there && fits)
                        model.names[path] = {client, handle};
                    break;
                case 1: {
                    auto const can = there ? mine && at->second.handle != Handle{}
                                           : is_directory(parent) && fits;
                    EXPECT_EQ(r->bind(client, path, handle, BindMode::Replace).has_value(), can);
                    if (can) model.names[path] = {client, handle};
                    break;
                }
                case 2:
                    EXPECT_EQ(r->make_directory(client, path).has_value(),
                              is_directory(parent) && !there && fits);
                    if (is_directory(parent) && !there && fits) model.names[path] = {client, {}};
                    break;
                case 3:
                    EXPECT_EQ(r->unbind(client, path).has_value(), mine && !model.has_below(path));
                    if (mine && !model.has_below(path)) {
                        model.names.erase(path);
                        model.sweep();
                    }
                    break;
                default:
                    if (random.below(20) != 0) break;
                    r.leave(client);
                    model.leave(client);
                    ASSERT_EQ(r->enter(), client);
            }
            auto const found = r->resolve(path);
            auto const now = model.names.find(path);
            EXPECT_EQ(found.has_value(),
                      now != model.names.end() && now->second.handle != Handle{});
            if (found) EXPECT_EQ(*found, now->second.handle);
            if (step % 20 == 0) ASSERT_TRUE(r->check_invariants());
            if (HasFailure()) return;
        }
        for (std::uint32_t c = 0; c < 4; ++c) r.leave(c);
        EXPECT_EQ(r.space.cells_free(), r.space.cells() - 2);
    }
}

}  // namespace
}  // namespace nemesis::names
