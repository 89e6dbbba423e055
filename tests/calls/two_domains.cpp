// What kernel, dispatcher and thread scheduler are to the two ends of a protected call.
#include "tests/calls/two_domains.h"

#include <asm/prctl.h>
#include <sanitizer/common_interface_defs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "libnemesis/activation/activation.h"
#include "libnemesis/invocation/call_client.h"

namespace nemesis {

using calls_test::Fiber;
using calls_test::World;

/// The friend of Thread and WaitQueue.
struct ThreadScheduler {
    static void enqueue(WaitQueue& queue, Thread& t, Instant until) {
        t.next_ = nullptr;
        t.queue_ = &queue;
        (queue.last_ != nullptr ? queue.last_->next_ : queue.first_) = &t;
        queue.last_ = &t;
        t.timed_out_ = false;
        t.sleeping_ = until != Instant::never();
        t.timeout_ = until;
    }
    static Thread* dequeue(WaitQueue& queue) {
        auto* const t = queue.first_;
        if (t == nullptr) return nullptr;
        queue.first_ = t->next_;
        if (queue.first_ == nullptr) queue.last_ = nullptr;
        t->queue_ = nullptr;
        t->sleeping_ = false;
        return t;
    }
    static void expire(Thread& t) {
        auto& queue = *t.queue_;
        Thread* before = nullptr;
        for (auto* at = queue.first_; at != &t; at = at->next_) before = at;
        (before != nullptr ? before->next_ : queue.first_) = t.next_;
        if (queue.last_ == &t) queue.last_ = before;
        t.queue_ = nullptr;
        t.sleeping_ = false;
        t.timed_out_ = true;
    }
    static bool is_sleeping(Thread const& t) { return t.sleeping_; }
    static bool has_timed_out(Thread const& t) { return t.timed_out_; }
};

bool WaitQueue::wait(Instant until) {
    auto& t = *state().current;
    ThreadScheduler::enqueue(*this, t, until);
    World::current().block();
    return !ThreadScheduler::has_timed_out(t);
}
bool WaitQueue::wake_one() {
    auto* const t = ThreadScheduler::dequeue(*this);
    if (t == nullptr) return false;
    static_cast<Fiber*>(t)->ready = true;
    return true;
}
void WaitQueue::wake_all() {
    while (wake_one()) {
    }
}

bool attach(std::uint32_t endpoint, Closure closure) {
    state().closures[endpoint] = closure.function != nullptr
                                     ? closure
                                     : Closure{[](void*, std::uint32_t, std::uint64_t) {}, nullptr};
    return true;
}
void leave_critical() {
    state().rw->activations_on = 1;
    World::current().step();
}

namespace sys {
std::int64_t send(Word) { return World::current().send(); }
std::int64_t request(Word, std::int64_t until) { return World::current().request(until); }
std::int64_t answer(Word, Word goes_on) { return World::current().answer(goes_on != 0); }
std::int64_t endpoint_state(Word) { return World::current().endpoint_state(); }
}  // namespace sys

}  // namespace nemesis

