// Goal: name spaces with unions, aliases and mounted servers mean what they are defined to mean.
// Method: random operations on three name spaces that mount each other, beside a model that shares
// no code and defines everything by one list: the directories that a path stands for, in order.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "libnemesis/base/random.h"
#include "names/name_space.h"
#include "names/name_space_server.h"

namespace nemesis::names {
namespace {

using Path = std::vector<std::string>;

struct ModelSpace;

struct Directory {
    struct Layer {
        enum { Own, Alias, Server } source = Own;
        Directory* target = nullptr;
        ModelSpace* server = nullptr;
        Path prefix;
        bool accepts = true;
        int id = 0;
    };
    std::map<std::string, Handle> objects;
    std::map<std::string, std::unique_ptr<Directory>> directories;
    std::vector<Layer> layers;  ///< empty: own names only
    int shown_by = 0;
};

struct ModelSpace {
    Directory root;

    using Meanings = std::vector<Directory*>;

    /// What a directory shows: each entry's own names count, and nothing else of it.
    Meanings views(Directory& d, bool& object_on_the_way) {
        if (d.layers.empty()) return {&d};
        Meanings all;
        for (auto& layer : d.layers) {
            Meanings part;
            if (layer.source == Directory::Layer::Own) part = {&d};
            if (layer.source == Directory::Layer::Alias)
                part = views(*layer.target, object_on_the_way);
            if (layer.source == Directory::Layer::Server) {
                part = layer.server->directories(layer.prefix, object_on_the_way);
            }
            all.insert(all.end(), part.begin(), part.end());
        }
        return all;
    }

    Meanings directories(Path const& path, bool& object_on_the_way) {
        Meanings now = views(root, object_on_the_way);
        for (auto const& component : path) {
            Meanings next;
            for (Directory* d : now) {
                if (d->objects.contains(component)) object_on_the_way = true;
                auto const child = d->directories.find(component);
                if (child == d->directories.end()) continue;
                auto const part = views(*child->second, object_on_the_way);
                next.insert(next.end(), part.begin(), part.end());
            }
            now = next;
        }
        return now;
    }

    Result<Handle, NameError> resolve(Path path) {
        if (path.empty()) return fail(NameError::IsADirectory);
        std::string const last = path.back();
        path.pop_back();
        bool object = false, directory = false;
        for (Directory* d : directories(path, object)) {
            if (auto const found = d->objects.find(last); found != d->objects.end()) {
                return found->second;
            }
            directory |= d->directories.contains(last);
        }
        return fail(directory ? NameError::IsADirectory
                    : object  ? NameError::NotADirectory
                              : NameError::NotFound);
    }

    Result<std::map<std::string, NameKind>, NameError> list(Path const& path) {
        bool object = false;
        auto const meanings = directories(path, object);
        if (meanings.empty()) return fail(object ? NameError::NotADirectory : NameError::NotFound);
        std::map<std::string, NameKind> names;
        for (Directory* d : meanings) {
            for (auto const& [name, handle] : d->objects) names.emplace(name, NameKind::Object);
            for (auto const& [name, child] : d->directories) {
                names.emplace(name,
                              child->layers.empty() ? NameKind::Directory : NameKind::MountPoint);
            }
        }
        return names;
    }

    /// The directory whose own names a change at `path` goes to. errors: what the change yields
    Result<Directory*, NameError> place(Path const& path, std::size_t upto) {
        Directory* at = &root;
        for (std::size_t i = 0;; i++) {
            while (!at->layers.empty()) {
                auto const layer = std::find_if(at->layers.begin(), at->layers.end(),
                                                [](auto const& l) { return l.accepts; });
                if (layer == at->layers.end()) return fail(NameError::ReadOnly);
                if (layer->source == Directory::Layer::Own) break;
                if (layer->source == Directory::Layer::Alias) {
                    at = layer->target;
                    continue;
                }
                Path there = layer->prefix;
                there.insert(there.end(), path.begin() + static_cast<long>(i), path.end());
                return layer->server->place(there, there.size() - 1);
            }
            if (i == upto) return at;
            if (at->objects.contains(path[i])) return fail(NameError::NotADirectory);
            auto const child = at->directories.find(path[i]);
            if (child == at->directories.end()) return fail(NameError::NotFound);
            at = child->second.get();
        }
    }

