#pragma once
// The client's end of a binding: protected calls on the caller's own time.
//
// A call writes its request into the ring and sends synchronously: the server runs on the caller's
// budget and deadline, and its answer gives the processor back; the reply is read in place. From
// begin to done activations are off, so threads of the domain do not meet in the rings; a caller
// that has to wait longer blocks, others run, and its reply is found by its number.
// When the server does not answer within the donation (it waits for something itself, or the budget
// is spent), the calling thread blocks until the reply, its time-out, or the server's death.
//
// Many announcements at once: call_batch.h.
//
// The server may write anything into its stretch: a reply is taken only for a call that waits,
// once; its header is read once; its body is decoded by the checked reader. Called by threads, not
// by closures. Source: PEG94 "Events", "Naming and Invocation".

#include <cstdint>
#include <optional>

#include "libnemesis/activation/activation.h"
#include "libnemesis/invocation/binding.h"
#include "libnemesis/invocation/granted.h"
#include "libnemesis/marshal/message.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::invocation {

class CallBatch;
class CallClient;

/// A piece of a binding's granted area, for arguments of calls over it; given back at its end, but
/// not handed out again while a call that was given up may read it. Fill it before the call: what
/// is written later the server sees or does not. owner: the caller; valid until the client closes
class GrantedBuffer {
public:
    GrantedBuffer() = default;
    GrantedBuffer(GrantedBuffer&& other) noexcept
        : client_(other.client_), life_(other.life_), bytes_(other.bytes_) {
        other.client_ = nullptr;
    }
    GrantedBuffer& operator=(GrantedBuffer&&) = delete;
    inline ~GrantedBuffer();

    std::span<std::byte> bytes() const { return bytes_; }
    /// The first `length` bytes, as an argument. requires: there are as many
    GrantedView view(std::uint64_t length) const { return GrantedView(bytes_.first(length)); }
    GrantedView view() const { return GrantedView(bytes_); }

private:
    friend class CallClient;
    GrantedBuffer(CallClient& client, std::uint32_t life, std::span<std::byte> bytes)
        : client_(&client), life_(life), bytes_(bytes) {}

    CallClient* client_ = nullptr;
    std::uint32_t life_ = 0;
    std::span<std::byte> bytes_;
};

/// The client's end; see above. owner: it outlives its proxies
class CallClient final : public Transport {
public:
    CallClient() : requests_(no_requests()) {}  // NOLINT: the replies' ring is made by open()
    CallClient(CallClient const&) = delete;
    CallClient& operator=(CallClient const&) = delete;
    ~CallClient() { close(); }

    /// Opens the client's end; attaches itself to the endpoint.
    /// errors: BadMessage (the shape is not valid or the stretches too small), NoMemory
    [[nodiscard]] Result<void, Failure> open(BindingEnd const& end, BindingShape const& shape);
    /// Ends it: waiting callers fail with Cancelled, later ones with Unreachable; the rings are
    /// neither looked at nor written any more. The endpoint stays the owner's.
    void close();
    void set_handles(HandleTable* handles) { handles_ = handles; }
    /// What is told when it is known that no call can succeed any more: the server is dead, broke
    /// the protocol, or this end was closed. Activations are off; several times for one end,
    /// perhaps.
    struct Dead {
        void (*function)(void* self) = nullptr;
        void* self = nullptr;
    };
    /// Takes back the call in which `caller`, another thread of this domain, waits: it fails with
    /// Cancelled, unless its reply is there already. The server is told if there is room for that:
    /// a call that it has not begun is not made, one under way may find out
    /// (Backlog::is_cancelled). A reply that comes all the same is dropped, and the call's place is
    /// free then. False: that thread waits for no call here. context: threads
    bool cancel(Thread const& caller);
    void on_dead(Dead hook) { dead_hook_ = hook; }
    /// What is told of the server's death when it comes, also if nobody calls or waits: once for
    /// each opened end, from a closure or within somebody's call; activations are off. Calls find
    /// out by themselves, and are told by on_dead. Without a function: nobody
    /// is.
    void watch(Dead hook);
    /// What is told when the server has answered that an object is not there (NoSuchObject): the
    /// call was not made, and the object may have gone elsewhere. Activations are off.
    void on_not_there(Dead hook) { not_there_hook_ = hook; }
    /// Blocks until the server is dead, or this end closed; false: until `until`. Others may call
    /// meanwhile. context: a thread
    bool wait_for_end(Instant until) { return wait_for_end(until, wakes_); }
    /// As above; false also if wake() has been called since wakes() was `seen`.
    bool wait_for_end(Instant until, std::uint64_t seen);
    /// Has wait_for_end look again at what its caller waits for. context: threads and closures
    void wake();
    std::uint64_t wakes() const { return wakes_; }
    /// Off: calls send asynchronously and the server works on its own time. On at first.
    void set_donation(bool on) {
        donates_ = on;
        set_quick();
    }
    /// Whether the server is dead now, broke the protocol, or this end was closed: no call can
    /// succeed any more. Asks the kernel. context: any of this domain
    bool is_dead() const { return dead_ || (open_ && peer_is_dead(endpoint_)); }
    /// Whether a call, or who waits, has found that out: for those who call at once anyway.
    bool is_known_dead() const { return dead_; }
    std::uint32_t calls_in_flight() const {
        return static_cast<std::uint32_t>(__builtin_popcountll(used_));
    }

