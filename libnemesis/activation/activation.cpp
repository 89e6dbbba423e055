// Dispatcher and thread scheduler: one mechanism, because continuing a thread is what a dispatch
// ends with.
#include "libnemesis/activation/activation.h"

#include <new>

#include "libnemesis/clock.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace nemesis {

extern "C" {
void nem_activation_entry();
void nem_thread_block(std::uint64_t* save, std::uint64_t stack_top);
[[noreturn]] void nem_thread_continue(std::uint64_t stack_pointer);
void nem_thread_landing();
void nem_thread_first();
}

/// The parts of the thread scheduler that dispatcher and threads share.
struct ThreadScheduler {
    static void make_ready(State& s, Thread& t) {
        auto** at = &s.ready;
        while (*at != nullptr && (*at)->deadline_ <= t.deadline_) at = &(*at)->next_;
        t.next_ = *at;
        *at = &t;
        s.rw->others_ready = 1;
    }
    /// For a preempted thread: before others of the same deadline, it had not finished its turn.
    static void make_ready_first(State& s, Thread& t) {
        auto** at = &s.ready;
        while (*at != nullptr && (*at)->deadline_ < t.deadline_) at = &(*at)->next_;
        t.next_ = *at;
        *at = &t;
    }
    static void sleep(State& s, Thread& t, Instant until) {
        t.timeout_ = until;
        t.sleeping_ = true;
        auto** at = &s.sleeping;
        while (*at != nullptr && (*at)->timeout_ <= until) at = &(*at)->next_sleeper_;
        t.next_sleeper_ = *at;
        *at = &t;
    }
    static void stop_sleeping(State& s, Thread& t) {
        if (!t.sleeping_) return;
        for (auto** at = &s.sleeping; *at != nullptr; at = &(*at)->next_sleeper_) {
            if (*at == &t) {
                *at = t.next_sleeper_;
                break;
            }
        }
        t.sleeping_ = false;
    }
    static void leave_queue(Thread& t) {
        if (t.queue_ == nullptr) return;
        Thread* before = nullptr;
        for (auto* at = t.queue_->first_; at != nullptr; before = at, at = at->next_) {
            if (at != &t) continue;
            (before != nullptr ? before->next_ : t.queue_->first_) = t.next_;
            if (t.queue_->last_ == &t) t.queue_->last_ = before;
            break;
        }
        t.queue_ = nullptr;
    }
    static void expire(State& s) {
        if (s.sleeping == nullptr) return;
        auto const time = now();
        while (s.sleeping != nullptr && s.sleeping->timeout_ <= time) {
            auto& t = *s.sleeping;
            s.sleeping = t.next_sleeper_;
            t.sleeping_ = false;
            t.timed_out_ = true;
            leave_queue(t);
            make_ready(s, t);
        }
    }
    /// A sleeper that would come before `t`, which runs next, shall interrupt it.
    [[gnu::noinline]] static void set_alarm(State& s, Thread const& t) {
        auto const* sleeper = s.sleeping;
        while (sleeper != nullptr && sleeper->deadline_ >= t.deadline_)
            sleeper = sleeper->next_sleeper_;
        if (sleeper == nullptr) return;
        // Suspending has ended it.
        auto const stands = s.alarm_deactivations == s.ro->deactivations;
        if (stands && s.alarm <= sleeper->timeout_ && s.alarm > now()) return;
        s.alarm = sleeper->timeout_;
        s.alarm_deactivations = s.ro->deactivations;
        sys::alarm(s.alarm.ns());
    }
    /// The current thread lets a ready one with an earlier deadline run. requires: activations off
    static void yield_to_more_urgent(State& s) {
        if (s.ready == nullptr || s.ready->deadline_ >= s.current->deadline_) return;
        make_ready_first(s, *s.current);
        block(s);
    }
    /// Gives the processor to the first ready thread; returns only if an event came in between.
    static void run_first(State& s) {
        auto& t = *s.ready;
        s.ready = t.next_;
        s.rw->others_ready = s.ready != nullptr;
        t.next_ = nullptr;
        s.current = &t;
        s.rw->slot[1] = t.slot_;
        if (s.sleeping != nullptr) [[unlikely]]
            set_alarm(s, t);
        if (t.preempted_) {
            t.preempted_ = false;
            sys::resume(t.slot_);
            t.preempted_ = true;  // refused: events are pending
        } else if ((s.flags & kStateHasFsgsbase) != 0) {
            asm volatile("wrfsbase %0" ::"r"(t.fs_base_));
            nem_thread_continue(t.stack_pointer_);
        } else {
            auto* slot = reinterpret_cast<abi::ContextSlot*>(s.rw + 1) + t.slot_;
            slot->rip = reinterpret_cast<std::uint64_t>(&nem_thread_landing);
            slot->rsp = t.stack_pointer_;
            slot->fs_base = t.fs_base_;
            slot->gs_base = reinterpret_cast<std::uint64_t>(&s);
            slot->kind = 0;
            sys::resume(t.slot_);
        }
        s.current = nullptr;
        make_ready_first(s, t);
    }
    static std::uint64_t stack_top(State const& s) { return s.rw->activation_stack; }
    static void block(State& s) {
        auto& t = *s.current;
        s.current = nullptr;
        nem_thread_block(&t.stack_pointer_, stack_top(s));
    }
    static void preempted(State& s) {
        if (s.current == nullptr) return;
        s.current->preempted_ = true;
        make_ready_first(s, *s.current);
        s.current = nullptr;
    }
    static std::uint32_t take_slot(State& s) {
        for (std::uint32_t w = 0; w < 4; ++w) {
            if (s.slots_free[w] == 0) continue;
            auto const bit = static_cast<std::uint32_t>(__builtin_ctzll(s.slots_free[w]));
            s.slots_free[w] &= s.slots_free[w] - 1;
            return w * 64 + bit;
        }
        return 0;
    }
    static void free_slot(State& s, std::uint32_t n) { s.slots_free[n / 64] |= 1ull << (n % 64); }
};

