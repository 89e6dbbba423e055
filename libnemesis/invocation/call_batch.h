#pragma once
// A batch: announcements that one thread makes one after the other, told to the server together.
//
//     CallBatch batch(client);
//     LampProxy<CallBatch> lamp(batch);      // any proxy
//     for (...) lamp.entered();
//     batch.send();                          // one event for all of them
//
// From its making to its end activations are off: nobody else of the domain meets it in the ring,
// so free slots are looked for and the ring's head is stored once for many, and each announcement
// is its bytes and a step of a pointer. Keep it short, and wait for nothing meanwhile. What else
// needs the client's ring within the batch (a call, of this proxy or another one; a handle that is
// released; a second batch) finds all that was written before published, and goes behind it.
//
// Invariant: while the batch has slots, it is its client's batch_, and the ring's own end knows of
// no free slot (RingSource::take_in_a_row). Context: threads; bound: each operation O(its bytes),
// a batch has at most the ring's slots before somebody serves them (Busy).

#include <cstdint>

#include "libnemesis/invocation/call_client.h"

namespace nemesis::invocation {

/// See the head of this file. owner: the client outlives it
class CallBatch final : public Transport {
public:
    explicit CallBatch(CallClient& client) : client_(client), was_on_(state().rw->activations_on) {
        enter_critical();
    }
    CallBatch(CallBatch const&) = delete;
    CallBatch& operator=(CallBatch const&) = delete;
    /// Sends what has not been sent.
    ~CallBatch() {
        if (client_.batch_ == this || unsent_ != 0) [[unlikely]]
            send();
        CallClient::leave(was_on_);
    }

    /// Tells the server of what was announced since the last time. `donate`: it works on it on the
    /// caller's time, all of it if that suffices. The batch is empty then and may go on.
    void send(bool donate = false);

    [[gnu::always_inline]] inline Result<Outgoing, Failure> begin(std::uint32_t body_max) override {
        if (body_max >= room_) [[unlikely]] {
            if (auto const why = refill(body_max); why != Failure::None) return fail(why);
        }
        return Outgoing{{at_ + sizeof(RequestHeader), body_max}, 0};
    }
    void abandon(Outgoing const&) override {}
    [[gnu::always_inline]] inline Result<void, Failure> announce(Outgoing const& outgoing,
                                                                 CallTarget target,
                                                                 std::uint32_t bytes) override {
        CallClient::seal_announcement(outgoing.body.data(), target, bytes);
        at_ += slot_bytes_;
        if (--left_ == 0) [[unlikely]]
            turn();
        return {};
    }
    /// A call within the batch: what was announced before goes with it.
    [[nodiscard]] Result<Incoming, Failure> call(Outgoing const& outgoing, CallTarget target,
                                                 std::uint32_t bytes, Instant until) override;
    void done(Incoming const& incoming) override { client_.done(incoming); }
    HandleTable* handles() override { return client_.handles(); }
    std::span<std::byte const> granted() override { return client_.granted(); }

private:
    friend class CallClient;
    /// Failure::None, and the next slot has room for such a body; or why not.
    [[gnu::noinline]] Failure refill(std::uint32_t body_max);
    [[gnu::noinline]] Failure refill_slowly(std::uint32_t body_max);
    [[gnu::always_inline]] Failure take();
    /// The server has broken the protocol.
    [[gnu::noinline]] Failure broken();
    /// At the ring's end: what is left is at its beginning.
    [[gnu::noinline]] void turn();
    /// Publishes what was written; the batch has no slots any more. requires: it is the client's
    void settle();
    /// The ring is gone: so is what was written.
    void drop() { room_ = 0; }

    CallClient& client_;
    std::uint64_t was_on_;
    std::uint64_t room_ = 0;    ///< shorter bodies fit the next slot; 0: there is none
    std::uint64_t unsent_ = 0;  ///< published, and the server was not told of them
    // Of the slots that the batch has while it is its client's:
    std::byte* at_;             ///< the next one
    std::uint64_t slot_bytes_;  ///< from it to the one behind it
    std::uint64_t left_;        ///< from at_ on in a row
    std::uint64_t rest_;        ///< further ones at the ring's beginning
    std::byte* begin_;
    std::uint64_t taken_;
};

}  // namespace nemesis::invocation