    [[gnu::always_inline]] inline Result<Outgoing, Failure> begin(std::uint32_t body_max) override {
        auto& rw = *state().rw;
        auto const was_on = rw.activations_on;
        enter_critical();
        if (body_max > body_bytes_ || requests_.known_free() == 0) [[unlikely]] {
            if (auto const why = make_ready(body_max, was_on); why != Failure::None)
                return fail(why);
        }
        return Outgoing{{requests_.next() + sizeof(RequestHeader), body_max}, was_on};
    }
    void abandon(Outgoing const& outgoing) override { leave(outgoing.token); }

    [[gnu::always_inline]] inline Result<Incoming, Failure> call(Outgoing const& outgoing,
                                                                 CallTarget target,
                                                                 std::uint32_t bytes,
                                                                 Instant until) override {
        // Parts of `outgoing`, so that it need not lie in memory.
        auto* const request = outgoing.body.data();
        auto const was_on = outgoing.token;
        std::byte const* body;
        if (is_quick_) [[likely]] {
            // No other call is in flight: no place in the table is needed unless this one waits.
            calls_ += calls_in_flight_max;
            auto const id = calls_;
            seal(request, id, target, CallKind::Donated, until, bytes);
            requests_.publish_unasked();
            auto const told = sys::request(endpoint_, until_first_sleeper(until).ns());
            if (told == told_ && replies_.has_just_one()) [[likely]] {
                auto const* const slot = replies_.oldest();
                auto const word = marshal::load_once<std::uint64_t>(slot + 8);
                auto const length = word >> 32;
                if (marshal::load_once<std::uint64_t>(slot) == id && length <= reply_bytes_)
                    [[likely]] {
                    requests_.credit_one();  // a server gives the slot back before it answers
                    return Incoming{static_cast<std::uint16_t>(word),
                                    {slot + sizeof(ReplyHeader), length},
                                    was_on | quick_token};
                }
            }
            body = wait_slowly(id, until, was_on, told);
        } else {
            body = call_slowly(request, was_on, target, bytes, until);
        }
        if (body == nullptr) return fail(why_);
        return Incoming{static_cast<std::uint16_t>(word_), {body, word_ >> 32}, token_};
    }

    [[gnu::always_inline]] inline void done(Incoming const& in) override {
        if ((in.token & quick_token) != 0) [[likely]]
            replies_.release_the_one();
        else
            done_slowly(in.token);
        // Where a proxy has seen the status 0 there is nothing left of this.
        if (in.status == static_cast<std::uint16_t>(Failure::NoSuchObject)) [[unlikely]]
            not_there();
        leave(in.token & 1);
    }

    [[gnu::always_inline]] inline Result<void, Failure> announce(Outgoing const& outgoing,
                                                                 CallTarget target,
                                                                 std::uint32_t bytes) override {
        seal_announcement(outgoing.body.data(), target, bytes);
        requests_.publish_unasked();
        if (sys::send(endpoint_) < 0) [[unlikely]]
            peer_died();
        leave(outgoing.token);
        return {};
    }
    /// Gives references to an imported object back. False: the ring is full; later.
    bool release(std::uint32_t object, std::uint32_t references);

    HandleTable* handles() override { return handles_; }

    std::span<std::byte const> granted() override { return granted_.area(); }
    /// Room for granted arguments of `bytes` bytes, several calls' at a time. context: threads
    /// errors: TooLong (the whole area has less, or `bytes` is 0), Busy (others have it, or a call
    /// that was given up may read it yet), PeerDead, Unreachable
    [[nodiscard]] Result<GrantedBuffer, Failure> take_granted(std::uint64_t bytes);
    /// Units (GrantedPool::unit) of the area that are not free.
    std::uint32_t granted_taken() const { return granted_.taken(); }

private:
    friend class CallBatch;
    friend class GrantedBuffer;
    static void on_event(void* self, std::uint32_t endpoint, std::uint64_t count);
    void give_granted(std::span<std::byte> piece, std::uint32_t life);

    /// A call whose caller waits; on his stack.
    struct Waiting {
        Thread const* caller;
        std::uint64_t id;
        bool cancelled;
        Waiting* next;
    };

    static constexpr std::uint64_t quick_token = 2;

    /// Requests of a client that is not open: no slot is ever free, so its addresses are not used.
    RingSource<> no_requests() {
        auto* const nothing = reinterpret_cast<RingWords*>(this);
        return {RingGeometry{.slots = 0, .slot_bytes = 0}, nothing, nothing, {}, 0};
    }