namespace {

using Scheduler = ThreadScheduler;

void ignore_event(void*, std::uint32_t, std::uint64_t) {}

/// Where the closure of `endpoint` is, or null where nothing was attached so far.
Closure* closure_of(State& s, std::uint32_t endpoint) {
    if (endpoint < kClosuresInline) return &s.closures[endpoint];
    return s.further_closures != nullptr ? &s.further_closures[endpoint - kClosuresInline]
                                         : nullptr;
}

/// Makes room for the closures of all further endpoints. requires: activations off
bool take_further_closures(State& s) {
    auto const count = s.ro->endpoint_count - kClosuresInline;
    std::uint64_t stretch = 0;
    auto const at = pages::make_stretch(
        (count * sizeof(Closure) + abi::kPageSize - 1) / abi::kPageSize, stretch);
    if (at == 0) return false;
    s.further_closures = reinterpret_cast<Closure*>(at);
    for (std::uint32_t i = 0; i < count; ++i)
        s.further_closures[i] = Closure{ignore_event, nullptr};
    return true;
}

[[gnu::noinline]] void deliver_further(State& s, std::uint32_t endpoint) {
    if (endpoint >= s.ro->endpoint_count) return;  // the bit was not the kernel's
    auto const* closure = closure_of(s, endpoint);
    if (closure == nullptr) return;
    auto const* counts = reinterpret_cast<std::uint64_t const*>(s.ro + 1);
    closure->function(closure->self, endpoint, counts[endpoint]);
}

[[gnu::always_inline]] inline void deliver(State& s, std::uint32_t endpoint) {
    if (endpoint >= kClosuresInline) [[unlikely]]
        return deliver_further(s, endpoint);
    auto const* counts = reinterpret_cast<std::uint64_t const*>(s.ro + 1);
    auto const& closure = s.closures[endpoint];
    closure.function(closure.self, endpoint, counts[endpoint]);
}

/// Several are pending: each in its turn. Those whose turn has not come stay pending where the
/// kernel sees them: a closure may answer a call, and must not give up the processor as if there
/// were nothing left to do.
[[gnu::noinline]] void deliver_several(State& s, std::uint64_t summary, std::uint64_t word,
                                       std::uint64_t bits) {
    auto* rw = s.rw;
    __atomic_or_fetch(&rw->pending[word], bits, __ATOMIC_SEQ_CST);
    __atomic_or_fetch(&rw->pending_summary, summary, __ATOMIC_SEQ_CST);
    for (; summary != 0; summary &= summary - 1) {
        auto const w = static_cast<std::uint32_t>(__builtin_ctzll(summary));
        auto left = __atomic_load_n(&rw->pending[w], __ATOMIC_SEQ_CST);
        if (left == 0) __atomic_and_fetch(&rw->pending_summary, ~(1ull << w), __ATOMIC_SEQ_CST);
        for (; left != 0; left &= left - 1) {
            // First the summary, then the word: what came in between is put back.
            __atomic_and_fetch(&rw->pending_summary, ~(1ull << w), __ATOMIC_SEQ_CST);
            if (__atomic_and_fetch(&rw->pending[w], ~(left & -left), __ATOMIC_SEQ_CST) != 0)
                __atomic_or_fetch(&rw->pending_summary, 1ull << w, __ATOMIC_SEQ_CST);
            deliver(s, w * 64 + static_cast<std::uint32_t>(__builtin_ctzll(left)));
        }
    }
}

/// Hands every pending event to its closure. The kernel sets bits at any time before we clear them;
/// a bit set after that is found in the next round.
inline void deliver_events(State& s) {
    auto* rw = s.rw;
    auto const* counts = reinterpret_cast<std::uint64_t const*>(s.ro + 1);
    while (auto const summary = __atomic_exchange_n(&rw->pending_summary, 0, __ATOMIC_SEQ_CST)) {
        auto const word = static_cast<std::uint32_t>(__builtin_ctzll(summary));
        auto const bits = __atomic_exchange_n(&rw->pending[word], 0, __ATOMIC_SEQ_CST);
        if (((summary & (summary - 1)) | (bits & (bits - 1))) != 0) [[unlikely]] {
            deliver_several(s, summary, word, bits);
            continue;
        }
        if (bits == 0) continue;
        auto const endpoint = word * 64 + static_cast<std::uint32_t>(__builtin_ctzll(bits));
        if (endpoint >= kClosuresInline) [[unlikely]] {
            deliver_further(s, endpoint);
            continue;
        }
        auto const& closure = s.closures[endpoint];
        closure.function(closure.self, endpoint, counts[endpoint]);
    }
}

void on_fault(State& s) {
    auto* faulted = s.current;
    auto const slot = faulted != nullptr ? faulted->slot() : s.rw->slot[1];
    auto& context = reinterpret_cast<abi::ContextSlot*>(s.rw + 1)[slot];
    auto const fault = s.ro->fault;
    if (s.fault_handler != nullptr &&
        s.fault_handler(s.fault_self, fault, context) == FaultAction::Retry) {
        if (faulted != nullptr && s.rw->pending_summary == 0) {
            sys::resume(slot);  // the short way back
        }
        Scheduler::preempted(s);
        return;
    }
    // No handler, or it gave up: the domain ends, and says why.
    char text[160] = "domain ";
    auto n = std::uint64_t{7};
    auto const put = [&](char const* from) {
        while (*from != 0 && n < sizeof(text) - 1) text[n++] = *from++;
    };
    auto const put_hex = [&](std::uint64_t v) {
        put("0x");
        for (int shift = 60, started = 0; shift >= 0; shift -= 4) {
            auto const digit = (v >> shift) & 15;
            if (digit != 0 || started != 0 || shift == 0) {
                started = 1;
                if (n < sizeof(text) - 1) text[n++] = "0123456789abcdef"[digit];
            }
        }
    };
    put(s.environment->name);
    put(": unhandled fault ");
    put_hex(fault.vector);
    put(" at ");
    put_hex(fault.rip);
    put(" address ");
    put_hex(fault.address);
    put("\n");
    sys::log({text, n});
    sys::exit(0xfa000000 | fault.vector);
}

/// What was to be sent late is sent now.
[[gnu::noinline]] void send_now(State& s) {
    auto const endpoint = s.late_endpoint;
    s.late_endpoint = 0;
    (void)sys::send(endpoint);
}

}  // namespace

