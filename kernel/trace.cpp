// The ring of the one processor there is.
#include "kernel/trace.h"

#include "kernel/cpu.h"

namespace nemesis::kernel::trace {

TraceRing ring;
std::byte* memory = nullptr;
std::uint64_t bytes = 0;

void initialise(std::byte* at, std::uint32_t capacity) {
    memory = at;
    bytes = TraceRing::bytes_needed(capacity);
    ring = TraceRing({at, bytes}, capacity, 0, arch::clock::parameters.tsc_hz,
                     arch::clock::parameters.tsc_base);
    auto& cpu = this_cpu();
    cpu.trace_header = reinterpret_cast<std::uint64_t>(at);
    cpu.trace_mask = capacity - 1;
    cpu.tsc_base = arch::clock::parameters.tsc_base;
    cpu.tsc_multiplier = arch::clock::parameters.multiplier;
}

}  // namespace nemesis::kernel::trace
