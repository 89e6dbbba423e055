// status: shows for each domain what it was promised, what it got, and whether it kept its
// deadlines.
//
// Everything is taken from the kernel's trace ring, which is mapped read-only (privilege
// read_trace): no domain is asked, and the domains that are looked at do not notice. Once a period
// it reads the new records, keeps accounts (statistics.h) and paints: a table, and beside each line
// who had the processor in the last moments: filled where it ran under its contract, dim where it
// ran on spare time, and behind that the boxes of its jobs from start to deadline, red when missed.
// At the end of a scripted run it writes its verdicts to the log, for the host to compare.
#include <algorithm>

#include "domains/demo/appearance.h"
#include "domains/demo/demo_state.h"
#include "domains/status/statistics.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/channel.h"
#include "libnemesis/log/log.h"
#include "libnemesis/media/job.h"
#include "libnemesis/media/strip.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::status {
namespace {

using demo::kBad, demo::kBadGround, demo::kDim, demo::kGood, demo::kGround, demo::kLine,
    demo::kPanel, demo::kText;
using media::Canvas, media::Ink, media::Words;

constexpr auto kPeriod = Duration::ms(40);
constexpr std::int32_t kHeaderHeight = 40, kLegendHeight = 18, kRowHeight = 17, kTimelineLeft = 416;
constexpr std::int64_t kPeriodsShown = 4;

/// The kernel's ring, read record by record while it is written.
class TraceReader {
public:
    bool open() {
        auto const physical =
            static_cast<std::uint64_t>(sys::machine_info(abi::MachineInfo::TraceAddress));
        if (physical == 0) return false;
        auto const* header = static_cast<TraceHeader const*>(map(physical, 1));
        if (header == nullptr || header->record_size != sizeof(TraceRecord)) return false;
        capacity_ = header->capacity;
        header_ = static_cast<TraceHeader const*>(map(
            physical, (TraceRing::bytes_needed(capacity_) + abi::kPageSize - 1) / abi::kPageSize));
        return header_ != nullptr;
    }
    /// Feeds all that is new. context: at most `most` records, so that one call has a bound
    void read(Statistics& statistics, std::uint32_t most) {
        auto const written = __atomic_load_n(&header_->written, __ATOMIC_ACQUIRE);
        if (written - next_ > capacity_ / 2) {
            next_ = written - capacity_ / 2;
            statistics.skipped();
        }
        auto const* records = reinterpret_cast<TraceRecord const*>(header_ + 1);
        for (; next_ < written && most > 0; next_++, most--)
            statistics.feed(records[next_ & (capacity_ - 1)]);
    }

private:
    static void const* map(std::uint64_t physical, std::uint64_t pages) {
        auto const stretch = sys::device_stretch(physical, pages, abi::kRead | abi::kCached);
        if (stretch < 0) return nullptr;
        return reinterpret_cast<void const*>(
            sys::call(abi::Call::StretchAddress, 0, static_cast<std::uint64_t>(stretch)));
    }
    TraceHeader const* header_ = nullptr;
    std::uint64_t capacity_ = 0, next_ = 0;
};

std::string_view name_of(Domain const& d, char (&space)[16]) {
    return {space, d.name.copy_to(space)};
}

/// Milliseconds with one decimal, without a needless ".0".
void add_ms(Words& words, std::int64_t ns) {
    if (ns % 1'000'000 == 0)
        words.add(ns / 1'000'000);
    else
        words.add_tenths(ns / 100'000);
}

class Screen {
public:
    Screen(Canvas const& canvas, Statistics const& statistics)
        : canvas_(canvas), statistics_(statistics) {
        canvas_.fill(kGround);
    }

    /// Paints everything as of `now`, a multiple of the period.
    void paint(demo::DemoState const& state, std::int64_t now) {
        if (canvas_.width() < 600 || canvas_.height() < 100) return;
        paint_header(state, now);
        paint_legend();
        auto y = kHeaderHeight + kLegendHeight;
        for (std::uint32_t place : in_order()) {
            if (y + kRowHeight > canvas_.height()) break;
            paint_row(place, y, now);
            y += kRowHeight;
        }
        if (y < lowest_) canvas_.fill(0, y, canvas_.width(), lowest_ - y, kGround);
        lowest_ = y;
    }

private:
    struct Order {
        std::uint32_t places[domains_max];
        std::uint32_t count;
        std::uint32_t const* begin() const { return places; }
        std::uint32_t const* end() const { return places + count; }
    };

    /// The living domains: those with contracts first, the longest slices on top.
    Order in_order() const {
        Order order{{}, 0};
        for (std::uint32_t i = 0; i < statistics_.domain_count(); i++) {
            auto const& d = statistics_.domain(i);
            if (d.alive && (d.slice > 0 || d.weight > 0)) order.places[order.count++] = i;
        }
        auto const rank = [&](std::uint32_t place) {
            auto const& d = statistics_.domain(place);
            bool const has_jobs = d.boxes[0].deadline != 0;
            return std::pair(has_jobs ? 0 : d.slice > 0 ? 1 : 2, place);
        };
        std::sort(order.places, order.places + order.count,
                  [&](auto a, auto b) { return rank(a) < rank(b); });
        return order;
    }

    void paint_header(demo::DemoState const& state, std::int64_t now) const {
        canvas_.fill(0, 0, canvas_.width(), 2, kLine);
        bool const on = state.guarantees != 0;
        auto const ground = on ? 0x10402cu : kBadGround;
        canvas_.fill(0, 2, 320, kHeaderHeight - 4, ground);
        canvas_.fill(0, 2, 6, kHeaderHeight - 4, on ? kGood : kBad);
        canvas_.text(20, 4, on ? "guarantees on " : "guarantees OFF",
                     {.text = on ? kGood : kBad, .ground = ground, .scale = 2});
        canvas_.fill(320, 2, canvas_.width() - 320, kHeaderHeight - 4, kPanel);
        auto x = canvas_.text(336, 12, "hogs ", {.text = kDim, .ground = kPanel});
        x = canvas_.text(
            x, 12, state.hogs != 0 ? "on " : "off",
            {.text = state.hogs != 0 ? demo::colour_of("hog") : kDim, .ground = kPanel});
        Words time;
        time.add("   ").add_tenths(now / 100'000'000, 5).add(" s");
        if (state.end_ns > 0) time.add(" of ").add(state.end_ns / 1'000'000'000);
        x = canvas_.text(x, 12, time.text(), {.text = kText, .ground = kPanel});
        canvas_.text(std::max(x + 8, canvas_.width() - 8 * 40), 12,
                     state.scripted != 0 ? "        Nemesis: a scripted run        "
                                         : "keys:  h hogs   g guarantees   q quit  ",
                     {.text = kDim, .ground = kPanel});
    }

    void paint_legend() const {
        auto const y = kHeaderHeight;
        canvas_.fill(0, y - 2, canvas_.width(), kLegendHeight + 2, kGround);
        canvas_.text(12, y, "domain     contract   used% spare%    met missed",
                     {.text = kDim, .ground = kGround});
        auto const width = canvas_.width() - 8 - kTimelineLeft;
        for (std::int64_t p = 0; p < kPeriodsShown; p++) {
            Words words;
            words.add((p - kPeriodsShown) * kPeriod.ns() / 1'000'000).add(" ms");
            canvas_.text(kTimelineLeft + static_cast<std::int32_t>(p * width / kPeriodsShown) + 4,
                         y, words.text(), {.text = kDim, .ground = kGround});
        }
    }

    void paint_row(std::uint32_t place, std::int32_t y, std::int64_t now) const {
        auto const& d = statistics_.domain(place);
        char space[16];
        auto const name = name_of(d, space);
        auto const colour = demo::colour_of(name);
        auto const ground = (y / kRowHeight) % 2 != 0 ? kPanel : kGround;
        canvas_.fill(0, y, kTimelineLeft - 4, kRowHeight, ground);
        canvas_.fill(0, y + 2, 4, kRowHeight - 4, colour);
        canvas_.text(12, y, name, {.text = colour, .ground = ground});
        Words contract;
        if (d.slice > 0) {
            add_ms(contract, d.slice);
            contract.add("/");
            add_ms(contract, d.period);
            contract.add(" ms");
        } else {
            contract.add("spare 1:").add(d.weight);
        }
        canvas_.text(12 + 8 * 11, y, contract.text(), {.text = kText, .ground = ground});
        auto const used = Statistics::tenths_of_percent(d.used),
                   spare = Statistics::tenths_of_percent(d.spare);
        Words numbers;
        numbers.add_tenths(used, 5).add("  ").add_tenths(spare, 5);
        canvas_.text(12 + 8 * 21, y, numbers.text(), {.text = kText, .ground = ground});
        if (d.boxes[0].deadline != 0) {
            Words met, missed;
            met.add(static_cast<std::int64_t>(d.total.jobs - d.total.missed), 6);
            missed.add(static_cast<std::int64_t>(d.total.missed), 6).add(" ");
            canvas_.text(12 + 8 * 34, y, met.text(), {.text = kGood, .ground = ground});
            bool const bad = d.total.missed != 0;
            canvas_.text(12 + 8 * 41, y, missed.text(),
                         {.text = bad ? 0xffffffu : kDim, .ground = bad ? kBad : ground});
        }
        paint_lane(place,
                   canvas_.part(kTimelineLeft, y, canvas_.width() - 8 - kTimelineLeft, kRowHeight),
                   colour, now);
    }

    void paint_lane(std::uint32_t place, Canvas const& lane, media::Colour colour,
                    std::int64_t now) const {
        auto const begin = now - kPeriodsShown * kPeriod.ns();
        auto const x_of = [&](std::int64_t time) {
            auto const inside = std::clamp(time, begin, now) - begin;
            return static_cast<std::int32_t>(inside * lane.width() /
                                             (kPeriodsShown * kPeriod.ns()));
        };
        lane.fill(kGround);
        lane.fill(0, kRowHeight - 1, lane.width(), 1, kPanel);
        auto const dim = demo::between(colour, kGround, 96);
        for (auto const& box : statistics_.domain(place).boxes) {
            if (box.deadline == 0 || box.deadline <= begin || box.start >= now) continue;
            auto const release = std::min(box.start, box.deadline - kPeriod.ns());
            bool const late = box.missed || box.finish > box.deadline;
            auto const left = x_of(release), right = std::max(x_of(box.deadline), left + 2);
            lane.fill(left + 1, 2, right - left - 1, kRowHeight - 4, late ? kBadGround : 0x1b2636);
            lane.outline(left, 1, right - left, kRowHeight - 2, late ? kBad : 0x3a4a63);
        }
        for (std::int64_t p = 1; p < kPeriodsShown; p++)
            lane.fill(static_cast<std::int32_t>(p * lane.width() / kPeriodsShown), 0, 1, kRowHeight,
                      kLine);
        statistics_.each_slice(begin, [&](Slice const& slice) {
            if (slice.domain != place || slice.begin >= now) return;
            auto const left = x_of(slice.begin), right = std::max(x_of(slice.end), left + 1);
            bool const spare = slice.kind == TraceTime::Extra;
            lane.fill(left, spare ? 6 : 4, right - left, spare ? kRowHeight - 11 : kRowHeight - 8,
                      spare ? dim : colour);
        });
    }

    Canvas canvas_;
    Statistics const& statistics_;
    std::int32_t lowest_ = 0;
};

/// Writes what was found, a line for each phase and domain: "@verdict PHASE NAME ..." for the host.
demo::StatusAnswer report(Statistics const& statistics) {
    demo::StatusAnswer answer{};
    for (std::uint32_t p = 0; p < statistics.phase_count(); p++) {
        char phase_space[16];
        std::string_view const phase(phase_space, statistics.phase(p).name.copy_to(phase_space));
        for (std::uint32_t i = 0; i < statistics.domain_count(); i++) {
            auto const& d = statistics.domain(i);
            auto const& a = d.phases[p];
            if (a.jobs + a.missed == 0 && a.used + a.spare == 0) continue;
            char space[16];
            Words words;
            words.add("@verdict ")
                .add(p)
                .add(" ")
                .add(phase)
                .add(" ")
                .add(name_of(d, space))
                .add(" ");
            words.add(static_cast<std::int64_t>(a.jobs))
                .add(" ")
                .add(static_cast<std::int64_t>(a.missed));
            words.add(" ").add(a.used).add(" ").add(a.spare).add("\n");
            sys::log(words.text());
            if (d.slice > 0 && phase == demo::kPhaseOn) answer.missed_while_on += a.missed;
            if (d.slice > 0 && phase == demo::kPhaseOff) answer.missed_while_off += a.missed;
        }
    }
    return answer;
}

Statistics statistics;

}  // namespace
}  // namespace nemesis::status

int main() {
    using namespace nemesis;
    using namespace nemesis::status;
    TraceReader trace;
    if (!trace.open()) return log::line("the trace cannot be read"), 1;
    auto const* channel = find_channel("director");
    auto const strip = media::take_strip("display", now() + Duration::s(2));
    Screen screen(strip.canvas, statistics);
    demo::DemoState state{};
    state.guarantees = 1;
    bool reported = false;
    for (auto release = (now().ns() / kPeriod.ns() + 1) * kPeriod.ns(), number = std::int64_t{0};;
         release += kPeriod.ns(), number++) {
        Thread::sleep_until(Instant::ns(release));
        if (now().ns() >= release + kPeriod.ns())
            release = now().ns() / kPeriod.ns() * kPeriod.ns();
        media::Job job(static_cast<std::uint64_t>(number), Instant::ns(release) + kPeriod);
        for (int tries = 0; channel != nullptr && tries < 4; tries++) {
            if (demo::read_state(reinterpret_cast<demo::DemoState const*>(channel->incoming),
                                 state))
                break;
        }
        trace.read(statistics, 20'000);
        statistics.advance(now().ns());
        screen.paint(state, release);
        job.finish();
        if (state.report != 0 && !reported) {
            reported = true;
            auto const answer = report(statistics);
            auto* page = reinterpret_cast<demo::StatusAnswer*>(channel->outgoing);
            page->missed_while_on = answer.missed_while_on;
            page->missed_while_off = answer.missed_while_off;
            __atomic_store_n(&page->done, 1, __ATOMIC_RELEASE);
            sys::send(channel->endpoint);
        }
    }
}
