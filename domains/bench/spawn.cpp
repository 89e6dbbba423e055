// Spawning: from before the loader is asked to the first instruction of the new domain's main.
#include <new>

#include "domains/bench/bench.h"
#include "domains/loader/loader.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/channel.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/state.h"

namespace nemesis::bench {
namespace {

using loader::Loaded;
using loader::Loader;

constexpr std::uint32_t kSamples = 200;

Loader& the_loader() {
    static Loader* the = nullptr;
    if (the == nullptr) the = new (pages::take(sizeof(Loader) / abi::kPageSize + 1)) Loader;
    return *the;
}

std::span<std::byte const> file(std::string_view name) {
    auto const bytes = find_file(name);
    require(!bytes.empty(), "no program for the bench of spawning");
    return bytes;
}

/// What a domain of a manifest has unless the manifest says otherwise.
Loaded spawn(std::span<std::byte const> program, std::string_view arguments) {
    manager::ChildOptions options;
    options.name = "starter";
    options.arguments = arguments;
    options.context_slots = 4;
    options.endpoints = 16;
    options.frames = 512;
    auto const loaded = the_loader().load(program, options);
    require(loaded.has_value(), "spawn");
    auto one = *loaded;
    require(manager::contract(one.child, 0, 0, 0, 1).has_value(), "weight of a spawned domain");
    require(manager::start(one.child).has_value(), "start");
    return one;
}

/// Spawns one that stamps and exits, and waits for its end. Returns the instructions to its main.
std::uint32_t spawn_and_wait(std::span<std::byte const> program) {
    auto& rw = *state().rw;
    enter_critical();
    rw.pending[0] = 0;
    rw.pending_summary = 0;
    auto const before = stamp();
    auto const one = spawn(program, "x");
    while (rw.pending_summary == 0) sys::suspend(INT64_MAX);
    rw.pending[0] = 0;
    rw.pending_summary = 0;
    rw.activations_on = 1;
    auto const status = status_of(one.child.id);
    require(status.state == 2 && status.exit_code != 0, "a spawned domain did not stamp",
            static_cast<std::int64_t>(status.exit_code));
    the_loader().ended(one);
    return static_cast<std::uint32_t>(status.exit_code) - before;
}

void forget_all() {
    while (the_loader().forget_unused()) {
    }
}

template <typename F>
void measure(std::string_view metric, std::uint32_t count, std::string_view program, F&& prepare) {
    auto const bytes = file(program);
    for (std::uint32_t i = 0; i < count; ++i) {
        fresh_for(2'000'000);
        prepare();
        if (i == count / 2) trace_begin(metric);
        auto const taken = spawn_and_wait(bytes);
        if (i == count / 2) trace_end();
        samples().add(taken);
    }
    report({.metric = metric});
}

void cached(std::string_view metric, std::string_view program) {
    auto const& counters = the_loader().cache().counters();
    (void)spawn_and_wait(file(program));
    auto const relocations = counters.relocations;
    measure(metric, kSamples, program, [] {});
    require(counters.relocations == relocations, "a restart relocated",
            static_cast<std::int64_t>(counters.relocations - relocations));
}

/// The same while another instance runs: at the second place of the program.
void one_more(std::string_view metric, std::string_view program) {
    auto const resident = spawn(file(program), "s");
    auto const shared = the_loader().cache().counters().shared;
    cached(metric, program);
    require(the_loader().cache().counters().shared >= shared + kSamples,
            "instances did not share their text");
    the_loader().ended(resident);
}

}  // namespace

void spawning() {
    fresh();
    measure("spawn_cold", kSamples / 4, "starter", forget_all);
    auto const before = the_loader().cache().counters().relocations;
    cached("spawn_cached_restart", "starter");
    one_more("spawn_cached_instance", "starter");
    cached("spawn_large_restart", "starter_256k");
    one_more("spawn_large_instance", "starter_256k");
    auto const& counters = the_loader().cache().counters();
    note("spawn_relocations", static_cast<std::int64_t>(counters.relocations - before));
    note("spawn_loads", static_cast<std::int64_t>(counters.loads));
    note("spawn_text_frames_shared", static_cast<std::int64_t>(counters.shared));
}

}  // namespace nemesis::bench
