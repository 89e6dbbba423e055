// frame_probes: a machine whose network driver is tried from outside. Makes the driver, prints its
// station address as "@station aa:bb:...", and does what the frames say that come: the first byte
// behind the type is
//   e  send it back, addresses exchanged
//   k  end the driver, see that the card is off the bus and no frame is missing, make a new driver
//   q  end the machine: 0x10
// Without a card it ends the machine with 0x12. Tests: tests/guest/net_test.py.
#include <new>

#include "domains/node/frame_link.h"
#include "drivers/net/frame_channel.h"
#include "drivers/net/virtio_pci.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/state.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace {

using namespace nemesis;

constexpr std::uint32_t kDeathEndpoint = 1, kFramesEndpoint = 8;

struct Driver {
    manager::Child child;
    node::FrameLink link;
    abi::ChannelRecord own;
};
Driver driver;
alignas(net::FrameChannel) std::byte channel_memory[sizeof(net::FrameChannel)];
net::FrameChannel* frames = nullptr;

[[noreturn]] void failed(std::string_view why) {
    log::line("[ FAILED ] ", why);
    sys::machine_exit(0x11);
}

std::int64_t frames_free() { return sys::machine_info(abi::MachineInfo::FramesFree); }

void start_driver() {
    auto const* image = find_channel("net");
    if (image == nullptr) failed("no image");
    auto child = node::make_driver(incoming(*image), kDeathEndpoint);
    if (!child) failed("no driver");
    driver.child = *child;
    if (!driver.link.make() ||
        !driver.link.connect_self(driver.child, kFramesEndpoint, driver.own) ||
        !manager::contract(driver.child, 2'000'000, 20'000'000, 20'000'000, 10) ||
        !manager::start(driver.child))
        failed("the driver cannot be furnished");
    auto const made = net::FrameChannel::create(outgoing(driver.own), incoming(driver.own));
    if (!made) failed("no channel");
    frames = new (channel_memory) net::FrameChannel(*made);
}

void end_driver() {
    sys::domain_destroy(driver.child.id);
    sys::endpoint_close(0, kFramesEndpoint);
    driver.link.destroy();
}

/// Whether the card may reach memory.
bool masters_bus() {
    auto const read = [](void*, std::uint32_t number) {
        return static_cast<std::uint32_t>(sys::pci_read(number));
    };
    auto const card = virtio::find_function(read, nullptr, 0x1af4, 0x1041, 0x1000);
    return card && (sys::pci_read(*card | 4) & 4) != 0;
}

/// Copies the next slot out. Returns its bytes; 0: none within `until`.
std::size_t next(net::SlotKind& kind, std::span<std::byte> to, EventWaiter& events, Instant until) {
    for (;;) {
        auto const full = frames->in.full_slots();
        if (!full) failed("an impossible counter");
        if (*full == 0) {
            auto const armed = frames->in.arm();
            if (armed && *armed == RingWait::MaySuspend && now() < until) events.wait(until);
            if (now() >= until) return 0;
            continue;
        }
        auto const slot = net::read_slot(frames->in.slot());
        if (!slot) failed("a slot that is none");
        kind = slot->kind;
        auto const bytes = slot->bytes.size();
        __builtin_memcpy(to.data(), slot->bytes.data(), bytes);
        if (frames->in.release() == RingSend::Event) sys::send(kFramesEndpoint);
        return bytes;
    }
}

void say_station(std::span<std::byte const> address) {
    log::Line line;
    line.add("@station");
    for (auto const byte : address.first(6)) line.add(" ").add(std::to_integer<unsigned>(byte));
    line.write();
}

void kill_and_start_again() {
    if (!masters_bus()) failed("a card that works does not master the bus");
    end_driver();
    if (masters_bus()) failed("the card of a dead driver masters the bus");
    auto const left = frames_free();
    start_driver();
    end_driver();
    if (frames_free() != left) failed("frames are missing");
    start_driver();
    log::line("[     OK ] driver ended and made anew");
}

}  // namespace

extern "C" void nem_main(abi::Environment const&) {
    start_driver();
    EventWaiter events(kFramesEndpoint);
    static std::byte frame[1600];
    std::uint64_t echoed = 0, others = 0;
    bool is_known = false;
    for (;;) {
        net::SlotKind kind{};
        auto const limit = is_known ? Duration::s(60) : Duration::ms(200);
        auto const bytes = next(kind, frame, events, now() + limit);
        if (bytes == 0 && !is_known) sys::machine_exit(0x12);
        if (bytes == 0) failed("nothing came for a minute");
        if (kind == net::SlotKind::Station) {
            is_known = true;
            say_station(frame);
            continue;
        }
        auto const order = bytes > 14 ? static_cast<char>(frame[14]) : '-';
        if (order == 'q') {
            log::line(echoed, " frames sent back, ", others, " others");
            sys::machine_exit(0x10);
        }
        if (order == 'k') kill_and_start_again();
        if (order != 'e') {
            ++others;
            continue;
        }
        std::byte address[6];
        __builtin_memcpy(address, frame, 6);
        __builtin_memcpy(frame, frame + 6, 6);
        __builtin_memcpy(frame + 6, address, 6);
        if (frames->out.free_slots().value_or(0) == 0) continue;  // lost, as frames may be
        __builtin_memcpy(net::begin_slot(frames->out.slot(), net::SlotKind::Frame, bytes), frame,
                         bytes);
        if (frames->out.publish() == RingSend::Event) sys::send(kFramesEndpoint);
        ++echoed;
    }
}
