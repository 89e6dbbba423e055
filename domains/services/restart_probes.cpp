// restart_probes: init starts the name server again each time that it dies (mortal_names.cpp),
// under load; and policy keeps its name and its clients to those of the manifest
// (restart.manifest).
//
// Three threads, each with a connection of its own: one resolves a name without end, one binds anew
// to the service behind it for each call, one calls over a binding that it keeps. Holds: the second
// and the third never see an error; the first sees errors only between the death of one name server
// and the next one, and only those that say so. Afterwards nothing is left: the binder knows as
// much as before the first death, and so many frames are free.
// Argument: "FROM UNTIL DEATHS": as those of mortal_names, and how many deaths there must be.
#include <new>

#include "domains/names/names_client.h"
#include "domains/names/service.h"
#include "domains/services/mixer.if.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;
using invocation::Failure;
using names::NameError;

constexpr std::uint64_t space_bytes = 16 * 1024;
using MixerHandle = name_service::ServiceHandle<services::Mixer, services::MixerProxy>;

std::uint64_t failures = 0;
void expect(bool holds, std::string_view why, std::uint64_t a = 0, std::uint64_t b = 0) {
    if (holds || failures++ > 5) return;
    log::line("[ FAILED ] services.restarted_by_init: ", why, " ", a, " ", b);
}

/// All that lives as long as the domain: no destructors are ever run.
struct Probe {
    explicit Probe(names::NameSpace const& own) : space(own) {}
    binder::Session session;
    name_service::SystemNames system{session}, own_names{session};
    names::NameSpace space;
    MixerHandle changing{space, session, "global/services/mixer", {.patience = Duration::s(5)}};
    MixerHandle kept{space, session, "global/services/mixer", {.patience = Duration::s(5)}};
    Thread threads[3];
    bool loads = false;       ///< the threads work, else they rest
    std::uint32_t rests = 0;  ///< how many do
    std::uint64_t answers = 0, errors = 0, deaths = 0, calls = 0;
    std::uint64_t offer = 0;  ///< the name server's, when it answered last
};
alignas(Probe) std::byte probe_memory[sizeof(Probe)];
Probe& probe() { return *reinterpret_cast<Probe*>(probe_memory); }

/// Does it again and again. pause: between two times; the run is long, and each of its
/// instructions is executed.
template <typename F>
[[noreturn]] void load(Duration pause, F&& once) {
    for (;;) {
        if (!probe().loads) {
            ++probe().rests;
            while (!probe().loads) Thread::sleep_until(now() + Duration::ms(1));
            --probe().rests;
        }
        once();
        Thread::sleep_until(now() + pause);
    }
}

[[noreturn]] void resolve_for_ever(void*) {
    bool was_error = false;
    load(Duration::us(50), [&] {
        auto& p = probe();
        auto const found =
            p.own_names.resolve("services/mixer", {.deadline = now() + Duration::s(5)});
        if (!found) {
            auto const why = found.error();
            // NotFound: the service has not registered anew yet.
            expect(why == NameError::Unreachable || why == NameError::NotFound, "an error",
                   static_cast<std::uint64_t>(why));
            ++p.errors;
            was_error = true;
            Thread::sleep_until(now() + Duration::ms(2));
            return;
        }
        ++p.answers;
        if (!was_error && p.offer != 0) return;
        was_error = false;
        auto const offer = p.session.binder().find("names");
        if (!offer) return;  // dead again already
        if (p.offer != 0) {
            ++p.deaths;
            expect(*offer != p.offer, "an error, and nobody has died", *offer);
        }
        p.offer = *offer;
    });
}

void call(MixerHandle& mixer) {
    auto const mark = ++probe().calls;
    auto const answer = mixer->mix(mark);
    expect(answer.has_value(), "a call", answer ? 0 : static_cast<std::uint64_t>(answer.error()));
    if (answer) expect(answer->mixed == 3 * mark + answer->life, "its answer", mark);
}
[[noreturn]] void bind_for_ever(void*) {
    load(Duration::us(100), [] {
        probe().changing.forget();
        call(probe().changing);
    });
}
[[noreturn]] void call_for_ever(void*) {
    load(Duration::us(500), [] { call(probe().kept); });
}

/// What a death could leave behind.
struct Left {
    std::int64_t frames = 0;
    std::uint32_t parties = 0, offers = 0, bindings = 0;
};
/// Lets all rest and looks. requires: nothing dies meanwhile
Left left() {
    auto& p = probe();
    p.loads = false;
    while (p.rests != 3) Thread::sleep_until(now() + Duration::ms(1));
    Thread::sleep_until(now() + Duration::ms(20));
    auto const counts = p.session.binder().counts();
    expect(counts.has_value(), "no counts");
    if (!counts) return {};
    return {sys::machine_info(abi::MachineInfo::FramesFree), counts->parties, counts->offers,
            counts->bindings};
}

Instant next_instant(char const*& at) {
    std::int64_t ms = 0;
    for (; *at >= '0' && *at <= '9'; ++at) ms = ms * 10 + (*at - '0');
    while (*at == ' ') ++at;
    return Instant() + Duration::ms(ms);
}

/// The name server's restart, and that of each who died with it, is not further away than this.
constexpr auto kSettled = Duration::ms(1'500);

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    char const* at = env.arguments;
    auto const from = next_instant(at), until = next_instant(at);
    auto const deaths = static_cast<std::uint64_t>((next_instant(at) - Instant()).ns() / 1'000'000);
    auto* const memory = static_cast<std::byte*>(pages::take(space_bytes / abi::kPageSize));
    auto const space = names::NameSpace::create({memory, space_bytes}, 1);
    if (memory == nullptr || !space) return log::line("[ FAILED ] no memory");
    auto& p = *new (probe_memory) Probe(*space);
    expect(p.session.open().has_value() && p.space.make_directory("global").has_value() &&
               p.space.mount("global", p.system).has_value(),
           "no binder");
    void (*const bodies[])(void*) = {
        [](void*) { resolve_for_ever(nullptr); },
        [](void*) { bind_for_ever(nullptr); },
        [](void*) { call_for_ever(nullptr); },
    };
    for (int i = 0; i < 3; ++i) {
        auto* const stack = pages::take(8);
        expect(stack != nullptr &&
                   p.threads[i].start(
                       bodies[i], nullptr,
                       {.stack = stack, .stack_bytes = 8 * abi::kPageSize, .name = "load"}),
               "no thread");
    }
    // The name server and the service start at the same time as this.
    Thread::sleep_until(now() + Duration::ms(10));
    p.loads = true;
    Thread::sleep_until(from - Duration::ms(50));
    auto const before = left();
    p.loads = true;
    Thread::sleep_until(until + kSettled);
    auto const after = left();
    expect(p.deaths >= deaths, "too few deaths", p.deaths);
    expect(p.errors >= p.deaths && p.answers > 10'000 && p.calls > 10'000, "no load", p.answers,
           p.calls);
    expect(after.parties == before.parties && after.offers == before.offers, "at the binder",
           after.parties, after.offers);
    expect(after.bindings == before.bindings, "bindings", after.bindings, before.bindings);
    expect(after.frames == before.frames, "frames", static_cast<std::uint64_t>(before.frames),
           static_cast<std::uint64_t>(after.frames));
    log::line(p.deaths, " deaths, ", p.errors, " errors, ", p.answers, " answers, ", p.calls,
              " calls");
    log::line(failures == 0 ? "[     OK ] services.restarted_by_init" : "failed");
    sys::machine_exit(failures == 0 ? 0x10 : 0x11);
}