    Result<void, NameError> bind(Path const& path, Handle handle, bool replace) {
        Directory* const d = TRY(place(path, path.size() - 1));
        if (d->directories.contains(path.back())) return fail(NameError::IsADirectory);
        if (d->objects.contains(path.back()) && !replace) return fail(NameError::Exists);
        d->objects[path.back()] = handle;
        return {};
    }
    Result<void, NameError> make_directory(Path const& path) {
        Directory* const d = TRY(place(path, path.size() - 1));
        if (d->directories.contains(path.back()) || d->objects.contains(path.back())) {
            return fail(NameError::Exists);
        }
        d->directories[path.back()] = std::make_unique<Directory>();
        return {};
    }
    Result<void, NameError> unbind(Path const& path) {
        Directory* const d = TRY(place(path, path.size() - 1));
        if (d->objects.erase(path.back()) != 0) return {};
        auto const child = d->directories.find(path.back());
        if (child == d->directories.end()) return fail(NameError::NotFound);
        if (!child->second->layers.empty() || child->second->shown_by != 0) {
            return fail(NameError::InUse);
        }
        if (!child->second->objects.empty() || !child->second->directories.empty()) {
            return fail(NameError::NotEmpty);
        }
        d->directories.erase(child);
        return {};
    }

    Result<Directory*, NameError> own(Path const& path) {
        Directory* at = &root;
        for (auto const& component : path) {
            if (at->objects.contains(component)) return fail(NameError::NotADirectory);
            auto const child = at->directories.find(component);
            if (child == at->directories.end()) return fail(NameError::NotFound);
            at = child->second.get();
        }
        return at;
    }

    static void below(Directory& d, std::set<Directory*>& all) {
        if (!all.insert(&d).second) return;
        for (auto& [name, child] : d.directories) below(*child, all);
        for (auto& layer : d.layers) {
            if (layer.target != nullptr) below(*layer.target, all);
        }
    }
    static void mounted(Directory& d, std::set<ModelSpace*>& spaces) {
        for (auto& [name, child] : d.directories) mounted(*child, spaces);
        for (auto& layer : d.layers) {
            if (layer.server != nullptr && spaces.insert(layer.server).second) {
                mounted(layer.server->root, spaces);
            }
        }
    }

    Result<void, NameError> attach(Path const& path, Directory::Layer layer, Path const& target,
                                   LayerOrder order) {
        Directory* const point = TRY(own(path));
        if (layer.server != nullptr) {
            std::set<ModelSpace*> spaces{layer.server};
            mounted(layer.server->root, spaces);
            if (spaces.contains(this)) return fail(NameError::Cycle);
        } else {
            layer.target = TRY(own(target));
            std::set<Directory*> all;
            below(*layer.target, all);
            if (all.contains(point)) return fail(NameError::Cycle);
        }
        auto& layers = point->layers;
        if (order == LayerOrder::Replace && !layers.empty()) return fail(NameError::InUse);
        auto next = layers;
        if (next.empty() && order != LayerOrder::Replace) next.push_back({});
        if (next.size() == layers_max) return fail(NameError::TooManyLayers);
        next.insert(order == LayerOrder::After ? next.end() : next.begin(), layer);
        layers = next;
        if (layer.target != nullptr) layer.target->shown_by++;
        return {};
    }

    bool detach(Directory& d, int id) {
        for (std::size_t i = 0; i < d.layers.size(); i++) {
            if (d.layers[i].id != id) continue;
            if (d.layers[i].target != nullptr) d.layers[i].target->shown_by--;
            d.layers.erase(d.layers.begin() + static_cast<long>(i));
            if (d.layers.size() == 1 && d.layers[0].source == Directory::Layer::Own) {
                d.layers.clear();
            }
            return true;
        }
        for (auto& [name, child] : d.directories) {
            if (detach(*child, id)) return true;
        }
        return false;
    }
};

std::string joined(Path const& path) {
    std::string text;
    for (auto const& component : path) text += (text.empty() ? "" : "/") + component;
    return text;
}

/// Three name spaces beside their models; the first may mount both others, the second the third,
/// and any may try any.
class Trio {
public:
    explicit Trio(std::uint64_t seed) : random_(seed) {
        for (auto& space : spaces_) space = std::make_unique<Space>(random_.next());
    }

