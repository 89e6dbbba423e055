// The node, its pump, and the threads that wait for it.
#include "domains/remote/node_calls.h"

#include <new>

#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/syscalls.h"

namespace nemesis::nodes {
namespace {

constexpr remote::Limits kLimits{.peers = 4,
                                 .chunks = 256,
                                 .chunks_per_peer = 128,
                                 .objects = 80,
                                 .holdings = 128,
                                 .imports = 80};
constexpr remote::Times kTimes{};
/// Frames that one event's closure takes in, before threads get their turn; and one round of the
/// pump.
constexpr std::uint64_t kFramesInEvent = 16, kFramesAtOnce = 64;

/// A failure by its number: the lists are the same up to the last of them.
Failure failure_of(remote::Status status) {
    static_assert(static_cast<int>(remote::Status::NoMemory) ==
                  static_cast<int>(Failure::NoMemory));
    return static_cast<std::uint16_t>(status) <= static_cast<std::uint16_t>(Failure::Threw)
               ? static_cast<Failure>(status)
               : Failure::BadMessage;
}

}  // namespace

Result<void, Failure> NodeCalls::open(std::uint64_t incarnation, Requests& requests) {
    auto const* const channel = find_channel("frames");
    if (channel == nullptr) return fail(Failure::Unreachable);
    auto const frames = net::FrameChannel::create(outgoing(*channel), incoming(*channel));
    if (!frames) return fail(Failure::Unreachable);
    new (&frames_) net::FrameChannel(*frames);
    auto const bytes = remote::Node::bytes_for(kLimits);
    auto* const memory =
        static_cast<std::byte*>(pages::take((bytes + abi::kPageSize - 1) / abi::kPageSize));
    if (memory == nullptr) return fail(Failure::NoMemory);
    auto made = remote::Node::create({memory, bytes}, kLimits, kTimes, incarnation, *this, *this);
    if (!made) return fail(Failure::NoMemory);
    new (&node_) remote::Node(*made);
    requests_ = &requests;
    endpoint_ = channel->endpoint;
    if (!attach(endpoint_, {&NodeCalls::on_frames, this})) return fail(Failure::NoMemory);
    return {};
}

void NodeCalls::on_frames(void* self, std::uint32_t, std::uint64_t) {
    auto& calls = *static_cast<NodeCalls*>(self);
    if (calls.take_frames(kFramesInEvent)) {
        calls.look_again_ = true;
        (void)calls.pump_.wake_one();
    }
    calls.flush_late();
}

void NodeCalls::send(remote::Address to, std::span<std::byte const> datagram) {
    auto const bytes = ethernet_header_bytes + datagram.size();
    if (station_ == remote::Address{} || bytes > net::frame_bytes_max ||
        frames_.out.free_slots().value_or(0) == 0) {
        ++dropped_;  // as on the wire: what stands above repeats
        return;
    }
    auto* const frame = net::begin_slot(frames_.out.slot(), net::SlotKind::Frame, bytes);
    begin_frame(frame, to, station_, datagram.size());
    __builtin_memcpy(frame + ethernet_header_bytes, datagram.data(), datagram.size());
    driver_waits_ |= frames_.out.publish() == RingSend::Event;
}

void NodeCalls::flush() {
    if (driver_waits_) {
        driver_waits_ = false;
        sys::send(endpoint_);
    }
    // Nothing that was begun just now is due before the first repetition, but for calls (wait).
    arm(now() + kTimes.first_repeat);
}

void NodeCalls::flush_late() {
    if (driver_waits_) {
        driver_waits_ = false;
        send_late(endpoint_);
    }
    flush();
}

/// The pump looks at the time then, at the latest.
void NodeCalls::arm(Instant due) {
    if (due >= armed_until_) return;
    armed_until_ = due;
    look_again_ = true;
    (void)pump_.wake_one();
}

/// Takes in what has come. True: `most` frames, and perhaps there are more; else the driver sends
/// an event when the next has come.
bool NodeCalls::take_frames(std::uint64_t most) {
    for (std::uint64_t n = 0; n < most; ++n) {
        if (frames_.in.full_slots().value_or(0) == 0) {
            auto const armed = frames_.in.arm();
            if (armed && *armed == RingWait::Ready) continue;
            return false;
        }
        // The driver could still write into the slot: only the copy is looked at.
        auto const slot = net::read_slot(frames_.in.slot());
        std::size_t bytes = 0;
        auto kind = net::SlotKind::Frame;
        if (slot) {
            kind = slot->kind;
            bytes = slot->bytes.size();
            __builtin_memcpy(frame_, slot->bytes.data(), bytes);
        }
        if (frames_.in.release() == RingSend::Event) driver_waits_ = true;
        std::span<std::byte const> const copy(frame_, bytes);
        if (kind == net::SlotKind::Station && bytes == 6) {
            station_ = station_address(copy.first<6>());
        } else if (auto const datagram = read_frame(copy, station_)) {
            node_.receive(datagram->from, datagram->bytes, now());
        }
    }
    return true;
}

void NodeCalls::pump() {
    enter_critical();
    for (;;) {
        look_again_ = false;
        if (take_frames(kFramesAtOnce)) look_again_ = true;
        auto const time = now();
        if (time >= armed_until_) {
            node_.tick(time);
            armed_until_ = node_.next_tick();
        }
        if (look_again_) {
            flush();
        } else {
            flush_late();
            if (!look_again_) (void)pump_.wait(armed_until_);
        }
        // Between two rounds events and other threads get their turn.
        leave_critical();
        enter_critical();
    }
}

void NodeCalls::on_reply(std::uint64_t cookie, remote::Status status,
                         std::span<std::byte const> bytes) {
    auto& waiting = *reinterpret_cast<Waiting*>(cookie);
    waiting.status = status;
    if (bytes.size() > waiting.room.size()) {
        waiting.status = remote::Status::BadMessage;
    } else {
        waiting.bytes = static_cast<std::uint32_t>(bytes.size());
        __builtin_memcpy(waiting.room.data(), bytes.data(), bytes.size());
    }
    waiting.is_over = true;
    waiting.queue.wake_all();
}

void NodeCalls::on_announcement(remote::Incoming const& announcement) {
    auto without_reply = announcement;
    without_reply.token = {};
    requests_->on_request(without_reply);
}

Result<std::uint32_t, Failure> NodeCalls::wait(Waiting& waiting, Instant until,
                                               std::uint16_t& status) {
    if (waiting.is_over)
        flush();
    else
        flush_late();
    arm(until);
    while (!waiting.is_over) (void)waiting.queue.wait(Instant::never());
    status = static_cast<std::uint16_t>(waiting.status);
    if (status != 0 && status < invocation::declared_error_first)
        return fail(failure_of(waiting.status));
    return waiting.bytes;
}

Result<std::uint32_t, Failure> NodeCalls::call(
    remote::PeerId peer, std::uint32_t object, std::uint16_t operation,
    std::span<std::byte const> body, std::span<std::byte> room, Instant until,
    std::uint16_t& status, std::span<std::uint32_t const> gives, bool* was_begun) {
    Critical const critical;
    auto const time = now();
    if (auto const longest = time + call_longest; longest < until) until = longest;
    Waiting waiting;
    waiting.room = room;
    auto const made = node_.call(peer,
                                 {.object = object,
                                  .operation = operation,
                                  .deadline = until,
                                  .cookie = cookie_of(waiting),
                                  .gives = gives},
                                 body, time);
    if (was_begun != nullptr) *was_begun = made.has_value();
    if (!made) {
        flush();
        return fail(failure_of(made.error()));
    }
    return wait(waiting, until, status);
}

Result<void, Failure> NodeCalls::announce(remote::PeerId peer, std::uint32_t object,
                                          std::uint16_t operation,
                                          std::span<std::byte const> body) {
    Critical const critical;
    auto const made = node_.announce(peer, {.object = object, .operation = operation}, body, now());
    flush();
    if (!made) return fail(failure_of(made.error()));
    return {};
}

Result<void, Failure> NodeCalls::check(remote::PeerId peer, std::uint32_t object,
                                       invocation::InterfaceHash const& hash, Instant until) {
    Critical const critical;
    auto const time = now();
    if (auto const longest = time + call_longest; longest < until) until = longest;
    std::byte right[16];  // the hash that would be right
    Waiting waiting;
    waiting.room = right;
    auto const made =
        node_.bind(peer, object, {hash.low, hash.high}, until, cookie_of(waiting), time);
    if (!made) {
        flush();
        return fail(failure_of(made.error()));
    }
    std::uint16_t status = 0;
    auto const ended = wait(waiting, until, status);
    if (!ended) return fail(ended.error());
    return {};
}

Result<remote::PeerId, Failure> NodeCalls::connect(remote::Address address) {
    Critical const critical;
    auto const peer = node_.connect(address, now());
    flush();
    if (!peer) return fail(failure_of(peer.error()));
    return *peer;
}

Result<NodeTransport::Outgoing, Failure> NodeTransport::begin(std::uint32_t body_max) {
    if (request_.size() < body_max) return fail(Failure::TooLong);
    return Outgoing{request_, 0};
}

Result<NodeTransport::Incoming, Failure> NodeTransport::call(Outgoing const&,
                                                             invocation::CallTarget target,
                                                             std::uint32_t bytes, Instant until) {
    if (target.object != 0) return fail(Failure::NoSuchObject);
    std::uint16_t status = 0;
    auto const got = calls_->call(peer_, number_, target.operation, request_.first(bytes), reply_,
                                  until, status);
    if (!got) return fail(got.error());
    return Incoming{status, reply_.first(*got), 0};
}

Result<void, Failure> NodeTransport::announce(Outgoing const&, invocation::CallTarget target,
                                              std::uint32_t bytes) {
    if (target.object != 0) return fail(Failure::NoSuchObject);
    return calls_->announce(peer_, number_, target.operation, request_.first(bytes));
}

}  // namespace nemesis::nodes
