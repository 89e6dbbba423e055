// ender: waits 300 ms, says that the system is up, and ends the machine. For tests of other
// domains.
#include "kernel/abi/environment.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

extern "C" void nem_main(nemesis::abi::Environment const&) {
    nemesis::Thread::sleep_until(nemesis::now() + nemesis::Duration::ms(300));
    nemesis::log::line("the system is up");
    nemesis::sys::machine_exit(0x10);
}
