// loader_probes: the loader's promises, tried with real domains.
//
// Prints "[     OK ] name" or "[ FAILED ] name: ..." and ends the machine.
#include <new>

#include "domains/loader/loader.h"
#include "libnemesis/activation/domain_status.h"
#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/state.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace {

using namespace nemesis;
using loader::Loaded;
using loader::Loader;

constexpr std::uint64_t kRight = 0x40;
std::uint32_t failures = 0, passes = 0;
std::string_view probe;
bool failed = false;
Loader* the_loader = nullptr;

void expect(bool right, std::string_view what, std::int64_t value = 0) {
    if (right || failed) return;
    failed = true;
    log::line("[ FAILED ] ", probe, ": ", what, " ", value);
}

abi::DomainStatus status(abi::DomainId id) {
    return domain_status(id).value_or(abi::DomainStatus{});
}

manager::ChildOptions options_for(std::string_view arguments) {
    manager::ChildOptions options;
    options.name = "tenant";
    options.arguments = arguments;
    options.context_slots = 4;
    options.endpoints = 16;
    options.stack_pages = 4;
    options.frames = 256;
    return options;
}

bool start(Loaded& loaded) {
    return manager::contract(loaded.child, 0, 0, 0, 100).has_value() &&
           manager::start(loaded.child).has_value();
}

/// Loads and starts it; `loaded.child.id` is 0 if that failed.
Loaded run(std::string_view name, manager::ChildOptions const& options) {
    auto loaded = the_loader->load(find_file(name), options);
    if (!loaded) {
        log::line(name, ": ", loaded.error().what, ": ", loaded.error().why);
        expect(false, "not loaded");
        return {};
    }
    expect(start(*loaded), "not started");
    return *loaded;
}

/// Its exit code; what has not ended after a while gets none.
std::uint64_t wait(Loaded const& loaded) {
    auto const end = now() + Duration::ms(500);
    while (status(loaded.child.id).state != 2 && now() < end)
        Thread::sleep_until(now() + Duration::us(50));
    auto const s = status(loaded.child.id);
    return s.state == 2 ? s.exit_code : ~0ull;
}

void run_to_end(std::string_view name, manager::ChildOptions const& options) {
    auto const loaded = run(name, options);
    if (loaded.child.id == 0) return;
    auto const code = wait(loaded);
    expect(code == kRight, "exit code", static_cast<std::int64_t>(code));
    the_loader->ended(loaded);
}

void restart() {
    auto const& counters = the_loader->cache().counters();
    auto const options = options_for("c");
    auto const first = run("tenant", options);
    if (first.child.id == 0) return;
    expect(wait(first) == kRight, "first run", static_cast<std::int64_t>(wait(first)));
    auto const base = first.child.environment.image_begin;
    the_loader->ended(first);
    auto const after_first = counters.relocations;
    expect(after_first >= 3, "nothing was relocated", static_cast<std::int64_t>(after_first));
    for (int i = 0; i < 10; ++i) {
        auto const again = run("tenant", options);
        if (again.child.id == 0) return;
        expect(again.child.environment.image_begin == base, "lies elsewhere");
        expect(wait(again) == kRight, "further run", static_cast<std::int64_t>(wait(again)));
        the_loader->ended(again);
    }
    expect(counters.relocations == after_first, "relocated again",
           static_cast<std::int64_t>(counters.relocations - after_first));
}

void instances() {
    constexpr int count = 6;
    auto const& counters = the_loader->cache().counters();
    Loaded all[count];
    auto const published = counters.published, shared = counters.shared;
    for (auto& one : all) {
        one = run("tenant", options_for("s"));
        if (one.child.id == 0) return;
    }
    Thread::sleep_until(now() + Duration::ms(5));
    // Constants and code were published by the probe before; each instance has its relocated page.
    expect(counters.published - published < 2 * count, "text frames were made anew");
    expect(counters.shared - shared >= 2 * (count - 1), "nothing was shared");
    for (auto const& one : all) {
        expect(status(one.child.id).state == 1, "an instance ended, code",
               static_cast<std::int64_t>(status(one.child.id).exit_code));
        for (auto const& other : all)
            expect(&one == &other || one.child.slot != other.child.slot, "two at one place");
    }
    // One more, while those run: its data are as new.
    run_to_end("tenant", options_for("c"));
    for (auto const& one : all) the_loader->ended(one);
}

void hostile_tenant() {
    // A second instance runs the same code while the first one tries to spoil it, and after it.
    auto const witness = run("tenant", options_for("s"));
    run_to_end("tenant", options_for("w"));
    Thread::sleep_until(now() + Duration::ms(2));
    expect(status(witness.child.id).state == 1, "the witness died");
    if (witness.child.id != 0) the_loader->ended(witness);
    run_to_end("tenant", options_for("c"));
}

