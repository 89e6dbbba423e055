#include "libnemesis/invocation/call_server.h"

#include <new>

#include "libnemesis/invocation/announced.h"
#include "libnemesis/marshal/message.h"

namespace nemesis::invocation {
namespace {

/// Announcements that one event serves at most; calls: one.
constexpr std::uint32_t announcements_max = 64;

}  // namespace

void keep_told(std::int64_t told) {
    auto& rw = *state().rw;
    auto const endpoint = static_cast<std::uint32_t>(told - abi::kTold);
    __atomic_or_fetch(&rw.pending[endpoint / 64], 1ull << (endpoint % 64), __ATOMIC_SEQ_CST);
    __atomic_or_fetch(&rw.pending_summary, 1ull << (endpoint / 64), __ATOMIC_SEQ_CST);
}

void forget_event(std::uint32_t endpoint) {
    auto& rw = *state().rw;
    auto const word = endpoint / 64;
    // First the summary, then the word: what comes in between is put back.
    __atomic_and_fetch(&rw.pending_summary, ~(1ull << word), __ATOMIC_SEQ_CST);
    if (__atomic_and_fetch(&rw.pending[word], ~(1ull << endpoint % 64), __ATOMIC_SEQ_CST) != 0)
        __atomic_or_fetch(&rw.pending_summary, 1ull << word, __ATOMIC_SEQ_CST);
}

bool peer_is_dead(std::uint32_t endpoint) {
    return sys::endpoint_state(endpoint) == static_cast<std::int64_t>(abi::EndpointState::Dead);
}

void Backlog::add(CallServer& s) {
    if (s.queued_) return;
    s.queued_ = true;
    s.next_ = nullptr;
    (last_ != nullptr ? last_->next_ : first_) = &s;
    last_ = &s;
    (void)idle_.wake_one();
}

CallServer* Backlog::take() {
    auto* const s = first_;
    if (s == nullptr) return nullptr;
    first_ = s->next_;
    if (first_ == nullptr) last_ = nullptr;
    s->queued_ = false;
    return s;
}

void Backlog::remove(CallServer& s) {
    CallServer* before = nullptr;
    for (auto* at = first_; at != nullptr; before = at, at = at->next_) {
        if (at != &s) continue;
        (before != nullptr ? before->next_ : first_) = s.next_;
        if (last_ == &s) last_ = before;
        break;
    }
    s.queued_ = false;
}

bool Backlog::is_cancelled() {
    // In place there is no worker, and nobody else runs who could take the call back.
    if (state().rw->activations_on == 0) return false;
    enter_critical();
    auto const* call = serving_;
    while (call != nullptr && call->worker != state().current) call = call->next;
    auto const is = call != nullptr && call->server->is_cancelled(call->id);
    leave_critical();
    return is;
}

void Backlog::run() {
    enter_critical();
    for (;;) {
        auto* const s = take();
        if (s == nullptr) {
            idle_.wait(Instant::never());
            continue;
        }
        (void)s->serve_one(s->mode_ == CallServer::Mode::Workers);
        // Between two calls events get their turn.
        leave_critical();
        enter_critical();
    }
}

Result<void, Failure> CallServer::open(BindingEnd const& end, BindingShape const& shape,
                                       ConnectionHandles& handles, Backlog& backlog, Mode mode) {
    if (!shape.is_valid() || end.outgoing.size() < shape.server_bytes() ||
        end.incoming.size() < shape.client_bytes()) {
        return fail(Failure::BadMessage);
    }
    constexpr auto line = sizeof(RingWords);
    auto requests =
        RingSink<>::create(shape.requests(), end.incoming.subspan(line), end.outgoing.first(line));
    auto replies =
        RingSource<>::create(shape.replies(), end.outgoing.subspan(line), end.incoming.first(line));
    if (!requests || !replies) return fail(Failure::BadMessage);
    new (&requests_) RingSink<>(*requests);
    new (&replies_) RingSource<>(*replies);
    request_bytes_ = shape.request_bytes;
    reply_bytes_ = shape.reply_bytes;
    handles.set_limits(shape.request_bytes, shape.reply_bytes);
    if (!handles.carries(*handles.root().info)) return fail(Failure::TooLong);
    endpoint_ = end.endpoint;
    told_ = told_by(endpoint_);
    handles_ = &handles;
    backlog_ = &backlog;
    mode_ = mode;
    dead_ = false;
    handles.set_granted(shape.granted_bytes == 0
                            ? std::span<std::byte const>()
                            : end.incoming.subspan(shape.granted_at(), shape.granted_bytes));
    if (!attach(endpoint_, Closure{&CallServer::on_event, this})) {
        handles.set_granted({});
        return fail(Failure::NoMemory);
    }
    open_ = true;
    // An event that came before there was a closure is over; what it was about is in the ring.
    auto const was_on = state().rw->activations_on;
    enter_critical();
    backlog.add(*this);
    if (was_on != 0) leave_critical();
    return {};
}

void CallServer::close() {
    if (!open_) return;
    (void)attach(endpoint_, Closure{});
    enter_critical();
    open_ = false;
    dead_ = true;
    while (busy_) closing_.wait(Instant::never());
    backlog_->remove(*this);
    handles_->end();
    handles_->set_granted({});
    leave_critical();
}

void CallServer::died() {
    if (dead_) return;
    dead_ = true;
    backlog_->remove(*this);
    handles_->end();
    if (gone_.function != nullptr) gone_.function(gone_.self, *this);
}

void CallServer::on_event(void* self, std::uint32_t, std::uint64_t) {
    auto& s = *static_cast<CallServer*>(self);
    if (s.dead_) [[unlikely]]
        return;
    if (s.mode_ == Mode::Workers) {
        s.backlog_->add(s);
        return;
    }
    s.serve_donated();
}

void CallServer::serve_donated() {
    while (serve_calls()) {
    }
}

bool CallServer::serve_calls() {
    // One call at a time, whose caller waits for it. A client has no more calls in flight than
    // slots: its reply has room.
    for (;;) {
        if (!requests_.has_just_one()) [[unlikely]]
            return serve_announced();
        auto const* const slot = requests_.oldest();
        // Three words decide; each is read once.
        auto const id = marshal::load_once<std::uint64_t>(slot);
        auto const what = marshal::load_once<std::uint64_t>(slot + 8);
        auto const bytes = marshal::load_once<std::uint64_t>(slot + 24);
        if (what >> 48 != static_cast<std::uint64_t>(CallKind::Donated) || bytes > request_bytes_)
            [[unlikely]]
            return serve_announced();
        auto const* target = &handles_->root();
        if (auto const object = static_cast<std::uint32_t>(what); object != 0) {
            target = handles_->find(object);
            if (target == nullptr) [[unlikely]]
                return serve_announced();
        }
        auto* const reply = replies_.next_unlooked();
        auto const result = dispatch(*target, static_cast<std::uint16_t>(what >> 32),
                                     {slot + sizeof(RequestHeader), bytes},
                                     {reply + sizeof(ReplyHeader), reply_bytes_});
        std::uint64_t const words[] = {id, std::uint64_t{result.body_bytes} << 32 | result.status};
        __builtin_memcpy(reply, words, sizeof(words));
        requests_.release_the_one();
        replies_.publish_unlooked();
        // The next call of the same client, if nothing else is to be done: no dispatcher between.
        if (auto const told = sys::answer(endpoint_, more_to_do()); told != told_) [[unlikely]] {
            answered(told);
            return false;
        }
    }
}

bool CallServer::serve_announced() {
    for (std::uint64_t announcements = 0;;) {
        auto const full = requests_.full_slots_now();
        if (full && *full != 0) {
            auto const what = marshal::load_once<std::uint64_t>(requests_.oldest() + what_at);
            if (kind_of(what) == CallKind::Announcement && announcements < announcements_max) {
                // Several at one event: there is nobody to be answered.
                auto const served = serve_run(what, announcements_max - announcements);
                announcements += served;
                requests_.release_unasked(served);
                if (requests_.known_full() != 0 || !requests_.is_up_to_date()) continue;
            } else {
                if (announcements != 0 && announcements < announcements_max) return true;
                break;
            }
        }
        if (announcements == 0) break;
        if (!is_on_donated_time() || !backlog_->empty()) return false;
        // Who pays for this gets the processor back without a decision of the scheduler.
        announcements = 0;
        if (auto const told = sys::answer(endpoint_, more_to_do()); told != told_) {
            answered(told);
            return false;
        }
    }
    (void)serve_one(false);
    return false;
}

/// The oldest request, which is an announcement as the word `what` of its header says, and of those
/// behind it, at most `most` altogether, perhaps some: how many.
inline std::uint64_t CallServer::serve_run(std::uint64_t what, std::uint64_t most) {
    auto const object = static_cast<std::uint32_t>(what);
    auto const operation = static_cast<std::uint16_t>(what >> 32);
    auto const* const target = object == 0 ? &handles_->root() : handles_->find(object);
    if (target == nullptr) [[unlikely]]
        return 1;
    auto const& info = *target->info;
    if (is_brief(what) && brief_bytes(what) <= request_bytes_ && operation < info.announced.size())
        [[likely]] {
        if (auto const run = info.announced.data()[operation]; run != nullptr) [[likely]]
            return run(target->object, requests_, what, most);
    }
    return serve_announcement(*target, what);
}

/// The oldest request, alone.
std::uint64_t CallServer::serve_announcement(Export const& target, std::uint64_t what) {
    auto const* const slot = requests_.oldest();
    auto const bytes =
        is_brief(what) ? brief_bytes(what) : marshal::load_once<std::uint64_t>(slot + length_at);
    if (bytes <= request_bytes_)
        (void)dispatch(target, static_cast<std::uint16_t>(what >> 32),
                       {slot + sizeof(RequestHeader), bytes}, {});
    return 1;
}

/// An event without a request: a wait that was over, or the client's death.
void CallServer::nothing_there() {
    if (peer_is_dead(endpoint_)) died();
}

/// Requests that are neither call nor announcement.
void CallServer::unusual(RequestHeader const& header) {
    if (static_cast<CallKind>(header.kind) == CallKind::Release)
        handles_->released(header.object, header.reserved);
    else if (static_cast<CallKind>(header.kind) != CallKind::Cancel)
        ++refused_;
}

bool CallServer::is_cancelled(std::uint64_t id) {
    if (dead_) return true;
    auto const full = requests_.full_slots(UINT32_MAX);
    for (std::uint64_t k = 1; full && k < *full; ++k) {
        auto const slot = requests_.slot(k);
        if (marshal::load_once<std::uint16_t>(slot.data() + 14) ==
                static_cast<std::uint16_t>(CallKind::Cancel) &&
            marshal::load_once<std::uint64_t>(slot.data()) == id)
            return true;
    }
    return false;
}

void CallServer::answered(std::int64_t told) {
    if (told > 0)
        keep_told(told);
    else if (told < 0)  // its death may have been part of the event that brought its last call
        died();
}

/// The client gets its answer: by synchronous send when it is its time that is used.
void CallServer::answer(std::uint16_t kind) {
    if (kind == static_cast<std::uint16_t>(CallKind::Donated) &&
        dib().time_kind == static_cast<std::uint32_t>(abi::TimeKind::Donated)) [[likely]] {
        requests_.release_unasked();
        replies_.publish_unasked();
        answered(sys::answer(endpoint_, more_to_do()));
        return;
    }
    requests_.release_unasked();
    replies_.publish_unasked();
    if (sys::send(endpoint_) == static_cast<std::int64_t>(abi::Error::PeerDead)) died();
}

bool CallServer::serve_one(bool may_enable) {
    for (std::uint32_t announcements = 0;;) {
        if (dead_ || busy_) return false;
        auto const full = requests_.full_slots();
        if (!full) [[unlikely]] {
            died();
            return false;
        }
        if (*full == 0) {
            if (announcements == 0) nothing_there();
            return announcements != 0;
        }
        auto const slot = requests_.slot();
        // One word decides, or three; each is read once.
        auto const what = marshal::load_once<std::uint64_t>(slot.data() + what_at);
        bool const brief = is_brief(what) && kind_of(what) == CallKind::Announcement;
        auto const id = brief ? 0 : marshal::load_once<std::uint64_t>(slot.data());
        auto const length =
            brief ? brief_bytes(what) : marshal::load_once<std::uint64_t>(slot.data() + length_at);
        auto const object = static_cast<std::uint32_t>(what);
        auto const operation = static_cast<std::uint16_t>(what >> 32);
        // A length in the word makes of every other kind one that there is not.
        auto const kind = brief ? static_cast<std::uint16_t>(CallKind::Announcement)
                                : static_cast<std::uint16_t>(what >> 48);
        auto const bytes = static_cast<std::uint32_t>(length);
        if (kind > static_cast<std::uint16_t>(CallKind::Donated)) [[unlikely]] {
            unusual(
                {id, object, operation, kind, 0, bytes, static_cast<std::uint32_t>(length >> 32)});
            requests_.release_unasked();
            continue;
        }
        bool const call = kind != static_cast<std::uint16_t>(CallKind::Announcement);
        std::span<std::byte> reply;
        if (call) {
            auto const room = replies_.free_slots_now();
            if (!room || *room == 0) [[unlikely]] {
                // It has more calls in flight than it may: a broken client.
                died();
                return false;
            }
            reply = replies_.slot();
        }
        auto const* const target = handles_->find(object);
        Served result = invocation::served(Failure::NoSuchObject);
        if (bytes > request_bytes_) [[unlikely]] {
            result = invocation::served(Failure::BadMessage);
            ++refused_;
        } else if (call && is_cancelled(id)) [[unlikely]] {
            result = invocation::served(Failure::Cancelled);
            if (target != nullptr)
                handles_->refuse_untaken(*target->info, operation,
                                         slot.subspan(sizeof(RequestHeader), bytes));
        } else if (target != nullptr) [[likely]] {
            auto const body = slot.subspan(sizeof(RequestHeader), bytes);
            auto const room = call ? reply.subspan(sizeof(ReplyHeader)) : reply;
            if (call && room.size() < target->info->reply_max) [[unlikely]] {
                result = invocation::served(Failure::TooLong);
            } else if (may_enable) {
                // Others may run meanwhile, but no second call of this client.
                busy_ = true;
                handles_->set_until(
                    brief ? Instant::never()
                          : Instant::ns(marshal::load_once<std::int64_t>(slot.data() + 16)));
                Backlog::Serving here{state().current, this, id, backlog_->serving_};
                backlog_->serving_ = &here;
                leave_critical();
                result = dispatch(*target, operation, body, room);
                enter_critical();
                auto** at = &backlog_->serving_;
                while (*at != &here) at = &(*at)->next;
                *at = here.next;
                busy_ = false;
                closing_.wake_all();
                if (dead_) return false;
            } else {
                result = dispatch(*target, operation, body, room);
            }
        }
        if (!call) {
            requests_.release_unasked();
            if (++announcements < announcements_max) continue;
            backlog_->add(*this);
            return true;
        }
        __builtin_memcpy(reply.data(), &id, 8);
        auto const tail = std::uint64_t{result.body_bytes} << 32 | result.status;
        __builtin_memcpy(reply.data() + 8, &tail, 8);
        // What is left waits its turn behind the other clients.
        auto const known =
            may_enable ? requests_.full_slots(2).value_or(2) : requests_.known_full();
        if (known > 1) [[unlikely]]
            backlog_->add(*this);
        answer(kind);
        return true;
    }
}

}  // namespace nemesis::invocation
