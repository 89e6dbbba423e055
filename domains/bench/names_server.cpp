// bench_names: serves a small name space of its own to the bench, in place, on the bench's time.
#include <new>

#include "domains/names/served_names.h"
#include "libnemesis/channel.h"
#include "libnemesis/invocation/call_server.h"
#include "libnemesis/log/log.h"
#include "names/name_space.h"
#include "names/name_space_server.h"

namespace {

using namespace nemesis;
using namespace nemesis::invocation;

constexpr std::uint32_t kOtherNames = 64;

/// All that lives as long as the domain: no destructors are ever run.
struct Everything {
    explicit Everything(names::NameSpace& space) : server(space), object(server) {}
    names::NameSpaceServer server;
    name_service::ServedNames object;
    Export exports[4];
    Import imports[4];
    ConnectionHandles handles{exports, imports, nullptr};
    Backlog backlog;
    CallServer calls;
};
alignas(Everything) std::byte memory[sizeof(Everything)];
alignas(64) std::byte names_memory[64 * 1024];

}  // namespace

extern "C" void nem_main(abi::Environment const&) {
    auto const* requests = find_channel("calls");
    auto const* replies = find_channel("replies");
    auto space = names::NameSpace::create(names_memory, 1);
    if (requests == nullptr || replies == nullptr || !space) return;
    bool made = space->make_directory("media").has_value();
    char name[] = "media/n00";
    for (std::uint32_t i = 0; i < kOtherNames; ++i) {
        name[7] = static_cast<char>('0' + i / 10);
        name[8] = static_cast<char>('0' + i % 10);
        made = made && space->bind(name, {i + 1, 1}).has_value();
    }
    made = made && space->bind("media/clock", {7, 8}).has_value();
    auto& all = *new (memory) Everything(*space);
    all.handles.set_root(static_cast<name_service::Names*>(&all.object), name_service::Names::info);
    BindingEnd const end{outgoing(*replies), incoming(*requests), requests->endpoint};
    if (!made || !all.calls.open(end, BindingShape::of(name_service::Names::info, 4), all.handles,
                                 all.backlog)) {
        log::line("bench_names: the binding does not fit its channels");
        return;
    }
    all.backlog.run();
}
