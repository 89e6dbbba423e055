// net: a virtio network card (virtio 1.x by PCI). Raw Ethernet frames go in and out on the channel
// "frames" (frame_channel.h).
//
// Event driven: closures run when the card has something (one message interrupt for both queues)
// and when the user has sent something; nothing is polled. The card reads and writes memory of this
// domain by itself: two pages of queues, and buffers of half a page, 64 for each direction. What it
// writes is checked (virtio_queue.h); a card that lies is reset, and the log says why. Frames that
// find the user's ring full are dropped. When this domain dies, the kernel takes the card off the
// bus with its interrupt, before any page goes to others.
#include <new>

#include "drivers/net/frame_channel.h"
#include "drivers/net/virtio_pci.h"
#include "drivers/net/virtio_queue.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/channel.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::net {
namespace {

using namespace virtio;

constexpr std::uint32_t kInterruptEndpoint = 1;
constexpr std::uint16_t kBuffers = VirtioQueue::size_max;
constexpr std::uint64_t kBufferBytes = abi::kPageSize / 2;
/// Before each frame: what the card would do for checksums and large packets. All zero: nothing.
constexpr std::uint64_t kCardHeaderBytes = 12;
static_assert(kCardHeaderBytes + frame_bytes_max <= kBufferBytes);

constexpr std::uint8_t kAcknowledge = 1, kDriver = 2, kDriverOk = 4, kFeaturesOk = 8, kFailed = 128;
constexpr std::uint32_t kHasAddress = 1u << 5;  // low word of the features
constexpr std::uint32_t kVersion1 = 1u << 0;    // high word
constexpr std::uint16_t kNoVector = 0xffff;
constexpr int kResetReadsMax = 100'000;

/// A queue and its buffers.
struct Lane {
    VirtioQueue queue;
    std::byte* buffers = nullptr;
    std::uint64_t physical[kBuffers] = {};
    std::byte* doorbell = nullptr;
    std::uint16_t number = 0;

