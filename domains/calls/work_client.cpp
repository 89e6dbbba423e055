// work_client: calls its server without end and checks what comes back. Exits with 0x100 and the
// failure, or with 0xbad when a result is wrong. Argument: 'd' calls by synchronous send, 'a'
// without.
#include <new>

#include "domains/calls/work.if.h"
#include "libnemesis/channel.h"
#include "libnemesis/invocation/call_client.h"

namespace {

using namespace nemesis;
using namespace nemesis::invocation;

alignas(CallClient) std::byte memory[sizeof(CallClient)];

template <typename R>
void need(R const& result, bool right) {
    if (!result) sys::exit(0x100 + static_cast<std::uint64_t>(result.error()));
    if (!right) sys::exit(0xbad);
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto const* server = find_channel("server");
    if (server == nullptr) sys::exit(9);
    auto& client = *new (memory) CallClient;
    BindingEnd const end{outgoing(*server), incoming(*server), server->endpoint};
    if (!client.open(end, BindingShape::of(calls::Work::info))) sys::exit(8);
    client.set_donation(env.arguments[0] != 'a');
    calls::WorkProxy<CallClient> work(client);
    char text[200];
    for (std::uint64_t i = 0;; ++i) {
        auto const sum = work.add(i, 3 * i);
        need(sum, sum && *sum == 4 * i);
        for (auto& c : text) c = static_cast<char>('a' + i % 26);
        auto const back = work.repeat({text, i % 201});
        need(back, back && back->view() == std::string_view(text, i % 201));
        if (i % 8 == 0) {
            auto const spun = work.spin(2'000);
            need(spun, true);
        }
    }
}
