// names_probes: the system's name server while its clients die, lie and flood, and it dies itself.
//
// Makes a binder, and name servers and clients that are introduced to it; what the clients check is
// in names_user.cpp. Prints "[     OK ] name" or "[ FAILED ] name: ..." and ends the machine.
// Argument: kills of each kind, then names in the large name space ("40 5000").
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

constexpr std::uint64_t kSeed = 20260203;
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
    options.context_slots = 4;
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

constexpr std::string_view small = "4000 400 12";

void clients_die(std::uint64_t kills) {
    Random random(kSeed);
    auto const server = party("names", small);
    std::uint64_t frames = 0;
    for (std::uint64_t i = 0; i < kills && !has_failed; ++i) {
        auto const client = party("names_user0", Argument('r', 0, "r"));
        if (!expect(client != 0, "no client", i)) return;
        Thread::sleep_until(now() + Duration::ns(random.between(100'000, 900'000)));
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
    user("names_user0", Argument('c', 0), Duration::ms(500));
    sys::domain_destroy(server);
}

void servers_die(std::uint64_t kills) {
    Random random(kSeed + 1);
    auto server = party("names", small);
    Thread::sleep_until(now() + Duration::ms(2));
    auto const client = party("names_user0", Argument('d', kills, "d"));
    if (!expect(client != 0, "no client")) return;
    std::uint64_t killed = 0;
    while (lives(client) && killed < 20 * kills && !has_failed) {
        Thread::sleep_until(now() + Duration::ns(random.between(200'000, 2'500'000)));
        expect(lives(server), "the server ended by itself", status(server).exit_code, killed);
        sys::domain_destroy(server);
        ++killed;
        server = party("names", small);
        if (!expect(server != 0, "no server", killed)) return;
    }
    expect(status(client).exit_code == kDone, "the client did not come through",
           status(client).exit_code, killed);
    sys::domain_destroy(client);
    sys::domain_destroy(server);
}

void hostile_clients(std::uint64_t kills) {
    auto const server = party("names", small);
    auto const greedy = party("names_user2", Argument('f', 0));
    auto const friendly = party("names_user1", Argument('r', 0, "friendly"));
    for (std::uint64_t i = 0; i < kills && !has_failed; ++i) {
        auto const hostile = party("names_user0", Argument('x', i));
        Thread::sleep_until(now() + Duration::us(1500));
        sys::domain_destroy(hostile);
        expect(lives(server) && lives(friendly) && lives(greedy), "one was harmed",
               status(friendly).exit_code, status(greedy).exit_code);
    }
    // Who takes what he can get leaves room for others, and takes nothing along.
    user("names_user0", Argument('c', 0), Duration::ms(500));
    sys::domain_destroy(greedy);
    user("names_user0", Argument('n', 300, "after"), Duration::ms(500));
    sys::domain_destroy(friendly);
    sys::domain_destroy(server);
}

void mounted_servers() {
    abi::DomainId const domains[] = {party("names", small), party("names_other", "100 90 6 other"),
                                     party("names_user1", Argument('s', 0, "silent")),
                                     party("names_user2", Argument('e', 0, "echo"))};
    Thread::sleep_until(now() + Duration::ms(3));
    user("names_user0", Argument('m', 0), Duration::ms(500));
    for (auto const id : domains) {
        expect(lives(id), "a server ended", status(id).exit_code, id);
        sys::domain_destroy(id);
    }
}

void many_names(std::uint64_t count) {
    // Names, directories; how many of them may be one client's.
    Argument sizes(' ', count + count / 500 + 16);
    Argument const share(' ', count + count / 500 + 8);
    for (auto i = 0u; i + 1 < share.size; ++i) sizes.bytes[sizes.size++] = share.bytes[i];
    auto const frames = static_cast<std::uint32_t>(1024 + count / 16);
    auto const server = party("names", sizes, frames);
    user("names_user0", Argument('n', count, "many"),
         Duration::ms(500 + static_cast<std::int64_t>(count) / 10));
    expect(lives(server), "the server ended", status(server).exit_code);
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
    auto const count = number(at);
    new (link_memory) binder::BinderLink;
    if (!link().start(find_file("binder"), 20, {.parties = 24, .bindings = 64, .frames = 2048})) {
        log::line("[ FAILED ] no binder");
        sys::machine_exit(0x11);
    }
    probe("names.operations", [] {
        auto const server = party("names", small);
        Thread::sleep_until(now() + Duration::ms(2));
        user("names_user0", Argument('c', 0), Duration::ms(500));
        sys::domain_destroy(server);
    });
    probe("names.client_dies", [&] { clients_die(kills); });
    probe("names.server_dies", [&] { servers_die(kills); });
    probe("names.hostile_clients", [&] { hostile_clients(kills); });
    probe("names.mounted_servers", mounted_servers);
    probe("names.many_names", [&] { many_names(count); });
    log::line(passes, " passed, ", failures, " failed");
    sys::machine_exit(failures == 0 && passes != 0 ? 0x10 : 0x11);
}
