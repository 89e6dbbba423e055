// director: switches hogs and guarantees, by keys or by script, and ends the run.
//
// Keys (from keyboard and serial line alike): h hogs, g guarantees, q quit. With "seconds=N" on the
// kernel's command line the script runs instead of waiting for keys: guarantees on, off, on again;
// "guarantees=off" makes them off from start to end, "hogs=off" leaves the hogs out. With
// "headless" besides, the machine stops itself once a second, late in a frame, with a line
// "@screenshot NAME TIME", and before the end with "@stop trace"; "@trace ADDRESS" at the start
// says where the trace lies. Phases are marked in the trace. Exit code 0x10: the run ended and
// nobody's guarantee was broken; 0x20: the status domain counted misses while guarantees were on.
#include <algorithm>
#include <optional>

#include "domains/demo/demo_state.h"
#include "domains/director/pictures.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/base/trace_format.h"
#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/machine.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace nemesis {
namespace {

constexpr auto kTick = Duration::ms(10), kFrame = Duration::ms(40), kSecond = Duration::s(1);
constexpr auto kStart = Duration::ms(600);  ///< by then every domain runs
constexpr auto kSettling =
    Duration::ms(200);  ///< after guarantees come back, until backlogs are gone
constexpr std::uint64_t kSuccess = 0x10, kBroken = 0x20, kNoAnswer = 0x21;

class Director {
public:
    Director() : hogs_off_at_start_(line_.has("hogs=off")), never_on_(line_.has("guarantees=off")) {
        for (auto const name : {"status", "hog0", "hog1", "hog2", "hog3"}) {
            if (auto const* channel = find_channel(name);
                channel != nullptr && channel->outgoing != 0)
                peers_[peer_count_++] = channel;
        }
        for (auto const name : {"keyboard", "serial"}) {
            auto const* channel = find_channel(name);
            if (channel == nullptr) continue;
            auto sink = RingSink<>::create({.slots = 64, .slot_bytes = 8}, incoming(*channel),
                                           outgoing(*channel));
            if (sink) keys_[key_count_++] = *sink;
        }
        auto const seconds = line_.number_after("seconds=");
        state_.end_ns = seconds * kSecond.ns();
        state_.scripted = seconds > 0;
        state_.hogs = !hogs_off_at_start_;
        state_.guarantees = 1;
        headless_ = seconds > 0 && line_.has("headless");
    }

    [[noreturn]] void direct() {
        if (headless_) Pictures::begin();
        mark_phase("starting");
        tell();
        auto const start = aligned(std::max(now(), Instant() + kStart));
        sleep(start);
        begin_judged(!never_on_);
        plan(start);
        for (auto tick = start;;) {
            tick += kTick;
            sleep(tick);
            take_keys();
            follow_script();
            if (state_.end_ns != 0 && now().ns() >= state_.end_ns) finish();
        }
    }

private:
    static Instant aligned(Instant t) {
        return Instant::ns((t.ns() + kFrame.ns() - 1) / kFrame.ns() * kFrame.ns());
    }

    /// Sleeps, and stops the machine for its picture on the way when one is due.
    void sleep(Instant until) {
        while (headless_ && pictures_.due() <= until) {
            Thread::sleep_until(pictures_.due());
            pictures_.take(now());
        }
        Thread::sleep_until(until);
    }

    void mark_phase(std::string_view name) {
        TraceName const words(name);
        sys::trace_mark(static_cast<std::uint64_t>(TraceKind::Phase) | phase_number_++ << 16,
                        words.a, words.b);
        log::line("phase ", name);
    }

