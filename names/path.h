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

/// Where the first slash of `text` is, or its size. (Programs without a C library have no memchr.)
constexpr std::size_t find_slash(std::string_view text) {
    std::size_t at = 0;
    while (at < text.size() && text[at] != '/') ++at;
    return at;
}
/// The bytes [from, from + count) of `text`, as many as there are. Never throws.
constexpr std::string_view part(std::string_view text, std::size_t from,
                                std::size_t count = std::string_view::npos) {
    if (from > text.size()) from = text.size();
    if (count > text.size() - from) count = text.size() - from;
    return {text.data() + from, count};
}

/// `path` cut before its last component. requires: a well-formed path that is not the root
struct Split {
    std::string_view parent;
    std::string_view last;
};
/// See Split.
constexpr Split split_last(std::string_view path) {
    std::size_t at = path.size();
    while (at > 0 && path[at - 1] != '/') --at;
    return {part(path, 0, at == 0 ? 0 : at - 1), part(path, at)};
}

/// The first bytes of a component as words, zero padded, and its hash.
struct Component {
    std::uint64_t words[component_words];
    std::string_view text;
    std::uint64_t hash;  ///< seeded, of the whole text; the parent is not in it yet
};

/// A component of at most 8 bytes.
struct ShortComponent {
    std::uint64_t word;  ///< its bytes, zero padded
    std::size_t length;
    std::uint64_t hash;  ///< as Component's
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
        : begin_(path.data()), at_(path.data()), end_(path.data() + path.size()), seed_(seed) {}

    /// Whether nothing is left.
    bool at_end() const { return at_ == end_; }
    /// What `next` has not seen yet, without the slash that separates it.
    std::string_view rest() const { return {at_, static_cast<std::size_t>(end_ - at_)}; }

    /// The next component; an empty one where the path is malformed, which no node has. A slash at
    /// the end of the path is followed by an empty component too.
    /// errors: false when a component is too long; requires: !at_end()
    [[gnu::always_inline]] bool next(Component& component) {
        char const* const first = at_;
        ShortComponent found;
        if (!next_short(found)) return next_long(component);
        component = {{found.word}, {first, found.length}, found.hash};
        return true;
    }
    /// The same of a component of at most 8 bytes. false: it has more, and nothing has been taken.
    [[gnu::always_inline]] bool next_short(ShortComponent& component) {
        auto const left = static_cast<std::size_t>(end_ - at_);
        std::uint64_t word = load(left);
        std::uint64_t const marks = slashes_in(word);
        std::size_t length = left;
        char const* next = end_;
        if (marks != 0) {
            word &= (marks ^ (marks - 1)) >> 8;
            length = static_cast<unsigned>(std::countr_zero(marks)) / 8;
            next = behind(length);
        } else if (left > 8) {
            if (at_[8] != '/') return false;
            length = 8;
            next = behind(length);
        }
        component = {word, length, mix(seed_ ^ word, factor) ^ length};
        at_ = next;
        return true;
    }

private:
    static constexpr std::uint64_t factor = 0x9E37'79B9'7F4A'7C15;

    /// A mark in each byte that is a slash; the lowest is right, marks above it may not be.
    [[gnu::always_inline]] static std::uint64_t slashes_in(std::uint64_t word) {
        constexpr std::uint64_t ones = 0x0101'0101'0101'0101;
        std::uint64_t const differing = word ^ ones * '/';
        return (differing - ones) & ~differing & ones << 7;
    }

    /// Where it goes on behind a component and the slash after it.
    [[gnu::always_inline]] char const* behind(std::size_t length) const {
        char const* const slash = at_ + length;
        return slash + (end_ - slash > 1 ? 1 : 0);
    }

    /// As next, for a component of more than 8 bytes.
    bool next_long(Component& component);

    /// The next up to 8 bytes, zero padded; none is read outside the path.
    [[gnu::always_inline]] std::uint64_t load(std::size_t left) const {
        std::uint64_t word = 0;
        if (left >= 8) {
            __builtin_memcpy(&word, at_, 8);
        } else if (end_ - begin_ >= 8) {
            __builtin_memcpy(&word, end_ - 8, 8);
            word >>= 64 - left * 8;
        } else {
            for (std::size_t i = left; i-- > 0;) {
                word = word << 8 | static_cast<unsigned char>(at_[i]);
            }
        }
        return word;
    }

    char const* begin_;
    char const* at_;
    char const* end_;
    std::uint64_t seed_;
};

}  // namespace nemesis::names
