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

extern "C" {
[[noreturn]] void enter_user(std::uint64_t rip, std::uint64_t rsp, std::uint64_t rax,
                             std::uint64_t rdi);
[[noreturn]] void restore_full(abi::ContextSlot* slot);
[[noreturn]] void resume_partial(abi::ContextSlot* slot);
[[noreturn]] void idle_wait();
[[noreturn]] void run_on_kernel_stack(void (*function)(void*), void* argument);
}

namespace dispatch {

static void fpu_save(abi::ContextSlot* slot) {
    arch::save_floating_point(slot->fpu);
    slot->kind |= abi::kSlotFpu;
}

/// Bases come from the domain's memory: masked into the user half, they are always canonical.
static void write_bases(Cpu const& cpu, std::uint64_t fs, std::uint64_t gs) {
    arch::write_bases(fs & cpu.user_mask, gs & cpu.user_mask);
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
static void save_bases_at_call(Domain& d) {
    if (arch::features.fsgsbase || (d.rw->activations_on & 1) == 0) return;
    auto* slot = current_slot(d);
    slot->fs_base = arch::read_fs_base();
    slot->gs_base = arch::read_gs_base();
}

/// A malformed slot or floating-point area is the domain's own fault.
[[noreturn]] static void refuse_slot(Domain& d) {
    log::line("domain ", d.name, ": malformed context slot, ended");
    domains::kill(d, abi_exit::kFault | 13);
    leave_dead();
}

static void load_address_space(Cpu& cpu, Domain const& d) {
    if (cpu.root == d.root) return;
    cpu.root = d.root;
    ++cpu.root_writes;
    arch::write_cr3(d.root);
}

static void enable_fpu(Cpu& cpu, bool on) {
    if (cpu.fpu_off != on) return;
    cpu.fpu_off = !on;
    arch::set_floating_point(on);
}

/// The last thing before a domain runs: its time counts from here, if the payer was chosen anew.
static void note_exit(Cpu& cpu) {
    if (!cpu.fresh) return;
    cpu.fresh = false;
    cpu.dispatched_at = arch::clock::now();
}

[[noreturn]] static void activate(Cpu& cpu, Domain& d, std::uint32_t reason) {
    if (d.fpu && cpu.fpu_owner != &d) {
        arch::load_floating_point(&arch::initial_floating_point);
        cpu.fpu_owner = &d;
    }
    auto* rw = d.rw;
    auto* ro = d.ro;
    rw->activations_on = 0;
    ro->reason = reason;
    ro->activated_at = cpu.dispatched_at.ns();
    ++ro->activations;
    d.wake_reason = static_cast<std::uint8_t>(abi::Reason::Scheduled);
    write_bases(cpu, rw->activation_fs, rw->activation_gs);
    note_exit(cpu);
    enter_user(rw->activation_vector, rw->activation_stack, 0, d.ro_address);
}

[[noreturn]] static void resume_slot(Cpu& cpu, Domain& d, abi::ContextSlot* slot) {
    auto const kind = slot->kind;
    if ((kind & abi::kSlotFull) == 0) {
        if (d.fpu && cpu.fpu_owner != &d) {
            arch::load_floating_point(&arch::initial_floating_point);
            cpu.fpu_owner = &d;
        }
        if ((kind & abi::kSlotBases) != 0) {
            write_bases(cpu, slot->fs_base, slot->gs_base);
        } else {
            write_bases(cpu, d.rw->activation_fs, d.rw->activation_gs);
        }
        note_exit(cpu);
        resume_partial(slot);
    }
    if (d.fpu) {
        auto const ok =
            (kind & abi::kSlotFpu) != 0
                ? arch::load_floating_point(slot->fpu)
                : cpu.fpu_owner == &d || arch::load_floating_point(&arch::initial_floating_point);
        cpu.fpu_owner = &d;
        if (!ok) refuse_slot(d);
    }
    write_bases(cpu, slot->fs_base, slot->gs_base);
    note_exit(cpu);
    restore_full(slot);
}

/// Gives the processor to `d`, on the reservation of cpu.payer.
[[noreturn]] static void enter(Cpu& cpu, Domain& d, Instant now) {
    load_address_space(cpu, d);
    enable_fpu(cpu, d.fpu);
    auto* ro = d.ro;
    auto const donated = &d != cpu.payer;
    ro->time_kind = donated ? static_cast<std::uint32_t>(abi::TimeKind::Donated) : cpu.kind;
    ro->slice_end = cpu.until.ns();
    ro->deadline = cpu.deadline.ns();
    if (cpu.current != &d) {
        ++cpu.switches;
        auto const detail = donated ? TraceTime::Donated
                            : cpu.kind == static_cast<std::uint32_t>(TimeKind::Allocated)
                                ? TraceTime::Allocated
                                : TraceTime::Extra;
        trace::ring.write(now, TraceKind::Switch, static_cast<std::uint16_t>(detail), d.index,
                          (cpu.current != nullptr ? cpu.current->index : trace_no_domain) |
                              (std::uint64_t{cpu.payer->index} << 32),
                          static_cast<std::uint64_t>(cpu.deadline.ns()));
        cpu.current = &d;
    }
    if (d.suspended) {
        d.suspended = false;
        d.wake_reason = static_cast<std::uint8_t>(abi::Reason::Timeout);
    }
    if ((d.rw->activations_on & 1) != 0) {
        auto const reason =
            d.started ? d.wake_reason : static_cast<std::uint8_t>(abi::Reason::Started);
        d.started = true;
        activate(cpu, d, reason);
    }
    resume_slot(cpu, d, current_slot(d));
}

/// Charges the payer for the time up to `entered`.
static void charge(Cpu& cpu, Instant entered, Instant now, bool gave_up = false) {
    auto* payer = cpu.payer;
    if (payer == nullptr || payer->state == DomainState::Dead) return;
    auto ran = (entered - cpu.dispatched_at).ns() - kBoundaryNs;
    // Never nothing: a rest shorter than the way out would be given again and again for ever.
    if (ran < 1) ran = 1;
    if (gave_up) {
        auto const release = payer->entity.release();
        if (payer->gave_up_release == release) ran += kBoundaryNs + kSwitchNs;
        payer->gave_up_release = release;
    }
    cpu.scheduler->charge(payer->entity, now, Duration::ns(ran));
    payer->ro->used_ns = payer->entity.used_allocated().ns();
    payer->ro->extra_ns = payer->entity.used_extra().ns();
}

static void note_entry(Cpu& cpu, Instant entered, Instant now) {
    auto const length = static_cast<std::uint64_t>((now - entered).ns());
    cpu.kernel_ns += length;
    if (length > cpu.entry_max) cpu.entry_max = length;
}

/// Asks the scheduler and runs its choice, or waits.
[[noreturn]] static void decide_and_enter(Cpu& cpu, Instant entered, Instant now) {
    for (;;) {
        cpu.reschedule = false;
        auto* const paid = cpu.payer;
        auto const allocated = cpu.kind == static_cast<std::uint32_t>(TimeKind::Allocated);
        auto const decision = cpu.scheduler->decide(now);
        if (paid != nullptr && paid->donates_to != nullptr && allocated &&
            paid->entity.release() > now) [[unlikely]] {
            events::donation_spent(*paid,
                                   now);  // only decide turns a spent budget into the next release
            now = arch::clock::now();
            continue;
        }
        cpu.kind = static_cast<std::uint32_t>(decision.kind);
        cpu.deadline = decision.deadline;
        if (decision.entity == nullptr) {
            cpu.until = decision.until;
            arm_timer(decision.until);
            if (cpu.current != nullptr) {
                trace::ring.write(now, TraceKind::Switch,
                                  static_cast<std::uint16_t>(TraceTime::Idle), trace_no_domain,
                                  cpu.current->index, 0);
            }
            cpu.payer = nullptr;
            cpu.current = nullptr;
            note_entry(cpu, entered, arch::clock::now());
            // Interrupts come through between any two steps; one that does, does not come back
            // here.
            do {
                arch::open_interrupt_window(cpu.mode, MODE_IDLE, MODE_USER);
            } while (frames::clean_step());
            idle_wait();
        }
        // Time counts from the way out on: a timer that ignored it would end the rest of a slice
        // hundreds of times, 1 ns at each.
        now = arch::clock::now();
        cpu.until = std::min(decision.next, now + decision.left + Duration::ns(kWayOutNs));
        arm_timer(cpu.until);
        cpu.payer = domain_of(decision.entity);
        auto& runner = events::runner_for(*cpu.payer, now);
        now = arch::clock::now();
        if (cpu.reschedule) [[unlikely]]
            continue;  // a donation has ended: somebody else woke
        note_entry(cpu, entered, now);
        cpu.payer->overhead_ns += (now - entered).ns();
        cpu.dispatched_at = now;
        cpu.fresh = true;
        enter(cpu, runner, now);
    }
}

/// The current domain goes on after an interrupt: the kernel's time is not its own.
void note_interrupt(Cpu& cpu, Instant entered, Instant now) {
    note_entry(cpu, entered, now);
    cpu.dispatched_at += now - entered + Duration::ns(kBoundaryNs);
}

void arm_timer(Instant until) {
    auto& cpu = this_cpu();
    if (until == cpu.armed) return;
    cpu.armed = until;
    if (until == Instant::never()) return arch::apic::disarm();
    auto delta = (until - arch::clock::now()).ns();
    if (delta < 1) delta = 1;
    auto const ticks =
        (static_cast<unsigned __int128>(delta) * arch::clock::parameters.ticks_per_ns) >> 32;
    arch::apic::arm_ticks(ticks == 0           ? 1
                          : ticks > 0xffffffff ? 0xffffffff
                                               : static_cast<std::uint32_t>(ticks));
}

void preempt_soon() {
    this_cpu().armed = Instant::ns(0);
    arch::apic::arm_ticks(1);
}

void reschedule(Instant entered) {
    auto& cpu = this_cpu();
    auto const now = arch::clock::now();
    charge(cpu, entered, now);
    decide_and_enter(cpu, entered, now);
}

/// Blocks a domain that may have run on a donation only, its own entity blocked already.
static void block_entity(Cpu& cpu, SchedulingEntity& e, Instant now, Instant until) {
    if (!e.runnable()) {
        if (until == Instant::never() && e.timeout() == Instant::never()) return;
        cpu.scheduler->wake(e, now);
    }
    cpu.scheduler->block(e, now, until);
}

void suspend(Domain& d, Instant until) {
    auto& cpu = this_cpu();
    auto const entered = arch::clock::now();
    save_bases_at_call(d);
    charge(cpu, entered, entered, true);
    d.suspended = true;
    ++d.serve_epoch;  // whatever was donated to it ends
    ++d.ro->deactivations;
    block_entity(cpu, d.entity, entered, until);
    decide_and_enter(cpu, entered, entered);
}

void yield(Domain& d) {
    auto& cpu = this_cpu();
    auto const entered = arch::clock::now();
    save_bases_at_call(d);
    charge(cpu, entered, entered, true);
    cpu.scheduler->yield(cpu.payer != nullptr ? cpu.payer->entity : d.entity);
    decide_and_enter(cpu, entered, entered);
}

void give_up_donating(Domain& sender) {
    auto& cpu = this_cpu();
    save_bases_at_call(sender);
    // The payer stays the same: no queue, no clock, no timer.
    auto* next = sender.donates_to;
    for (int depth = 0; next->donates_to != nullptr && depth < events::kChainMax; ++depth) {
        if (next->donation_epoch != next->donates_to->serve_epoch) break;
        next = next->donates_to;
    }
    next->suspended = false;
    if (cpu.reschedule) [[unlikely]] {
        auto const entered = arch::clock::now();
        charge(cpu, entered, entered);
        decide_and_enter(cpu, entered, entered);
    }
    if (sender.donation_until < cpu.armed) [[unlikely]]
        arm_timer(sender.donation_until);
    enter(cpu, *next, arch::clock::now());
}

void give_up_to(Domain& sender, Domain& donor, Instant until) {
    auto& cpu = this_cpu();
    save_bases_at_call(sender);
    auto const more = sender.rw->pending_summary != 0;
    auto const plain =
        cpu.payer == &donor && !more && !sender.entity.runnable() && until == Instant::never();
    sender.suspended = !more;
    if (plain && !cpu.reschedule) [[likely]] {
        enter(cpu, donor, arch::clock::now());
    }
    auto const entered = arch::clock::now();
    charge(cpu, entered, entered);
    if (more) {
        cpu.scheduler->wake(sender.entity, entered);
    } else {
        block_entity(cpu, sender.entity, entered, until);
    }
    if (!donor.entity.runnable()) cpu.scheduler->wake(donor.entity, entered);
    decide_and_enter(cpu, entered, entered);
}

std::int64_t resume(Domain& d, std::uint64_t n) {
    if (n >= d.slot_count) return static_cast<std::int64_t>(abi::Error::BadArgument);
    if (d.rw->pending_summary != 0) return static_cast<std::int64_t>(abi::Error::Pending);
    d.rw->activations_on = 1;
    resume_slot(this_cpu(), d, slot_of(d, static_cast<std::uint32_t>(n)));
}

void leave_dead() {
    auto& cpu = this_cpu();
    if (cpu.payer != nullptr && cpu.payer->state == DomainState::Dead) cpu.payer = nullptr;
    auto const entered = arch::clock::now();
    if (cpu.payer != nullptr) charge(cpu, entered, entered);
    cpu.current = nullptr;
    decide_and_enter(cpu, entered, entered);
}

void start() {
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
        log::line("domain ", d.name, ": fault ", vector, " at ", log::hex(slot->rip), " address ",
                  log::hex(address), " with activations off, ended");
        domains::kill(d, abi_exit::kFault | vector);
        leave_dead();
    }
    if (d.fpu) fpu_save(slot);
    activate(cpu, d, static_cast<std::uint32_t>(abi::Reason::Fault));
}

}  // namespace dispatch

