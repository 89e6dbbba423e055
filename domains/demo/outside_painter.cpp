// outside_painter: a probe. It takes its strip of the screen, paints it, says so, and then paints
// the line below, which is somebody else's. It must not live to say that it did.
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/media/strip.h"
#include "libnemesis/threads/thread.h"

int main() {
    using namespace nemesis;
    Thread::sleep_until(Instant() + Duration::ms(300));
    auto const strip = media::take_strip("display", now() + Duration::s(2));
    if (strip.bytes == 0) return log::line("probe: no strip"), 1;
    strip.canvas.fill(0xffcc00);
    log::line("probe: painted its own ", strip.canvas.height(), " lines");
    auto volatile* below = reinterpret_cast<std::uint32_t volatile*>(strip.address + strip.bytes);
    *below = 0xff0000;
    log::line("probe: painted outside");
}
