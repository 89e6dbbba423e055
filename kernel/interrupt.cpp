// The table of sources.
#include "kernel/interrupt.h"

#include "arch/x86_64/apic.h"
#include "arch/x86_64/pci.h"
#include "kernel/cpu.h"
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
    std::uint64_t count;
};

/// What serving an interrupt costs, charged to its driver's contract. units: instructions as ns, as
/// measured by `peg bench irq_to_domain` without the switch that follows.
constexpr auto kInterruptCost = Duration::ns(300);

// Guarded by: one processor, interrupts off.
Source sources[kSourcesMax];

constexpr std::int64_t code(Error e) { return static_cast<std::int64_t>(e); }

void set_mask(Source const& s, bool masked) {
    if (s.message)
        arch::pci::set_message_mask(s.line, masked);
    else
        apic::set_line_mask(s.line, masked);
}

}  // namespace

void handle(std::uint8_t vector) {
    auto& cpu = this_cpu();
    if (vector == apic::kTimerVector) {
        cpu.armed = Instant::ns(-1);
        cpu.reschedule = true;
        apic::end_of_interrupt();
        return;
    }
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
    if (!s.message && s.line >= 16) apic::set_line_mask(s.line, true);
    apic::end_of_interrupt();
    trace::record(TraceKind::Interrupt, vector, s.domain->index, s.count, 0);
    events::raise(*s.domain, s.endpoint);
    if (s.domain->state == DomainState::Alive)
        cpu.scheduler->charge_to(s.domain->entity, kInterruptCost);
}

std::int64_t bind(Domain& d, std::uint64_t kind, std::uint64_t number, std::uint64_t n) {
    auto* e = endpoint_of(d, n);
    if (e == nullptr || kind > 1 || number > 0xffffff) return code(Error::BadArgument);
    if (e->state != Endpoint::State::Free) return code(Error::Busy);
    auto const line = static_cast<std::uint32_t>(number);
    auto const place = [&](std::uint32_t at) { return kind == 0 ? apic::real_line(at) : at; };
    std::uint32_t free = kSourcesMax;
    for (std::uint32_t i = 0; i < kSourcesMax; ++i) {
        if (!sources[i].used) {
            if (free == kSourcesMax) free = i;
        } else if (sources[i].message == (kind == 1) && place(sources[i].line) == place(line)) {
            return code(Error::Busy);
        }
    }
    if (free == kSourcesMax) return code(Error::Busy);
    auto const vector = static_cast<std::uint8_t>(apic::kDeviceVectorFirst + free);
    auto const routed =
        kind == 0 ? apic::route_line(line, vector) : arch::pci::route_message(line, vector);
    if (!routed) return code(Error::BadArgument);
    sources[free] = Source{.domain = &d,
                           .generation = d.generation,
                           .line = line,
                           .endpoint = static_cast<std::uint16_t>(n),
                           .used = true,
                           .message = kind == 1,
                           .masked = true,
                           .again = false,
                           .count = 0};
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
    set_mask(s, false);
    return 0;
}

void release(std::uint32_t number) {
    if (number >= kSourcesMax || !sources[number].used) return;
    set_mask(sources[number], true);
    sources[number] = Source{};
}

}  // namespace nemesis::kernel::interrupts
