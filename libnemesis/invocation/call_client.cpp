// The ways of a protected call that are not the usual one.
#include "libnemesis/invocation/call_client.h"

#include <new>

#include "libnemesis/invocation/call_batch.h"

namespace nemesis::invocation {

Result<void, Failure> CallClient::open(BindingEnd const& end, BindingShape const& shape) {
    if (!shape.is_valid() || end.outgoing.size() < shape.client_bytes() ||
        end.incoming.size() < shape.server_bytes()) {
        return fail(Failure::BadMessage);
    }
    // First the line that tells of the other ring, then this side's ring.
    constexpr auto line = sizeof(RingWords);
    auto requests = RingSource<>::create(shape.requests(), end.outgoing.subspan(line),
                                         end.incoming.first(line));
    auto replies =
        RingSink<>::create(shape.replies(), end.incoming.subspan(line), end.outgoing.first(line));
    if (!requests || !replies) return fail(Failure::BadMessage);
    new (&requests_) RingSource<>(*requests);
    new (&replies_) RingSink<>(*replies);
    endpoint_ = end.endpoint;
    told_ = told_by(endpoint_);
    is_death_told_ = false;
    slots_ = shape.slots;
    body_bytes_ = shape.request_bytes;
    reply_bytes_ = shape.reply_bytes;
    used_ = done_ = given_up_ = 0;
    // Calls of an earlier connection: a reply with such a number is nobody's here.
    for (auto& id : live_) id = 0;
    dead_ = false;
    if (!attach(endpoint_, Closure{&CallClient::on_event, this})) {
        new (&requests_) RingSource<>(no_requests());
        return fail(Failure::NoMemory);
    }
    granted_.reset(shape.granted_bytes == 0
                       ? std::span<std::byte>()
                       : end.outgoing.subspan(shape.granted_at(), shape.granted_bytes));
    open_ = true;
    set_quick();
    // Who has died before there was a closure is not told of again.
    if (watch_hook_.function != nullptr) watch(watch_hook_);
    return {};
}

void CallClient::close() {
    if (!open_) return;
    (void)attach(endpoint_, Closure{});
    auto const was_on = state().rw->activations_on;
    enter_critical();
    open_ = false;
    if (batch_ != nullptr) batch_->drop();
    batch_ = nullptr;
    new (&requests_) RingSource<>(no_requests());
    granted_.reset({});
    ++life_;
    peer_died();
    leave(was_on);
}

void CallClient::on_event(void* self, std::uint32_t, std::uint64_t) {
    auto& client = *static_cast<CallClient*>(self);
    client.waiters_.wake_all();
    client.look();
}

void CallClient::watch(Dead hook) {
    auto const was_on = state().rw->activations_on;
    enter_critical();
    watch_hook_ = hook;
    // It may be dead already.
    if (open_) look();
    leave(was_on);
}

void CallClient::look() {
    if (is_death_told_ || watch_hook_.function == nullptr || !peer_is_dead(endpoint_)) return;
    is_death_told_ = true;
    watch_hook_.function(watch_hook_.self);
}

void CallClient::peer_died() {
    dead_ = true;
    is_quick_ = false;
    waiters_.wake_all();
    if (dead_hook_.function != nullptr) dead_hook_.function(dead_hook_.self);
}

bool CallClient::wait_for_end(Instant until, std::uint64_t seen) {
    enter_critical();
    auto const life = life_;
    bool waits = true;
    // Whether it is dead is asked after each event: one that comes from here on stays pending.
    while (open_ && life == life_ && !dead_ && !peer_is_dead(endpoint_) && waits && wakes_ == seen)
        waits = waiters_.wait(until);
    bool const ended = !open_ || life != life_ || dead_ || peer_is_dead(endpoint_);
    if (ended && open_ && life == life_ && !dead_) peer_died();
    leave_critical();
    return ended;
}

void CallClient::wake() {
    auto const was_on = state().rw->activations_on;
    enter_critical();
    ++wakes_;
    waiters_.wake_all();
    if (was_on != 0) leave_critical();
}

void CallClient::not_there() {
    if (not_there_hook_.function != nullptr) not_there_hook_.function(not_there_hook_.self);
}

/// A call's place in the table is free again.
void CallClient::forget_call(std::uint32_t index) {
    live_[index] = 0;
    used_ &= ~(1ull << index);
    given_up_ &= ~(1ull << index);
    set_quick();
}

Failure CallClient::make_ready(std::uint32_t body_max, std::uint64_t was_on) {
    if (batch_ != nullptr) batch_->settle();
    auto const look = [&] {
        if (!open_) return Failure::Unreachable;
        if (dead_) return Failure::PeerDead;
        if (body_max > body_bytes_) return Failure::TooLong;
        auto const free = requests_.free_slots(slots_);
        if (!free) {
            peer_died();
            return Failure::BadMessage;
        }
        return *free == 0 ? Failure::Busy : Failure::None;
    };
    auto const why = look();
    if (why != Failure::None) leave(was_on);
    return why;
}

std::byte const* CallClient::failed(Failure why, std::uint64_t was_on) {
    leave(was_on);
    why_ = why;
    return nullptr;
}

/// A call beside others, or without donation, or of somebody who is dead.
std::byte const* CallClient::call_slowly(std::byte* request, std::uint64_t was_on,
                                         CallTarget target, std::uint32_t bytes, Instant until) {
    // One more reply must have a slot: each call in flight may fill one, and those that were read
    // before an older one, which its caller has not read yet, are not given back.
    auto const has_place = [&] {
        auto const taken = __builtin_popcountll(used_) + __builtin_popcountll(done_);
        return static_cast<std::uint32_t>(taken) < slots_;
    };
    if (!dead_ && !has_place()) (void)find_reply(0);
    if (dead_ || !has_place()) {
        return failed(dead_ ? Failure::PeerDead : Failure::Busy, was_on);
    }
    auto const index = static_cast<std::uint32_t>(__builtin_ctzll(~used_));
    calls_ += calls_in_flight_max;
    auto const id = calls_ | index;
    used_ |= 1ull << index;
    is_quick_ = false;
    live_[index] = id;
    seal(request, id, target, donates_ ? CallKind::Donated : CallKind::Call, until, bytes);
    requests_.publish_unasked();
    auto sent =
        donates_ ? sys::request(endpoint_, until_first_sleeper(until).ns()) : sys::send(endpoint_);
    if (sent > 0) keep_told(sent);
    if (sent == static_cast<std::int64_t>(abi::Error::Pending)) sent = sys::send(endpoint_);
    if (sent < 0) return lost(index, was_on);
    return wait(index, id, until, was_on);
}

/// The only call in flight, whose reply has not come with the answer.
std::byte const* CallClient::wait_slowly(std::uint64_t id, Instant until, std::uint64_t was_on,
                                         std::int64_t told) {
    // It has come with an event later: the domain was suspended until then. Nobody but this caller
    // wants that event.
    if (told == 0 && waiters_.empty() && watch_hook_.function == nullptr &&
        replies_.has_just_one()) {
        auto const* const slot = replies_.oldest();
        auto const word = marshal::load_once<std::uint64_t>(slot + 8);
        if (marshal::load_once<std::uint64_t>(slot) == id && word >> 32 <= reply_bytes_) {
            forget_event(endpoint_);
            requests_.credit_one();
            word_ = (word >> 32) << 32 | static_cast<std::uint16_t>(word);
            token_ = was_on | quick_token;
            return slot + sizeof(ReplyHeader);
        }
    }
    used_ |= 1;
    is_quick_ = false;
    live_[0] = id;
    if (told > 0) keep_told(told);
    // Pending: something else was to be looked at first, and nothing was sent.
    if (told < 0 && sys::send(endpoint_) < 0) return lost(0, was_on);
    return wait(0, id, until, was_on);
}

/// The reply `ahead` of the oldest. Its length is the server's word: checked.
std::byte const* CallClient::incoming(std::uint32_t ahead, std::uint32_t index,
                                      std::uint64_t was_on) {
    auto const slot = replies_.slot(ahead);
    auto const word = marshal::load_once<std::uint64_t>(slot.data() + 8);
    auto length = word >> 32;
    auto status = static_cast<std::uint16_t>(word);
    if (length > reply_bytes_) {
        length = 0;
        status = static_cast<std::uint16_t>(Failure::BadMessage);
    }
    auto const at = static_cast<std::uint32_t>(replies_.position()) + ahead;
    word_ = length << 32 | status;
    token_ = std::uint64_t{at} << 16 | index << 8 | was_on;
    return slot.data() + sizeof(ReplyHeader);
}

void CallClient::done_slowly(std::uint64_t token) {
    auto const index = static_cast<std::uint32_t>(token >> 8) & (calls_in_flight_max - 1);
    auto const at = static_cast<std::uint32_t>(token >> 16);
    forget_call(index);
    done_ |= 1ull << ((at - static_cast<std::uint32_t>(replies_.position())) &
                      (calls_in_flight_max - 1));
    std::uint32_t released = 0;
    while ((done_ & 1) != 0) {
        done_ >>= 1;
        ++released;
    }
    if (released != 0) replies_.release_unasked(released);
}

/// Where among the full slots the reply to `id` is. What nobody waits for is given back.
std::optional<std::uint32_t> CallClient::find_reply(std::uint64_t id) {
    auto const full = replies_.full_slots(slots_);
    if (!full) {
        peer_died();
        return std::nullopt;
    }
    std::optional<std::uint32_t> found;
    for (std::uint32_t k = 0; k < *full; ++k) {
        if ((done_ >> k & 1) != 0) continue;
        auto const its = marshal::load_once<std::uint64_t>(replies_.slot(k).data());
        auto const index = static_cast<std::uint32_t>(its) & (calls_in_flight_max - 1);
        if (its == id && id != 0) {
            found = k;
        } else if (its == 0 || live_[index] != its) {
            done_ |= 1ull << k;  // nobody's, or a second one
        } else if ((given_up_ >> index & 1) != 0) {
            done_ |= 1ull << k;
            forget_call(index);
        }
    }
    std::uint32_t released = 0;
    while ((done_ & 1) != 0) {
        done_ >>= 1;
        ++released;
    }
    if (released != 0) {
        replies_.release_unasked(released);
        if (found) *found -= released;
    }
    return found;
}

std::byte const* CallClient::lost(std::uint32_t index, std::uint64_t was_on) {
    peer_died();
    forget_call(index);
    return failed(open_ ? Failure::PeerDead : Failure::Cancelled, was_on);
}

std::byte const* CallClient::wait(std::uint32_t index, std::uint64_t id, Instant until,
                                  std::uint64_t was_on) {
    Waiting here{state().current, id, false, waiting_};
    waiting_ = &here;
    std::optional<std::uint32_t> ahead;
    auto why = Failure::None;
    auto const life = life_;
    while (why == Failure::None) {
        // Closed meanwhile, perhaps opened anew: the call and its place belong to what is gone.
        if (life != life_) break;
        if (ahead = find_reply(id); ahead) break;
        // Perhaps the server has died, and that was the event that brought us here.
        if (dead_ || peer_is_dead(endpoint_))
            why = Failure::PeerDead;
        else if (here.cancelled)
            why = Failure::Cancelled;
        // An event that comes from here on stays pending until the dispatcher has its turn.
        else if (!waiters_.wait(until) && life == life_ && !(ahead = find_reply(id)))
            why = Failure::TimedOut;
        if (ahead) break;
    }
    auto** at = &waiting_;
    while (*at != &here) at = &(*at)->next;
    *at = here.next;
    if (life != life_) return failed(Failure::Cancelled, was_on);
    if (ahead) return incoming(*ahead, index, was_on);
    if (why == Failure::PeerDead) return lost(index, was_on);
    // Its place stays taken until the server answers: so replies always have room.
    given_up_ |= 1ull << index;
    return failed(why, was_on);
}

bool CallClient::cancel(Thread const& caller) {
    auto const was_on = state().rw->activations_on;
    enter_critical();
    auto* call = waiting_;
    while (call != nullptr && (call->caller != &caller || call->cancelled)) call = call->next;
    if (batch_ != nullptr) batch_->settle();
    if (call != nullptr) {
        call->cancelled = true;
        waiters_.wake_all();
        if (open_ && !dead_ && requests_.free_slots().value_or(0) != 0) {
            seal(requests_.next() + sizeof(RequestHeader), call->id, {}, CallKind::Cancel,
                 Instant::never(), 0);
            requests_.publish_unasked();
            (void)sys::send(endpoint_);
        }
    }
    leave(was_on);
    return call != nullptr;
}

Result<GrantedBuffer, Failure> CallClient::take_granted(std::uint64_t bytes) {
    auto const was_on = state().rw->activations_on;
    enter_critical();
    // What calls that were given up may read is free when they have been answered.
    if (open_ && !dead_ && given_up_ != 0) (void)find_reply(0);
    if (given_up_ == 0) granted_.settle();
    auto why = Failure::None;
    if (!open_)
        why = Failure::Unreachable;
    else if (dead_)
        why = Failure::PeerDead;
    else if (bytes == 0 || bytes > granted_.area().size())
        why = Failure::TooLong;
    auto const piece = why == Failure::None ? granted_.take(bytes) : std::span<std::byte>();
    auto const life = life_;
    leave(was_on);
    if (why != Failure::None) return fail(why);
    if (piece.empty()) return fail(Failure::Busy);
    return GrantedBuffer(*this, life, piece);
}

void CallClient::give_granted(std::span<std::byte> piece, std::uint32_t life) {
    auto const was_on = state().rw->activations_on;
    enter_critical();
    // That of an earlier connection went with it.
    if (life == life_) granted_.give(piece, given_up_ != 0);
    leave(was_on);
}

void CallClient::tell(bool donate) {
    auto const sent = donate ? sys::request(endpoint_, INT64_MAX) : sys::send(endpoint_);
    if (sent == told_) return;
    if (sent > 0) keep_told(sent);
    if (sent == static_cast<std::int64_t>(abi::Error::Pending))
        (void)sys::send(endpoint_);
    else if (sent < 0)
        peer_died();
}

bool CallClient::release(std::uint32_t object, std::uint32_t references) {
    auto const out = begin(0);
    if (!out) return out.error() != Failure::Busy;
    seal(out->body.data(), 0, {object, 0}, CallKind::Release, Instant::never(), 0, references);
    requests_.publish_unasked();
    (void)sys::send(endpoint_);
    leave(out->token);
    return true;
}

}  // namespace nemesis::invocation
