#pragma once
// The kernel's side of the trace: what it records, one line each. Always on; about 20 instructions
// a record with the reading of the clock.

#include "arch/x86_64/clock.h"
#include "kernel/domain.h"
#include "libnemesis/base/trace_format.h"

namespace nemesis::kernel::trace {

/// Reserves the ring. Boot only.
void initialise(std::byte* memory, std::uint32_t capacity);
extern TraceRing ring;
/// Where the ring lies (header first), for the debugger, the dump and `machine_info`.
extern std::byte* memory;
extern std::uint64_t bytes;

static_assert(offsetof(TraceHeader, written) == TRACE_WRITTEN &&
              sizeof(TraceHeader) == TRACE_RECORDS &&
              static_cast<int>(TraceKind::Switch) == TRACE_SWITCH &&
              static_cast<int>(TraceKind::Activation) == TRACE_ACTIVATION &&
              trace_no_domain == TRACE_NO_DOMAIN &&
              static_cast<int>(TraceStop::SentSync) == TRACE_SENT_SYNC);

/// Writes a record of what happens now; below, those that are written from several places.
inline void record(TraceKind kind, std::uint16_t detail, std::uint32_t domain, std::uint64_t a,
                   std::uint64_t b) {
    ring.write(arch::clock::now(), kind, detail, domain, a, b);
}
inline void event_sent(Instant now, Domain const& sender, Domain const& receiver,
                       std::uint64_t endpoint) {
    ring.write(now, TraceKind::EventSent, 0, sender.index, receiver.index | (endpoint << 32), 0);
}
inline void domain_created(Domain const& d) {
    TraceName const name{std::string_view(d.name)};
    record(TraceKind::DomainCreated, 0, d.index, name.a, name.b);
}
inline void domain_died(Domain const& d) {
    record(TraceKind::DomainDestroyed, static_cast<std::uint16_t>(d.exit_code >> 56), d.index, 0,
           0);
}

}  // namespace nemesis::kernel::trace
