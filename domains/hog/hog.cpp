// hog: burns all the processor time it can get.
//
// What every guarantee is measured against. If the manifest gives it a channel "control", the
// director at its other end switches it off and on; without one it burns for ever.
#include "domains/demo/demo_state.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/channel.h"
#include "libnemesis/threads/thread.h"

extern "C" void nem_main(nemesis::abi::Environment const&) {
    using namespace nemesis;
    auto const* control = find_channel("control");
    if (control == nullptr) {
        for (std::uint64_t volatile spins = 0;; spins = spins + 1) {
        }
    }
    auto const* state = reinterpret_cast<demo::DemoState const*>(control->incoming);
    auto const on = [&] { return __atomic_load_n(&state->hogs, __ATOMIC_ACQUIRE) != 0; };
    EventWaiter changes(control->endpoint);
    for (;;) {
        while (on()) {
        }
        changes.wait();
    }
}
