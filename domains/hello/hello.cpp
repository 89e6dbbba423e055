// hello: the smallest multimedia domain. Copy it to start one of your own.
//
// Every 40 ms it draws one frame, and knows whether it was in time: the contract in the manifest
// (2 ms every 40 ms) guarantees it the processor whatever the others do. Without a display it goes
// on all the same and reports to the log.
#include "libnemesis/log/log.h"
#include "libnemesis/media/job.h"
#include "libnemesis/media/strip.h"
#include "libnemesis/threads/thread.h"

using namespace nemesis;

namespace {

constexpr auto kPeriod = Duration::ms(40);

/// One frame: a ball that runs to and fro, and how many frames were late.
void draw(media::Canvas const& canvas, std::uint64_t frame, std::uint64_t late) {
    auto const range = canvas.width() - 32;
    if (range <= 0) return;
    auto const way = static_cast<std::int32_t>(frame * 8 % (2 * static_cast<std::uint64_t>(range)));
    canvas.fill(0x10141c);
    canvas.fill(way < range ? way : 2 * range - way, 8, 32, 32, 0x4fb477);
    media::Words words;
    words.add("hello: frame ").add(static_cast<std::int64_t>(frame));
    words.add(", late: ").add(static_cast<std::int64_t>(late));
    canvas.text(8, 48, words.text(), {.text = 0xe6e9ef, .ground = 0x10141c});
}

}  // namespace

int main() {
    auto const strip = media::take_strip("display", now() + Duration::s(1));
    auto release = now();
    std::uint64_t late = 0;
    for (std::uint64_t frame = 1;; ++frame) {
        media::Job job(frame, release + kPeriod);
        draw(strip.canvas, frame, late);
        if (!job.finish()) ++late;
        if (frame % 25 == 0) log::line("hello: ", frame, " frames, ", late, " late");
        release += kPeriod;
        Thread::sleep_until(release);
    }
}
