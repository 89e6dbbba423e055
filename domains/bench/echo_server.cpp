// bench_server: serves one Echo to the bench, in place, on the bench's time.
#include <new>

#include "domains/bench/echo.h"
#include "libnemesis/channel.h"
#include "libnemesis/invocation/call_server.h"
#include "libnemesis/log/log.h"

namespace {

using namespace nemesis;
using namespace nemesis::invocation;

/// All that lives as long as the domain: no destructors are ever run.
struct Everything {
    bench::EchoObject object;
    Export exports[4];
    Import imports[4];
    ConnectionHandles handles{exports, imports, nullptr};
    Backlog backlog;
    CallServer server;
};
alignas(Everything) std::byte memory[sizeof(Everything)];

}  // namespace

extern "C" void nem_main(abi::Environment const&) {
    auto& all = *new (memory) Everything;
    auto const* requests = find_channel("calls");
    auto const* replies = find_channel("replies");
    if (requests == nullptr || replies == nullptr) return;
    all.handles.set_root(static_cast<bench::Echo*>(&all.object), bench::Echo::info);
    BindingEnd const end{outgoing(*replies), incoming(*requests), requests->endpoint};
    if (!all.server.open(end, BindingShape::of(bench::Echo::info), all.handles, all.backlog)) {
        log::line("bench_server: the binding does not fit its channels");
        return;
    }
    all.backlog.run();
}
