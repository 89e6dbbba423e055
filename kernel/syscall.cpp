// The table of system calls: number -> function -> rights. entry.S calls it with the arguments in
// the C++ registers. Each function checks its arguments, does one bounded thing and returns.
#include <cstring>

#include "arch/x86_64/apic.h"
#include "arch/x86_64/clock.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/pci.h"
#include "kernel/abi/syscalls.h"
#include "kernel/cpu.h"
#include "kernel/dispatch.h"
#include "kernel/domain.h"
#include "kernel/event.h"
#include "kernel/interrupt.h"
#include "kernel/log.h"
#include "kernel/machine.h"
#include "kernel/memory/stretch.h"
#include "kernel/trace.h"

namespace nemesis::kernel {
namespace {

using abi::Error;
using Word = std::uint64_t;

constexpr std::int64_t code(Error e) { return static_cast<std::int64_t>(e); }

Domain& self() { return *this_cpu().current; }

std::int64_t status(stretches::Status const& s) {
    return s ? static_cast<std::int64_t>(*s) : code(s.error());
}

/// Runs `work` and notes how long the entry was: for calls that may be long.
template <typename F>
std::int64_t timed(F&& work) {
    auto& cpu = this_cpu();
    auto const before = arch::rdtsc();
    auto const result = work();
    auto const length = arch::rdtsc() - before;
    if (length > cpu.entry_max) cpu.entry_max = length;
    if (cpu.reschedule) [[unlikely]]
        dispatch::preempt_soon();
    return result;
}

template <typename F>
std::int64_t with_target(abi::DomainId id, F&& work) {
    return timed([&]() -> std::int64_t {
        auto const d = domains::target(self(), id);
        if (!d) return code(d.error());
        if ((*d)->state == DomainState::Dead) return code(Error::PeerDead);
        return work(**d);
    });
}

bool has(Word privilege) { return (self().privileges & privilege) != 0; }

std::int64_t call_null() { return 0; }

std::int64_t call_send(Word endpoint) {
    auto const result = events::send(self(), endpoint);
    if (this_cpu().reschedule) [[unlikely]]
        dispatch::preempt_soon();
    return result;
}
std::int64_t call_send_sync(Word endpoint, std::int64_t until) {
    return events::send_sync(self(), endpoint, until);
}
std::int64_t call_answer(Word endpoint, Word goes_on) {
    auto const result = events::answer(self(), endpoint, goes_on != 0);
    if (this_cpu().reschedule) [[unlikely]]
        dispatch::preempt_soon();
    return result;
}
std::int64_t call_suspend_sending(Word endpoint, std::int64_t until) {
    auto const result = dispatch::suspend_sending(self(), endpoint, Instant::ns(until));
    if (this_cpu().reschedule) [[unlikely]]
        dispatch::preempt_soon();
    return result;
}
std::int64_t call_resume(Word slot) { return dispatch::resume(self(), slot); }
/// In the table for calls whose entry is their own.
std::int64_t call_elsewhere() { return code(Error::BadCall); }
std::int64_t call_kps_leave() { return code(Error::NotPermitted); }

std::int64_t call_stretch_create(abi::DomainId target, Word address, Word regions, Word rights) {
    return with_target(
        target, [&](Domain& d) { return status(stretches::create(d, address, regions, rights)); });
}
std::int64_t call_stretch_destroy(abi::DomainId target, Word number) {
    return with_target(target, [&](Domain& d) {
        if (number == 0)
            return code(Error::NotPermitted);  // the image with its DIB goes with the domain
        return status(stretches::destroy(d, number));
    });
}
std::int64_t call_frame_alloc(abi::DomainId target) {
    return with_target(target, [&](Domain& d) {
        auto const n = frames::take(d, FrameState::Owned);
        return n ? static_cast<std::int64_t>(*n) : code(n.error());
    });
}
std::int64_t call_frame_free(Word n) {
    if (n > 0xfffffffe || !frames::valid(static_cast<FrameNumber>(n)))
        return code(Error::BadHandle);
    auto const& record = frames::record(static_cast<FrameNumber>(n));
    if (record.state != FrameState::Owned || record.owner != self().index)
        return code(Error::BadHandle);
    if (record.mapped != 0) return code(Error::Busy);
    frames::release(self(), static_cast<FrameNumber>(n));
    return 0;
}
std::int64_t call_map(abi::DomainId target, Word number, Word page, Word frame, Word rights) {
    if (target == 0) return status(stretches::map(self(), self(), number, page, frame, rights));
    return with_target(target, [&](Domain& d) {
        return status(stretches::map(self(), d, number, page, frame, rights));
    });
}
std::int64_t call_unmap(abi::DomainId target, Word number, Word page) {
    if (target == 0) return status(stretches::unmap(self(), number, page));
    return with_target(target,
                       [&](Domain& d) { return status(stretches::unmap(d, number, page)); });
}
std::int64_t call_protect(Word number, Word page, Word count, Word rights) {
    return status(stretches::protect(self(), number, page, count, rights));
}
std::int64_t call_map_batch(Word number, Word page, Word count) {
    return timed([&] { return status(stretches::map_batch(self(), number, page, count)); });
}
std::int64_t call_stretch_offer(abi::DomainId target, Word number, abi::DomainId peer,
                                Word rights) {
    return with_target(
        target, [&](Domain& d) { return status(stretches::offer(d, number, peer, rights)); });
}
std::int64_t call_stretch_accept(abi::DomainId target, abi::DomainId owner, Word number,
                                 Word rights) {
    return with_target(target, [&](Domain& d) {
        return status(stretches::accept(d, owner == 0 ? self().id() : owner, number, rights));
    });
}
std::int64_t call_stretch_revoke(abi::DomainId target, Word number, abi::DomainId peer) {
    return with_target(target,
                       [&](Domain& d) { return status(stretches::revoke(d, number, peer)); });
}

std::int64_t call_domain_create() {
    return timed([&]() -> std::int64_t {
        auto& d = self();
        if (!has(abi::kPrivilegeCreateDomains)) return code(Error::NotPermitted);
        abi::DomainParameters p;
        std::memcpy(&p, d.rw->arguments, sizeof(p));  // read once
        auto const child = domains::create_step(d, p);
        return child ? static_cast<std::int64_t>((*child)->id()) : code(child.error());
    });
}
std::int64_t call_domain_start(abi::DomainId target) {
    return with_target(target, [&](Domain& d) -> std::int64_t {
        if (&d == &self() || d.state != DomainState::Created) return code(Error::BadArgument);
        d.state = DomainState::Alive;
        auto const now = arch::clock::now();
        auto& cpu = this_cpu();
        cpu.scheduler().wake(d.entity, now);
        if (cpu.scheduler().preempts(d.entity, now)) cpu.reschedule = true;
        return 0;
    });
}
std::int64_t call_domain_destroy(abi::DomainId target) {
    return timed([&]() -> std::int64_t {
        auto const d = domains::target(self(), target);
        if (!d) return code(d.error());
        if (*d == &self()) return code(Error::BadArgument);
        if ((*d)->state != DomainState::Dead) {
            domains::kill(**d, abi_exit::kDestroyed);
            return code(Error::Again);
        }
        auto const done = domains::reclaim_step(**d);
        return done ? 0 : code(done.error());
    });
}
std::int64_t call_domain_inspect(abi::DomainId target) {
    return timed([&]() -> std::int64_t {
        auto const found = domains::target(self(), target);
        if (!found) return code(found.error());
        auto& d = **found;
        abi::DomainStatus s{};
        s.state = d.state == DomainState::Alive ? 1 : d.state == DomainState::Dead ? 2 : 0;
        s.slice = d.contract.slice.ns();
        s.period = d.contract.period.ns();
        s.deadline = d.contract.deadline.ns();
        s.weight = d.contract.weight;
        s.used_ns = d.entity.used_allocated().ns();
        s.extra_ns = d.entity.used_extra().ns();
        s.frames_used = d.frames_used;
        s.frames_quota = d.frames_quota;
        s.kernel_bytes = d.kernel_frames * 4096;
        if (d.ro != nullptr) {
            s.fault_vector = d.ro->fault.vector;
            s.fault_address = d.ro->fault.address;
            s.fault_rip = d.ro->fault.rip;
            s.deactivations = d.ro->deactivations;
        }
        s.exit_code = d.exit_code;
        std::memcpy(self().rw->arguments, &s, sizeof(s));
        return 0;
    });
}

bool same(Contract const& a, Contract const& b) {
    return a.slice == b.slice && a.period == b.period && a.deadline == b.deadline &&
           a.weight == b.weight;
}

/// Units of work of admission in one call.
constexpr std::uint32_t kAdmissionWork = 1;

struct CallResult {
    std::int64_t value;
    std::int64_t second;
};

CallResult call_contract_set(abi::DomainId target, std::int64_t slice, std::int64_t period,
                             std::int64_t deadline, Word weight) {
    std::int64_t second = 0;
    auto const value = timed([&]() -> std::int64_t {
        if (!has(abi::kPrivilegeControlContracts)) return code(Error::NotPermitted);
        auto& scheduler = this_cpu().scheduler();
        auto const found = target == 0 || target == self().id() ? Result<Domain*, Error>(&self())
                                                                : [&]() -> Result<Domain*, Error> {
            auto* d = domains::find(target);
            if (d == nullptr || !d->furnished || d->state == DomainState::Dead)
                return fail(Error::BadHandle);
            return d;
        }();
        if (!found) return code(found.error());
        auto& d = **found;
        if (weight > Contract::weight_max) return code(Error::BadArgument);
        Contract const wanted{Duration::ns(slice), Duration::ns(period), Duration::ns(deadline),
                              static_cast<std::uint32_t>(weight)};
        auto& changing = machine::contract_in_progress;
        if (changing != nullptr &&
            changing != &d) {  // nobody goes on with it when who asked is gone
            auto const* requester = domains::find(machine::contract_requester);
            if (requester == nullptr || requester->state == DomainState::Dead) {
                scheduler.abort();
                changing = nullptr;
            }
        }
        if (changing != &d || !same(d.wanted, wanted)) {
            if (changing == &d) {
                scheduler.abort();
                changing = nullptr;
            }
            auto const begun = scheduler.begin(d.entity, wanted);
            if (!begun)
                return code(begun.error() == ContractError::Busy ? Error::Busy
                                                                 : Error::BadArgument);
            d.wanted = wanted;
            changing = &d;
            machine::contract_requester = self().id();
            return code(Error::Again);
        }
        if (!scheduler.admitted()) {
            auto const step = scheduler.step(kAdmissionWork);
            if (step.verdict != AdmissionVerdict::Refused) return code(Error::Again);
            changing = nullptr;
            second = step.largest_slice.ns();
            return code(Error::Refused);
        }
        auto const now = arch::clock::now();
        if (scheduler.settle_before_commit(now)) return code(Error::Again);
        changing = nullptr;
        auto const from = scheduler.commit(now);
        d.contract = wanted;
        trace::record(TraceKind::Contract, static_cast<std::uint16_t>(weight), d.index,
                      static_cast<Word>(slice), static_cast<Word>(period));
        trace::record(TraceKind::ContractDeadline, static_cast<std::uint16_t>(weight), d.index,
                      static_cast<Word>(deadline), static_cast<Word>(from.ns()));
        second = from.ns();
        this_cpu().reschedule = true;
        return 0;
    });
    return {value, second};
}
std::int64_t call_guarantees_set(Word on) {
    return timed([&]() -> std::int64_t {
        if (!has(abi::kPrivilegeControlContracts)) return code(Error::NotPermitted);
        this_cpu().reschedule = true;
        return this_cpu().scheduler().set_guarantees(on != 0, arch::clock::now(), 1)
                   ? 0
                   : code(Error::Again);
    });
}

std::int64_t call_endpoint_offer(abi::DomainId target, Word endpoint, abi::DomainId peer) {
    return with_target(target, [&](Domain& d) { return events::offer(d, endpoint, peer); });
}
std::int64_t call_endpoint_accept(abi::DomainId target, Word endpoint, abi::DomainId peer,
                                  Word peer_endpoint) {
    return with_target(target, [&](Domain& d) {
        return events::accept(d, endpoint, peer == 0 ? self().id() : peer, peer_endpoint);
    });
}
std::int64_t call_endpoint_close(abi::DomainId target, Word endpoint) {
    return with_target(target, [&](Domain& d) {
        return endpoint < d.endpoint_count ? events::close(d, static_cast<std::uint32_t>(endpoint))
                                           : code(Error::BadHandle);
    });
}
std::int64_t call_endpoint_state(Word endpoint) { return events::state(self(), endpoint); }
std::int64_t call_alarm(Word until) {
    dispatch::set_alarm(self(), Instant::ns(static_cast<std::int64_t>(until)));
    return 0;
}
std::int64_t call_irq_bind(Word kind, Word number, Word endpoint) {
    return timed([&] {
        auto const granted = number < abi::kInterruptMessage &&
                             holds(self().device_interrupts, number | kind << 31, 1);
        return has(abi::kPrivilegeInterrupts) && (granted || kind > 1 || number > 0xffffff)
                   ? interrupts::bind(self(), kind, number, endpoint)
                   : code(Error::NotPermitted);
    });
}
std::int64_t call_irq_ack(Word source) {
    auto const result = interrupts::acknowledge(self(), source);
    if (this_cpu().reschedule) dispatch::preempt_soon();
    return result;
}
std::int64_t call_device_stretch(Word physical, Word pages, Word rights) {
    return timed([&] {
        if (!has(abi::kPrivilegeDevices) || pages > UINT64_MAX / 4096 ||
            !holds(self().device_memory, physical, pages * 4096)) {
            return code(Error::NotPermitted);
        }
        return status(stretches::create_device(self(), physical, pages, rights));
    });
}
std::int64_t call_pci_read(Word number) {
    return has(abi::kPrivilegeDevices)
               ? static_cast<std::int64_t>(arch::pci::read(static_cast<std::uint32_t>(number)))
               : code(Error::NotPermitted);
}
std::int64_t call_log(Word length, Word w0, Word w1, Word w2, Word w3) {
    if (length > 32) return code(Error::BadArgument);
    Word const words[4] = {w0, w1, w2, w3};
    char text[32];
    std::memcpy(text, words, 32);
    if (!has(abi::kPrivilegeReport)) {
        for (auto& c : text) c = c == '@' ? '#' : c;
    }
    log::write(std::string_view(text, length));
    log::step();
    return static_cast<std::int64_t>(length);
}
std::int64_t call_trace_mark(Word kind, Word a, Word b) {
    // A domain writes marks about itself only.
    auto const what = static_cast<TraceKind>(kind & 0xffff);
    if (what != TraceKind::Mark && (what < TraceKind::JobStart || what > TraceKind::Phase))
        return code(Error::BadArgument);
    trace::record(what, static_cast<std::uint16_t>(kind >> 16), self().index, a, b);
    return 0;
}
std::int64_t call_machine_exit(Word exit_code) {
    if (!has(abi::kPrivilegeMachine)) return code(Error::NotPermitted);
    if (exit_code != abi::kMachineStop) machine::exit(exit_code);
    machine::stop();
    dispatch::preempt_soon();
    return 0;
}
std::int64_t call_machine_info(Word word) {
    return static_cast<std::int64_t>(machine::information(static_cast<abi::MachineInfo>(word)));
}
std::int64_t call_frame_physical(Word number, Word page) {
    if (!has(abi::kPrivilegeDevices)) return code(Error::NotPermitted);
    return status(stretches::physical_address(self(), number, page));
}
std::int64_t call_measure(Word word) {
    auto& cpu = this_cpu();
    switch (static_cast<abi::MeasureWord>(word)) {
        case abi::MeasureWord::RootWrites:
            return static_cast<std::int64_t>(cpu.root_writes);
        case abi::MeasureWord::EntryMax:
            return static_cast<std::int64_t>(cpu.entry_max);
        case abi::MeasureWord::ResetEntryMax:
            cpu.entry_max = 0;
            return 0;
        case abi::MeasureWord::KernelReserve:
            return static_cast<std::int64_t>(cpu.kernel_ns);
        case abi::MeasureWord::IdleTime:
            return static_cast<std::int64_t>(cpu.idle_ns);
        case abi::MeasureWord::Switches:
            return static_cast<std::int64_t>(cpu.switches);
        case abi::MeasureWord::Protection:
            return static_cast<std::int64_t>(arch::read_cr4());
        case abi::MeasureWord::LastEntryStamp:
            return arch::clock::at(cpu.entry_tsc).ns();
        default:
            return code(Error::BadArgument);
    }
}
std::int64_t call_frame_give(abi::DomainId target, Word number, Word page, Word own_number,
                             Word own_page, Word rights) {
    return with_target(target, [&](Domain& d) -> std::int64_t {
        if (&d == &self()) return code(Error::BadArgument);
        return status(stretches::give(self(), d, number, page, own_number, own_page, rights));
    });
}
std::int64_t call_exit(Word exit_code) {
    domains::kill(self(), exit_code & 0xffffffff);
    dispatch::leave_dead();
}

std::int64_t call_stretch_address(abi::DomainId target, Word number) {
    return with_target(target, [&](Domain& d) -> std::int64_t {
        auto const* s = stretch_of(d, number);
        if (s == nullptr || (s->kind != Stretch::Kind::Own && s->kind != Stretch::Kind::Accepted))
            return code(Error::BadHandle);
        return static_cast<std::int64_t>(s->base);
    });
}

}  // namespace

extern "C" void kps_enter_call();

/// A table entry: clears the second result register, so that nothing of the kernel's leaks in it.
template <auto F>
struct Call;
template <typename... A, std::int64_t (*F)(A...)>
struct Call<F> {
    static CallResult run(A... arguments) { return {F(arguments...), 0}; }
};
template <typename... A, CallResult (*F)(A...)>
struct Call<F> {
    static CallResult run(A... arguments) { return F(arguments...); }
};
template <auto F>
void const* entry() {
    return reinterpret_cast<void const*>(&Call<F>::run);
}

extern "C" void const* call_table[CALL_COUNT] = {
    entry<call_null>(),
    entry<call_elsewhere>(),
    entry<call_elsewhere>(),
    entry<call_send>(),
    entry<call_send_sync>(),
    entry<call_resume>(),
    entry<call_elsewhere>(),
    entry<call_kps_leave>(),
    entry<call_stretch_create>(),
    entry<call_stretch_destroy>(),
    entry<call_frame_alloc>(),
    entry<call_frame_free>(),
    entry<call_map>(),
    entry<call_unmap>(),
    entry<call_protect>(),
    entry<call_map_batch>(),
    entry<call_stretch_offer>(),
    entry<call_stretch_accept>(),
    entry<call_stretch_revoke>(),
    entry<call_domain_create>(),
    entry<call_domain_start>(),
    entry<call_domain_destroy>(),
    entry<call_domain_inspect>(),
    entry<call_contract_set>(),
    entry<call_guarantees_set>(),
    entry<call_endpoint_offer>(),
    entry<call_endpoint_accept>(),
    entry<call_endpoint_close>(),
    entry<call_irq_bind>(),
    entry<call_irq_ack>(),
    entry<call_device_stretch>(),
    entry<call_pci_read>(),
    entry<call_log>(),
    entry<call_trace_mark>(),
    entry<call_machine_exit>(),
    entry<call_machine_info>(),
    entry<call_frame_physical>(),
    entry<call_measure>(),
    entry<call_frame_give>(),
    entry<call_exit>(),
    entry<call_stretch_address>(),
    entry<call_answer>(),
    entry<call_endpoint_state>(),
    entry<call_alarm>(),
    entry<call_send_sync>(),  // of a request only the quick case differs
    entry<call_suspend_sending>(),
};
extern "C" void plain_call();
extern "C" void giving_up_call();
extern "C" void suspend_call();
extern "C" void yield_call();
extern "C" void send_sync_call();
extern "C" void answer_call();
extern "C" void request_call();

/// Where the entry code goes first for each call: most are plain.
extern "C" void const* entry_table[CALL_COUNT] = {};

void initialise_calls(bool fast_paths) {
    for (auto& e : entry_table) e = reinterpret_cast<void const*>(&plain_call);
    auto const set = [](abi::Call call, void (*to)()) {
        entry_table[static_cast<std::uint32_t>(call)] = reinterpret_cast<void const*>(to);
    };
    set(abi::Call::Suspend, suspend_call);
    set(abi::Call::SuspendSending, giving_up_call);
    set(abi::Call::Yield, yield_call);
    set(abi::Call::KpsEnter, kps_enter_call);
    set(abi::Call::SendSync, fast_paths ? send_sync_call : giving_up_call);
    set(abi::Call::Answer, fast_paths ? answer_call : giving_up_call);
    set(abi::Call::Request, fast_paths ? request_call : giving_up_call);
}

static_assert(static_cast<int>(Error::BadCall) == ERROR_BAD_CALL &&
              static_cast<int>(Error::InSection) == ERROR_IN_SECTION &&
              static_cast<int>(Error::Pending) == ERROR_PENDING);
static_assert(static_cast<int>(abi::Call::SendSync) == CALL_SEND_SYNC &&
              static_cast<int>(abi::Call::Answer) == CALL_ANSWER &&
              static_cast<int>(abi::Call::Count) == CALL_COUNT &&
              static_cast<int>(abi::Call::KpsLeave) == CALL_KPS_LEAVE);
static_assert(abi::kSlotFull == SLOT_FULL && abi::kSlotBases == SLOT_BASES &&
              abi::kSlotTold == SLOT_TOLD &&
              static_cast<int>(abi::TimeKind::Donated) == TIME_DONATED);

}  // namespace nemesis::kernel