    std::byte* buffer(std::uint16_t n) const { return buffers + n * kBufferBytes; }
};

struct Card {
    std::byte* common = nullptr;
    std::byte* device = nullptr;
    Lane receive, send;
    std::uint8_t station[6] = {};
    std::uint64_t source = 0;  ///< of interrupts
    bool sends_later = false;  ///< frames wait for buffers that the card has
    bool is_lost = false;
};

Card card;
FrameChannel* frames = nullptr;
alignas(FrameChannel) std::byte frames_memory[sizeof(FrameChannel)];
std::uint32_t user_endpoint = 0;

template <typename T>
T get(std::byte const* registers, std::uint64_t offset) {
    return *reinterpret_cast<T const volatile*>(registers + offset);
}
template <typename T>
void set(std::byte* registers, std::uint64_t offset, T value) {
    *reinterpret_cast<T volatile*>(registers + offset) = value;
}

std::uint32_t read_configuration(void*, std::uint32_t number) {
    return static_cast<std::uint32_t>(sys::pci_read(number));
}

/// No card, or none that can be used: says so and sleeps for ever, so that the user's view of the
/// channel stays as it is.
[[noreturn]] void rest(std::string_view what, std::string_view why = {}) {
    log::line(what, why);
    for (;;) Thread::sleep_until(Instant::never());
}

/// Maps device memory. errors: null, when the kernel refuses
std::byte* map(RegisterRange const& range) {
    auto const first = range.physical & ~(abi::kPageSize - 1);
    auto const end = (range.physical + range.bytes + abi::kPageSize - 1) & ~(abi::kPageSize - 1);
    auto const stretch =
        sys::device_stretch(first, (end - first) / abi::kPageSize, abi::kRead | abi::kWrite);
    if (stretch < 0) return nullptr;
    auto const address =
        sys::call(abi::Call::StretchAddress, 0, static_cast<std::uint64_t>(stretch));
    return reinterpret_cast<std::byte*>(address) + (range.physical - first);
}

void give_up(std::string_view why) {
    if (card.is_lost) return;
    card.is_lost = true;
    set<std::uint8_t>(card.common, common_status, 0);
    log::line("the network card is given up: ", why);
}

/// Lends a receive buffer to the card again.
void lend(Lane& lane, std::uint16_t number) {
    lane.queue.give(number, lane.physical[number], static_cast<std::uint32_t>(kBufferBytes), true);
}

void ring(Lane& lane) {
    if (lane.queue.publish()) set<std::uint16_t>(lane.doorbell, 0, lane.number);
}

/// Hands received frames on: as many as the card had been lent, at most.
void receive() {
    bool any = false, event = false;
    for (;;) {
        auto const used = card.receive.queue.take();
        if (!used) {
            give_up(text(used.error()));
            break;
        }
        if (!*used) break;
        any = true;
        auto const number = (*used)->number;
        auto const bytes = (*used)->length - kCardHeaderBytes;  // wraps when there is no frame
        if (bytes >= frame_bytes_min && bytes <= frame_bytes_max &&
            frames->out.free_slots().value_or(0) != 0) {
            auto* const to = begin_slot(frames->out.slot(), SlotKind::Frame, bytes);
            __builtin_memcpy(to, card.receive.buffer(number) + kCardHeaderBytes, bytes);
            event |= frames->out.publish() == RingSend::Event;
        }
        lend(card.receive, number);
    }
    if (any && !card.is_lost) ring(card.receive);
    if (event) send_late(user_endpoint);
}

/// Takes what the card has sent back.
bool reclaim() {
    bool any = false;
    for (;;) {
        auto const used = card.send.queue.take();
        if (!used) give_up(text(used.error()));
        if (!used || !*used) return any;
        any = true;
    }
}

/// Sends what the user has put into the ring, as far as there are buffers; the rest when the card
/// gives some back. bound: nothing is published before the end, so each buffer is used twice at
/// most
void send() {
    bool any = false, event = false;
    while (!card.is_lost) {
        auto const full = frames->in.full_slots();
        if (!full) break;  // an impossible counter: nothing more is taken from this user
        if (*full == 0) {
            auto const armed = frames->in.arm();
            if (armed && *armed == RingWait::Ready) continue;
            break;
        }
        auto number = card.send.queue.free_buffer();
        if (!number) {
            // All are lent: the card says when it is done with some, unless it is by now.
            card.send.queue.set_interrupts(true);
            card.sends_later = !reclaim();
            if (card.sends_later) break;
            card.send.queue.set_interrupts(false);
            continue;
        }
        auto const slot = read_slot(frames->in.slot());
        if (slot && slot->kind == SlotKind::Frame) {
            auto* const to = card.send.buffer(*number);
            __builtin_memset(to, 0, kCardHeaderBytes);
            __builtin_memcpy(to + kCardHeaderBytes, slot->bytes.data(), slot->bytes.size());
            card.send.queue.give(*number, card.send.physical[*number],
                                 static_cast<std::uint32_t>(kCardHeaderBytes + slot->bytes.size()),
                                 false);
            any = true;
        }
        event |= frames->in.release() == RingSend::Event;
    }
    if (any && !card.is_lost) ring(card.send);
    if (event) send_late(user_endpoint);
}

/// The card has something, received or sent.
void on_interrupt(void*, std::uint32_t, std::uint64_t) {
    if (card.is_lost) return;
    receive();
    if (!card.is_lost && card.sends_later && reclaim()) {
        card.sends_later = false;
        card.send.queue.set_interrupts(false);
        send();
    }
    // What has come meanwhile raises the source again.
    if (!card.is_lost) sys::irq_ack(card.source);
}

/// The user has sent something.
void on_user(void*, std::uint32_t, std::uint64_t) {
    if (!card.is_lost && !card.sends_later) send();
}

/// Memory that the card may reach: `page_count` pages of this domain, with their physical
/// addresses.
std::byte* card_memory(std::uint64_t page_count, std::uint64_t (&physical)[kBuffers]) {
    std::uint64_t stretch = 0;
    auto const address = pages::make_stretch(page_count, stretch);
    if (address == 0 || page_count > kBuffers) return nullptr;
    for (std::uint64_t page = 0; page < page_count; ++page) {
        auto const at = sys::frame_physical(stretch, page);
        if (at < 0) return nullptr;
        physical[page] = static_cast<std::uint64_t>(at);
    }
    return reinterpret_cast<std::byte*>(address);
}

/// One lane, from its memory to the card's registers. errors: false, with nothing to be kept
bool open(Lane& lane, std::uint16_t number, PciLayout const& layout, std::byte* notify) {
    std::uint64_t page_of[kBuffers] = {};
    lane.number = number;
    auto* const page = card_memory(1, page_of);
    if (page == nullptr) return false;
    auto const queue_physical = page_of[0];
    lane.buffers = card_memory(kBuffers / 2, page_of);
    if (lane.buffers == nullptr) return false;
    for (std::uint16_t n = 0; n < kBuffers; ++n)
        lane.physical[n] = page_of[n / 2] + n % 2 * kBufferBytes;
    set<std::uint16_t>(card.common, common_queue_select, number);
    std::uint16_t size = get<std::uint16_t>(card.common, common_queue_size);
    if (size < 2 || (size & (size - 1)) != 0) return false;
    if (size > kBuffers) size = kBuffers;
    lane.queue = VirtioQueue({page, abi::kPageSize}, size);
    set<std::uint16_t>(card.common, common_queue_size, size);
    set<std::uint16_t>(card.common, common_queue_vector, 0);
    if (get<std::uint16_t>(card.common, common_queue_vector) != 0) return false;
    auto const address = [&](std::uint64_t offset, std::uint64_t value) {
        set<std::uint32_t>(card.common, offset, static_cast<std::uint32_t>(value));
        set<std::uint32_t>(card.common, offset + 4, static_cast<std::uint32_t>(value >> 32));
    };
    address(common_queue_descriptors, queue_physical + VirtioQueue::descriptors_at);
    address(common_queue_driver, queue_physical + VirtioQueue::driver_at);
    address(common_queue_device, queue_physical + VirtioQueue::device_at);
    auto const bell = std::uint64_t{get<std::uint16_t>(card.common, common_queue_notify)} *
                      layout.notify_multiplier;
    if (bell > layout.notify.bytes - 2 || bell % 2 != 0) return false;
    lane.doorbell = notify + bell;
    set<std::uint16_t>(card.common, common_queue_enable, 1);
    return true;
}

/// Resets the card, agrees on features and opens both lanes. errors: why not; null: it works
char const* initialise(std::uint32_t function) {
    auto const layout = find_layout(&read_configuration, nullptr, function);
    if (!layout) return "its configuration space makes no sense";
    card.common = map(layout->common);
    card.device = map(layout->device);
    auto* const notify = map(layout->notify);
    if (card.common == nullptr || card.device == nullptr || notify == nullptr)
        return "its registers cannot be mapped";
    set<std::uint8_t>(card.common, common_status, 0);
    int reads = 0;
    while (get<std::uint8_t>(card.common, common_status) != 0) {
        if (++reads > kResetReadsMax) return "it does not come out of its reset";
    }
    // From here on it may reach memory; the reset has made it forget that of an earlier driver.
    auto const source = sys::irq_bind(1, function, kInterruptEndpoint);
    if (source < 0) return "its interrupt cannot be had";
    card.source = static_cast<std::uint64_t>(source);
    set<std::uint8_t>(card.common, common_status, kAcknowledge | kDriver);
    auto const offered = [](std::uint32_t word) {
        set<std::uint32_t>(card.common, common_device_feature_select, word);
        return get<std::uint32_t>(card.common, common_device_feature);
    };
    auto const accept = [](std::uint32_t word, std::uint32_t features) {
        set<std::uint32_t>(card.common, common_driver_feature_select, word);
        set<std::uint32_t>(card.common, common_driver_feature, features);
    };
    if ((offered(0) & kHasAddress) == 0 || (offered(1) & kVersion1) == 0) {
        set<std::uint8_t>(card.common, common_status, kFailed);
        return "it has no address, or is older than virtio 1.0";
    }
    accept(0, kHasAddress);
    accept(1, kVersion1);
    constexpr std::uint8_t agreed = kAcknowledge | kDriver | kFeaturesOk;
    set<std::uint8_t>(card.common, common_status, agreed);
    if ((get<std::uint8_t>(card.common, common_status) & kFeaturesOk) == 0)
        return "it does not agree on features";
    set<std::uint16_t>(card.common, common_config_vector, kNoVector);
    for (std::uint32_t i = 0; i < sizeof(card.station); ++i)
        card.station[i] = get<std::uint8_t>(card.device, i);
    if (!open(card.receive, 0, *layout, notify) || !open(card.send, 1, *layout, notify)) {
        set<std::uint8_t>(card.common, common_status, kFailed);
        return "its queues cannot be set up";
    }
    card.send.queue.set_interrupts(false);
    set<std::uint8_t>(card.common, common_status, agreed | kDriverOk);
    for (std::uint16_t n = 0; n < card.receive.queue.size(); ++n) lend(card.receive, n);
    ring(card.receive);
    return nullptr;
}

void say_station() {
    auto* const to = begin_slot(frames->out.slot(), SlotKind::Station, sizeof(card.station));
    __builtin_memcpy(to, card.station, sizeof(card.station));
    if (frames->out.publish() == RingSend::Event) sys::send(user_endpoint);
}

}  // namespace
}  // namespace nemesis::net

extern "C" void nem_main(nemesis::abi::Environment const&) {
    using namespace nemesis;
    using namespace nemesis::net;
    auto const* channel = find_channel("frames");
    if (channel == nullptr) return log::line("no channel 'frames'");
    auto const made = FrameChannel::create(outgoing(*channel), incoming(*channel));
    if (!made) return log::line("the channel 'frames' is too small");
    frames = new (frames_memory) FrameChannel(*made);
    user_endpoint = channel->endpoint;
    auto const function =
        virtio::find_function(&read_configuration, nullptr, 0x1af4, 0x1041, 0x1000);
    if (!function) rest("no network card");
    if (auto const* const why = initialise(*function); why != nullptr)
        rest("the network card is not used: ", why);
    if (frames->out.free_slots().value_or(0) == 0) rest("the channel 'frames' is broken");
    say_station();
    if (!attach(kInterruptEndpoint, {&on_interrupt, nullptr}) ||
        !attach(user_endpoint, {&on_user, nullptr}))
        rest("no closures");
    // What came before there were closures is over: looked at once by hand.
    enter_critical();
    on_user(nullptr, 0, 0);
    on_interrupt(nullptr, 0, 0);
    leave_critical();
    Thread::exit();
}
