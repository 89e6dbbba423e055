// boot_check: the whole system of the boot tests. It proves that a domain runs in ring 3, that the
// timer wakes it and that floating-point state survives being away, says what the machine is like,
// and ends the machine.
#include "kernel/abi/environment.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

using namespace nemesis;

extern "C" void nem_main(abi::Environment const&) {
    using enum abi::MachineInfo;
    double volatile seed = 1.5;
    auto const kept = seed * 2;
    auto const began = now();
    Thread::sleep_until(began + Duration::ms(5));
    bool const woken = now() - began >= Duration::ms(5);
    bool const right = kept == seed + seed;
    log::line("boot_check: ", sys::machine_info(FramesTotal) / 256, " MiB, screen ",
              sys::machine_info(FrameBufferWidth), "x", sys::machine_info(FrameBufferHeight),
              woken ? ", timer works" : ", woken too early", right ? "" : ", floating point lost");
    sys::machine_exit(woken && right ? 0x10 : 0x11);
}
