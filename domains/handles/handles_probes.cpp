// handles_probes: handles that travel between domains, while their holders and owners die and lie.
//
// Makes a binder, and vaults and clients that are introduced to it; what the clients check is in
// vault_client.cpp. Prints "[     OK ] name" or "[ FAILED ] name: ..." and ends the machine.
// Argument: kills of each kind, a seed. A third number, not 0: only the probes that kill are run.
#include "domains/parties/party.h"
#include "libnemesis/base/random.h"

namespace {

using namespace nemesis;
using namespace nemesis::parties;

constexpr std::uint64_t kSeed = 20260204;
std::uint64_t seed = 0;  ///< of the kills

/// Nothing is left at the vault, and it serves. How many endpoints it has, or 0: it went wrong.
std::uint64_t verified(std::uint64_t which) {
    auto const id = party("vault_client1", Argument('v', 0));
    if (!expect(id != 0, "no client that verifies", which)) return 0;
    auto const ended = wait_for([&] { return !lives(id); });
    auto const code = status(id).exit_code;
    sys::domain_destroy(id);
    if (!expect(ended && code > kDone && code < kDone + 256, "the next binding does not serve",
                code, which))
        return 0;
    return code - kDone;
}

void holders_die(std::uint64_t kills) {
    // The first ones may leave tables behind that later ones use again.
    constexpr std::uint64_t first = 5;
    Random random(kSeed + seed);
    auto const server = party("vault_server0", "vault");
    Account before;
    std::uint64_t endpoints = 0;
    for (std::uint64_t i = 0; i < kills + first && !has_failed; ++i) {
        auto const client = party("vault_client0", Argument('l', 0));
        if (!expect(client != 0, "no client", i)) return;
        Thread::sleep_until(now() + Duration::ns(random.between(50'000, 900'000)));
        expect(lives(client), "the client ended by itself", status(client).exit_code, i);
        sys::domain_destroy(client);
        expect(lives(server), "the server ended", status(server).exit_code, i);
        if (i >= first) expect_account(before, i);
        auto const used = verified(i);
        if (i + 1 == first) {
            before = Account::settled();
            endpoints = used;
        }
        if (i >= first)
            expect(used == endpoints, "endpoints of the vault are left", used - endpoints, i);
    }
    log::line("killed ", running, " ", kills, " holders: endpoints of the vault ", endpoints,
              " before and after");
    before.say();
    // The next one looks whether anything is left of those before, and is killed well.
    auto const last = party("vault_client0", Argument('l', 0));
    Thread::sleep_until(now() + Duration::ms(5));
    expect(lives(last), "something is left", status(last).exit_code);
    sys::domain_destroy(last);
    sys::domain_destroy(server);
}

void owners_die(std::uint64_t kills) {
    constexpr std::uint64_t first = 8;
    Random random(kSeed + 1 + seed);
    auto const client = party("vault_client0", Argument('d', kills));
    if (!expect(client != 0, "no client")) return;
    Account before;
    std::uint64_t killed = 0;
    while (lives(client) && killed < 20 * kills && !has_failed) {
        auto const server = party("vault_server0", "vault");
        if (!expect(server != 0, "no server", killed)) return;
        Thread::sleep_until(now() + Duration::ns(random.between(50'000, 1'500'000)));
        expect(lives(server), "the server ended by itself", status(server).exit_code, killed);
        sys::domain_destroy(server);
        ++killed;
        if (killed == first) before = Account::settled();
        if (killed > first && lives(client)) expect_account(before, killed);
    }
    log::line("killed ", running, " ", killed, " vaults, ", kills, " of them bound to");
    before.say();
    expect(status(client).exit_code == kDone, "the client did not come through",
           status(client).exit_code, killed);
    sys::domain_destroy(client);
}

/// Who holds a token and sleeps is told when the vault dies.
void idle_holder_is_told() {
    auto const server = party("vault_server0", "vault");
    auto const client = party("vault_client0", Argument('s', 0));
    Thread::sleep_until(now() + Duration::ms(3));
    if (!expect(lives(client), "the client ended", status(client).exit_code)) return;
    sys::domain_destroy(server);
    auto const told = wait_for([&] { return !lives(client); }, Duration::ms(1));
    expect(told && status(client).exit_code == kDone, "the death is not told",
           status(client).exit_code);
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

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    char const* at = env.arguments;
    auto const kills = number(at);
    seed = number(at);
    bool const only_kills = number(at) != 0;
    start_binder({.parties = 24, .bindings = 64, .frames = 2048});
    auto const every_kind = [] {
        auto const vault = party("vault_server0", "vault"), other = party("vault_server1", "other");
        user("vault_client0", Argument('c', 0), Duration::ms(500));
        expect(lives(vault) && lives(other), "a vault ended", status(vault).exit_code,
               status(other).exit_code);
        sys::domain_destroy(vault);
        sys::domain_destroy(other);
    };
    if (!only_kills) probe("handles.every_kind", every_kind);
    probe("handles.holder_dies", [&] { holders_die(kills); });
    probe("handles.owner_dies", [&] { owners_die(kills); });
    if (!only_kills) probe("handles.idle_holder_is_told", idle_holder_is_told);
    if (!only_kills) probe("handles.forged", [&] { hostile_clients(kills / 4); });
    end_probes();
}
