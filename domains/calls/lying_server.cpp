// lying_server: the other end of a binding that lies in every word of its side of the ring.
//
// It reads requests as a server does, so that it knows what would be right, and answers with the
// lie that was ordered (lies.h). Stays until it is ended. Channel: "client".
#include "domains/calls/lies.h"
#include "libnemesis/base/random.h"
#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace {

using namespace nemesis;
using namespace nemesis::calls;
using invocation::ReplyHeader;
using invocation::RequestHeader;

/// How long a reply is written again and again. The client looks at it for less.
constexpr auto rewriting = Duration::us(200);

/// One side of a ring, by hand: every word of it can be wrong.
class Liar {
public:
    explicit Liar(abi::ChannelRecord const& channel)
        : out_(outgoing(channel)), in_(incoming(channel)), endpoint_(channel.endpoint) {}

    /// Does what there is to do; an event has come.
    void look() {
        Order order;
        __builtin_memcpy(&order, line_of<Order>(in_), sizeof(order));
        if (order.number != order_.number) return begin(order);
        // The client makes its side as new before it gives an order: then there is nothing to read.
        while (load(in_, 64) - read_ - 1 < lied_slots) {
            Call call;
            auto const slot = in_.subspan(128 + read_ % lied_slots * request_bytes());
            __builtin_memcpy(&call.header, slot.data(), sizeof(call.header));
            __builtin_memcpy(call.body, slot.data() + sizeof(call.header), sizeof(call.body));
            store(0, ++read_);
            lie(call);
        }
    }

private:
    struct Call {
        RequestHeader header;
        std::byte body[208];
    };
    static std::uint64_t request_bytes() { return lied_shape().requests().slot_bytes; }
    static std::uint64_t reply_bytes() { return lied_shape().replies().slot_bytes; }

    static std::uint64_t load(std::span<std::byte const> from, std::uint64_t at) {
        return __atomic_load_n(reinterpret_cast<std::uint64_t const*>(from.data() + at),
                               __ATOMIC_SEQ_CST);
    }
    void store(std::uint64_t at, std::uint64_t value) {
        __atomic_store_n(reinterpret_cast<std::uint64_t*>(out_.data() + at), value,
                         __ATOMIC_SEQ_CST);
    }
    std::byte* slot(std::uint64_t index) {
        return out_.data() + 128 + index % lied_slots * reply_bytes();
    }

    /// The client has closed its end: this side is as new.
    void begin(Order const& order) {
        order_ = order;
        random_ = Random(order.seed);
        read_ = written_ = 0;
        has_kept_ = false;
        __builtin_memset(out_.data(), 0, lied_shape().server_bytes());
        store(out_.size() - sizeof(Answered), order.number);
        sys::send(endpoint_);
    }

    /// The right reply, in the next slot; yields the slot.
    std::byte* put(Call const& call) {
        auto* const to = slot(written_);
        ReplyHeader header{call.header.call, 0, 0, call.header.body_bytes};
        if (call.header.operation == 0) {  // add; of a repeat, the argument is the result
            std::uint64_t words[2];
            __builtin_memcpy(words, call.body, sizeof(words));
            words[0] += words[1];
            __builtin_memcpy(to + sizeof(header), words, 8);
            header.body_bytes = 8;
        } else {
            __builtin_memcpy(to + sizeof(header), call.body, sizeof(call.body));
        }
        __builtin_memcpy(to, &header, sizeof(header));
        return to;
    }
    void publish() { store(64, ++written_); }
    /// The donated time, if it is that, goes back; else an event. Half of the times at once, as the
    /// result of the client's call; `goes_on`: there is more to do.
    void tell(bool goes_on = false) { sys::answer(endpoint_, goes_on || random_.below(2) != 0); }

    void fill(std::byte* from, std::uint64_t bytes) {
        for (std::uint64_t at = 0; at + 8 <= bytes; at += 8) {
            auto const word = random_.next();
            __builtin_memcpy(from + at, &word, 8);
        }
    }
    /// A length beyond the slot: by one, by a little, or by almost everything.
    std::uint32_t too_long() {
        auto const most = lied_shape().reply_bytes;
        std::uint32_t const all[] = {
            most + 1, most + 8, 0x8000'0000, 0xffff'ffff,
            most + 1 + static_cast<std::uint32_t>(random_.below(1u << 20))};
        return all[random_.below(5)];
    }
    std::uint64_t other_id(std::uint64_t id) {
        std::uint64_t const all[] = {id + 64, id - 64,         id ^ 1,        0,
                                     ~0ull,   id | 1ull << 63, random_.next()};
        return all[random_.below(7)];
    }

