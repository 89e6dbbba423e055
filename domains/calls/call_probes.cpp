// call_probes: protected calls between two domains of its making, of which it kills one at a random
// instruction. The other must come to know, and not a frame may be missing afterwards.
//
// Prints "[     OK ] name" or "[ FAILED ] name: ..." and ends the machine. Argument: kills a probe.
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
std::uint32_t failures = 0, passes = 0;

auto const shape = [] { return invocation::BindingShape::of(calls::Work::info); };

abi::DomainStatus status(abi::DomainId id) {
    return domain_status(id).value_or(abi::DomainStatus{});
}

bool wait_dead(abi::DomainId id) {
    auto const end = now() + Duration::ms(50);
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
bool share(manager::Child& source, manager::Child& sink, std::uint64_t bytes,
           std::uint64_t& stretch) {
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
    auto& from = source.environment.channels[0];
    auto& to = sink.environment.channels[0];
    from.outgoing = to.incoming = address;
    from.outgoing_bytes = to.incoming_bytes = bytes;
    return true;
}

/// A client and a server that are bound to each other, running.
Pair make(std::string_view client_argument, std::string_view server_argument) {
    manager::ChildOptions options;
    options.context_slots = 4;
    options.endpoints = 16;
    options.stretches = 8;
    options.stack_pages = 4;
    options.frames = 128;
    options.name = "server";
    options.arguments = server_argument;
    auto server = manager::create(find_file("work_server"), options);
    if (!server) return {};
    options.name = "client";
    options.arguments = client_argument;
    auto client = manager::create(find_file("work_client"), options);
    Pair pair;
    if (!client || !manager::connect(*client, "server", *server, "client", 0, 0) ||
        !share(*client, *server, shape().client_bytes(), pair.stretches[0]) ||
        !share(*server, *client, shape().server_bytes(), pair.stretches[1])) {
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
    Random random(kSeed + (client_dies ? 1 : 0));
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
    log::line("[     OK ] ", name);
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    std::uint64_t kills = 0;
    for (char const* c = env.arguments; *c >= '0' && *c <= '9'; ++c)
        kills = kills * 10 + static_cast<std::uint64_t>(*c - '0');
    kill_one("calls.server_dies_donated", false, "d", "i", kills);
    kill_one("calls.client_dies_donated", true, "d", "i", kills);
    kill_one("calls.server_dies", false, "a", "i", kills);
    kill_one("calls.client_dies", true, "a", "i", kills);
    kill_one("calls.server_with_worker_dies", false, "d", "w", kills);
    kill_one("calls.client_of_worker_dies", true, "d", "w", kills);
    log::line(std::uint64_t{passes}, " passed, ", std::uint64_t{failures}, " failed");
    sys::machine_exit(failures == 0 && passes != 0 ? 0x10 : 0x11);
}
