// handles_probes: handles that travel between domains, while their holders and owners die and lie.
//
// Makes a binder, and vaults and clients that are introduced to it; what the clients check is in
// vault_client.cpp. Prints "[     OK ] name" or "[ FAILED ] name: ..." and ends the machine.
// Argument: kills of each kind.
#include <new>

#include "domains/binder/furnish.h"
#include "libnemesis/activation/domain_status.h"
#include "libnemesis/base/random.h"
#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/state.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace {

using namespace nemesis;

constexpr std::uint64_t kSeed = 20260204;
constexpr std::uint64_t kDone = 0x600;
std::uint64_t failures = 0, passes = 0;
char const* running = "";
bool has_failed = false;

void failed(std::string_view why, std::uint64_t a = 0, std::uint64_t b = 0) {
    if (has_failed) return;
    has_failed = true;
    log::line("[ FAILED ] ", running, ": ", why, " ", a, " ", b);
}
bool expect(bool holds, std::string_view why, std::uint64_t a = 0, std::uint64_t b = 0) {
    if (!holds) failed(why, a, b);
    return holds;
}

abi::DomainStatus status(abi::DomainId id) {
    return domain_status(id).value_or(abi::DomainStatus{});
}
bool lives(abi::DomainId id) { return status(id).state == 1; }

template <typename F>
bool wait_for(F&& condition, Duration limit) {
    auto const end = now() + limit;
    while (!condition()) {
        if (now() > end) return false;
        Thread::sleep_until(now() + Duration::us(50));
    }
    return true;
}
std::uint64_t frames_free() {
    return static_cast<std::uint64_t>(sys::machine_info(abi::MachineInfo::FramesFree));
}

alignas(binder::BinderLink) std::byte link_memory[sizeof(binder::BinderLink)];
binder::BinderLink& link() { return *reinterpret_cast<binder::BinderLink*>(link_memory); }