    void lie(Call const& call) {
        switch (order_.lie) {
            case Lie::IndexAhead:
                put(call);
                store(64, written_ + lied_slots + 1 + random_.below(1ull << 40));
                break;
            case Lie::IndexBehind:
                put(call);
                store(64, written_ - 1 - random_.below(1ull << 40));
                break;
            case Lie::ReadAhead:
                put(call), publish();
                store(0, read_ + 100 + random_.below(1ull << 40));
                break;
            case Lie::ReadBehind:
                put(call), publish();
                store(0, ~random_.below(1ull << 40));
                break;
            case Lie::OtherId: {
                auto const wrong = other_id(call.header.call);
                __builtin_memcpy(put(call), &wrong, 8);
                publish();
                break;
            }
            case Lie::TooLong: {
                auto const wrong = too_long();
                __builtin_memcpy(put(call) + offsetof(ReplyHeader, body_bytes), &wrong, 4);
                publish();
                break;
            }
            case Lie::Status: {
                auto const wrong = static_cast<std::uint16_t>(random_.between(14, 0xffff));
                __builtin_memcpy(put(call) + offsetof(ReplyHeader, status), &wrong, 2);
                publish();
                break;
            }
            case Lie::Twice:
                put(call), publish();
                if (written_ - load(in_, 0) < lied_slots) put(call), publish();
                break;
            case Lie::Rewritten: {
                auto* const to = put(call);
                publish();
                tell(true);
                return rewrite(to);
            }
            case Lie::Late:
                if (has_kept_) put(kept_), publish();
                kept_ = call;
                has_kept_ = true;
                break;
            case Lie::GarbagePage:
                fill(out_.data(), lied_shape().server_bytes());
                break;
            case Lie::GarbageSlot:
                fill(put(call), reply_bytes());
                publish();
                break;
            case Lie::GarbageBody:
                fill(put(call) + 8, reply_bytes() - 8);
                publish();
                break;
            case Lie::GarbageValue: {
                auto* const to = put(call);
                fill(to + 16, reply_bytes() - 16);
                auto const length =
                    static_cast<std::uint32_t>(random_.below(lied_shape().reply_bytes + 1));
                __builtin_memcpy(to + offsetof(ReplyHeader, body_bytes), &length, 4);
                // Half of them with a reference that is right: then the count decides.
                std::uint32_t const offset = 8;
                if (random_.below(2) == 0) __builtin_memcpy(to + 16, &offset, 4);
                std::uint32_t const count = static_cast<std::uint32_t>(random_.below(260));
                if (random_.below(2) == 0) __builtin_memcpy(to + 20, &count, 4);
                publish();
                break;
            }
            case Lie::Never:
                break;
            default:
                put(call), publish();
        }
        tell();
    }

    void rewrite(std::byte* to) {
        for (auto const end = now() + rewriting; now() < end;) {
            std::uint64_t const tail = std::uint64_t{too_long()} << 32 | random_.below(1u << 16);
            __builtin_memcpy(to + 8, &tail, 8);
            fill(to + 16, reply_bytes() - 16);
            // The reader goes on, until this wakes again in its midst.
            Thread::sleep_until(now() + Duration::us(3));
        }
    }

    std::span<std::byte> out_;
    std::span<std::byte const> in_;
    std::uint32_t endpoint_;
    Order order_{};
    Random random_{0};
    std::uint64_t read_ = 0, written_ = 0;
    Call kept_{};
    bool has_kept_ = false;
};

}  // namespace

extern "C" void nem_main(abi::Environment const&) {
    auto const* client = find_channel("client");
    if (client == nullptr) sys::exit(9);
    Liar liar(*client);
    EventWaiter waiter(client->endpoint);
    // An event may have come before there was a closure for it.
    for (;; waiter.wait()) liar.look();
}
