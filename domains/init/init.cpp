#include "libnemesis/state.h"
#include "libnemesis/log/log.h"
#include "libnemesis/clock.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"
#include "libnemesis/memory/pages.h"
using namespace nemesis;
static Thread t;
static char stack[16384];
static void worker(void*) { for (int i = 0; i < 3; ++i) { log::line("worker at ", now().ns()); Thread::sleep_until(now() + Duration::ms(1)); } }
extern "C" void nem_main(abi::Environment const& e) {
    log::line("hello, heap max ", e.heap_bytes_max);
    t.start(worker, nullptr, {.stack = stack, .stack_bytes = sizeof stack, .name = "w"});
    t.join();
    auto* p = static_cast<std::uint64_t*>(pages::take(100));
    p[51199] = 7; log::line("pages at ", (std::uint64_t)p);
    sys::machine_exit(0x10);
}
