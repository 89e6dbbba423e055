#pragma once
// Paths: components between slashes, and the scanner that hashes them as it goes.
//
// shape: "services/clock"; one slash at the beginning is allowed and means nothing, because each
// name space has one root, its own. A component is 1 to 255 bytes without slash and control
// characters, and not "." or "..": those would mean different things below a mount. "" and "/" are
// the root itself.
//
// Looking names up trusts no path to be well formed: a malformed one is just not found, and only
// then `check_path` says why. That keeps the checks off the measured way.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "libnemesis/base/result.h"
#include "names/name_error.h"

namespace nemesis::names {

inline constexpr std::size_t component_bytes_max = 255;
inline constexpr std::size_t path_bytes_max = 1023;
inline constexpr std::size_t components_max = 64;
/// So many bytes of a component lie in the node itself.
inline constexpr std::size_t component_words = 3;
inline constexpr std::size_t component_inline = component_words * 8;

/// Whether `path` is well formed. errors: BadName, TooLong; context: any, O(bytes)
[[nodiscard]] Result<void, NameError> check_path(std::string_view path);
/// The same of one component.
[[nodiscard]] Result<void, NameError> check_component(std::string_view component);

/// A path without the slash that may stand at its beginning.
constexpr std::string_view relative(std::string_view path) {
    if (!path.empty() && path.front() == '/') path.remove_prefix(1);
    return path;
}

/// `path` cut before its last component. requires: a well-formed path that is not the root
struct Split {
    std::string_view parent;
    std::string_view last;
};
/// See Split.
constexpr Split split_last(std::string_view path) {
    std::size_t const slash = path.rfind('/');
    if (slash == path.npos) return {{}, path};
    return {path.substr(0, slash), path.substr(slash + 1)};
}

/// The first bytes of a component as words, zero padded, and its hash.
struct Component {
    std::uint64_t words[component_words];
    std::string_view text;
    std::uint64_t hash;  ///< seeded, of the whole text; the parent is not in it yet
};

/// Multiplies to 128 bits and folds: each bit of the result depends on all bits of both.
[[gnu::always_inline]] constexpr std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
    auto const product = static_cast<unsigned __int128>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

/// Takes a path apart from left to right, each byte read once. context: any, O(bytes)
class PathScan {
public:
    PathScan(std::string_view path, std::uint64_t seed)
        : at_(path.data()), end_(path.data() + path.size()), seed_(seed) {}

    /// Whether nothing is left.
    bool at_end() const { return at_ == end_; }
    /// What `next` has not seen yet, without the slash that separates it.
    std::string_view rest() const { return {at_, static_cast<std::size_t>(end_ - at_)}; }

    /// The next component; an empty one where the path is malformed, which no node has. A slash at
    /// the end of the path is followed by an empty component too.
    /// errors: false when a component is too long; requires: !at_end()
    [[gnu::always_inline]] bool next(Component& component) {
        constexpr std::uint64_t ones = 0x0101'0101'0101'0101, highs = ones << 7;
        constexpr std::uint64_t slashes = ones * '/';
        char const* const begin = at_;
        std::uint64_t hash = seed_;
        component.words[1] = component.words[2] = 0;
        for (std::size_t index = 0;; index++) {
            auto const left = static_cast<std::size_t>(end_ - at_);
            std::uint64_t word = load(at_, left);
            std::uint64_t const differing = word ^ slashes;
            // The lowest marked byte is the first slash; marks above it may be wrong.
            std::uint64_t const marks = (differing - ones) & ~differing & highs;
            if (marks != 0) {
                auto const bits = static_cast<unsigned>(std::countr_zero(marks)) & ~7u;
                // A name of whole words ends here, as it does at the end of a path.
                if (bits == 0 && index != 0) break;
                word &= (1ull << bits) - 1;
                at_ += bits / 8;
            } else {
                at_ += left < 8 ? left : 8;
            }
            if (index < component_words) component.words[index] = word;
            hash = mix(hash ^ word, 0x9E37'79B9'7F4A'7C15);
            if (marks != 0 || at_ == end_) break;
            if (index * 8 > component_bytes_max) return false;
        }
        component.text = {begin, static_cast<std::size_t>(at_ - begin)};
        component.hash = hash ^ component.text.size();
        if (at_ != end_ && at_ + 1 != end_) ++at_;
        return true;
    }

private:
    /// Up to 8 bytes, zero padded, none read outside.
    [[gnu::always_inline]] static std::uint64_t load(char const* from, std::size_t left) {
        std::uint64_t word = 0;
        if (left >= 8) {
            __builtin_memcpy(&word, from, 8);
        } else if (left >= 4) {
            std::uint32_t low, high;
            __builtin_memcpy(&low, from, 4);
            __builtin_memcpy(&high, from + left - 4, 4);
            word = low | static_cast<std::uint64_t>(high) << (left - 4) * 8;
        } else if (left > 0) {
            word = static_cast<unsigned char>(from[0]);
            if (left > 1)
                word |= static_cast<std::uint64_t>(static_cast<unsigned char>(from[1])) << 8;
            if (left > 2)
                word |= static_cast<std::uint64_t>(static_cast<unsigned char>(from[2])) << 16;
        }
        return word;
    }

    char const* at_;
    char const* end_;
    std::uint64_t seed_;
};

}  // namespace nemesis::names
