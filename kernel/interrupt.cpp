// The table of sources.
#include "kernel/interrupt.h"

#include "arch/x86_64/apic.h"
#include "arch/x86_64/clock.h"
#include "arch/x86_64/pci.h"
#include "kernel/cpu.h"
#include "kernel/dispatch.h"
#include "kernel/event.h"
#include "kernel/trace.h"

namespace nemesis::kernel::interrupts {
namespace {

using abi::Error;
namespace apic = arch::apic;

struct Source {
    Domain* domain;
    std::uint32_t generation;
    std::uint32_t line;  ///< of the IO-APIC, or the PCI number of a message source
    std::uint16_t endpoint;
    bool used, message, masked, again;
    bool silenced;      ///< masked where it comes from: what is not need not be unmasked
    std::uint8_t next;  ///< in its chain of the index, or among the free; kNone: the last
    std::uint64_t count;
};

// Guarded by: one processor, interrupts off.
Source sources[kSourcesMax];

/// Which source stands for a line or message: chains of sources by a hash of what they mean.
constexpr std::uint8_t kNone = 255;
static_assert(kSourcesMax <= kNone);
static_assert(apic::kDeviceVectorLast - apic::kDeviceVectorFirst + 1 == kSourcesMax);
std::uint8_t chains[256];
std::uint8_t first_free = 0;

/// The line behind a number: two numbers may mean the same one. A message means itself.
std::uint32_t meaning(bool message, std::uint32_t number) {
    return message ? number | 1u << 31 : apic::real_line(number);
}
std::uint8_t& chain_of(std::uint32_t meant) { return chains[(meant * 0x9e3779b1u) >> 24]; }

constexpr std::int64_t code(Error e) { return static_cast<std::int64_t>(e); }

void set_mask(Source& s, bool masked) {
    s.silenced = masked;
    if (s.message)
        arch::pci::set_message_mask(s.line, masked);
    else
        apic::set_line_mask(s.line, masked);
}

}  // namespace

void initialise() {
    for (auto& chain : chains) chain = kNone;
    for (std::uint32_t i = 0; i < kSourcesMax; ++i)
        sources[i].next = i + 1 < kSourcesMax ? static_cast<std::uint8_t>(i + 1) : kNone;
}

/// The timer may still have been set for an earlier decision: then it is set anew.
static void timer_fired(Cpu& cpu) {
    cpu.armed = Instant::ns(-1);
    apic::end_of_interrupt();
    if (cpu.current != nullptr && cpu.current->has_alarm) [[unlikely]] {
        if (cpu.current->alarm <= arch::clock::now()) {
            events::alarm_passed(*cpu.current);
            cpu.scheduler().charge_to(cpu.current->entity, kInterruptCost);
        }
        cpu.reschedule = true;
        return;
    }
    auto const early = cpu.decision.kind == TimeKind::Extra && cpu.current != nullptr &&
                       cpu.payer == cpu.current && arch::clock::now() < cpu.decision.until;
    if (early)
        dispatch::arm_timer(cpu.decision.until);
    else
        cpu.reschedule = true;
}

void handle(std::uint8_t vector) {
    auto& cpu = this_cpu();
    if (vector == apic::kTimerVector) return timer_fired(cpu);
    if (vector < apic::kDeviceVectorFirst || vector > apic::kDeviceVectorLast) return;
    auto& s = sources[vector - apic::kDeviceVectorFirst];
    if (!s.used || s.masked) {
        if (s.used) {
            s.again = true;
            set_mask(s, true);
        }
        apic::end_of_interrupt();
        return;
    }
    s.masked = true;
    ++s.count;
    // A level line would fire again as soon as it is acknowledged: it is masked first.
    if (!s.message && s.line >= 16) set_mask(s, true);
    apic::end_of_interrupt();
    auto const now = arch::clock::now();
    trace::ring.write(now, TraceKind::Interrupt, vector, s.domain->index, s.count, 0);
    events::raise(*s.domain, s.endpoint, now);
    if (s.domain->state == DomainState::Alive)
        cpu.scheduler().charge_to(s.domain->entity, kInterruptCost);
}

std::int64_t bind(Domain& d, std::uint64_t kind, std::uint64_t number, std::uint64_t n) {
    auto* e = endpoint_of(d, n);
    if (e == nullptr || kind > 1 || number > 0xffffff) return code(Error::BadArgument);
    if (e->state != Endpoint::State::Free) return code(Error::Busy);
    auto const line = static_cast<std::uint32_t>(number);
    auto const message = kind == 1;
    auto const meant = meaning(message, line);
    for (auto i = chain_of(meant); i != kNone; i = sources[i].next)
        if (meaning(sources[i].message, sources[i].line) == meant) return code(Error::Busy);
    if (first_free == kNone) return code(Error::Busy);
    auto const free = first_free;
    auto const vector = static_cast<std::uint8_t>(apic::kDeviceVectorFirst + free);
    auto const routed =
        message ? arch::pci::route_message(line, vector) : apic::route_line(line, vector);
    if (!routed) return code(Error::BadArgument);
    first_free = sources[free].next;
    sources[free] = Source{.domain = &d,
                           .generation = d.generation,
                           .line = line,
                           .endpoint = static_cast<std::uint16_t>(n),
                           .used = true,
                           .message = message,
                           .masked = true,
                           .again = false,
                           .silenced = true,
                           .next = chain_of(meant),
                           .count = 0};
    chain_of(meant) = free;
    e->state = Endpoint::State::Interrupt;
    e->offered_to = free;
    return free;
}

std::int64_t acknowledge(Domain& d, std::uint64_t number) {
    if (number >= kSourcesMax) return code(Error::BadHandle);
    auto& s = sources[number];
    if (!s.used || s.domain != &d || s.generation != d.generation) return code(Error::BadHandle);
    if (!s.masked) return 0;
    if (s.again) {  // it fired meanwhile: one more round before the next is let through
        s.again = false;
        ++s.count;
        events::raise(d, s.endpoint);
        return 0;
    }
    s.masked = false;
    if (s.silenced) set_mask(s, false);
    return 0;
}

/// With its last message a function loses the bus: its driver is dying, and soon the memory that it
/// was told to use belongs to others. bound: one look at each source
static void stop_device(std::uint32_t line) {
    for (auto const& s : sources)
        if (s.used && s.message && (s.line ^ line) >> 8 == 0) return;
    arch::pci::stop_mastering(line);
}

void release(std::uint32_t number) {
    if (number >= kSourcesMax || !sources[number].used) return;
    auto& s = sources[number];
    set_mask(s, true);
    auto* link = &chain_of(meaning(s.message, s.line));
    while (*link != number) link = &sources[*link].next;
    *link = s.next;
    auto const was = s;
    s = Source{};
    if (was.message) stop_device(was.line);
    s.next = first_free;
    first_free = static_cast<std::uint8_t>(number);
}

}  // namespace nemesis::kernel::interrupts
