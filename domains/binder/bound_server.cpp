// bound_server: offers one Work, or one Digest, by the binder and serves whoever binds to it.
// Argument: 'i' in place or 'w' by a worker; 'g' and 'v' the same with a Digest, which reads what
// it is granted; then the offer's name.
#include <new>

#include "domains/binder/session.h"
#include "domains/calls/digest_object.h"
#include "domains/calls/work_object.h"
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
    Thread server;
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
    auto& offer = how == 'g' || how == 'v' ? all.digests : all.work;
    if (mode == CallServer::Mode::Workers) all.object.backlog = &all.backlog;
    // The name of one that has just died may be taken for a moment yet.
    for (auto const end = now() + Duration::ms(50);;) {
        auto const offered =
            all.session.offer(offer, {.name = name, .clients_max = 4096, .mode = mode});
        if (offered) break;
        if (offered.error() != Failure::Busy || now() > end)
            sys::exit(0x200 + static_cast<std::uint64_t>(offered.error()));
        Thread::sleep_until(now() + Duration::us(20));
    }
    auto* const stack = pages::take(4);
    if (stack == nullptr ||
        !all.server.start([](void* self) { static_cast<binder::Session*>(self)->serve(); },
                          &all.session,
                          {.stack = stack, .stack_bytes = 4 * abi::kPageSize, .name = "serve"}))
        sys::exit(8);
    all.backlog.run();
}
