// call_probes: protected calls between two domains of its making, of which it kills one at a random
// instruction. The other must come to know, and not a frame may be missing afterwards. Then a
// client whose server lies.
//
// Prints "[     OK ] name" or "[ FAILED ] name: ..." and ends the machine. Argument: kills a probe,
// a seed ("170 1").
#include "domains/calls/work.if.h"
#include "domains/manager/manager.h"
#include "libnemesis/activation/domain_status.h"
#include "libnemesis/base/random.h"
#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/invocation/binding.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/state.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace {

using namespace nemesis;

constexpr std::uint64_t kSeed = 20260101;
std::uint64_t seed = 0;  ///< of the kills
std::uint32_t failures = 0, passes = 0;

auto const shape = [] { return invocation::BindingShape::of(calls::Work::info); };

abi::DomainStatus status(abi::DomainId id) {
    return domain_status(id).value_or(abi::DomainStatus{});
}

bool wait_dead(abi::DomainId id, Duration limit = Duration::ms(50)) {
    auto const end = now() + limit;
    while (status(id).state != 2) {
        if (now() > end) return false;
        Thread::sleep_until(now() + Duration::us(20));
    }
    return true;
}

struct Pair {
    abi::DomainId client = 0, server = 0;
    std::uint64_t stretches[2] = {};
};

/// A stretch of ours that `source` may write and `sink` may read. It is ours, so that it stays when
/// one of them dies: what a dead domain owned is taken from those who had accepted it, and a look
/// at it would be a fault.
/// `from_channel`, `to_channel`: which of theirs.
bool share(manager::Child& source, std::uint32_t from_channel, manager::Child& sink,
           std::uint32_t to_channel, std::uint64_t bytes, std::uint64_t& stretch) {
    auto const address =
        pages::make_stretch((bytes + abi::kPageSize - 1) / abi::kPageSize, stretch);
    if (address == 0) return false;
    struct Grant {
        manager::Child& child;
        std::uint64_t rights;
    };
    for (auto const& [child, rights] :
         {Grant{source, abi::kRead | abi::kWrite}, Grant{sink, abi::kRead}}) {
        if (sys::stretch_offer(0, stretch, child.id, rights) < 0 ||
            sys::stretch_accept(child.id, dib().id, stretch, rights) < 0)
            return false;
    }
    auto& from = source.environment.channels[from_channel];
    auto& to = sink.environment.channels[to_channel];
    from.outgoing = to.incoming = address;
    from.outgoing_bytes = to.incoming_bytes = bytes;
    return true;
}

/// What each of these domains is given.
manager::ChildOptions little() {
    manager::ChildOptions options;
    options.context_slots = 4;
    options.endpoints = 16;
    options.stretches = 8;
    options.stack_pages = 4;
    options.frames = 128;
    return options;
}

/// A client and a server that are bound to each other, running.
Pair make(std::string_view client_argument, std::string_view server_argument) {
    auto options = little();
    options.name = "server";
    options.arguments = server_argument;
    auto server = manager::create(find_file("work_server"), options);
    if (!server) return {};
    options.name = "client";
    options.arguments = client_argument;
    auto client = manager::create(find_file("work_client"), options);
    Pair pair;
    if (!client || !manager::connect(*client, "server", *server, "client", 0, 0) ||
        !share(*client, 0, *server, 0, shape().client_bytes(), pair.stretches[0]) ||
        !share(*server, 0, *client, 0, shape().server_bytes(), pair.stretches[1])) {
        return {};
    }
    (void)manager::contract(*server, 0, 0, 0, 100);
    (void)manager::contract(*client, 0, 0, 0, 100);
    if (!manager::start(*server) || !manager::start(*client)) return {};
    pair.client = client->id;
    pair.server = server->id;
    return pair;
}

/// Kills client or server `kills` times, each at another instruction.
void kill_one(std::string_view name, bool client_dies, std::string_view client_argument,
              std::string_view server_argument, std::uint64_t kills) {
    Random random(kSeed + seed + (client_dies ? 1 : 0));
    std::int64_t frames = 0;
    for (std::uint64_t i = 0; i < kills; ++i) {
        auto const pair = make(client_argument, server_argument);
        if (pair.client == 0) {
            ++failures;
            return log::line("[ FAILED ] ", name, ": no pair at ", i);
        }
        // Both start within the first 40 us; after that every instruction is as likely.
        Thread::sleep_until(now() + Duration::ns(20'000 + random.between(0, 100'000)));
        auto const victim = client_dies ? pair.client : pair.server;
        auto const other = client_dies ? pair.server : pair.client;
        if (status(other).state == 2 || status(victim).state == 2) {
            ++failures;
            log::line("[ FAILED ] ", name, ": one ended by itself at ", i, ": exit codes ",
                      status(other).exit_code, " and ", status(victim).exit_code);
            sys::domain_destroy(victim);
            sys::domain_destroy(other);
            return;
        }
        sys::domain_destroy(victim);
        auto const told = wait_dead(other);
        auto const code = status(other).exit_code;
        // PeerDead for a client; the end of its client for a server.
        auto const wanted = client_dies ? 7u : 0x102u;
        sys::domain_destroy(other);
        for (auto const stretch : pair.stretches) sys::stretch_destroy(0, stretch);
        if (!told || code != wanted) {
            ++failures;
            return log::line("[ FAILED ] ", name, ": kill ", i, ": dead ", told ? 1 : 0,
                             ", exit code ", code);
        }

        auto const left = sys::machine_info(abi::MachineInfo::FramesFree);
        if (i == 0) frames = left;
        if (left != frames) {
            ++failures;
            return log::line("[ FAILED ] ", name, ": kill ", i, ": ", frames - left,
                             " frames are missing");
        }
    }
    ++passes;
    log::line("killed ", name, " ", kills, ": frames free ", frames, " before and after");
    log::line("[     OK ] ", name);
}