    /// Writes the state to every peer's page.
    void tell() {
        for (std::uint32_t i = 0; i < peer_count_; ++i) {
            auto& page = *reinterpret_cast<demo::DemoState*>(peers_[i]->outgoing);
            auto const sequence = page.sequence;
            __atomic_store_n(&page.sequence, sequence + 1, __ATOMIC_RELAXED);
            __atomic_thread_fence(__ATOMIC_RELEASE);
            auto const to = state_;
            page.guarantees = to.guarantees;
            __atomic_store_n(&page.hogs, to.hogs, __ATOMIC_RELAXED);
            page.scripted = to.scripted;
            page.report = to.report;
            page.end_ns = to.end_ns;
            __atomic_store_n(&page.sequence, sequence + 2, __ATOMIC_RELEASE);
            sys::send(peers_[i]->endpoint);
        }
    }

    void switch_guarantees(bool on) {
        auto const result = sys::guarantees_set(on);
        if (result < 0) return log::line("guarantees: ", text(static_cast<abi::Error>(result)));
        state_.guarantees = on;
    }

    /// Switches if need be, lets backlogs go, then begins a phase that counts.
    void begin_judged(bool on) {
        bool const back = on && state_.guarantees == 0;
        switch_guarantees(on);
        tell();
        if (back) {
            mark_phase("settling");
            sleep(aligned(now() + kSettling));
        }
        mark_phase(on ? demo::kPhaseOn : demo::kPhaseOff);
    }

    /// When the script switches: on for two fifths of the time, off for three tenths, on again.
    void plan(Instant start) {
        if (state_.scripted == 0 || never_on_) return;
        auto const whole = Instant::ns(state_.end_ns) - start;
        off_at_ = aligned(start + whole * 4 / 10);
        on_at_ = aligned(start + whole * 7 / 10);
    }
    void follow_script() {
        if (now() >= off_at_) {
            off_at_ = Instant::never();
            begin_judged(false);
        }
        if (now() >= on_at_) {
            on_at_ = Instant::never();
            begin_judged(true);
        }
    }

    void take_keys() {
        for (std::uint32_t i = 0; i < key_count_; ++i) {
            std::uint64_t key = 0;
            for (int n = 0; n < 8 && keys_[i]->receive(std::as_writable_bytes(std::span(&key, 1)));
                 ++n)
                press(static_cast<char>(key));
        }
    }
    void press(char key) {
        switch (key | 0x20) {
            case 'h':
                state_.hogs = state_.hogs == 0;
                log::line("hogs ", state_.hogs != 0 ? "on" : "off");
                return tell();
            case 'g':
                return begin_judged(state_.guarantees == 0);
            case 'q':
                finish();
            default:
                return;
        }
    }

    [[noreturn]] void finish() {
        mark_phase("ending");
        Thread::sleep_until(now() + kFrame * 2);  // jobs of the last phase come to their deadlines
        state_.report = 1;
        tell();
        auto const* channel = find_channel("status");
        auto const* answer = channel != nullptr
                                 ? reinterpret_cast<demo::StatusAnswer const*>(channel->incoming)
                                 : nullptr;
        auto const give_up = now() + kSecond * 2;
        while (answer != nullptr && __atomic_load_n(&answer->done, __ATOMIC_ACQUIRE) == 0 &&
               now() < give_up) {
            Thread::sleep_until(now() + kTick);
        }
        bool const answered = answer != nullptr && answer->done != 0;
        if (headless_) Pictures::end();
        sys::machine_exit(!answered                      ? kNoAnswer
                          : answer->missed_while_on != 0 ? kBroken
                                                         : kSuccess);
    }

    CommandLine const line_ = machine_command_line();
    bool hogs_off_at_start_, never_on_, headless_ = false;
    demo::DemoState state_{};
    abi::ChannelRecord const* peers_[8]{};
    std::uint32_t peer_count_ = 0;
    std::optional<RingSink<>> keys_[2];
    std::uint32_t key_count_ = 0;
    std::uint64_t phase_number_ = 0;
    Pictures pictures_;
    Instant off_at_ = Instant::never(), on_at_ = Instant::never();
};

}  // namespace
}  // namespace nemesis

int main() {
    nemesis::Director director;
    director.direct();
}
