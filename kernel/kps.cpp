// Entry check, watchdog and forced exit of kernel-privileged sections.
#include "kernel/kps.h"

#include "arch/x86_64/apic.h"
#include "arch/x86_64/clock.h"
#include "arch/x86_64/cpu.h"
#include "kernel/dispatch.h"
#include "kernel/interrupt.h"
#include "kernel/log.h"
#include "kernel/trace.h"
#include "libnemesis/base/assert.h"

namespace nemesis::kernel {

extern "C" [[noreturn]] void run_on_kernel_stack(void (*function)(void*), void* argument);

/// Called from kps_enter_call: 0 lets the domain into ring 0.
extern "C" std::int64_t kps_enter(std::uint64_t bound) {
    auto& cpu = this_cpu();
    if ((cpu.current->privileges & abi::kPrivilegeKps) == 0)
        return static_cast<std::int64_t>(abi::Error::NotPermitted);
    if (bound - 1 >= kps::kBoundMax) return static_cast<std::int64_t>(abi::Error::BadArgument);
    auto const end = arch::clock::now() + Duration::ns(static_cast<std::int64_t>(bound));
    cpu.section_end = end;
    if (cpu.armed > end) {
        cpu.section_rearmed = true;
        arch::apic::arm_ticks(
            static_cast<std::uint32_t>((bound * arch::clock::parameters.ticks_per_ns) >> 32));
    }
    return 0;
}

/// The section has been left in order; the timer gets its old setting. A setting further away than
/// a second is cut: the timer's handler then sets it anew.
extern "C" std::int64_t kps_left() {
    auto& cpu = this_cpu();
    if (cpu.section_rearmed) [[likely]] {
        cpu.section_rearmed = false;
        auto left = static_cast<std::uint64_t>((cpu.armed - arch::clock::now()).ns());
        if (left > 1'000'000'000) [[unlikely]]
            left = cpu.armed == Instant::never() ? 1'000'000'000
                   : left >> 63 != 0             ? 1
                                                 : 1'000'000'000;
        arch::apic::arm_ticks(
            static_cast<std::uint32_t>((left * arch::clock::parameters.ticks_per_ns) >> 32) | 1);
    }
    if (cpu.reschedule) [[unlikely]]
        dispatch::preempt_soon();
    return 0;
}

namespace {

[[noreturn]] void end_section(std::uint64_t exit_code, log::Ending reason,
                              kps::Frame const& frame) {
    auto& cpu = this_cpu();
    auto& d = *cpu.current;
    arch::write_cr8(0);
    cpu.section_rearmed = false;
    cpu.armed = Instant::ns(-1);
    log::later(reason, d.name, frame.vector, frame.rip, frame.rsp);
    trace::record(TraceKind::PrivilegedLeave, exit_code == abi_exit::kOverrun ? 2 : 1, d.index,
                  frame.rip, 0);
    domains::kill(d, exit_code);
    run_on_kernel_stack([](void*) { dispatch::leave_dead(); }, nullptr);
}

}  // namespace

/// An interrupt or exception arrived inside a section. Returns only to let it go on.
extern "C" void interrupt_in_section(kps::Frame* frame) {
    auto& cpu = this_cpu();
    ASSERT(arch::read_cr4() == cpu.normal_cr4);
    ASSERT((arch::read_flags() & arch::kFlagAc) == 0);
    if (frame->vector == 2) return;
    if (frame->vector < 32)
        end_section(abi_exit::kFault | frame->vector, log::Ending::Exception, *frame);
    if (frame->vector != arch::apic::kTimerVector)
        return interrupts::handle(static_cast<std::uint8_t>(frame->vector));
    arch::apic::end_of_interrupt();
    auto const now = arch::clock::now();
    if (now >= cpu.section_end) end_section(abi_exit::kOverrun, log::Ending::Overrun, *frame);
    // The scheduler's own timer: it is served as soon as the section has been left.
    cpu.reschedule = true;
    cpu.armed = Instant::ns(-1);
    auto const left = static_cast<std::uint64_t>((cpu.section_end - now).ns());
    auto const ticks = (left * arch::clock::parameters.ticks_per_ns) >> 32;
    arch::apic::arm_ticks(ticks == 0 ? 1 : static_cast<std::uint32_t>(ticks));
}

}  // namespace nemesis::kernel