/// The rest of a synchronous send whose receiver is activated, or continues a context of its own.
extern "C" [[noreturn]] void enter_receiver(Domain* d) {
    dispatch::enter(this_cpu(), *d, arch::clock::now());
}

/// Entry from user code with the state saved in `slot`.
extern "C" [[noreturn]] void interrupt_from_user(abi::ContextSlot* slot, std::uint64_t vector,
                                                 std::uint64_t error) {
    auto& cpu = this_cpu();
    auto& d = *cpu.current;
    if (!arch::features.fsgsbase) {
        slot->fs_base = arch::read_msr(0xc0000100);
        slot->gs_base = arch::read_msr(0xc0000101);
    }
    if (vector < 32 && vector != 2) {
        dispatch::fault(d, slot, vector, error, vector == 14 ? arch::read_cr2() : 0);
    }
    auto const entered = arch::clock::at(cpu.entry_tsc);
    interrupts::handle(static_cast<std::uint8_t>(vector));
    if (!cpu.reschedule) {
        auto const now = arch::clock::now();
        dispatch::note_interrupt(cpu, entered, now);
        if ((d.rw->activations_on & 1) != 0 && d.rw->pending_summary != 0) {
            if (d.fpu) dispatch::fpu_save(slot);
            dispatch::activate(cpu, d, static_cast<std::uint32_t>(abi::Reason::Event));
        }
        restore_full(slot);
    }
    if (d.fpu) dispatch::fpu_save(slot);
    dispatch::reschedule(entered);
}

/// Entry from the idle loop.
extern "C" [[noreturn]] void interrupt_from_idle(std::uint64_t vector) {
    auto& cpu = this_cpu();
    auto const entered = arch::clock::at(cpu.entry_tsc);
    interrupts::handle(static_cast<std::uint8_t>(vector));
    dispatch::decide_and_enter(cpu, entered, arch::clock::now());
}

/// XRSTOR or IRETQ refused what the domain's slot held.
extern "C" [[noreturn]] void restore_failed() { dispatch::refuse_slot(*this_cpu().current); }

}  // namespace nemesis::kernel
