// Polled output on COM1.
#include "arch/x86_64/serial.h"

#include "arch/x86_64/cpu.h"

namespace nemesis::arch::serial {
namespace {

constexpr std::uint16_t kPort = 0x3f8;
bool present_ = false;
unsigned fifo_bytes_ = 1;

/// Waits until the port has sent what it was given. Returns how many bytes it takes now.
unsigned room() {
    for (int polls = 0; polls < 64; ++polls)
        if ((in8(kPort + 5) & 0x20) != 0) return fifo_bytes_;
    return 0;
}

void put(char c, unsigned& left) {
    if (left == 0) left = room();
    if (left == 0) return;
    --left;
    out8(kPort, static_cast<std::uint8_t>(c));
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

void write(std::string_view text) {
    if (!present_) return;
    unsigned left = 0;
    for (char const c : text) {
        if (c == '\n') put('\r', left);
        put(c, left);
    }
}

bool present() { return present_; }

}  // namespace nemesis::arch::serial
