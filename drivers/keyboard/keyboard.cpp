// keyboard: the PC's keyboard controller (i8042). Keys that are pressed leave as characters on the
// channel "keys", a ring of bytes.
//
// Ports 0x60 and 0x64 are touched in kernel-privileged sections of a few instructions; interrupt 1
// arrives as an event and stays masked until it is acknowledged. What scan code set 1 (the
// controller's own default) means is in key_codes.h.
#include "drivers/keyboard/key_codes.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/channel.h"
#include "libnemesis/kps/kps.h"
#include "libnemesis/log/log.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace nemesis {
namespace {

constexpr std::uint16_t kData = 0x60, kStatus = 0x64;
constexpr std::uint32_t kInterruptEndpoint = 1;
constexpr std::uint64_t kLine = 1;

enum class Ready { Nothing, Byte, Mouse };

/// One byte of the controller, if there is one.
Ready read(std::uint8_t& byte) {
    KernelPrivilegedSection kps;
    auto const status = in8(kStatus);
    if ((status & 1) == 0) return Ready::Nothing;
    byte = in8(kData);
    return (status & 0x20) != 0 ? Ready::Mouse : Ready::Byte;
}

/// Switches the first port on, with interrupts and translation to set 1. False: nothing there.
bool initialise() {
    auto const wait = [](std::uint8_t mask, std::uint8_t wanted) {
        for (int i = 0; i < 100; ++i) {
            if ((in8(kStatus) & mask) == wanted) return true;
        }
        return false;
    };
    {
        KernelPrivilegedSection kps;
        if (in8(kStatus) == 0xff) return false;
        for (int i = 0; i < 16 && (in8(kStatus) & 1) != 0; ++i) (void)in8(kData);
    }
    KernelPrivilegedSection kps(5'000);
    if (!wait(2, 0)) return false;
    out8(kStatus, 0x20);
    if (!wait(1, 1)) return false;
    auto const old = in8(kData);
    if (!wait(2, 0)) return false;
    out8(kStatus, 0x60);
    if (!wait(2, 0)) return false;
    out8(kData, static_cast<std::uint8_t>((old & ~0x32) | 0x41));
    if (!wait(2, 0)) return false;
    out8(kStatus, 0xae);
    return true;
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
    if (!initialise()) return rest("no keyboard");
    EventWaiter interrupts(kInterruptEndpoint);
    auto const source = sys::irq_bind(0, kLine, kInterruptEndpoint);
    if (source < 0)
        return log::line("no keyboard interrupt: ", text(static_cast<abi::Error>(source)));
    for (keyboard::KeyCodes codes;;) {
        std::uint8_t code = 0;
        for (auto ready = read(code); ready != Ready::Nothing; ready = read(code)) {
            if (ready != Ready::Byte) continue;
            for (char const c : codes.feed(code)) {
                std::uint64_t const key = static_cast<std::uint8_t>(c);
                auto const sent = keys->send(std::as_bytes(std::span(&key, 1)));
                if (sent && *sent == RingSend::Event) sys::send(channel->endpoint);
            }
        }
        sys::irq_ack(static_cast<std::uint64_t>(source));
        interrupts.wait();
    }
}
