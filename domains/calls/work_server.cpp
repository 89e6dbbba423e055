// work_server: serves one Work over the channel "client" until its client dies; then exits with 7.
#include <new>

#include "domains/calls/work_object.h"
#include "libnemesis/channel.h"
#include "libnemesis/invocation/call_server.h"

namespace {

using namespace nemesis;
using namespace nemesis::invocation;

/// All that lives as long as the domain: no destructors are ever run.
struct Everything {
    calls::WorkObject object;
    Export exports[4];
    Import imports[4];
    ConnectionHandles handles{exports, imports, nullptr};
    Backlog backlog;
    CallServer server;
};
alignas(Everything) std::byte memory[sizeof(Everything)];

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto& all = *new (memory) Everything;
    auto const* client = find_channel("client");
    if (client == nullptr) sys::exit(9);
    all.handles.set_root(static_cast<calls::Work*>(&all.object), calls::Work::info);
    all.server.on_gone({[](void*, CallServer&) { sys::exit(7); }, nullptr});
    auto const mode =
        env.arguments[0] == 'w' ? CallServer::Mode::Workers : CallServer::Mode::InPlace;
    BindingEnd const end{outgoing(*client), incoming(*client), client->endpoint};
    if (!all.server.open(end, BindingShape::of(calls::Work::info), all.handles, all.backlog, mode))
        sys::exit(8);
    all.backlog.run();
}
