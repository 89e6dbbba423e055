// mixer_service: publishes a Mixer as "services/mixer" and serves whoever finds it there.
// Argument: 'i' in place or 'w' by a worker; which life it is; 'l' if it is the last ("i17l").
#include <new>

#include "domains/names/publish.h"
#include "domains/services/mixer.if.h"
#include "libnemesis/clock.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;

class MixerObject final : public services::Mixer {
public:
    Result<MixResult, services::MixerError> mix(std::uint64_t mark) override {
        return MixResult{3 * mark + life, life, last};
    }
    std::uint64_t life = 0;
    bool last = false;
};

/// All that lives as long as the domain: no destructors are ever run.
struct Service {
    MixerObject object;
    invocation::Backlog backlog;
    binder::Session session;
    binder::Offered offered{static_cast<services::Mixer*>(&object), services::Mixer::info, backlog};
    name_service::Publication publication{session, offered};
};
alignas(Service) std::byte memory[sizeof(Service)];

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto& all = *new (memory) Service;
    auto const* at = env.arguments + 1;
    for (; *at >= '0' && *at <= '9'; ++at)
        all.object.life = all.object.life * 10 + static_cast<std::uint64_t>(*at - '0');
    all.object.last = *at == 'l';
    if (!all.session.open()) sys::exit(9);
    if (!all.session.start_serving()) sys::exit(8);
    auto const mode = env.arguments[0] == 'w' ? invocation::CallServer::Mode::Workers
                                              : invocation::CallServer::Mode::InPlace;
    auto const published =
        all.publication.publish("services/mixer", {.mode = mode}, now() + Duration::s(1));
    if (!published) sys::exit(0x200 + static_cast<std::uint64_t>(published.error()));
    all.backlog.run();
}
