#pragma once
// Command lines: what a typed line means. Words are separated by blanks; '...' and "..." keep
// blanks in a word, a backslash keeps the next character, # begins a comment, ; ends a command.
// Nothing is substituted. Pure; every error is one line that says what is wrong.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "libnemesis/base/result.h"

namespace nemesis::shell {

inline constexpr std::size_t line_max = 500, words_max = 64;

using Words = std::vector<std::string>;

/// The commands of a line, in order; empty ones are left out. errors: one line of text
Result<std::vector<Words>, std::string> parse_line(std::string_view line);

/// A number, or one right before ns, us, ms, s: "5ms", "1.5ms", "40". Unit of the result: ns for
/// times. errors: one line of text
Result<std::uint64_t, std::string> parse_number(std::string_view text);
Result<std::uint64_t, std::string> parse_time(std::string_view text);

/// What `qos` and `run` take: "5ms/40ms", "5ms/40ms/20ms" (with a deadline) or "spare".
struct ContractWords {
    std::uint64_t slice = 0, period = 0, deadline = 0;  ///< ns; slice 0: spare time only
};
Result<ContractWords, std::string> parse_contract(std::string_view text);

/// `n` ns for people: "5 ms", "1.500 s".
std::string time_text(std::uint64_t n);

}  // namespace nemesis::shell
