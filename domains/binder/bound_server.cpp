// bound_server: offers one Work, or one Digest, by the binder and serves whoever binds to it.
// Argument: 'i' in place or 'w' by a worker; 'g' and 'v' the same with a Digest, which reads what
// it is granted; then the offer's name. What it holds is offered as "NAME.holdings".
#include <new>

#include "domains/binder/session.h"
#include "domains/calls/digest_object.h"
#include "domains/calls/work_object.h"
#include "domains/parties/server.h"
#include "libnemesis/clock.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;
using namespace nemesis::invocation;

/// All that lives as long as the domain: no destructors are ever run.
struct Everything {
    calls::WorkObject object;
    calls::DigestObject digest;
    Backlog backlog;
    binder::Session session;
    binder::Offered work{static_cast<calls::Work*>(&object), calls::Work::info, backlog};
    binder::Offered digests{static_cast<calls::Digest*>(&digest), calls::Digest::info, backlog};
    parties::OfferedHoldings holdings{backlog};
};
alignas(Everything) std::byte memory[sizeof(Everything)];

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto& all = *new (memory) Everything;
    if (!all.session.open()) sys::exit(9);
    std::string_view const name = env.arguments + 1;
    auto const how = env.arguments[0];
    auto const mode =
        how == 'w' || how == 'v' ? CallServer::Mode::Workers : CallServer::Mode::InPlace;
    auto& offered = how == 'g' || how == 'v' ? all.digests : all.work;
    if (mode == CallServer::Mode::Workers) all.object.backlog = &all.backlog;
    parties::offer(all.session, offered, {.name = name, .clients_max = 4096, .mode = mode});
    all.holdings.offer_for(all.session, name);
    if (!all.session.start_serving()) sys::exit(8);
    all.backlog.run();
}
