#pragma once
// ManifestScanner: the text of a manifest as words, numbers, strings and marks, with their places.
// It has no buffer of tokens: the parser asks for what may come next, and a wrong answer throws the
// mistake. Space, line ends and comments (# to the end of the line) separate and mean nothing.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "tools/image/manifest_compiler.h"

namespace nemesis::image {

/// A point in the text.
struct Place {
    unsigned line = 1;
    unsigned column = 1;
};

/// What a number counts, with the units one may write.
struct Unit {
    std::string_view name;
    std::uint64_t factor;
};

class ManifestScanner {
public:
    explicit ManifestScanner(std::string_view text) : text_(text) {}

    /// Where the next thing begins.
    Place place();
    bool at_end();

    /// Takes `mark` ("{", "->", "..") or the word `mark` if it comes next.
    bool accept(std::string_view mark);
    /// As accept; otherwise a mistake that says `mark` is missing, and where.
    void expect(std::string_view mark, std::string_view where);

    /// A word of letters, digits, '_' and '-'. `what`: for the mistake, "a domain's name"
    std::string_view word(std::string_view what);
    /// The next word without taking it, or nothing.
    std::string_view peek_word();
    /// A name in the archive, which may also have '.' and '/'.
    std::string_view archive_name(std::string_view what);
    /// A decimal or 0x number without unit, at most `max`.
    std::uint64_t number(std::string_view what, std::uint64_t max);
    /// A decimal number, perhaps with a fraction, with one of `units`: the result is exact.
    std::uint64_t quantity(std::string_view what, std::span<Unit const> units, std::uint64_t max);
    /// A string in double quotes on one line; \" and \\ stand for " and \.
    std::string string(std::string_view what);

    /// After a mistake: goes on to the next line that begins with one of `words`.
    void skip_to_line_with(std::span<std::string_view const> words);

    [[noreturn]] void mistake(Place place, std::string message);

private:
    void skip_space();
    void advance(std::size_t n);
    std::string_view take_while(bool (*belongs)(char), std::string_view what);
    std::string found();

    std::string_view text_;
    std::size_t at_ = 0;
    Place place_;
};

}  // namespace nemesis::image