    void step() {
        auto const which = random_.below(3);
        Space& s = *spaces_[which];
        Path const path = some_path(1);
        std::string const text = joined(path);
        Handle const handle{1 + random_.below(1000), 1};
        bool const replace = random_.below(2) == 0;
        switch (random_.below(9)) {
            case 0:
            case 1:
                same(s.real.bind(text, handle, replace ? BindMode::Replace : BindMode::New),
                     s.model.bind(path, handle, replace));
                break;
            case 2:
            case 3:
                same(s.real.make_directory(text), s.model.make_directory(path));
                break;
            case 4:
                same(s.real.unbind(text), s.model.unbind(path));
                break;
            case 5:
                attach(s, some_path(0));
                break;
            case 6:
                detach(s);
                break;
            default:
                look(s, path);
                break;
        }
        look(*spaces_[0], some_path(0));
    }

    void check() {
        for (auto& space : spaces_) ASSERT_TRUE(space->real.check_invariants());
    }
    std::uint64_t tangled() const { return tangled_; }
    std::uint64_t found() const { return found_; }
    std::uint64_t mounts() const { return mounts_; }

private:
    struct Space {
        explicit Space(std::uint64_t seed)
            : memory(NameTree::bytes_for(4000)), real(*NameSpace::create(memory, seed)) {}
        std::vector<std::byte> memory;
        NameSpace real;
        NameSpaceServer server{real, ServeRights::ReadWrite};
        ModelSpace model;
        std::vector<std::pair<MountId, int>> mounts;
    };

    Path some_path(std::size_t least) {
        static std::string const names[] = {"a", "b", "c", std::string(24, 'd'),
                                            std::string(40, 'e')};
        Path path(least + random_.below(4));
        for (auto& component : path) component = names[random_.below(5)];
        return path;
    }

    void same(Result<void, NameError> const& real, Result<void, NameError> const& model) {
        ASSERT_EQ(real.has_value(), model.has_value())
            << (real ? text(model.error()) : text(real.error()));
        if (!real) ASSERT_EQ(text(real.error()), text(model.error()));
    }

    void attach(Space& s, Path const& path) {
        if (s.mounts.size() > 5) return;  // more, and resolutions would end as Tangled
        auto const order = LayerOrder(random_.below(3));
        bool const accepts = random_.below(2) == 0;
        Path const other = random_.below(3) == 0 ? Path() : some_path(0);
        Directory::Layer layer{.prefix = other, .accepts = accepts, .id = ++ids_};
        MountOptions const options{.order = order, .accepts_names = accepts};
        Result<MountId, NameError> id = fail(NameError::Full);
        std::string const other_text = joined(other);
        if (random_.below(2) == 0) {
            layer.source = Directory::Layer::Alias;
            id = s.real.alias(joined(path), other_text, options);
        } else {
            Space& server = *spaces_[random_.below(3)];
            layer.source = Directory::Layer::Server;
            layer.server = &server.model;
            auto with_prefix = options;
            with_prefix.prefix = other_text;
            id = s.real.mount(joined(path), server.server, with_prefix);
        }
        auto const attached = s.model.attach(path, layer, other, order);
        ASSERT_EQ(id.has_value(), attached.has_value())
            << (id ? text(attached.error()) : text(id.error()));
        if (!id) {
            ASSERT_EQ(text(id.error()), text(attached.error()));
            return;
        }
        ++mounts_;
        s.mounts.emplace_back(*id, layer.id);
    }

    void detach(Space& s) {
        if (s.mounts.empty()) return;
        auto const at = static_cast<long>(random_.below(s.mounts.size()));
        auto const [id, model_id] = s.mounts[static_cast<std::size_t>(at)];
        ASSERT_TRUE(s.real.unmount(id));
        ASSERT_TRUE(s.model.detach(s.model.root, model_id));
        ASSERT_FALSE(s.real.unmount(id));
        s.mounts.erase(s.mounts.begin() + at);
    }

    void look(Space& s, Path const& path) {
        std::string const text_of_path = joined(path);
        SCOPED_TRACE(text_of_path);
        auto const real = s.real.resolve(text_of_path);
        auto const model = s.model.resolve(path);
        if (!real && real.error() == NameError::Tangled) {
            ++tangled_;
        } else {
            ASSERT_EQ(real.has_value(), model.has_value())
                << (real ? text(model.error()) : text(real.error()));
            if (real) {
                ++found_;
                ASSERT_EQ(*real, *model);
            } else {
                ASSERT_EQ(text(real.error()), text(model.error()));
            }
        }
        Path const after_path = some_path(0);
        std::string const after = after_path.empty() ? "" : after_path[0];
        NameList page;
        auto const listed = s.real.list(text_of_path, after, page);
        if (!listed && listed.error() == NameError::Tangled) return;
        auto const expected = s.model.list(path);
        ASSERT_EQ(listed.has_value(), expected.has_value())
            << (listed ? text(expected.error()) : text(listed.error()));
        if (!listed) {
            ASSERT_EQ(text(listed.error()), text(expected.error()));
            return;
        }
        auto next = expected->upper_bound(after);
        for (auto const& entry : page.names()) {
            ASSERT_NE(next, expected->end());
            ASSERT_EQ(entry.name(), next->first);
            ASSERT_EQ(entry.kind, next->second) << next->first;
            ++next;
        }
        ASSERT_EQ(page.more, next != expected->end());
    }

