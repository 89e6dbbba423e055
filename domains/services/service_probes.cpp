// service_probes: a service, or the name server, is killed at random instants while clients call it
// without end (mixer_client.cpp); both are started anew, nobody tells the clients.
//
// Then objects are fetched from a service into their caller (tally_client.cpp), and agents come
// between a handle and its service (settings_client.cpp), and an object moves from home to home
// while others write into it (ledger_writer.cpp).
//
// Makes a binder, and all others, which are introduced to it. Each client checks what it sees; here
// it is seen that all come to their end, that there were errors at all, and that nothing is left:
// what the binder knows and the free frames are as before. Prints "[     OK ] name" or
// "[ FAILED ] name: ..." and ends the machine.
// Argument: kills of each kind ("30"); or only of the object that moves, and how often ("moves
// 40").
#include "domains/parties/party.h"
#include "libnemesis/base/random.h"

namespace {

using namespace nemesis;
using namespace nemesis::parties;

constexpr std::uint64_t kSeed = 20261123;
/// What there is of everything that a death could leave behind.
struct Left {
    std::uint64_t frames = 0;
    std::uint32_t parties = 0, offers = 0, bindings = 0;
};
/// Waits until nothing is given back any more.
Left left() {
    Left all;
    all.frames = frames_settled();
    if (auto const counts = link().binder().counts()) {
        all.parties = counts->parties;
        all.offers = counts->offers;
        all.bindings = counts->bindings;
    }
    return all;
}

constexpr std::string_view names_sizes = "500 100 20";
constexpr std::string_view client_programs[] = {"mixer_client0", "mixer_client1", "mixer_client2"};
constexpr std::size_t client_count = sizeof(client_programs) / sizeof(client_programs[0]);

/// "i17l": see mixer_service.cpp.
struct Life {
    char bytes[24];
    std::size_t size = 0;
    Life(bool works, std::uint64_t number, bool last) {
        bytes[size++] = works ? 'w' : 'i';
        char digits[20];
        std::size_t at = sizeof(digits);
        do digits[--at] = static_cast<char>('0' + number % 10);
        while ((number /= 10) != 0);
        for (; at < sizeof(digits); ++at) bytes[size++] = digits[at];
        if (last) bytes[size++] = 'l';
    }
    operator std::string_view() const { return {bytes, size}; }
};

/// Which of the two is killed.
enum class Victim { Service, Names, Either };

/// Clients, and so many deaths. Yields how many errors the clients have seen.
std::uint64_t kill_and_restart(Random& random, Victim victim, std::uint64_t kills) {
    std::uint64_t life = 1, errors = 0;
    auto const works = random.below(2) == 0;
    auto names = party("names", names_sizes);
    auto service = party("mixer_service", Life(works, life, false));
    abi::DomainId clients[client_count];
    for (std::size_t i = 0; i < client_count; ++i) clients[i] = party(client_programs[i], "");
    for (std::uint64_t k = 0; k < kills && !has_failed; ++k) {
        Thread::sleep_until(now() + Duration::ns(random.between(100'000, 4'000'000)));
        expect(lives(service) && lives(names), "a service ended by itself",
               status(service).exit_code, status(names).exit_code);
        for (auto const c : clients)
            expect(lives(c), "a client ended early", status(c).exit_code, k);
        if (victim == Victim::Names || (victim == Victim::Either && random.below(2) == 0)) {
            sys::domain_destroy(names);
            names = party("names", names_sizes);
        } else {
            sys::domain_destroy(service);
            // A moment in which nobody has the name, or none at all.
            if (random.below(2) == 0)
                Thread::sleep_until(now() + Duration::ns(random.between(1'000, 1'000'000)));
            service = party("mixer_service", Life(works, ++life, false));
        }
    }
    // Whoever has come through all this goes on with one that stays.
    sys::domain_destroy(service);
    service = party("mixer_service", Life(works, ++life, true));
    for (auto const c : clients) {
        expect(wait_for([&] { return !lives(c); }, Duration::s(2)), "a client hangs", c);
        auto const code = status(c).exit_code;
        expect(code >> 16 == kDone, "a client ended otherwise", code, life);
        errors += code & 0xffff;
        sys::domain_destroy(c);
    }
    expect(lives(service) && lives(names), "a service ended by itself", status(service).exit_code,
           status(names).exit_code);
    sys::domain_destroy(service);
    sys::domain_destroy(names);
    return errors;
}

void restarted(Victim victim, std::uint64_t kills) {
    Random random(kSeed + static_cast<std::uint64_t>(victim));
    // The first ones may leave tables behind that later ones use again.
    (void)kill_and_restart(random, victim, 8);
    auto const before = left();
    auto const errors = kill_and_restart(random, victim, kills);
    auto const after = left();
    expect(after.parties == before.parties && after.offers == before.offers, "somebody is left",
           after.parties - before.parties, after.offers - before.offers);
    expect(after.bindings == before.bindings, "bindings are left", after.bindings, before.bindings);
    expect(after.frames >= before.frames, "frames are missing", before.frames - after.frames);
    // A life that ends while nobody has a call under way is an error at the next call all the same.
    expect(errors >= (victim == Victim::Either ? kills / 4 : 1), "nobody noticed", errors);
    if (victim == Victim::Names)
        expect(errors <= 2 * client_count, "the name server's death is an error of a call", errors);
    log::line(kills, " kills, errors of calls ", errors);
}

/// Who comes after a death of the name server finds the service, which has not been touched.
void registered_anew(std::uint64_t kills) {
    Random random(kSeed + 10);
    auto names = party("names", names_sizes);
    auto const service = party("mixer_service", Life(false, 1, true));
    for (std::uint64_t k = 0; k < kills && !has_failed; ++k) {
        Thread::sleep_until(now() + Duration::ns(random.between(100'000, 2'000'000)));
        sys::domain_destroy(names);
        names = party("names", names_sizes);
        auto const client = party(client_programs[k % client_count], "");
        expect(wait_for([&] { return !lives(client); }, Duration::s(1)), "a client hangs", k);
        expect(status(client).exit_code == kDone << 16, "a client ended otherwise",
               status(client).exit_code, k);
        sys::domain_destroy(client);
        expect(lives(service), "the service ended", status(service).exit_code, k);
    }
    sys::domain_destroy(service);
    sys::domain_destroy(names);
}

/// A client of tally_client.cpp that must come to its end, all well. `kill`: the service dies
/// meanwhile, after that time.
void fetches(std::string_view mode, std::string_view service_mode, Duration limit,
             Duration kill = Duration::s(100)) {
    auto const names = party("names", names_sizes);
    auto const service = party("tally_service", service_mode);
    auto const client = party("tally_client", mode);
    auto const begun = now();
    bool killed = false;
    expect(wait_for(
               [&] {
                   if (!killed && now() - begun > kill) {
                       sys::domain_destroy(service);
                       killed = true;
                   }
                   return !lives(client);
               },
               limit),
           "a client hangs");
    expect(status(client).exit_code == kDone, "a client ended otherwise", status(client).exit_code);
    expect(killed || lives(service), "the service ended", status(service).exit_code);
    sys::domain_destroy(client);
    if (!killed) sys::domain_destroy(service);
    sys::domain_destroy(names);
}

/// A client of settings_client.cpp that must come to its end, all well. `stranger`: another domain
/// registers an agent beside the service's name. `dies`: the service has a second life.
void agent(std::string_view mode, std::string_view service_mode, bool stranger = false,
           bool dies = false) {
    auto const names = party("names", names_sizes);
    auto service = party("settings_service", service_mode);
    if (stranger) Thread::sleep_until(now() + Duration::ms(5));
    auto const other = stranger ? party("settings_stranger", "s1") : 0;
    if (stranger) Thread::sleep_until(now() + Duration::ms(5));
    auto const client = party("settings_client", mode);
    if (dies) {
        Thread::sleep_until(now() + Duration::ms(20));
        expect(lives(client) && lives(service), "somebody ended early", status(client).exit_code);
        sys::domain_destroy(service);
        service = party("settings_service", "l2");
    }
    expect(wait_for([&] { return !lives(client); }, Duration::s(1)), "a client hangs");
    expect(status(client).exit_code == kDone, "a client ended otherwise", status(client).exit_code);
    expect(lives(service), "the service ended", status(service).exit_code);
    expect(!stranger || lives(other), "the stranger ended", status(other).exit_code);
    for (auto const id : {client, service, names}) sys::domain_destroy(id);
    if (stranger) sys::domain_destroy(other);
}

constexpr std::string_view writer_programs[] = {"ledger_writer0", "ledger_writer1",
                                                "ledger_writer2"};

/// Who is killed in the middle of a move, if anybody.
enum class Killed { Nobody, OldHome, NewHome, OldHomeAfterwards };

/// Six threads write into a book that moves from home to home.
void moves(Killed killed, std::string_view mover_mode, std::string_view writer_mode) {
    auto const names = party("names", names_sizes);
    abi::DomainId const homes[] = {party("ledger_home0", "0b"), party("ledger_home1", "1")};
    abi::DomainId writers[client_count];
    for (std::size_t i = 0; i < client_count; ++i) {
        char arguments[8] = {static_cast<char>('0' + i)};
        __builtin_memcpy(arguments + 1, writer_mode.data(), writer_mode.size());
        writers[i] = party(writer_programs[i], {arguments, 1 + writer_mode.size()});
    }
    auto const mover = party("ledger_mover", mover_mode);
    auto const ended = killed == Killed::Nobody ? kDone : kDone + 1;
    expect(wait_for([&] { return !lives(mover); }, Duration::s(4)), "the mover hangs");
    expect(status(mover).exit_code == ended, "the mover ended otherwise", status(mover).exit_code);
    // Now the state is taken, and will be settled later, if nobody is killed.
    for (auto const home : homes)
        expect(lives(home), "a home ended by itself", status(home).exit_code);
    if (killed == Killed::OldHomeAfterwards) Thread::sleep_until(now() + Duration::ms(30));
    if (killed != Killed::Nobody) sys::domain_destroy(homes[killed == Killed::NewHome ? 1 : 0]);
    for (auto const writer : writers) {
        expect(wait_for([&] { return !lives(writer); }, Duration::s(2)), "a writer hangs", writer);
        auto const code = status(writer).exit_code;
        expect(code >> 16 == kDone, "a writer ended otherwise", code);
        // Two threads, one error each for each move, and one more of the death.
        if (killed != Killed::Nobody) expect((code & 0xffff) <= 6, "too many errors", code);
        sys::domain_destroy(writer);
    }
    if (killed != Killed::OldHome && killed != Killed::OldHomeAfterwards) {
        expect(lives(homes[0]), "home 0 ended", status(homes[0]).exit_code);
        sys::domain_destroy(homes[0]);
    }
    if (killed != Killed::NewHome) {
        expect(lives(homes[1]), "home 1 ended", status(homes[1]).exit_code);
        sys::domain_destroy(homes[1]);
    }
    for (auto const id : {mover, names}) sys::domain_destroy(id);
}

void moves_while_killed(Killed killed) {
    for (int i = 0; i < 5 && !has_failed; ++i) moves(killed, "w", "k1");
}

void probe_services(std::uint64_t kills) {
    probe("services.service_dies", [&] { restarted(Victim::Service, kills); });
    probe("services.names_die", [&] { restarted(Victim::Names, kills); });
    probe("services.either_dies", [&] { restarted(Victim::Either, kills); });
    probe("services.registered_anew", [&] { registered_anew(kills); });
    probe("services.object_fetched", [] { fetches("f", "g", Duration::s(1), Duration::ms(60)); });
    probe("services.object_refused", [] { fetches("r", "g", Duration::s(1)); });
    probe("services.object_fetched_late", [] { fetches("l", "g", Duration::s(1)); });
    probe("services.code_lies", [] { fetches("x400", "x", Duration::s(4)); });
    probe("services.agent_caches", [] { agent("a", "g1"); });
    probe("services.agent_of_a_listed_publisher", [] { agent("p", "g1"); });
    probe("services.agent_without_policy", [] { agent("n", "g1"); });
    probe("services.agent_refused", [] { agent("r", "g1"); });
    probe("services.agent_not_listed", [] { agent("q", "g1"); });
    probe("services.agent_of_none", [] { agent("o", "o1"); });
    probe("services.agent_of_another_interface", [] { agent("h", "h1"); });
    probe("services.agent_broken", [] { agent("b", "b1"); });
    probe("services.agent_of_a_stranger", [] { agent("s", "o1", true); });
    probe("services.agent_outlives_the_service", [] { agent("d", "l1", false, true); });
}

void probe_moves(std::uint64_t count) {
    char mover[8] = {'m'}, writer[8] = {'-'};
    std::size_t digits = 1;
    for (auto divisor = count >= 100 ? 100u : count >= 10 ? 10u : 1u; divisor != 0; divisor /= 10)
        mover[digits] = writer[digits] = static_cast<char>('0' + count / divisor % 10), ++digits;
    probe("services.object_moves",
          [&] { moves(Killed::Nobody, {mover, digits}, {writer, digits}); });
    probe("services.old_home_dies", [] { moves_while_killed(Killed::OldHome); });
    probe("services.new_home_dies", [] { moves_while_killed(Killed::NewHome); });
    probe("services.old_home_dies_late", [] { moves_while_killed(Killed::OldHomeAfterwards); });
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    char const* at = env.arguments;
    start_binder({.parties = 24, .bindings = 64, .frames = 2048});
    if (at[0] == 'm') {
        at += std::string_view("moves").size();
        probe_moves(number(at));
    } else {
        probe_services(number(at));
    }
    end_probes();
}
