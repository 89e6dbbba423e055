// Goal: the tree finds, lists and forgets names, also 100,000 of them, in the memory it said it
// needs, and refuses what does not fit. Method: against std::map; invariants after each step.
#include "names/name_tree.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "libnemesis/base/random.h"

namespace nemesis::names {
namespace {

struct Tree {
    explicit Tree(std::uint32_t names, std::uint64_t seed = 1)
        : memory(NameTree::bytes_for(names)), tree(*NameTree::create(memory, seed)) {}

    Component component(std::string_view name) const {
        PathScan scan(name, tree.seed());
        Component c;
        EXPECT_TRUE(scan.next(c));
        return c;
    }

    std::vector<std::byte> memory;
    NameTree tree;
};

TEST(NameTree, HoldsAsManyNamesAsItWasMadeFor) {
    for (std::uint32_t const names : {1u, 2u, 3u, 7u, 64u, 100u, 1000u}) {
        Tree t(names);
        for (std::uint32_t i = 0; i < names; i++) {
            ASSERT_TRUE(t.tree.insert(t.tree.root(), t.component("n" + std::to_string(i)),
                                      CellKind::Object))
                << names << " " << i;
        }
        EXPECT_TRUE(t.tree.check_invariants());
    }
    std::byte little[64];
    EXPECT_EQ(NameTree::create(little, 1).error(), NameError::Full);
}

TEST(NameTree, FullIsSaidAndNothingIsLost) {
    Tree t(10);
    std::uint32_t held = 0;
    while (t.tree.insert(t.tree.root(), t.component("name" + std::to_string(held)),
                         CellKind::Object)) {
        held++;
    }
    EXPECT_GE(held, 10u);
    EXPECT_TRUE(t.tree.check_invariants());
    EXPECT_EQ(t.tree.cells_free(), 0u);
    t.tree.erase(t.tree.find(t.tree.root(), t.component("name3")));
    // One cell: not enough for a name in two pieces, enough for a short one.
    EXPECT_FALSE(t.tree.insert(t.tree.root(), t.component(std::string(30, 'l')), CellKind::Object));
    EXPECT_TRUE(t.tree.check_invariants());
    EXPECT_TRUE(t.tree.insert(t.tree.root(), t.component("short"), CellKind::Object));
    EXPECT_TRUE(t.tree.check_invariants());
}

TEST(NameTree, RandomNamesComeAndGoLikeInAMap) {
    for (std::uint64_t seed = 0; seed < 40; seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        Random random(seed);
        Tree t(400, seed);
        std::map<std::string, CellNumber> model;
        for (int step = 0; step < 400; step++) {
            std::string name = std::to_string(random.below(60));
            if (random.below(3) == 0) name.insert(0, std::string(10 + random.below(240), 'p'));
            CellNumber const found = t.tree.find(t.tree.root(), t.component(name));
            auto const known = model.find(name);
            ASSERT_EQ(found, known == model.end() ? 0u : known->second);
            if (found == 0 && random.below(3) != 0) {
                model[name] = *t.tree.insert(t.tree.root(), t.component(name), CellKind::Object);
            } else if (found != 0 && random.below(2) == 0) {
                t.tree.erase(found);
                model.erase(known);
            }
            if (step % 16 == 0) ASSERT_TRUE(t.tree.check_invariants());
        }
        char buffer[component_bytes_max];
        std::string last;
        for (auto const& [name, number] : model) {
            CellNumber const next = t.tree.next_child(t.tree.root(), last);
            ASSERT_EQ(next, number);
            last = t.tree.name(next, buffer);
            ASSERT_EQ(last, name);
        }
        ASSERT_EQ(t.tree.next_child(t.tree.root(), last), 0u);
    }
}

TEST(NameTree, AHundredThousandNamesFitAndAreFound) {
    constexpr std::uint32_t names = 100'000;
    Tree t(names + 100, 42);
    CellNumber directory = 0;
    for (std::uint32_t i = 0; i < names; i++) {
        if (i % 1000 == 0) {
            directory = *t.tree.insert(t.tree.root(), t.component("d" + std::to_string(i / 1000)),
                                       CellKind::Directory);
        }
        CellNumber const parent = i % 2 == 0 ? directory : t.tree.root();
        ASSERT_TRUE(
            t.tree.insert(parent, t.component("name" + std::to_string(i)), CellKind::Object));
    }
    for (std::uint32_t i = 0; i < names; i++) {
        CellNumber parent = t.tree.root();
        if (i % 2 == 0) parent = t.tree.find(parent, t.component("d" + std::to_string(i / 1000)));
        ASSERT_NE(t.tree.find(parent, t.component("name" + std::to_string(i))), 0u);
    }
    EXPECT_EQ(t.tree.find(t.tree.root(), t.component("name100001")), 0u);
    EXPECT_TRUE(t.tree.check_invariants());
}

}  // namespace
}  // namespace nemesis::names
