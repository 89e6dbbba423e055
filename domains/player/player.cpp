// player: shows a clip at its rate in a strip of the screen, beside whatever else runs.
//
// Frame k of the world is due between k and k + 1 periods after boot, in both players: that is a
// job, and its deadline. It is decoded straight into the frame buffer, line by line, with no second
// buffer: a player that loses the processor in the middle of a picture shows a torn one. A late
// frame is still finished and shown, late; frames whose time is over before they were begun are
// skipped, and count as missed. So what is seen is what happened.
//
// Beside the picture it draws, frame by frame, when it was done relative to the deadline. All this
// is part of the job and paid from its contract. Arguments: the name of the clip's data.
#include <turbojpeg.h>

#include <algorithm>
#include <cstdio>

#include "domains/demo/appearance.h"
#include "libnemesis/activation/domain_status.h"
#include "libnemesis/channel.h"
#include "libnemesis/log/log.h"
#include "libnemesis/media/clip.h"
#include "libnemesis/media/job.h"
#include "libnemesis/media/strip.h"
#include "libnemesis/threads/thread.h"

namespace nemesis {
namespace {

using demo::kBad, demo::kDim, demo::kGround, demo::kLine, demo::kPanel, demo::kText;
using media::Canvas, media::Words;

/// The panel beside the picture: numbers, and a bar for each frame.
class Panel {
public:
    Panel(Canvas const& canvas, std::string_view name)
        : canvas_(canvas), colour_(demo::colour_of(name)) {
        canvas_.fill(kPanel);
        canvas_.fill(0, 0, 4, canvas_.height(), colour_);
        canvas_.text(20, 10, name, {.text = colour_, .ground = kPanel, .scale = 2});
        auto const status = domain_status(0).value_or(abi::DomainStatus{});
        Words words;
        if (status.slice > 0) {
            words.add_tenths(status.slice / 100'000).add(" ms every ");
            words.add(status.period / 1'000'000).add(" ms guaranteed");
        } else {
            words.add("no guarantee");
        }
        canvas_.text(20, 46, words.text(), {.text = kText, .ground = kPanel});
        graph_ = canvas_.part(20, 92, canvas_.width() - 32, canvas_.height() - 104);
        canvas_.text(20, 72, "when each frame was done; the line is its deadline",
                     {.text = kDim, .ground = kPanel});
        graph_.fill(kGround);
    }

    void show(std::uint64_t frame, std::uint64_t missed) const {
        Words words;
        words.add("frame ").add(static_cast<std::int64_t>(frame), 5);
        canvas_.text(canvas_.width() - 8 * 12 - 16, 16, words.text(),
                     {.text = kText, .ground = kPanel});
        Words count;
        count.add("missed ").add(static_cast<std::int64_t>(missed), 4);
        canvas_.text(canvas_.width() - 8 * 12 - 16, 46, count.text(),
                     {.text = missed != 0 ? kBad : kDim, .ground = kPanel});
    }

    /// The bar of one frame: how much of its time had passed when it was done. Deadline: the line.
    void bar(std::uint64_t frame, Duration taken, Duration period) {
        constexpr std::int32_t step = 4;
        auto const bars = std::max(graph_.width() / step, 2);
        auto const x = static_cast<std::int32_t>(frame % static_cast<std::uint64_t>(bars)) * step;
        auto const height = graph_.height(),
                   line = height / 4;  // the deadline is at three quarters
        auto const tall = static_cast<std::int32_t>(
            std::clamp<std::int64_t>(taken.ns() * (height - line) / period.ns(), 2, height));
        graph_.fill(x, 0, step * 2, height, kGround);
        graph_.fill(x, height - tall, step - 1, tall, taken > period ? kBad : colour_);
        graph_.fill(x, line, step * 2, 1, taken > period ? kText : kBad);
    }

private:
    Canvas canvas_, graph_;
    media::Colour colour_;
};

class Player {
public:
    Player(media::Clip const& clip, media::Strip const& strip, std::string_view name)
        : clip_(clip), panel_(lay_out(clip, strip.canvas), name), decoder_(tjInitDecompress()) {
        auto const& all = strip.canvas;
        auto const margin = (all.height() - static_cast<std::int32_t>(clip.height())) / 2;
        if (margin < 0) return;
        picture_ = all.part(margin, margin, static_cast<std::int32_t>(clip.width()),
                            static_cast<std::int32_t>(clip.height()));
        stride_bytes_ = static_cast<int>(all.height() > 1 ? (all.line(1) - all.line(0)) * 4 : 0);
    }

    [[noreturn]] void play() {
        auto const period = clip_.period();
        auto const index_now = [&] { return static_cast<std::uint64_t>(now().ns() / period.ns()); };
        for (auto frame = index_now() + 2;; ++frame) {
            // Whatever began while we were late is skipped: the next frame to show is one in time.
            for (auto const current = index_now(); frame <= current; ++frame) {
                media::Job(frame, release_of(frame + 1)).give_up();
                ++missed_;
                panel_.bar(frame, period * 2, period);
            }
            Thread::sleep_until(release_of(frame));
            media::Job job(frame, release_of(frame + 1));
            decode(static_cast<std::uint32_t>(frame % clip_.frame_count()));
            panel_.show(frame, missed_);
            panel_.bar(frame, now() - release_of(frame), period);
            if (!job.finish()) ++missed_;
        }
    }

private:
    /// Clears the strip and yields the place of the panel.
    static Canvas lay_out(media::Clip const& clip, Canvas const& all) {
        all.fill(kGround);
        all.fill(0, all.height() - 1, all.width(), 1, kLine);
        auto const width = static_cast<std::int32_t>(clip.width());
        auto const margin =
            std::max((all.height() - static_cast<std::int32_t>(clip.height())) / 2, 0);
        auto const left = width + 2 * margin + 4;
        return all.part(left, margin, all.width() - left - margin, all.height() - 2 * margin);
    }

    Instant release_of(std::uint64_t frame) const {
        return Instant::ns(static_cast<std::int64_t>(frame) * clip_.period().ns());
    }

    void decode(std::uint32_t n) {
        auto const jpeg = clip_.frame(n);
        // Without a screen the picture goes nowhere, and the work is not done.
        if (picture_.width() != static_cast<std::int32_t>(clip_.width()) || decoder_ == nullptr)
            return;
        auto const result =
            tjDecompress2(decoder_, reinterpret_cast<unsigned char const*>(jpeg.data()),
                          jpeg.size(), reinterpret_cast<unsigned char*>(picture_.line(0)),
                          picture_.width(), stride_bytes_, picture_.height(), TJPF_BGRX, 0);
        if (result != 0 && !complained_) log::line("frame ", n, ": ", tjGetErrorStr2(decoder_));
        complained_ = complained_ || result != 0;
    }

    media::Clip clip_;
    Panel panel_;
    tjhandle decoder_;
    Canvas picture_;
    int stride_bytes_ = 0;
    std::uint64_t missed_ = 0;
    bool complained_ = false;
};

}  // namespace
}  // namespace nemesis

int main(int argc, char** argv) {
    using namespace nemesis;
    auto const* data = find_channel(argc > 1 ? argv[1] : "clip");
    if (data == nullptr) return log::line("no clip"), 1;
    auto const clip = media::Clip::open(incoming(*data));
    if (!clip) return log::line("clip: ", text(clip.error())), 1;
    auto const strip = media::take_strip("display", now() + Duration::s(2));
    Player player(*clip, strip, environment().name);
    player.play();
}
