// The event-driven model: no thread at all, only closures that run when events arrive.
//
// The main thread attaches a closure and ends. From then on the domain exists in its dispatcher
// alone: it is activated, runs the closure of each pending event, and gives the processor back.
// Source: PEG94 "Events" and "Virtual-Processor Model"; architecture K4.
#include "libnemesis/activation/activation.h"
#include "libnemesis/channel.h"
#include "libnemesis/log/log.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

using namespace nemesis;

namespace {

constexpr std::uint64_t kWanted = 20;
std::uint64_t activations = 0;

/// Runs in the dispatcher with activations off: short, and blocking nowhere. `count` never loses an
/// event, even if several arrived for one activation.
void on_tick(void*, std::uint32_t, std::uint64_t count) {
    ++activations;
    if (count < kWanted) return;
    log::line(count, " events seen, no thread left: ", state().thread_count == 0 ? "yes" : "no");
    sys::exit(0);
}

}  // namespace

extern "C" void nem_main(abi::Environment const&) {
    auto const* channel = find_channel("ticks");
    if (channel == nullptr) return log::line("no channel 'ticks' in the manifest");
    attach(channel->endpoint, Closure{&on_tick, nullptr});
    Thread::exit();
}