namespace nemesis::calls_test {
namespace {

World* world = nullptr;

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool is_watched = true;
#else
constexpr bool is_watched = false;
#endif
#else
constexpr bool is_watched = false;
#endif

/// Before the stack changes. `shadow`: where what is known of this one is kept; null: it is not
/// needed any more
void leaving(void** shadow, void const* stack, std::size_t bytes) {
    if constexpr (is_watched) __sanitizer_start_switch_fiber(shadow, stack, bytes);
}

/// state() is what the GS base points to, which programs of the host do not use.
void enter(Domain& domain) { syscall(SYS_arch_prctl, ARCH_SET_GS, domain.state.get()); }

void dispatcher(Domain& domain) {
    auto& rw = *domain.rw;
    for (;;) {
        while (domain.is_wanted()) {
            rw.activations_on = 0;
            rw.pending_summary = 0;
            if (std::exchange(rw.pending[0], 0) == 0) continue;
            auto const closure = domain.state->closures[0];
            if (closure.function != nullptr)
                closure.function(closure.self, 0, domain.ro->counts[0]);
        }
        World::current().block();
    }
}

}  // namespace

void run_fiber() {
    World::current().arrived(nullptr);
    auto& fiber = static_cast<Fiber&>(*state().current);
    fiber.domain->rw->activations_on = 1;
    fiber.body();
    fiber.ended = true;
    World::current().block();
}

void World::arrived(void* shadow) {
    if constexpr (is_watched)
        __sanitizer_finish_switch_fiber(shadow, &main_stack_, &main_stack_bytes_);
    (void)shadow;
}

World& World::current() { return *world; }

World::World(std::uint64_t seed) : random(seed) {
    world = this;
    for (auto* const d : {&client, &server}) {
        d->peer = d == &client ? &server : &client;
        *d->state = State{};
        *d->ro = Domain::Ro{};
        *d->rw = abi::DibRw{};
        d->state->self = d->state.get();
        d->state->ro = d->ro.get();
        d->state->rw = d->rw.get();
        d->ro->endpoint_count = 8;
        start(*d, [d] { dispatcher(*d); });
        d->fibers[0]->ready = false;  // it runs when something is pending
    }
}
World::~World() {
    syscall(SYS_arch_prctl, ARCH_SET_GS, nullptr);
    world = nullptr;
}

void World::start(Domain& domain, std::function<void()> body) {
    auto fiber = std::make_unique<Fiber>();
    fiber->body = std::move(body);
    fiber->domain = &domain;
    fiber->stack = std::make_unique<char[]>(Fiber::stack_bytes);
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack.get();
    fiber->context.uc_stack.ss_size = Fiber::stack_bytes;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, &run_fiber, 0);
    domain.fibers.push_back(std::move(fiber));
}

void World::resume(Fiber& fiber) {
    auto& domain = *fiber.domain;
    enter(domain);
    domain.state->current = &fiber;
    domain.rw->others_ready = 0;
    for (auto const& f : domain.fibers)
        if (f.get() != &fiber && f != domain.fibers.front() && f->ready && !f->ended)
            domain.rw->others_ready = 1;
    domain.ro->time_kind = static_cast<std::uint32_t>(domain.peer->donates ? abi::TimeKind::Donated
                                                                           : abi::TimeKind::Extra);
    running_ = &fiber;
    leaving(&main_shadow_, fiber.stack.get(), Fiber::stack_bytes);
    swapcontext(&main_, &fiber.context);
    if constexpr (is_watched) __sanitizer_finish_switch_fiber(main_shadow_, nullptr, nullptr);
    running_ = nullptr;
}
void World::yield() {
    auto& fiber = *running_;
    leaving(fiber.ended ? nullptr : &fiber.shadow, main_stack_, main_stack_bytes_);
    swapcontext(&fiber.context, &main_);
    arrived(fiber.shadow);
}

void World::block() {
    running_->ready = false;
    yield();
    state().rw->activations_on = 0;
}
void World::step() {
    // On again: threads that were interrupted run with activations on.
    if (running_ == running_->domain->fibers[0].get()) return;
    yield();
    state().rw->activations_on = 1;
}

Fiber* World::next_sleeper() {
    Fiber* first = nullptr;
    for (auto* const d : {&client, &server}) {
        if (!d->alive || d->gave_up != nullptr) continue;
        for (auto const& f : d->fibers) {
            if (ThreadScheduler::is_sleeping(*f) &&
                (first == nullptr || f->timeout() < first->timeout()))
                first = f.get();
        }
    }
    return first;
}

Domain* World::next_waiter() {
    Domain* first = nullptr;
    for (auto* const d : {&client, &server}) {
        if (!d->alive || d->gave_up == nullptr || d->donates || d->goes_on) continue;
        if (d->until != INT64_MAX && (first == nullptr || d->until < first->until)) first = d;
    }
    return first;
}

