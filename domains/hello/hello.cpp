// hello: the smallest multimedia domain. Copy it to start one of your own.
//
// Every 40 ms it does one frame's work, and knows whether it was in time: the contract in the manifest
// (2 ms every 40 ms) guarantees it the processor whatever the others do.
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/state.h"
#include "libnemesis/threads/thread.h"

using namespace nemesis;

namespace {

constexpr auto kPeriod = Duration::ms(40);

/// One frame: some work that has to be done by a deadline.
void render(std::uint64_t frame) {
    std::uint64_t volatile pixel = 0;
    for (int i = 0; i < 200'000; ++i) pixel = pixel + frame;
}

}  // namespace

extern "C" void nem_main(abi::Environment const&) {
    log::line("hello: a frame every ", kPeriod);
    auto release = now();
    std::uint64_t late = 0;
    for (std::uint64_t frame = 1;; ++frame) {
        render(frame);
        if (now() > release + kPeriod) ++late;
        if (frame % 25 == 0) log::line(frame, " frames, ", late, " late; deadline now ", dib().deadline);
        release += kPeriod;
        Thread::sleep_until(release);
    }
}