/// A client that has closed its end writes no more into a ring that may be somebody else's.
void closed_client(std::string_view name) {
    auto const pair = make("c", "i");
    auto const told = pair.client != 0 && wait_dead(pair.client);
    auto const code = told ? status(pair.client).exit_code : 0;
    for (auto const id : {pair.client, pair.server}) sys::domain_destroy(id);
    for (auto const stretch : pair.stretches) sys::stretch_destroy(0, stretch);
    if (code != 0x600) {
        ++failures;
        return log::line("[ FAILED ] ", name, ": ended ", told ? 1 : 0, ", exit code ", code);
    }
    ++passes;
    log::line("[     OK ] ", name);
}

/// A client with two servers, of which one lies in every word of its ring: each call ends in time,
/// and the other binding serves. The client finds out, and says in a line what is wrong.
void server_lies(std::string_view name, std::string_view argument) {
    auto options = little();
    options.name = "liar";
    auto liar = manager::create(find_file("lying_server"), options);
    options.name = "honest";
    options.arguments = "i";
    auto honest = manager::create(find_file("work_server"), options);
    options.name = "client";
    options.arguments = argument;
    auto client = manager::create(find_file("lied_to_client"), options);
    constexpr std::uint64_t page = abi::kPageSize;  // the orders lie behind the rings
    std::uint64_t stretches[4] = {};
    auto const made =
        liar && honest && client && manager::connect(*client, "server", *liar, "client", 0, 0) &&
        manager::connect(*client, "honest", *honest, "client", 0, 0) &&
        share(*client, 0, *liar, 0, page, stretches[0]) &&
        share(*liar, 0, *client, 0, page, stretches[1]) &&
        share(*client, 1, *honest, 0, shape().client_bytes(), stretches[2]) &&
        share(*honest, 0, *client, 1, shape().server_bytes(), stretches[3]) &&
        // The liar interrupts its reader: so a reply changes while it is read.
        manager::contract(*liar, 50'000, 1'000'000, 1'000'000, 100) &&
        manager::contract(*honest, 0, 0, 0, 100) && manager::contract(*client, 0, 0, 0, 100) &&
        manager::start(*liar) && manager::start(*honest) && manager::start(*client);
    auto const told = made && wait_dead(client->id, Duration::s(60));
    auto const code = told ? status(client->id).exit_code : 0;
    auto const others = made && status(liar->id).state == 1;
    for (auto* const child : {&client, &liar, &honest})
        if (*child) sys::domain_destroy((*child)->id);
    for (auto const stretch : stretches) sys::stretch_destroy(0, stretch);
    if (!told || code != 0x600 || !others) {
        ++failures;
        return log::line("[ FAILED ] ", name, ": made ", made ? 1 : 0, ", ended ", told ? 1 : 0,
                         ", exit code ", code, ", liar lives ", others ? 1 : 0);
    }
    ++passes;
    log::line("[     OK ] ", name);
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    char const* at = env.arguments;
    auto const number = [&] {
        std::uint64_t n = 0;
        while (*at == ' ') ++at;
        for (; *at >= '0' && *at <= '9'; ++at) n = n * 10 + static_cast<std::uint64_t>(*at - '0');
        return n;
    };
    auto const kills = number();
    seed = number();
    kill_one("calls.server_dies_donated", false, "d", "i", kills);
    kill_one("calls.client_dies_donated", true, "d", "i", kills);
    kill_one("calls.server_dies", false, "a", "i", kills);
    kill_one("calls.client_dies", true, "a", "i", kills);
    kill_one("calls.server_with_worker_dies", false, "d", "w", kills);
    kill_one("calls.client_of_worker_dies", true, "d", "w", kills);
    closed_client("calls.closed_client");
    server_lies("calls.server_lies_donated", "d1000");
    server_lies("calls.server_lies", "a1000");
    log::line(std::uint64_t{passes}, " passed, ", std::uint64_t{failures}, " failed");
    sys::machine_exit(failures == 0 && passes != 0 ? 0x10 : 0x11);
}
