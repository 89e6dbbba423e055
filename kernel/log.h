#pragma once
// The kernel's log: a ring of text, echoed on the serial line, whose tail a panic shows.
//
// Writing never blocks and never fails; old text is overwritten. Kernel context only.

#include <cstdint>
#include <string_view>

namespace nemesis::kernel::log {

/// Where text goes besides ring and serial line: the screen during the boot. Null: nowhere.
extern void (*echo)(std::string_view text);

/// Appends text. bound: linear in its length; callers keep it under a line.
void write(std::string_view text);

/// One argument of print: text or a number in decimal, or in hexadecimal with hex().
struct Argument {
    enum class Kind : std::uint8_t { Text, Decimal, Hex } kind;
    std::string_view text;
    std::uint64_t number;
    Argument(char const* s) : kind(Kind::Text), text(s), number(0) {}
    Argument(std::string_view s) : kind(Kind::Text), text(s), number(0) {}
    Argument(std::uint64_t n) : kind(Kind::Decimal), number(n) {}
    Argument(std::uint32_t n) : kind(Kind::Decimal), number(n) {}
    Argument(int n) : kind(Kind::Decimal), number(static_cast<std::uint64_t>(n)) {}
    Argument(std::int64_t n) : kind(Kind::Decimal), number(static_cast<std::uint64_t>(n)) {}
    Argument(Kind k, std::uint64_t n) : kind(k), number(n) {}
};
inline Argument hex(std::uint64_t n) { return Argument(Argument::Kind::Hex, n); }

void write(Argument const& a);

/// Appends all arguments, then a new line.
template <typename... A>
void line(A const&... arguments) {
    (write(Argument(arguments)), ...);
    write(std::string_view("\n"));
}

/// The last `bytes` of the log, oldest first, into `to`; returns how many.
std::uint64_t tail(char* to, std::uint64_t bytes);

}  // namespace nemesis::kernel::log
