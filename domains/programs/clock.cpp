// clock: a service. Publishes a Clock as its first argument ("services/clock" if there is none) and
// serves whoever resolves that name. Also the shortest example of a service that is found by name.
#include "libnemesis/clock.h"

#include <new>

#include "domains/names/publish.h"
#include "domains/programs/clock.if.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;

class ClockObject final : public clock::Clock {
public:
    Result<ReadResult, clock::ClockError> read() override {
        return ReadResult{static_cast<std::uint64_t>(now().ns()), dib().id};
    }
    Result<void, clock::ClockError> end_with(std::uint64_t code) override { sys::exit(code); }
};

/// All that lives as long as the domain: no destructors are ever run.
struct Service {
    ClockObject object;
    invocation::Backlog backlog;
    binder::Session session;
    binder::Offered offered{static_cast<clock::Clock*>(&object), clock::Clock::info, backlog};
    name_service::Publication publication{session, offered};
};
alignas(Service) std::byte memory[sizeof(Service)];

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto& all = *new (memory) Service;
    if (!all.session.open()) return log::line("no channel 'binder'");
    std::string_view const name = env.arguments[0] != 0 ? env.arguments : "services/clock";
    if (!all.session.start_serving()) return log::line("no memory for a thread");
    auto const published = all.publication.publish(name, {}, now() + Duration::ms(300));
    if (!published) {
        log::line("not published: ", text(published.error()));
        sys::exit(3);
    }
    all.backlog.run();
}
