// Dispatching domains.
#include "kernel/dispatch.h"

#include <algorithm>

#include "arch/x86_64/apic.h"
#include "arch/x86_64/clock.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/floating_point.h"
#include "arch/x86_64/paging.h"
#include "kernel/event.h"
#include "kernel/interrupt.h"
#include "kernel/log.h"
#include "kernel/trace.h"
#include "libnemesis/base/assert.h"

namespace nemesis::kernel {

alignas(64) Cpu cpu0;

extern "C" {  // entry.S
[[noreturn]] void enter_domain(Domain* d, std::uint32_t kind);
[[noreturn]] void enter_chosen(Domain* d, std::uint32_t kind);
[[noreturn]] void activate_domain(Domain* d);
[[noreturn]] void resume_domain(Domain* d, abi::ContextSlot* slot);
[[noreturn]] void restore_full(abi::ContextSlot* slot);
[[noreturn]] void idle_wait();
[[noreturn]] void run_on_kernel_stack(void (*function)(void*), void* argument);
}

namespace dispatch {

static void fpu_save(abi::ContextSlot* slot) {
    arch::save_floating_point(slot->fpu);
    slot->kind |= abi::kSlotFpu;
}

/// The slot that the domain's state goes to or is resumed from now. The numbers are the domain's
/// own: one that is out of range means slot 0.
static abi::ContextSlot* current_slot(Domain& d) {
    auto const on = d.rw->activations_on & 1;
    auto n = d.rw->slot[on];
    if (n >= d.slot_count) n = 0;
    return slot_of(d, n);
}

/// The entry code has saved what a call keeps; only bases behind MSRs are left.
[[gnu::always_inline]] static inline void save_bases_at_call(Cpu const& cpu, Domain& d) {
    if (cpu.has_fsgsbase || (d.rw->activations_on & 1) == 0) [[likely]]
        return;
    auto* slot = current_slot(d);
    slot->fs_base = arch::read_fs_base();
    slot->gs_base = arch::read_gs_base();
}

/// A malformed slot or floating-point area is the domain's own fault.
[[noreturn]] static void refuse_slot(Domain& d) {
    log::later(log::Ending::Slot, d.name, 13, 0, 0);
    domains::kill(d, abi_exit::kFault | 13);
    leave_dead();
}

/// The registers hold nobody else's state when `d` runs; `slot` is what it continues, or null.
/// Returns false if that is malformed.
[[nodiscard]] static bool load_floating_point(Cpu& cpu, Domain& d, abi::ContextSlot const* slot) {
    constexpr auto whole = abi::kSlotFull | abi::kSlotFpu;
    bool ok = true;
    if (slot != nullptr && (slot->kind & whole) == whole)
        ok = arch::load_floating_point(slot->fpu);
    else if (cpu.fpu_owner != &d)
        arch::load_floating_point(&arch::initial_floating_point);
    cpu.fpu_owner = &d;
    return ok;
}

/// `d` runs next: the timer is set for its alarm, or it is told that the alarm has passed.
static void heed_alarm(Cpu& cpu, Domain& d) {
    if (d.alarm <= arch::clock::now())
        events::alarm_passed(d);
    else if (d.alarm < cpu.armed)
        arm_timer(d.alarm);
}

/// Needs `prepare` before it runs.
[[gnu::always_inline]] static inline bool is_special(Cpu const& cpu, Domain const& d) {
    std::uint16_t fpu_or_alarm;
    __builtin_memcpy(&fpu_or_alarm, &d.fpu, sizeof(fpu_or_alarm));  // adjacent (domain.h)
    return !cpu.fpu_off || fpu_or_alarm != 0;
}

/// For `d`, which runs next, what not every domain needs: the floating-point unit is switched on or
/// off, its alarm heeded. Returns false if its state is malformed.
[[nodiscard, gnu::noinline]] static bool prepare(Cpu& cpu, Domain& d) {
    if (d.has_alarm) heed_alarm(cpu, d);
    if (cpu.fpu_off == d.fpu) {
        cpu.fpu_off = !d.fpu;
        arch::set_floating_point(d.fpu);
    }
    return !d.fpu ||
           load_floating_point(cpu, d, (d.rw->activations_on & 1) != 0 ? nullptr : current_slot(d));
}

/// The running domain is activated.
[[noreturn]] static void activate(Cpu& cpu, Domain& d, abi::Reason reason) {
    if (d.fpu && !load_floating_point(cpu, d, nullptr)) refuse_slot(d);
    d.wake_reason = static_cast<std::uint8_t>(reason);
    activate_domain(&d);
}

/// On what kind of time `d` runs.
[[gnu::always_inline]] static inline std::uint32_t time_kind(Cpu const& cpu, Domain const& d) {
    return &d != cpu.payer ? static_cast<std::uint32_t>(abi::TimeKind::Donated)
                           : static_cast<std::uint32_t>(cpu.decision.kind);
}

/// Gives the processor to `d`, on the reservation of the payer that there is.
[[noreturn]] static void enter(Cpu& cpu, Domain& d) {
    if (is_special(cpu, d) && !prepare(cpu, d)) [[unlikely]]
        refuse_slot(d);
    enter_domain(&d, time_kind(cpu, d));
}

/// Charges the payer for the time up to `entered`.
[[gnu::always_inline]] static inline void charge(Cpu& cpu, Instant entered, bool gave_up) {
    auto* payer = cpu.payer;
    if (payer == nullptr) return;  // it died
    auto ran = (entered - cpu.dispatched_at).ns() - kBoundaryNs;
    // Never nothing: a rest shorter than the way out would be given again and again for ever.
    if (ran < 1) ran = 1;
    if (gave_up) {
        auto const release = payer->entity.release();
        if (payer->gave_up_release == release) ran += kBoundaryNs + kSwitchNs;
        payer->gave_up_release = release;
    }
    cpu.scheduler().charge(payer->entity, Duration::ns(ran));
    if (cpu.decision.kind == TimeKind::Allocated)
        payer->ro->used_ns = payer->entity.used_allocated().ns();
    else
        payer->ro->extra_ns = payer->entity.used_extra().ns();
}

static void note_entry(Cpu& cpu, Instant entered, Instant now) {
    auto const length = static_cast<std::uint64_t>((now - entered).ns());
    cpu.kernel_ns += length;
    if (length > cpu.entry_max) cpu.entry_max = length;
}

/// Nobody wants the processor.
[[noreturn, gnu::noinline]] static void idle(Cpu& cpu, Instant now) {
    arm_timer(cpu.decision.until);
    if (cpu.current != nullptr) {
        trace::ring.write(now, TraceKind::Switch, static_cast<std::uint16_t>(TraceTime::Idle),
                          trace_no_domain, cpu.current->index, 0);
    }
    cpu.payer = nullptr;
    cpu.current = nullptr;
    cpu.idle_since = arch::clock::now();
    note_entry(cpu, cpu.entered, cpu.idle_since);
    // Interrupts come through between any two steps; one that does, does not come back here.
    do {
        arch::open_interrupt_window(cpu.mode, MODE_IDLE, MODE_USER);
        if (log::waiting()) log::step();
    } while (log::waiting() || frames::clean_step());
    idle_wait();
}

/// Lets the timer fire in `left`, at `until`: at the earliest in one tick, at the latest in a
/// second, after which it is armed anew.
[[gnu::always_inline]] static inline void arm(Cpu& cpu, Instant until, Duration left) {
    cpu.armed = until;
    auto const ns =
        static_cast<std::uint64_t>(std::clamp<std::int64_t>(left.ns(), 1, 1'000'000'000));
    arch::apic::arm_ticks(
        static_cast<std::uint32_t>((ns * arch::clock::parameters.ticks_per_ns) >> 32) | 1);
}

void arm_timer(Instant until) {
    auto& cpu = this_cpu();
    if (until != cpu.armed) arm(cpu, until, until - arch::clock::now());
}

/// Sets the timer for the decision in force. What is left of a slice counts from the way out on: a
/// timer that ignored it would end the rest of a slice hundreds of times, 1 ns at each.
[[gnu::always_inline]] static inline void arm_for_decision(Cpu& cpu) {
    auto& decision = cpu.decision;
    auto const now = arch::clock::now();
    decision.until = std::min(decision.until, now + decision.left + Duration::ns(kWayOutNs));
    // In spare time the timer may fire too early: nobody is promised that time.
    if (decision.kind == TimeKind::Extra && cpu.armed > now && cpu.armed <= decision.until) return;
    arm(cpu, decision.until, decision.until - now);
}

/// As Scheduler::decide, when the payer of the time so far has donated it. False also when the
/// donation's end has changed who is ready.
[[gnu::noinline]] static bool decide_after_donation(Cpu& cpu, Instant now, bool fresh) {
    auto& donor = *cpu.payer;
    auto const allocated = cpu.decision.kind == TimeKind::Allocated;
    if (!cpu.scheduler().decide(now, cpu.decision, fresh)) return false;
    // Only decide turns a spent budget into the next release.
    return !allocated || donor.entity.release() <= now || !events::donation_spent(donor, now);
}

/// How long the first part of an entry may be before interrupts are let through. units:
/// instructions, taken as ns
inline constexpr std::int64_t kLongPartNs = 300;
inline constexpr std::int64_t kLongFilingNs = 200;  ///< before spare time's own step may follow

/// Between two parts of a long entry: an interrupt that comes through makes the decision that this
/// one was to make, and does not come back. Returns the time.
[[gnu::noinline]] static Instant let_interrupts_through(Cpu& cpu) {
    auto const now = arch::clock::now();
    note_entry(cpu, cpu.entered, now);
    cpu.entered = now;
    arch::open_interrupt_window(cpu.mode, MODE_IDLE, MODE_USER);
    return now;
}

/// Asks the scheduler and runs its choice, or waits. The kernel was entered at `entered`; what ran
/// has been charged.
[[noreturn]] NO_WAY_BACK static void decide_and_enter(Cpu& cpu, Instant entered, Instant now) {
    cpu.entered = entered;
    bool fresh = (now - entered).ns() > kLongPartNs;
    if (fresh) [[unlikely]]
        now = let_interrupts_through(cpu);
    for (;; fresh = true) {
        cpu.reschedule = false;
        auto const donated = cpu.payer != nullptr && cpu.payer->donates_to != nullptr;
        auto const decided = donated ? decide_after_donation(cpu, now, fresh)
                                     : cpu.scheduler().decide(now, cpu.decision, fresh);
        if (!decided) [[unlikely]] {
            now = let_interrupts_through(cpu);
            continue;
        }
        if (cpu.decision.entity == nullptr) idle(cpu, now);
        if (cpu.decision.kind == TimeKind::Extra && log::waiting()) [[unlikely]] {
            now = let_interrupts_through(cpu);
            if (log::step()) {  // in nobody's time: who is more urgent now comes first
                now = let_interrupts_through(cpu);
                continue;
            }
        }
        arm_for_decision(cpu);
        auto* runner = cpu.payer = domain_of(cpu.decision.entity);
        if (runner->donates_to != nullptr) [[unlikely]] {
            runner = &events::runner_for(*runner, now);
            if (cpu.reschedule) {  // a donation has ended: somebody else woke
                now = let_interrupts_through(cpu);
                continue;
            }
        }
        if (is_special(cpu, *runner) && !prepare(cpu, *runner)) [[unlikely]] {
            cpu.dispatched_at = let_interrupts_through(cpu);
            refuse_slot(*runner);
        }
        enter_chosen(runner, time_kind(cpu, *runner));
    }
}

/// As decide_and_enter, after a time-out was filed, which alone may be a long part.
[[noreturn, gnu::noinline]] static void decide_after_filing(Cpu& cpu, Instant entered) {
    auto const now = arch::clock::now();
    if ((now - entered).ns() <= kLongFilingNs) decide_and_enter(cpu, entered, now);
    cpu.entered = entered;
    auto const then = let_interrupts_through(cpu);
    decide_and_enter(cpu, then, then);
}

/// The current domain goes on after an interrupt: the kernel's time is not its own.
void note_interrupt(Cpu& cpu, Instant entered, Instant now) {
    note_entry(cpu, entered, now);
    cpu.dispatched_at += now - entered + Duration::ns(kBoundaryNs);
}

void preempt_soon() {
    this_cpu().armed = Instant::ns(0);
    arch::apic::arm_ticks(1);
}

[[gnu::always_inline]] static inline void block_entity(Cpu& cpu, SchedulingEntity& e, Instant now,
                                                       Instant until) {
    if (!e.runnable()) [[unlikely]]
        cpu.scheduler().set_timeout(e, now, until);  // it has run on a donation only
    else
        cpu.scheduler().block(e, now, until);
}

void give_up_donating(Domain& sender) {
    auto& cpu = this_cpu();
    save_bases_at_call(cpu, sender);
    // The payer stays the same: no queue, no clock, no timer.
    auto* next = sender.donates_to;
    for (int depth = 0; next->donates_to != nullptr && depth < events::kChainMax; ++depth) {
        if (next->donation_epoch != next->donates_to->serve_epoch) break;
        next = next->donates_to;
    }
    next->suspended = false;
    if (cpu.reschedule) [[unlikely]] {
        auto const entered = arch::clock::now();
        charge(cpu, entered, false);
        decide_and_enter(cpu, entered, entered);
    }
    if (sender.donation_until < cpu.armed) [[unlikely]]
        arm_timer(sender.donation_until);
    enter(cpu, *next);
}

void give_up_to(Domain& sender, Domain& donor, Instant until) {
    auto& cpu = this_cpu();
    save_bases_at_call(cpu, sender);
    auto const more = sender.rw->pending_summary != 0 || sender.rw->others_ready != 0;
    auto const plain =
        cpu.payer == &donor && !more && !sender.entity.runnable() && until == Instant::never();
    sender.suspended = !more;
    if (plain && !cpu.reschedule) [[likely]] {
        enter(cpu, donor);
    }
    auto const entered = arch::clock::now();
    charge(cpu, entered, false);
    if (more) {
        cpu.scheduler().wake(sender.entity, entered);
    } else {
        block_entity(cpu, sender.entity, entered, until);
    }
    if (!donor.entity.runnable()) cpu.scheduler().wake(donor.entity, entered);
    if (until != Instant::never()) decide_after_filing(cpu, entered);
    decide_and_enter(cpu, entered, entered);
}

void set_alarm(Domain& d, Instant until) {
    d.alarm = std::max(until, Instant::ns(0));
    d.has_alarm = until != Instant::never();
    if (d.alarm < this_cpu().armed) arm_timer(d.alarm);
}

std::int64_t resume(Domain& d, std::uint64_t n) {
    if (n >= d.slot_count) return static_cast<std::int64_t>(abi::Error::BadArgument);
    if (d.rw->pending_summary != 0) return static_cast<std::int64_t>(abi::Error::Pending);
    d.rw->activations_on = 1;
    auto* const slot = slot_of(d, static_cast<std::uint32_t>(n));
    if (d.fpu && !load_floating_point(this_cpu(), d, slot)) refuse_slot(d);
    resume_domain(&d, slot);
}

void leave_dead() {
    auto& cpu = this_cpu();
    if (cpu.payer != nullptr && cpu.payer->state == DomainState::Dead) cpu.payer = nullptr;
    cpu.entered = arch::clock::now();
    charge(cpu, cpu.entered, false);
    cpu.current = nullptr;
    auto const now = let_interrupts_through(cpu);  // an end is long enough for an entry
    decide_and_enter(cpu, now, now);
}

void start() {
    log::set_waiting(true);
    run_on_kernel_stack(
        [](void*) { decide_and_enter(this_cpu(), arch::clock::now(), arch::clock::now()); },
        nullptr);
}

void fault(Domain& d, abi::ContextSlot* slot, std::uint64_t vector, std::uint64_t error,
           std::uint64_t address) {
    auto& cpu = this_cpu();
    auto* ro = d.ro;
    ro->fault.vector = vector;
    ro->fault.error = error;
    ro->fault.address = address;
    ro->fault.rip = slot->rip;
    ++ro->fault.count;
    trace::record(TraceKind::Fault, static_cast<std::uint16_t>(vector), d.index, address,
                  slot->rip);
    if ((d.rw->activations_on & 1) == 0) {
        log::later(log::Ending::Fault, d.name, vector, slot->rip, address);
        domains::kill(d, abi_exit::kFault | vector);
        leave_dead();
    }
    if (d.fpu) fpu_save(slot);
    activate(cpu, d, abi::Reason::Fault);
}

}  // namespace dispatch

/// The rest of giving the processor up until an event or `until`: all up to `gone` is `d`'s own
/// time.
[[noreturn, gnu::always_inline]] static inline void suspend(Cpu& cpu, Domain* d, Instant until,
                                                            Instant entered, Instant gone) {
    dispatch::save_bases_at_call(cpu, *d);
    dispatch::charge(cpu, gone, true);
    d->suspended = true;
    d->has_alarm = false;
    ++d->serve_epoch;  // whatever was donated to it ends
    ++d->ro->deactivations;
    if (!d->entity.runnable() && cpu.payer != nullptr)
        [[unlikely]]  // it has run on a donation only
        events::requester_waits(*cpu.payer, *d, gone);
    dispatch::block_entity(cpu, d->entity, gone, until);
    if (until != Instant::never()) dispatch::decide_after_filing(cpu, entered);
    dispatch::decide_and_enter(cpu, entered, gone);
}

/// The running domain gives the processor up until an event or `until`; nothing is pending.
extern "C" [[noreturn]] NO_WAY_BACK void suspend_current(Domain* d, Instant until) {
    auto const entered = arch::clock::now();
    suspend(this_cpu(), d, until, entered, entered);
}

std::int64_t dispatch::suspend_sending(Domain& d, std::uint64_t n, Instant until) {
    auto const entered = arch::clock::now();
    if (auto const sent = events::send_before_suspend(d, n); sent != 0) return sent;
    if (d.rw->pending_summary != 0) return static_cast<std::int64_t>(abi::Error::Pending);
    suspend(this_cpu(), &d, until, entered, arch::clock::now());
}

/// The running domain gives the processor up until it is chosen again.
extern "C" [[noreturn]] NO_WAY_BACK void yield_current(Domain* d) {
    auto& cpu = this_cpu();
    auto const entered = arch::clock::now();
    dispatch::save_bases_at_call(cpu, *d);
    dispatch::charge(cpu, entered, true);
    cpu.scheduler().yield(cpu.payer != nullptr ? cpu.payer->entity : d->entity);
    dispatch::decide_and_enter(cpu, entered, entered);
}

/// Entry from user code with the state saved in `slot`: the bases, if the entry code could not.
static void save_bases(Cpu const& cpu, abi::ContextSlot* slot) {
    if (cpu.has_fsgsbase) [[likely]]
        return;
    slot->fs_base = arch::read_fs_base();
    slot->gs_base = arch::read_gs_base();
}

/// An exception in user code with the state saved in `slot`; a non-maskable interrupt is none.
extern "C" [[noreturn]] NO_WAY_BACK void exception_from_user(abi::ContextSlot* slot,
                                                             std::uint64_t vector,
                                                             std::uint64_t error) {
    auto& cpu = this_cpu();
    save_bases(cpu, slot);
    if (vector == 2) restore_full(slot);
    dispatch::fault(*cpu.current, slot, vector, error, vector == 14 ? arch::read_cr2() : 0);
}

/// An interrupt in user code with the state saved in `slot`.
extern "C" [[noreturn]] NO_WAY_BACK void interrupt_from_user(abi::ContextSlot* slot,
                                                             std::uint64_t vector) {
    auto& cpu = this_cpu();
    auto& d = *cpu.current;
    save_bases(cpu, slot);
    auto const entered = arch::clock::at(cpu.entry_tsc);
    interrupts::handle(static_cast<std::uint8_t>(vector));
    auto const now = arch::clock::now();
    // A long one is followed by a decision, before which others come through.
    if (!cpu.reschedule && (now - entered).ns() <= dispatch::kLongPartNs) {
        dispatch::note_interrupt(cpu, entered, now);
        if ((d.rw->activations_on & 1) != 0 && d.rw->pending_summary != 0) {
            if (d.fpu) dispatch::fpu_save(slot);
            dispatch::activate(cpu, d, abi::Reason::Event);
        }
        restore_full(slot);
    }
    if (d.fpu) dispatch::fpu_save(slot);
    dispatch::charge(cpu, entered, false);
    dispatch::decide_and_enter(cpu, entered, now);
}

/// Entry from the idle loop.
extern "C" [[noreturn]] void interrupt_from_idle(std::uint64_t vector) {
    auto& cpu = this_cpu();
    auto const entered = arch::clock::at(cpu.entry_tsc);
    // Interrupts come this way between the steps of a decision too: that is no idle time.
    if (cpu.idle_since != Instant::never()) {
        cpu.idle_ns += static_cast<std::uint64_t>((entered - cpu.idle_since).ns());
        cpu.idle_since = Instant::never();
    }
    interrupts::handle(static_cast<std::uint8_t>(vector));
    dispatch::decide_and_enter(cpu, entered, arch::clock::now());
}

/// XRSTOR or IRETQ refused what the domain's slot held.
extern "C" [[noreturn]] void restore_failed() { dispatch::refuse_slot(*this_cpu().current); }

}  // namespace nemesis::kernel