void send_late(std::uint32_t endpoint) {
    auto& s = state();
    if (s.late_endpoint != 0 && s.late_endpoint != endpoint) send_now(s);
    s.late_endpoint = endpoint;
}

void dispatch() {
    auto& s = state();
    for (;;) {
        deliver_events(s);
        Scheduler::expire(s);
        auto const late = s.late_endpoint;
        if (s.ready != nullptr) {
            if (late != 0) [[unlikely]]
                send_now(s);
            Scheduler::run_first(s);
            continue;
        }
        auto const until = s.sleeping != nullptr ? s.sleeping->timeout().ns() : INT64_MAX;
        if (late != 0) [[unlikely]] {
            s.late_endpoint = 0;
            (void)sys::suspend_sending(late, until);
        } else {
            sys::suspend(until);
        }
    }
}

extern "C" [[noreturn]] void nem_dispatch() { dispatch(); }

extern "C" [[noreturn]] void nem_activation_main(abi::DibRo const* ro) {
    auto& s = state();
    if (ro->reason == static_cast<std::uint32_t>(abi::Reason::Fault)) {
        on_fault(s);
    } else {
        Scheduler::preempted(s);
    }
    if (s.on_activation != nullptr) s.on_activation(s.on_activation_self, *ro);
    dispatch();
}

