// strip_probe: asks for its strip of the screen, paints its first and its last line, and says how
// many it has. Of tests/guest/display_test.py.
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/media/strip.h"
#include "libnemesis/threads/thread.h"

extern "C" void nem_main(nemesis::abi::Environment const&) {
    using namespace nemesis;
    auto const strip = media::take_strip("display", now() + Duration::s(2));
    if (strip.bytes != 0) {
        auto const height = strip.canvas.height();
        strip.canvas.fill(0, 0, strip.canvas.width(), 1, 0xffcc00);
        strip.canvas.fill(0, height - 1, strip.canvas.width(), 1, 0xffcc00);
        log::line("painted in its ", height, " lines");
    }
    Thread::sleep_until(Instant::never());
}
