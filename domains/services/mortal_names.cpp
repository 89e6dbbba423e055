// mortal_names: the system's name server, in which a thread ends the domain at random instants, by
// a fault or by its exit code: whatever the server is doing then stays half done.
//
// Arguments: "FROM UNTIL ..." in ms since boot, then those of the name server. Between the two a
// life lasts 1 to 120 ms; before and after nothing ends it.
#include <new>

#include "domains/names/serve_names.h"
#include "libnemesis/base/random.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace {

using namespace nemesis;

alignas(Thread) std::byte thread_memory[sizeof(Thread)];
Instant from, until;

Instant next_instant(char const*& at) {
    std::int64_t ms = 0;
    for (; *at >= '0' && *at <= '9'; ++at) ms = ms * 10 + (*at - '0');
    while (*at == ' ') ++at;
    return Instant() + Duration::ms(ms);
}

void die(void*) {
    if (now() >= until) return;
    Random random(cycle_count() ^ dib().id);
    if (now() < from) Thread::sleep_until(from);
    Thread::sleep_until(now() + Duration::us(random.between(1'000, 120'000)));
    if (random.below(2) == 0) sys::exit(7);
    *reinterpret_cast<std::uint32_t volatile*>(16) = 7;
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    char const* at = env.arguments;
    from = next_instant(at);
    until = next_instant(at);
    auto* const stack = pages::take(4);
    // Urgent: it ends the domain in the middle of whatever the others are doing.
    if (stack == nullptr || !(new (thread_memory) Thread)
                                 ->start(die, nullptr,
                                         {.stack = stack,
                                          .stack_bytes = 4 * abi::kPageSize,
                                          .deadline = Instant(),
                                          .name = "die"}))
        return log::line("no thread to die by");
    name_service::serve_names(at);
}
