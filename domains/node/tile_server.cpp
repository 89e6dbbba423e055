// tile_server: offers "clock" and "filter" to the binder, and serves whoever binds to them. It does
// not know whether that is a domain of its machine or, by way of the domain remote, of another.
#include <new>

#include "domains/binder/session.h"
#include "domains/node/sharpen_filter.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"

namespace {

using namespace nemesis;

class ClockObject final : public tiles::Clock {
public:
    Result<std::uint64_t, tiles::ClockError> now() override {
        return static_cast<std::uint64_t>(nemesis::now().ns());
    }
    Result<void, tiles::ClockError> null() override { return {}; }
};

/// All that lives as long as the domain: no destructors are ever run.
struct Everything {
    ClockObject clock;
    node::SharpenFilter filter;
    invocation::Backlog backlog;
    binder::Session session;
    binder::Offered clock_offer{static_cast<tiles::Clock*>(&clock), tiles::Clock::info, backlog};
    binder::Offered filter_offer{static_cast<tiles::Filter*>(&filter), tiles::Filter::info,
                                 backlog};
};
alignas(Everything) std::byte memory[sizeof(Everything)];
Thread server;
alignas(16) std::byte server_stack[16 * 1024];

}  // namespace

extern "C" void nem_main(abi::Environment const&) {
    auto& all = *new (memory) Everything;
    if (!all.session.open()) return log::line("no binder");
    // Reading a clock is short: done in place, on the caller's time. A tile is not: by a thread.
    if (!all.session.offer(all.clock_offer, {.name = "clock"}) ||
        !all.session.offer(
            all.filter_offer,
            {.name = "filter", .slots = 4, .mode = invocation::CallServer::Mode::Workers}))
        return log::line("the binder does not take the offers");
    auto const work = [](void* self) { static_cast<invocation::Backlog*>(self)->run(); };
    if (!server.start(work, &all.backlog,
                      {.stack = server_stack, .stack_bytes = sizeof(server_stack)}))
        return log::line("no context slot for the worker");
    all.session.serve();
}
