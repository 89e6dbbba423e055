// boot_check: the whole system of the boot tests. It proves that a domain runs in ring 3, that memory
// is there and that the timer wakes it, says what the machine is like, and ends the machine.
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

using namespace nemesis;

int main() {
    using enum abi::MachineInfo;
    auto const began = now();
    Thread::sleep_until(began + Duration::ms(5));
    bool const woken = now() - began >= Duration::ms(5);
    log::line("boot_check: ", sys::machine_info(FramesTotal) / 256, " MiB, screen ",
              sys::machine_info(FrameBufferWidth), "x", sys::machine_info(FrameBufferHeight),
              woken ? ", timer works" : ", woken too early");
    sys::machine_exit(woken ? 0x10 : 0x11);
}