    /// Writes the header before `body`.
    [[gnu::always_inline]] static void seal(std::byte* body, std::uint64_t id, CallTarget target,
                                            CallKind kind, Instant until, std::uint64_t bytes,
                                            std::uint64_t references = 0) {
        // The header as four words (RequestHeader).
        std::uint64_t const words[] = {id, what_word(target.object, target.operation, kind),
                                       static_cast<std::uint64_t>(until.ns()),
                                       bytes | references << 32};
        __builtin_memcpy(body - sizeof(RequestHeader), words, sizeof(words));
    }
    [[gnu::always_inline]] static void seal_announcement(std::byte* body, CallTarget target,
                                                         std::uint64_t bytes) {
        if (bytes > brief_bytes_max || bytes % 8 != 0) [[unlikely]]
            return seal(body, 0, target, CallKind::Announcement, Instant::never(), bytes);
        auto const word = brief_word(target.object, target.operation, bytes);
        __builtin_memcpy(body - sizeof(RequestHeader) + what_at, &word, sizeof(word));
    }
    /// requires: activations off
    [[gnu::always_inline]] static void leave(std::uint64_t was_on) {
        if (was_on == 0) return;
        auto& rw = *state().rw;
        asm volatile("" ::: "memory");
        rw.activations_on = 1;
        asm volatile("" ::: "memory");
        // As leave_critical, whose whole length is needed only when something is pending.
        if (__atomic_load_n(&rw.pending_summary, __ATOMIC_SEQ_CST) != 0) [[unlikely]]
            leave_critical();
    }
    void set_quick() { is_quick_ = used_ == 0 && donates_ && !dead_ && open_; }
    /// Perhaps the server has died, and somebody is to be told.
    void look();
    /// Failure::None, or why there is no room for a request; then activations are as before.
    [[gnu::noinline]] Failure make_ready(std::uint32_t body_max, std::uint64_t was_on);
    // These yield the reply's body, with word_ and token_, or null, with why_: so that what the
    // usual case has in registers stays there.
    [[gnu::noinline]] std::byte const* call_slowly(std::byte* request, std::uint64_t was_on,
                                                   CallTarget target, std::uint32_t bytes,
                                                   Instant until);
    [[gnu::noinline]] std::byte const* wait_slowly(std::uint64_t id, Instant until,
                                                   std::uint64_t was_on, std::int64_t told);
    [[gnu::noinline]] void done_slowly(std::uint64_t token);
    std::byte const* incoming(std::uint32_t ahead, std::uint32_t index, std::uint64_t was_on);
    std::byte const* wait(std::uint32_t index, std::uint64_t id, Instant until,
                          std::uint64_t was_on);
    std::byte const* lost(std::uint32_t index, std::uint64_t was_on);
    std::byte const* failed(Failure why, std::uint64_t was_on);
    std::optional<std::uint32_t> find_reply(std::uint64_t id);
    /// The server gets an event for announcements. `donate`: it serves them on this domain's time.
    void tell(bool donate);
    [[gnu::noinline]] void peer_died();
    [[gnu::noinline]] void not_there();
    void forget_call(std::uint32_t index);

    union {
        RingSource<> requests_;
    };
    union {
        RingSink<> replies_;
    };
    std::uint64_t body_bytes_ = 0;
    std::uint64_t reply_bytes_ = 0;
    std::uint64_t calls_ = 0;
    std::uint64_t used_ = 0;  ///< bit: index of live_ is taken
    std::uint64_t done_ = 0;  ///< bit k: the kth full slot of the replies has been read
    std::uint64_t live_[calls_in_flight_max] = {};  ///< number of the call that waits, or 0
    std::uint64_t given_up_ = 0;                    ///< bit: its caller waits no longer
    std::int64_t told_ = 0;                         ///< told_by(endpoint_)
    std::uint32_t endpoint_ = 0;
    std::uint32_t slots_ = 0;
    std::uint32_t life_ = 0;  ///< how often it was closed
    HandleTable* handles_ = nullptr;
    WaitQueue waiters_;
    Waiting* waiting_ = nullptr;
    Dead dead_hook_, not_there_hook_, watch_hook_;
    bool is_death_told_ = false;  ///< to watch_hook_
    std::uint64_t wakes_ = 0;     ///< how often wake() was called
    std::uint64_t word_ = 0, token_ = 0;
    Failure why_ = Failure::None;
    bool donates_ = true;
    bool dead_ = false;
    bool open_ = false;
    bool is_quick_ = false;       ///< no call in flight, donating, alive
    CallBatch* batch_ = nullptr;  ///< the one that has taken free slots
    GrantedPool granted_;
};

inline GrantedBuffer::~GrantedBuffer() {
    if (client_ != nullptr) client_->give_granted(bytes_, life_);
}

}  // namespace nemesis::invocation