bool attach(std::uint32_t endpoint, Closure closure) {
    auto& s = state();
    if (endpoint >= s.ro->endpoint_count) return false;
    auto const was_on = s.rw->activations_on;
    s.rw->activations_on = 0;
    auto const room = closure_of(s, endpoint) != nullptr || take_further_closures(s);
    if (room) {
        *closure_of(s, endpoint) =
            closure.function != nullptr ? closure : Closure{ignore_event, nullptr};
    }
    if (was_on != 0) leave_critical();
    return room;
}

std::uint64_t event_count(std::uint32_t endpoint) {
    auto const& s = state();
    if (endpoint >= s.ro->endpoint_count) return 0;
    return __atomic_load_n(&reinterpret_cast<std::uint64_t const*>(s.ro + 1)[endpoint],
                           __ATOMIC_ACQUIRE);
}

void set_fault_handler(FaultHandler handler, void* self) {
    auto& s = state();
    s.fault_self = self;
    s.fault_handler = handler;
}

void leave_critical() {
    auto& s = state();
    asm volatile("" ::: "memory");
    s.rw->activations_on = 1;
    asm volatile("" ::: "memory");
    while (__atomic_load_n(&s.rw->pending_summary, __ATOMIC_SEQ_CST) != 0) {
        // What arrived while activations were off is handled now, as if the domain were activated.
        s.rw->activations_on = 0;
        asm volatile("" ::: "memory");
        Scheduler::make_ready_first(s, *s.current);
        Scheduler::block(s);
        s.rw->activations_on = 1;
        asm volatile("" ::: "memory");
    }
}

extern "C" void nem_thread_begun() { leave_critical(); }
extern "C" [[noreturn]] void nem_thread_exit() { Thread::exit(); }

bool WaitQueue::wait(Instant until) {
    auto& s = state();
    auto& t = *s.current;
    t.next_ = nullptr;
    t.queue_ = this;
    (last_ != nullptr ? last_->next_ : first_) = &t;
    last_ = &t;
    t.timed_out_ = false;
    if (until != Instant::never()) Scheduler::sleep(s, t, until);
    Scheduler::block(s);
    return !t.timed_out_;
}

bool WaitQueue::wake_one() {
    auto* t = first_;
    if (t == nullptr) return false;
    first_ = t->next_;
    if (first_ == nullptr) last_ = nullptr;
    t->queue_ = nullptr;
    auto& s = state();
    Scheduler::stop_sleeping(s, *t);
    Scheduler::make_ready(s, *t);
    return true;
}

void WaitQueue::wake_all() {
    while (wake_one()) {
    }
}

bool Thread::start(void (*function)(void*), void* argument, Options const& options) {
    auto& s = state();
    auto const was_on = s.rw->activations_on;
    s.rw->activations_on = 0;
    auto const slot = Scheduler::take_slot(s);
    if (slot == 0) {
        if (was_on != 0) leave_critical();
        return false;
    }
    slot_ = slot;
    function_ = function;
    argument_ = argument;
    deadline_ = options.deadline;
    name_ = options.name;
    finished_ = false;
    preempted_ = false;
    fs_base_ = options.fs_base != 0   ? options.fs_base
               : s.current != nullptr ? s.current->fs_base_
                                      : 0;
    auto* top = reinterpret_cast<std::uint64_t*>(
        (reinterpret_cast<std::uint64_t>(options.stack) + options.stack_bytes) & ~15ull);
    *--top = 0;
    *--top = 0;
    *--top = reinterpret_cast<std::uint64_t>(&nem_thread_first);
    *--top = reinterpret_cast<std::uint64_t>(function);  // rbx
    *--top = 0;                                          // rbp
    *--top = reinterpret_cast<std::uint64_t>(argument);  // r12
    *--top = 0;
    *--top = 0;
    *--top = 0;
    stack_pointer_ = reinterpret_cast<std::uint64_t>(top);
    ++s.thread_count;
    Scheduler::make_ready(s, *this);
    if (was_on != 0) {
        Scheduler::yield_to_more_urgent(s);
        leave_critical();
    }
    return true;
}

void Thread::join() {
    enter_critical();
    while (!finished_) joiners_.wait(Instant::never());
    leave_critical();
}

Thread& Thread::current() { return *state().current; }

void Thread::yield() {
    enter_critical();
    auto& s = state();
    Scheduler::make_ready(s, *s.current);
    Scheduler::block(s);
    leave_critical();
}

