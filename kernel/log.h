#pragma once
// The kernel's log: a ring of text, put out on the serial line, whose tail a panic shows.
//
// Writing never blocks and never fails; old text is overwritten. During the boot and a panic all
// goes out at once. In between, text waits in the ring and is put out by `step`, a few bytes at a
// time, when nobody with a guarantee wants the processor: the line of a domain that died delays
// nobody. What the kernel has to say then is noted by `later` in a few words and formatted in a
// step too. Kernel context only, interrupts off.

#include <cstdint>
#include <string_view>

namespace nemesis::kernel::log {

/// Where text goes besides ring and serial line: the screen during the boot. Null: nowhere.
extern void (*echo)(std::string_view text);

/// Appends text. bound: linear in its length; callers keep it under a line.
void write(std::string_view text);

/// One argument of line: text or a number in decimal, or in hexadecimal with hex().
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

/// A line being formed; what is longer than it holds is cut off.
class Line {
public:
    void add(std::string_view text);
    void add(Argument const& a);
    /// All that was added, and a new line.
    std::string_view end() {
        bytes_[used_] = '\n';
        return {bytes_, used_ + 1};
    }

private:
    static constexpr std::size_t kBytes = 255;
    char bytes_[kBytes + 1];
    std::size_t used_ = 0;
};

/// Appends all arguments, then a new line.
template <typename... A>
void line(A const&... arguments) {
    Line l;
    (l.add(Argument(arguments)), ...);
    write(l.end());
}

/// The last `bytes` of the log, oldest first, into `to`; returns how many.
std::uint64_t tail(char* to, std::uint64_t bytes);

/// Why the kernel ended a domain.
enum class Ending : std::uint8_t { Fault, Slot, Exception, Overrun };

/// Says, in a later step, that domain `name` (32 bytes) was ended. `vector`, `rip` and `address`
/// (of a section: its stack) as the reason has them. bound: O(1); if nobody finds the time to put
/// out the last eight, those that follow are counted only.
void later(Ending ending, char const* name, std::uint64_t vector, std::uint64_t rip,
           std::uint64_t address);

/// Text or something noted waits.
inline bool waiting();
/// Puts out what the serial port takes at once of the next few bytes, or formats what was noted.
/// Returns whether anything was done: not while the port is busy. bound: O(1)
bool step();
/// From now on text waits (true), or goes out at once, what has waited first.
void set_waiting(bool on);
/// Puts out all that waits. bound: linear in it; the machine is about to end or to stand still.
void flush();

namespace detail {
extern std::uint64_t written, sent;  ///< bytes since the boot
extern std::uint32_t noted, formatted;
}  // namespace detail

inline bool waiting() {
    using namespace detail;
    return ((written - sent) | (noted - formatted)) != 0;
}

}  // namespace nemesis::kernel::log
