// first_use: a client whose service is started by its first call, and which needs the privilege to
// start programs for that. Argument: "never" or "always", the service's restart policy.
//
// Calls a clock that nobody has started; ends it, twice; and calls again. Whoever restarts it (the
// domain manager by its policy, or the handle), there is one instance at a time. Exits with how
// many were started by the handle, or 0xbad'0000 and the line where something was not as it must
// be.
#include <new>

#include "domains/names/names_client.h"
#include "domains/parties/check.h"
#include "domains/programs/clock.if.h"
#include "domains/programs/program_starter.h"
#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;
using namespace nemesis::programs;
using invocation::CallClient;
using invocation::Failure;

constexpr std::uint64_t space_bytes = 16 * 1024;
constexpr std::string_view name = "global/services/first_use";

/// All that lives as long as the domain: no destructors are ever run.
struct Client {
    Client(names::NameSpace const& own, Order const& order) : space(own), starter(manager, order) {}
    CallClient calls;
    ProgramsProxy<CallClient> manager{calls};
    binder::Session session;
    name_service::SystemNames system{session};
    names::NameSpace space;
    ProgramStarter starter;
    name_service::ServiceHandle<clock::Clock, clock::ClockProxy> clock{
        space, session, name, {.starter = &starter}};
};
alignas(Client) std::byte client_memory[sizeof(Client)];

Order order(Restart restart) {
    Order o;
    o.program = marshal::String<name_max>("clock");
    o.arguments = marshal::String<255>("services/first_use");
    o.contract = {0, 0, 0, 1};
    o.privileges = 0;
    o.frames = 512;
    o.budget = 0;
    o.stack_pages = 16;
    o.names = 0;
    o.restart = restart;
    return o;
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto const always = std::string_view(env.arguments) == "always";
    auto* const memory = static_cast<std::byte*>(pages::take(space_bytes / abi::kPageSize));
    CHECK(memory != nullptr, 0);
    auto const space = names::NameSpace::create({memory, space_bytes}, 1);
    CHECK(space.has_value(), 0);
    auto& client =
        *new (client_memory) Client(*space, order(always ? Restart::Always : Restart::Never));
    auto const* const channel = find_channel("programs");
    CHECK(channel != nullptr, 0);
    CHECK(client.calls
              .open({outgoing(*channel), incoming(*channel), channel->endpoint},
                    invocation::BindingShape::of(Programs::info))
              .has_value(),
          0);
    CHECK(client.session.open().has_value(), 0);
    CHECK(client.space.make_directory("global").has_value(), 0);
    CHECK(client.space.mount("global", client.system).has_value(), 0);
    CHECK(!client.space.resolve(name), 0);
    std::uint64_t server = 0;
    for (int round = 0; round < 3; ++round) {
        auto const read = client.clock->read();
        CHECK(read.has_value(), read ? 0 : static_cast<std::uint64_t>(read.error()));
        CHECK(read->life != server && read->life != dib().id, server);
        server = read->life;
        auto const again = client.clock->read();
        CHECK(again && again->life == server && client.clock.handle().is_direct(), server);
        auto const all = client.manager.instances(0);
        CHECK(all && all->size() == 1 &&
                  (*all)[0].restarts == (always ? static_cast<std::uint32_t>(round) : 0u),
              round);
        // Its death is an error of one call.
        CHECK(client.clock->end_with(7).has_value(), round);
        auto last = client.clock->read();
        while (last) last = client.clock->read();
        CHECK(static_cast<Failure>(last.error()) == Failure::PeerDead, round);
    }
    CHECK(client.clock.connections() == 3, client.clock.connections());
    // Who does not get it started learns why.
    Order none = order(Restart::Never);
    none.program = marshal::String<name_max>("there_is_no_such_program");
    ProgramStarter no_starter(client.manager, none);
    name_service::ServiceHandle<clock::Clock, clock::ClockProxy> nobody(
        client.space, client.session, "global/services/nobody", {.starter = &no_starter});
    auto const refused = nobody->read();
    CHECK(!refused && static_cast<Failure>(refused.error()) == Failure::Refused, 0);
    sys::exit(client.starter.started());
}