/// Makes a domain that knows the binder, and starts it.
abi::DomainId party(std::string_view program, std::string_view arguments,
                    std::uint32_t frames = 512) {
    constexpr std::uint32_t bindings = 16;
    manager::ChildOptions options;
    options.name = program;
    options.arguments = arguments;
    options.context_slots = 6;
    options.endpoints = 16 + bindings;
    options.stretches = 8 + 2 * bindings;
    options.stack_pages = 16;
    options.frames = frames;
    options.heap_bytes = std::uint64_t{frames} * abi::kPageSize;
    auto child = manager::create(find_file(program), options);
    if (!child || !binder::introduce(link().binder(), *child)) return 0;
    if (!manager::contract(*child, 0, 0, 0, 100) || !manager::start(*child)) return 0;
    return child->id;
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

/// A user that must come to its end, all well.
void user(std::string_view program, Argument const& argument, Duration limit,
          std::uint32_t frames = 512) {
    auto const id = party(program, argument, frames);
    if (!expect(id != 0, "no user")) return;
    auto const ended = wait_for([&] { return !lives(id); }, limit);
    expect(ended && status(id).exit_code == kDone, "a user ended otherwise", status(id).exit_code,
           argument.bytes[0]);
    sys::domain_destroy(id);
}

void holders_die(std::uint64_t kills) {
    Random random(kSeed);
    auto const server = party("vault_server0", "vault");
    std::uint64_t frames = 0;
    for (std::uint64_t i = 0; i < kills && !has_failed; ++i) {
        auto const client = party("vault_client0", Argument('l', 0));
        if (!expect(client != 0, "no client", i)) return;
        Thread::sleep_until(now() + Duration::ns(random.between(50'000, 900'000)));
        expect(lives(client), "the client ended by itself", status(client).exit_code, i);
        sys::domain_destroy(client);
        expect(lives(server), "the server ended", status(server).exit_code, i);
        // The first ones may leave tables behind that later ones use again.
        if (i == 5) {
            Thread::sleep_until(now() + Duration::ms(20));
            frames = frames_free();
        }
        if (i > 5)
            expect(wait_for([&] { return frames_free() >= frames; }, Duration::ms(200)),
                   "frames are missing", frames - frames_free(), i);
    }
    // The next one looks whether anything is left of those before, and is killed well.
    auto const last = party("vault_client0", Argument('l', 0));
    Thread::sleep_until(now() + Duration::ms(5));
    expect(lives(last), "something is left", status(last).exit_code);
    sys::domain_destroy(last);
    sys::domain_destroy(server);
}

void owners_die(std::uint64_t kills) {
    Random random(kSeed + 1);
    auto const client = party("vault_client0", Argument('d', kills));
    if (!expect(client != 0, "no client")) return;
    std::uint64_t killed = 0, frames = 0;
    while (lives(client) && killed < 20 * kills && !has_failed) {
        auto const server = party("vault_server0", "vault");
        if (!expect(server != 0, "no server", killed)) return;
        Thread::sleep_until(now() + Duration::ns(random.between(50'000, 1'500'000)));
        expect(lives(server), "the server ended by itself", status(server).exit_code, killed);
        sys::domain_destroy(server);
        ++killed;
        if (killed == 8) {
            Thread::sleep_until(now() + Duration::ms(20));
            frames = frames_free();
        }
        if (killed > 8 && lives(client))
            expect(wait_for([&] { return frames_free() >= frames || !lives(client); },
                            Duration::ms(200)),
                   "frames are missing", frames - frames_free(), killed);
    }
    expect(status(client).exit_code == kDone, "the client did not come through",
           status(client).exit_code, killed);
    sys::domain_destroy(client);
}

void hostile_clients(std::uint64_t kills) {
    auto const server = party("vault_server0", "vault");
    auto const holder = party("vault_client1", Argument('h', 0));
    Thread::sleep_until(now() + Duration::ms(3));
    for (std::uint64_t i = 0; i < kills && !has_failed; ++i) {
        auto const hostile = party("vault_client0", Argument('x', i));
        Thread::sleep_until(now() + Duration::ms(3));
        expect(lives(hostile), "a handle that nobody gave was good", status(hostile).exit_code, i);
        sys::domain_destroy(hostile);
        expect(lives(server) && lives(holder), "one was harmed", status(server).exit_code,
               status(holder).exit_code);
    }
    sys::domain_destroy(holder);
    auto const friendly = party("vault_client1", Argument('l', 0));
    Thread::sleep_until(now() + Duration::ms(10));
    expect(lives(friendly), "something is left", status(friendly).exit_code);
    sys::domain_destroy(friendly);
    sys::domain_destroy(server);
}

template <typename F>
void probe(char const* name, F&& body) {
    running = name;
    has_failed = false;
    body();
    if (has_failed) {
        ++failures;
    } else {
        ++passes;
        log::line("[     OK ] ", name);
    }
}

std::uint64_t number(char const*& at) {
    while (*at == ' ') ++at;
    std::uint64_t n = 0;
    for (; *at >= '0' && *at <= '9'; ++at) n = n * 10 + static_cast<std::uint64_t>(*at - '0');
    return n;
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    char const* at = env.arguments;
    auto const kills = number(at);
    new (link_memory) binder::BinderLink;
    if (!link().start(find_file("binder"), 20, {.parties = 24, .bindings = 64, .frames = 2048})) {
        log::line("[ FAILED ] no binder");
        sys::machine_exit(0x11);
    }
    probe("handles.every_kind", [] {
        auto const vault = party("vault_server0", "vault"), other = party("vault_server1", "other");
        user("vault_client0", Argument('c', 0), Duration::ms(500));
        expect(lives(vault) && lives(other), "a vault ended", status(vault).exit_code,
               status(other).exit_code);
        sys::domain_destroy(vault);
        sys::domain_destroy(other);
    });
    probe("handles.holder_dies", [&] { holders_die(kills); });
    probe("handles.owner_dies", [&] { owners_die(kills); });
    probe("handles.forged", [&] { hostile_clients(kills / 4); });
    log::line(passes, " passed, ", failures, " failed");
    sys::machine_exit(failures == 0 && passes != 0 ? 0x10 : 0x11);
}
