// The log ring, its formatting, and its way out.
#include "kernel/log.h"

#include <algorithm>
#include <cstring>

#include "arch/x86_64/serial.h"

namespace nemesis::kernel::log {

namespace detail {
std::uint64_t written = 0, sent = 0;
std::uint32_t noted = 0, formatted = 0;
}  // namespace detail

namespace {

using namespace detail;

constexpr std::uint64_t kBytes = 65536;
/// What one step puts out: two fillings of a port's FIFO.
constexpr std::uint64_t kStepBytes = 32;
char ring[kBytes];
bool waits = false;  ///< text waits for `step`

struct Note {
    Ending ending;
    char name[32];
    std::uint64_t vector, rip, address;
};
constexpr std::uint32_t kNotes = 8;
Note notes[kNotes];
std::uint32_t unnoted = 0;  ///< endings for which there was no room

/// What waits in the ring up to its end, `most` bytes at most; what was overwritten is lost.
std::string_view next_piece(std::uint64_t most) {
    if (written - sent > kBytes) sent = written - kBytes;
    auto const at = sent % kBytes;
    return {&ring[at], std::min({most, written - sent, kBytes - at})};
}

void format(Note const& n) {
    using namespace std::literals;
    std::string_view const name = n.name;
    switch (n.ending) {
        case Ending::Fault:
            return line("domain "sv, name, ": fault "sv, n.vector, " at "sv, hex(n.rip),
                        " address "sv, hex(n.address), " with activations off, ended"sv);
        case Ending::Slot:
            return line("domain "sv, name, ": malformed context slot, ended"sv);
        case Ending::Exception:
        case Ending::Overrun:
            return line("domain "sv, name, ": privileged section ended: "sv,
                        n.ending == Ending::Exception ? "exception"sv : "over its bound"sv,
                        " at "sv, hex(n.rip), ", stack "sv, hex(n.address));
    }
}

void format_next() {
    format(notes[formatted++ % kNotes]);
    if (noted != formatted || unnoted == 0) return;
    line(unnoted, " domains more were ended");
    unnoted = 0;
}

}  // namespace

void (*echo)(std::string_view text) = nullptr;

void write(std::string_view text) {
    if (echo != nullptr) echo(text);
    auto const at = written % kBytes;
    auto const room = kBytes - at;
    auto const first = text.size() < room ? text.size() : room;
    std::memcpy(&ring[at], text.data(), first);
    if (first < text.size()) std::memcpy(ring, text.data() + first, text.size() - first);
    written += text.size();
    if (waits) return;
    sent = written;
    arch::serial::write(text);
}

/// Eight digits at once, the first in the lowest byte.
static std::uint64_t hex_digits(std::uint32_t number) {
    std::uint64_t x = number;  // its digits are moved apart, one into each byte
    x = (x & 0xffff) | (x & 0xffff0000) << 16;
    x = (x & 0x000000ff000000ff) | (x & 0x0000ff000000ff00) << 8;
    x = (x & 0x000f000f000f000f) | (x & 0x00f000f000f000f0) << 4;
    auto const letters = ((x + 0x0606060606060606) >> 4) & 0x0101010101010101;
    return __builtin_bswap64(x + 0x3030303030303030 + letters * ('a' - '0' - 10));
}

void Line::add(std::string_view text) {
    auto const bytes = std::min(text.size(), kBytes - used_);
    std::memcpy(&bytes_[used_], text.data(), bytes);
    used_ += bytes;
}

void Line::add(Argument const& a) {
    if (a.kind == Argument::Kind::Text) return add(a.text);
    char digits[20];
    auto n = sizeof(digits);
    auto value = a.number;
    if (a.kind == Argument::Kind::Hex) {
        std::uint64_t const all[] = {hex_digits(static_cast<std::uint32_t>(value >> 32)),
                                     hex_digits(static_cast<std::uint32_t>(value))};
        std::memcpy(&digits[4], all, 16);
        n = 4 + static_cast<unsigned>(__builtin_clzll(value | 1)) / 4;
        digits[--n] = 'x';
        digits[--n] = '0';
    } else {
        do {
            digits[--n] = static_cast<char>('0' + value % 10);
            value /= 10;
        } while (value != 0);
    }
    add(std::string_view(&digits[n], sizeof(digits) - n));
}

std::uint64_t tail(char* to, std::uint64_t bytes) {
    auto const have = written < kBytes ? written : kBytes;
    auto const count = bytes < have ? bytes : have;
    for (std::uint64_t i = 0; i < count; ++i) to[i] = ring[(written - count + i) % kBytes];
    return count;
}

void later(Ending ending, char const* name, std::uint64_t vector, std::uint64_t rip,
           std::uint64_t address) {
    if (noted - formatted == kNotes) {
        ++unnoted;
        return;
    }
    auto& n = notes[noted++ % kNotes];
    n.ending = ending;
    std::memcpy(n.name, name, sizeof(n.name));
    n.vector = vector;
    n.rip = rip;
    n.address = address;
}

bool step() {
    if (written != sent) {
        auto const bytes = arch::serial::write_some(next_piece(kStepBytes));
        sent += bytes;
        return bytes != 0;
    }
    if (noted == formatted) return false;
    format_next();
    return true;
}

void set_waiting(bool on) {
    if (!on) flush();
    waits = on;
}

void flush() {
    for (;;) {
        while (written != sent) {
            auto const piece = next_piece(kBytes);
            arch::serial::write(piece);
            sent += piece.size();
        }
        if (noted == formatted) break;
        format_next();
    }
}

}  // namespace nemesis::kernel::log
