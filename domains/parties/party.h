#pragma once
// Domains that know a binder of the probes' own: how one is made, and what it is told.
//
// context: the main thread of a domain that may make domains.

#include <new>

#include "domains/binder/furnish.h"
#include "domains/parties/probe_run.h"
#include "libnemesis/channel.h"
#include "libnemesis/state.h"

namespace nemesis::parties {

alignas(binder::BinderLink) inline std::byte link_memory[sizeof(binder::BinderLink)];
/// To the binder of these probes.
inline binder::BinderLink& link() { return *reinterpret_cast<binder::BinderLink*>(link_memory); }

/// The binder that all parties know. Without one the machine ends.
inline void start_binder(binder::BinderOptions const& options) {
    new (link_memory) binder::BinderLink;
    if (link().start(find_file("binder"), 20, options)) return;
    log::line("[ FAILED ] no binder");
    sys::machine_exit(0x11);
}

/// What a party may have.
struct PartyOptions {
    std::uint32_t bindings = 16;
    std::uint32_t frames = 512;
    std::uint64_t heap_bytes = 0;  ///< 0: as much as its frames
    std::uint32_t stack_pages = 16;
    std::uint32_t weight = 100;
    std::int64_t slice_ns = 0;  ///< every 10 ms
};

/// Makes a domain that knows the binder, and starts it. Returns its number, or 0.
inline abi::DomainId party(std::string_view program, std::string_view arguments,
                           PartyOptions const& party = {}) {
    manager::ChildOptions options;
    options.name = program;
    options.arguments = arguments;
    options.context_slots = 6;
    options.endpoints = 16 + party.bindings;
    options.stretches = 8 + 2 * party.bindings;
    options.stack_pages = party.stack_pages;
    options.frames = party.frames;
    options.heap_bytes =
        party.heap_bytes != 0 ? party.heap_bytes : std::uint64_t{party.frames} * abi::kPageSize;
    auto child = manager::create(find_file(program), options);
    if (!child || !binder::introduce(link().binder(), *child)) return 0;
    auto const period_ns = party.slice_ns != 0 ? Duration::ms(10).ns() : 0;
    if (!manager::contract(*child, party.slice_ns, period_ns, period_ns, party.weight)) return 0;
    return manager::start(*child) ? child->id : 0;
}

/// What must be as before when somebody has died: frames of the machine, places at the binder.
struct Account {
    std::uint64_t frames = 0;
    std::uint32_t known = 0, offers = 0, bindings = 0;
    friend bool operator==(Account const&, Account const&) = default;

    static Account now() {
        auto const counts = link().binder().counts();
        if (!counts) return {};
        return {frames_free(), counts->parties, counts->offers, counts->bindings};
    }
    static Account settled() {
        (void)frames_settled();
        return now();
    }
    void say() const {
        log::line("frames free ", frames, ", parties ", known, ", offers ", offers, ", bindings ",
                  bindings);
    }
};

/// Waits until all is as it was, or fails and says what is there.
inline void expect_account(Account const& wanted, std::uint64_t which) {
    if (wait_for([&] { return Account::now() == wanted; })) return;
    wanted.say();
    Account::now().say();
    failed("something is left, or missing", wanted.frames - frames_free(), which);
}

/// "LETTER NUMBER WORD" as an argument.
struct Argument {
    char bytes[40];
    std::size_t size = 0;
    Argument(char mode, std::uint64_t number, std::string_view word = {}) {
        bytes[size++] = mode;
        char digits[20];
        std::size_t at = sizeof(digits);
        do digits[--at] = static_cast<char>('0' + number % 10);
        while ((number /= 10) != 0);
        for (; at < sizeof(digits); ++at) bytes[size++] = digits[at];
        bytes[size++] = ' ';
        for (char const c : word) bytes[size++] = c;
    }
    operator std::string_view() const { return {bytes, size}; }
};

/// Exit code of a user that found all well; errors are below it.
inline constexpr std::uint64_t kDone = 0x600;

/// A user that must come to its end, all well.
inline void user(std::string_view program, Argument const& argument, Duration limit,
                 PartyOptions const& options = {}) {
    auto const id = party(program, argument, options);
    if (!expect(id != 0, "no user")) return;
    auto const ended = wait_for([&] { return !lives(id); }, limit);
    expect(ended && status(id).exit_code == kDone, "a user ended otherwise", status(id).exit_code,
           argument.bytes[0]);
    sys::domain_destroy(id);
}

}  // namespace nemesis::parties