void with_run_time() {
    auto options = options_for("hello");
    options.privileges = abi::kPrivilegeFpu;
    options.stack_pages = 16;
    options.frames = 1024;
    run_to_end("tenant_cxx", options);
    auto const relocations = the_loader->cache().counters().relocations;
    run_to_end("tenant_cxx", options);
    expect(the_loader->cache().counters().relocations == relocations, "relocated again");
}

void neighbouring_slots() {
    auto options = options_for("");
    options.frames = 8192;
    run_to_end("tenant_large", options);
    run_to_end("tenant_large", options);
}

void slot_of_somebody_else() {
    auto const first = run("tenant", options_for("c"));
    if (first.child.id == 0) return;
    expect(wait(first) == kRight, "first run");
    auto const slot = first.child.slot;
    the_loader->ended(first);
    auto const mine = sys::stretch_create(0, slot, 1, abi::kRead | abi::kWrite | abi::kMeta);
    expect(mine >= 0, "the slot is not free");
    auto const second = run("tenant", options_for("c"));
    if (second.child.id != 0) {
        expect(second.child.slot != slot, "loaded into a taken slot");
        expect(wait(second) == kRight, "at another place");
        the_loader->ended(second);
    }
    sys::stretch_destroy(0, static_cast<std::uint64_t>(mine));
}

void broken_images() {
    // Cut, and spoilt in each of the bytes that loading looks at first: refused or harmless, and
    // the loader lives. The corpus with reasons is program_cache_test.cpp.
    auto const good = find_file("tenant");
    auto* const copy = static_cast<std::byte*>(pages::take(good.size() / abi::kPageSize + 1));
    expect(copy != nullptr, "no memory");
    if (copy == nullptr) return;
    auto const refused = [&](std::span<std::byte const> file) {
        auto const loaded = the_loader->load(file, options_for("c"));
        if (loaded) the_loader->ended(*loaded);
        return !loaded.has_value();
    };
    for (std::size_t bytes = 0; bytes < 1024; bytes += 61) {
        __builtin_memcpy(copy, good.data(), good.size());
        expect(refused({copy, bytes}), "a cut image was loaded", static_cast<std::int64_t>(bytes));
    }
    for (std::size_t at : {0, 4, 16, 18, 52, 54, 56}) {
        __builtin_memcpy(copy, good.data(), good.size());
        copy[at] ^= std::byte{0xff};
        expect(refused({copy, good.size()}), "a spoilt image was loaded",
               static_cast<std::int64_t>(at));
    }
    pages::give(copy, good.size() / abi::kPageSize + 1);
}

void quota() {
    auto options = options_for("c");
    options.frames = 20;  // not enough for its data and stack
    auto const loaded = the_loader->load(find_file("tenant"), options);
    expect(!loaded.has_value(), "loaded in spite of the quota");
    if (loaded) the_loader->ended(*loaded);
}

void try_probe(std::string_view name, void (*function)()) {
    probe = name;
    failed = false;
    auto const settle = [] { return sys::machine_info(abi::MachineInfo::FramesFree); };
    function();  // once for what the cache keeps
    auto const frames = settle();
    function();
    expect(settle() == frames, "frames are missing", frames - settle());
    expect(the_loader->cache().check_invariants(), "the cache is in disorder");
    if (failed) {
        ++failures;
        return;
    }
    ++passes;
    log::line("[     OK ] ", name);
}

}  // namespace

extern "C" void nem_main(abi::Environment const&) {
    the_loader = new (pages::take(sizeof(Loader) / abi::kPageSize + 1)) Loader;
    try_probe("loader.restart", restart);
    try_probe("loader.instances", instances);
    try_probe("loader.hostile_tenant", hostile_tenant);
    try_probe("loader.with_run_time", with_run_time);
    try_probe("loader.neighbouring_slots", neighbouring_slots);
    try_probe("loader.slot_of_somebody_else", slot_of_somebody_else);
    try_probe("loader.quota", quota);
    try_probe("loader.broken_images", broken_images);
    auto const& c = the_loader->cache().counters();
    log::line("loads ", c.loads, ", hits ", c.hits, ", relocations ", c.relocations,
              ", text frames made ", c.published, ", shared ", c.shared, ", data pages copied ",
              c.copied);
    log::line(std::uint64_t{passes}, " passed, ", std::uint64_t{failures}, " failed");
    sys::machine_exit(failures == 0 && passes != 0 ? 0x10 : 0x11);
}
