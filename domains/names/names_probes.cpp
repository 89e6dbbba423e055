// names_probes: the system's name server while its clients die, lie and flood, and it dies itself.
//
// Makes a binder, and name servers and clients that are introduced to it; what the clients check is
// in names_user.cpp. Prints "[     OK ] name" or "[ FAILED ] name: ..." and ends the machine.
// Argument: kills of each kind, then names in the large name space ("40 5000").
#include "domains/parties/party.h"
#include "libnemesis/base/random.h"

namespace {

using namespace nemesis;
using namespace nemesis::parties;

constexpr std::uint64_t kSeed = 20260203;
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
    auto const server = party("names", sizes, {.frames = frames});
    user("names_user0", Argument('n', count, "many"),
         Duration::ms(500 + static_cast<std::int64_t>(count) / 10));
    expect(lives(server), "the server ended", status(server).exit_code);
    sys::domain_destroy(server);
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    char const* at = env.arguments;
    auto const kills = number(at);
    auto const count = number(at);
    start_binder({.parties = 24, .bindings = 64, .frames = 2048});
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
    end_probes();
}
