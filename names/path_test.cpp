// Goal: paths are taken apart and refused as path.h says. Method: tables of good and bad paths; the
// scanner against std::string on random paths, each in an allocation of exactly its size.
#include "names/path.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "libnemesis/base/random.h"

namespace nemesis::names {
namespace {

TEST(Path, WellFormedPathsAreAccepted) {
    for (std::string const& path :
         {std::string(), std::string("/"), std::string("a"), std::string("/a/b c/\xC3\xA9"),
          std::string("..."), std::string(255, 'x'), std::string("a/") + std::string(255, 'x')}) {
        EXPECT_TRUE(check_path(path)) << path;
    }
    std::string deep = "n";
    for (std::size_t i = 1; i < components_max; i++) deep += "/n";
    EXPECT_TRUE(check_path(deep));
    EXPECT_EQ(check_path(deep + "/n").error(), NameError::TooLong);
}

TEST(Path, MalformedPathsAreRefusedEachWithItsReason) {
    for (std::string const& path : {std::string("a/"), std::string("//"), std::string("a//b"),
                                    std::string("."), std::string("a/../b"), std::string("a\nb"),
                                    std::string("a\0b", 3), std::string("\x7f")}) {
        auto const checked = check_path(path);
        ASSERT_FALSE(checked) << path;
        EXPECT_EQ(checked.error(), NameError::BadName) << path;
    }
    EXPECT_EQ(check_path(std::string(256, 'x')).error(), NameError::TooLong);
    EXPECT_EQ(check_path(std::string(path_bytes_max + 1, '/')).error(), NameError::TooLong);
    EXPECT_FALSE(check_component("a/b"));
}

TEST(Path, EveryErrorHasItsOwnText) {
    for (int e = 0; e < name_errors; e++) EXPECT_NE(text(NameError(e)), "unknown name error");
    EXPECT_EQ(text(NameError(name_errors)), "unknown name error");
}

TEST(Path, ScannerFindsTheComponentsOfRandomPaths) {
    for (std::uint64_t seed = 0; seed < 3000; seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        Random random(seed);
        std::vector<std::string> parts(1 + random.below(6));
        std::string path;
        for (auto& part : parts) {
            part.resize(1 + random.below(40));
            // Bytes next to the slash try the search for it.
            for (char& c : part) c = "ab.0\x2e\x30\xAF\xFF"[random.below(8)];
            path += (path.empty() ? "" : "/") + part;
        }
        auto const exact = std::make_unique<char[]>(path.size());
        std::memcpy(exact.get(), path.data(), path.size());
        PathScan scan({exact.get(), path.size()}, seed);
        for (std::string const& part : parts) {
            ASSERT_FALSE(scan.at_end());
            Component component;
            ASSERT_TRUE(scan.next(component));
            ASSERT_EQ(component.text, part);
            char inlined[component_inline] = {};
            std::memcpy(inlined, part.data(), std::min(part.size(), component_inline));
            ASSERT_EQ(std::memcmp(component.words, inlined, component_inline), 0);
            // The hash is that of the same name alone.
            PathScan alone(part, seed);
            Component same;
            ASSERT_TRUE(alone.next(same));
            ASSERT_EQ(same.hash, component.hash);
        }
        EXPECT_TRUE(scan.at_end());
    }
}

}  // namespace
}  // namespace nemesis::names