void Thread::sleep_until(Instant when) {
    enter_critical();
    auto& s = state();
    s.current->timed_out_ = false;
    Scheduler::sleep(s, *s.current, when);
    Scheduler::block(s);
    leave_critical();
}

void Thread::exit() {
    enter_critical();
    auto& s = state();
    auto& t = *s.current;
    t.finished_ = true;
    t.joiners_.wake_all();
    Scheduler::free_slot(s, t.slot_);
    --s.thread_count;
    Scheduler::block(s);
    __builtin_unreachable();
}

void Mutex::lock() {
    enter_critical();
    auto& s = state();
    if (owner_ == nullptr) {
        owner_ = s.current;
    } else {
        waiters_.wait(Instant::never());  // unlock hands the mutex over
    }
    leave_critical();
}

bool Mutex::try_lock() {
    enter_critical();
    auto const got = owner_ == nullptr;
    if (got) owner_ = state().current;
    leave_critical();
    return got;
}

void Mutex::unlock() {
    enter_critical();
    owner_ = waiters_.first();
    if (waiters_.wake_one()) Scheduler::yield_to_more_urgent(state());
    leave_critical();
}

bool Condition::wait(Mutex& mutex, Instant until) {
    enter_critical();
    auto& s = state();
    mutex.owner_ = mutex.waiters_.first();
    mutex.waiters_.wake_one();
    auto const woken = waiters_.wait(until);
    if (mutex.owner_ == nullptr) {
        mutex.owner_ = s.current;
    } else {
        mutex.waiters_.wait(Instant::never());
    }
    leave_critical();
    return woken;
}

void Condition::signal() {
    enter_critical();
    if (waiters_.wake_one()) Scheduler::yield_to_more_urgent(state());
    leave_critical();
}

void Condition::broadcast() {
    enter_critical();
    waiters_.wake_all();
    Scheduler::yield_to_more_urgent(state());
    leave_critical();
}

EventWaiter::EventWaiter(std::uint32_t endpoint)
    : endpoint_(endpoint), seen_(event_count(endpoint)) {
    attach(endpoint, Closure{&EventWaiter::on_event, this});
}

void EventWaiter::on_event(void* self, std::uint32_t, std::uint64_t) {
    static_cast<EventWaiter*>(self)->waiters_.wake_all();
}

std::uint64_t EventWaiter::wait(Instant until) {
    enter_critical();
    for (;;) {
        auto const count = event_count(endpoint_);
        if (count != seen_) {
            seen_ = count;
            break;
        }
        if (!waiters_.wait(until)) break;
    }
    auto const result = seen_;
    leave_critical();
    return result;
}

extern "C" [[noreturn]] void nem_start(abi::DibRo const* ro,
                                       void (*main)(abi::Environment const&)) {
    start(ro, main);
}

void start(abi::DibRo const* ro, void (*main)(abi::Environment const&)) {
    auto* env = reinterpret_cast<abi::Environment*>(ro->environment);
    auto& s = *reinterpret_cast<State*>(env->state);
    s.self = &s;
    s.environment = env;
    s.ro = const_cast<abi::DibRo*>(ro);
    s.rw = reinterpret_cast<abi::DibRw*>(ro->rw_address);
    for (auto& closure : s.closures) closure = Closure{ignore_event, nullptr};
    for (std::uint32_t n = 1; n < ro->slot_count; ++n) ThreadScheduler::free_slot(s, n);
    if ((reinterpret_cast<abi::TimePage const*>(abi::kTimePage)->flags & 1) != 0)
        s.flags |= kStateHasFsgsbase;
    s.rw->activation_vector = reinterpret_cast<std::uint64_t>(&nem_activation_entry);
    s.rw->slot[0] = 0;
    // The main thread's record lies at the low end of its own stack.
    auto* main_thread = new (reinterpret_cast<void*>(env->stack_low)) Thread;
    auto const entry = [](void* f) {
        reinterpret_cast<void (*)(abi::Environment const&)>(f)(environment());
        sys::exit(0);
    };
    if (!main_thread->start(entry, reinterpret_cast<void*>(main),
                            {.stack = reinterpret_cast<void*>(env->stack_low),
                             .stack_bytes = env->stack_high - env->stack_low,
                             .deadline = Instant::never(),
                             .fs_base = 0,
                             .name = "main"})) {
        sys::log("a domain needs at least two context slots\n");
        sys::exit(0xfb);
    }
    dispatch();
}

}  // namespace nemesis
