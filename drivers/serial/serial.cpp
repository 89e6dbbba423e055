// serial: input of the first serial port (16550 at 0x3f8). Characters leave on the channel "keys",
// a ring of bytes, as those of a keyboard do.
//
// Output on this port is the kernel's log, polled and unlocked, in the kernel: this driver only
// ever reads the receive buffer and switches its interrupt on. Interrupt 4 arrives as an event.
#include "libnemesis/activation/activation.h"
#include "libnemesis/channel.h"
#include "libnemesis/kps/kps.h"
#include "libnemesis/log/log.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace nemesis {
namespace {

constexpr std::uint16_t kPort = 0x3f8;
constexpr std::uint32_t kInterruptEndpoint = 1;
constexpr std::uint64_t kLine = 4;

/// Whether there is a port: its scratch register remembers.
bool present() {
    KernelPrivilegedSection kps;
    out8(kPort + 7, 0xa5);
    return in8(kPort + 7) == 0xa5;
}

void enable_receive_interrupt() {
    KernelPrivilegedSection kps;
    out8(kPort + 2, 1);  // tell of every character at once
    out8(kPort + 1, 1);
}

/// A received character, or -1. Reading the identification takes a pending interrupt back.
int receive() {
    KernelPrivilegedSection kps;
    (void)in8(kPort + 2);
    return (in8(kPort + 5) & 1) != 0 ? in8(kPort) : -1;
}

/// No device: says so and sleeps for ever, so that the peer's view of the channel stays as it is.
[[noreturn]] void rest(std::string_view why) {
    log::line(why);
    for (;;) Thread::sleep_until(Instant::never());
}

}  // namespace
}  // namespace nemesis

extern "C" void nem_main(nemesis::abi::Environment const&) {
    using namespace nemesis;
    auto const* channel = find_channel("keys");
    if (channel == nullptr) return log::line("no channel 'keys'");
    auto keys = RingSource<>::create({.slots = 64, .slot_bytes = 8}, outgoing(*channel),
                                     incoming(*channel));
    if (!keys) return log::line("the channel 'keys' is too small");
    if (!present()) return rest("no serial port");
    EventWaiter interrupts(kInterruptEndpoint);
    auto const source = sys::irq_bind(0, kLine, kInterruptEndpoint);
    if (source < 0)
        return log::line("no serial interrupt: ", text(static_cast<abi::Error>(source)));
    enable_receive_interrupt();
    for (;;) {
        for (int c = receive(); c >= 0; c = receive()) {
            std::uint64_t const key = static_cast<std::uint8_t>(c);
            auto const sent = keys->send(std::as_bytes(std::span(&key, 1)));
            if (sent && *sent == RingSend::Event) sys::send(channel->endpoint);
        }
        sys::irq_ack(static_cast<std::uint64_t>(source));
        interrupts.wait();
    }
}
