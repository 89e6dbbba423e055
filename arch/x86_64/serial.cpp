// Polled output on COM1.
#include "arch/x86_64/serial.h"

#include "arch/x86_64/cpu.h"

namespace nemesis::arch::serial {
namespace {

constexpr std::uint16_t kPort = 0x3f8;
bool present_ = false;
unsigned fifo_bytes_ = 1;

/// Waits for `polls` looks until the port has sent what it was given. Returns how many bytes it
/// takes now.
unsigned room(int polls) {
    while (polls-- > 0)
        if ((in8(kPort + 5) & 0x20) != 0) return fifo_bytes_;
    return 0;
}

/// Returns how many bytes of `text` the port has taken, `polls` looks at most for each filling.
std::size_t put(std::string_view text, int polls) {
    unsigned left = 0;
    std::size_t done = 0;
    for (; done < text.size(); ++done) {
        auto const c = text[done];
        auto const bytes = c == '\n' ? 2u : 1u;
        if (left < bytes && (left = room(polls)) == 0) break;
        // A port that holds a single byte is asked again for the second of two.
        if (c == '\n') {
            out8(kPort, '\r');
            if (--left == 0 && (left = room(64)) == 0) continue;
        }
        out8(kPort, static_cast<std::uint8_t>(c));
        --left;
    }
    return done;
}

}  // namespace

void initialise() {
    out8(kPort + 7, 0x5a);  // scratch register answers only where there is a port
    if (in8(kPort + 7) != 0x5a) return;
    out8(kPort + 1, 0);
    out8(kPort + 3, 0x80);
    out8(kPort + 0, 1);
    out8(kPort + 1, 0);
    out8(kPort + 3, 3);
    out8(kPort + 2, 0xc7);
    out8(kPort + 4, 0x0b);
    if ((in8(kPort + 2) & 0xc0) == 0xc0) fifo_bytes_ = 16;
    present_ = true;
}

std::size_t write_some(std::string_view text) { return present_ ? put(text, 1) : text.size(); }

void write(std::string_view text) {
    while (present_ && !text.empty()) {
        auto const done = put(text, 64);
        text.remove_prefix(done);
        if (!text.empty()) text.remove_prefix(1);
    }
}

bool present() { return present_; }

}  // namespace nemesis::arch::serial