    Random random_;
    std::unique_ptr<Space> spaces_[3];
    int ids_ = 0;
    std::uint64_t tangled_ = 0, found_ = 0, mounts_ = 0;
};

TEST(NameSpaceOracle, RandomNameSpacesMeanWhatTheModelSays) {
    std::uint64_t tangled = 0, found = 0, mounts = 0;
    for (std::uint64_t seed = 1; seed <= 300; seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        Trio trio(seed);
        for (int step = 0; step < 400; step++) {
            trio.step();
            if (testing::Test::HasFatalFailure()) return;
        }
        trio.check();
        tangled += trio.tangled();
        found += trio.found();
        mounts += trio.mounts();
    }
    // The test has looked at something.
    EXPECT_GT(found, 10'000u);
    EXPECT_GT(mounts, 1'000u);
    EXPECT_LT(tangled, found / 10);
}

/// A server whose pages are shorter than they could be.
class ShortPages final : public NameServer {
public:
    ShortPages(NameSpace& space, std::uint32_t page) : space_(space), page_(page) {}
    Result<Handle, NameError> resolve(std::string_view path, Request const& request) override {
        return space_.resolve(path, request);
    }
    Result<void, NameError> list(std::string_view path, std::string_view after, NameList& names,
                                 Request const& request) override {
        TRY_VOID(space_.list(path, after, names, request));
        names.more |= names.count > page_;
        names.count = std::min(names.count, page_);
        return {};
    }
    Result<void, NameError> bind(std::string_view, Handle, BindMode, Request const&) override {
        return fail(NameError::ReadOnly);
    }
    Result<void, NameError> make_directory(std::string_view, Request const&) override {
        return fail(NameError::ReadOnly);
    }
    Result<void, NameError> unbind(std::string_view, Request const&) override {
        return fail(NameError::ReadOnly);
    }

private:
    NameSpace& space_;
    std::uint32_t page_;
};

/// Names of several pages in several layers, so that pages end in the middle of unions.
TEST(NameSpaceOracle, LongListingsOfUnionsAreComplete) {
    for (std::uint64_t seed = 1; seed <= 60; seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        Random random(seed);
        std::vector<std::byte> memory[4];
        std::vector<NameSpace> spaces;
        spaces.reserve(4);
        std::map<std::string, int> expected;
        for (auto& m : memory) {
            m.resize(NameTree::bytes_for(300));
            spaces.push_back(*NameSpace::create(m, seed));
        }
        for (std::size_t i = 0; i < 4; i++) {
            auto const count = random.below(60);
            for (std::uint64_t n = 0; n < count; n++) {
                std::string const name = "n" + std::to_string(random.below(100));
                if (spaces[i].bind(name, {i + 1, 1})) expected[name];
            }
        }
        std::vector<ShortPages> servers;
        for (auto& space : spaces) {
            servers.emplace_back(space, static_cast<std::uint32_t>(1 + random.below(15)));
        }
        // The third is reached through the second.
        ASSERT_TRUE(spaces[0].mount("", servers[1], {.order = LayerOrder::After}));
        ASSERT_TRUE(spaces[1].mount("", servers[2], {.order = LayerOrder::Before}));
        ASSERT_TRUE(spaces[0].mount("", servers[3], {.order = LayerOrder::Before}));
        std::string after;
        NameList page;
        auto next = expected.begin();
        do {
            ASSERT_TRUE(spaces[0].list("", after, page));
            for (auto const& entry : page.names()) {
                ASSERT_NE(next, expected.end());
                ASSERT_EQ(entry.name(), next->first);
                after = entry.name();
                ++next;
            }
        } while (page.more);
        ASSERT_EQ(next, expected.end());
    }
}

}  // namespace
}  // namespace nemesis::names