bool World::run_something() {
    Fiber* choices[32];
    std::uint64_t count = 0;
    for (auto* const d : {&client, &server}) {
        if (!d->alive) continue;
        if (auto* const f = d->gave_up; f != nullptr) {
            // A donation may end at any time; who has a time-out then waits on, as who has
            // answered, for an event.
            bool const may_end = !d->donates || random.below(8) == 0 || !d->peer->alive;
            if (d->donates && may_end && d->until != INT64_MAX) d->donates = false;
            bool const wakes = d->donates ? may_end : (d->goes_on || d->is_wanted() || d->told);
            if (wakes) choices[count++] = f;
            continue;
        }
        if (d->is_wanted()) choices[count++] = d->fibers[0].get();
        for (auto const& f : d->fibers)
            if (f->ready && !f->ended && count < 32) choices[count++] = f.get();
    }
    auto* const sleeper = next_sleeper();
    auto* const waiter = next_waiter();
    // Time passes when nothing else can happen, or now and then all the same.
    if (waiter != nullptr && (sleeper == nullptr || waiter->until < sleeper->timeout().ns()) &&
        (count == 0 || random.below(24) == 0)) {
        now = std::max(now, waiter->until);
        waiter->goes_on = true;
        return true;
    }
    bool const waits = client.alive && client.donates;
    if (count == 0 && sleeper == nullptr) return waits;
    if (sleeper != nullptr && (count == 0 || random.below(24) == 0)) {
        now = std::max(now, sleeper->timeout().ns());
        ThreadScheduler::expire(*sleeper);
        sleeper->ready = true;
        return true;
    }
    auto& next = *choices[random.below(count)];
    auto& domain = *next.domain;
    if (domain.gave_up == &next) {
        domain.gave_up = nullptr;
        domain.donates = domain.goes_on = false;
    }
    resume(next);
    return true;
}

void World::notify(Domain& domain) {
    if (!domain.alive) return;
    ++domain.ro->counts[0];
    domain.rw->pending[0] |= 1;
    domain.rw->pending_summary |= 1;
}

void World::kill(Domain& domain) {
    domain.alive = false;
    domain.donates = false;
    notify(*domain.peer);
}

std::int64_t World::send() {
    auto& domain = *running_->domain;
    if (!domain.peer->alive) return static_cast<std::int64_t>(abi::Error::PeerDead);
    notify(*domain.peer);
    return 0;
}
std::int64_t World::request(std::int64_t until) {
    auto& domain = *running_->domain;
    auto& peer = *domain.peer;
    if (!peer.alive) return static_cast<std::int64_t>(abi::Error::PeerDead);
    if (domain.is_wanted()) return static_cast<std::int64_t>(abi::Error::Pending);
    bool const waits = peer.gave_up != nullptr && !peer.donates && !peer.goes_on &&
                       !peer.is_wanted() && !peer.told;
    tell(peer, waits);
    domain.gave_up = running_;
    domain.donates = true;
    domain.until = domain.rw->others_ready != 0 ? INT64_MAX : until;
    yield();
    domain.until = INT64_MAX;
    return std::exchange(domain.told, false) ? abi::kTold : 0;
}
std::int64_t World::answer(bool goes_on) {
    auto& domain = *running_->domain;
    auto& donor = *domain.peer;
    if (!donor.alive) return static_cast<std::int64_t>(abi::Error::PeerDead);
    tell(donor, donor.donates && !goes_on);
    if (!donor.donates) return 0;
    donor.donates = false;  // its request is over: it runs on when its turn comes
    donor.goes_on = true;
    domain.gave_up = running_;
    domain.goes_on = goes_on;
    yield();
    return std::exchange(domain.told, false) ? abi::kTold : 0;
}
void World::tell(Domain& domain, bool may_be_result) {
    // The kernel tells in its quick case only: whoever waits must do with either.
    if (may_be_result && random.below(4) != 0)
        domain.told = true;
    else
        notify(domain);
}
std::int64_t World::endpoint_state() {
    return static_cast<std::int64_t>(running_->domain->peer->alive ? abi::EndpointState::Connected
                                                                   : abi::EndpointState::Dead);
}

}  // namespace nemesis::calls_test
