// work_client: calls its server without end and checks what comes back. Exits with 0x100 and the
// failure, or with 0xbad when a result is wrong. Argument: 'd' calls by synchronous send, 'a'
// without; 'c' calls once, closes its end, and exits with 0x600 if further calls fail and write
// nothing.
#include <new>

#include "domains/calls/work.if.h"
#include "libnemesis/channel.h"
#include "libnemesis/invocation/call_batch.h"
#include "libnemesis/invocation/call_client.h"

namespace {

using namespace nemesis;
using namespace nemesis::invocation;

alignas(CallClient) std::byte memory[sizeof(CallClient)];
alignas(CallClient) std::byte never_open[sizeof(CallClient)];

template <typename R>
void need(R const& result, bool right) {
    if (!result) sys::exit(0x100 + static_cast<std::uint64_t>(result.error()));
    if (!right) sys::exit(0xbad);
}
void need(bool right) {
    if (!right) sys::exit(0xbad);
}

/// Ends, of which each operation must fail and leave the ring of the former binding alone: one that
/// was closed while slots were free, and one that was never open.
[[noreturn]] void closed(CallClient& client, std::span<std::byte> ring) {
    calls::WorkProxy<CallClient> work(client);
    auto const sum = work.add(1, 2);
    need(sum, sum && *sum == 3);
    client.close();
    for (auto& byte : ring) byte = std::byte{0xa5};
    for (auto* const end : {&client, new (never_open) CallClient}) {
        calls::WorkProxy<CallClient> unreachable(*end);
        auto const called = unreachable.add(1, 2);
        auto const begun = end->begin(0);
        auto const too_long = end->begin(~0u);
        need(!called && called.error() == calls::WorkError::Unreachable);
        need(!begun && begun.error() == Failure::Unreachable);
        need(!too_long && too_long.error() == Failure::Unreachable);
        need(end->release(1, 1));  // there is nobody whom it would have to be told
        {
            CallBatch batch(*end);
            auto const announced = batch.begin(0);
            need(!announced && announced.error() == Failure::Unreachable);
            batch.send(true);
        }
        need(state().rw->activations_on == 1);
    }
    for (auto const byte : ring) need(byte == std::byte{0xa5});
    sys::exit(0x600);
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto const* server = find_channel("server");
    if (server == nullptr) sys::exit(9);
    auto& client = *new (memory) CallClient;
    BindingEnd const end{outgoing(*server), incoming(*server), server->endpoint};
    if (!client.open(end, BindingShape::of(calls::Work::info))) sys::exit(8);
    if (env.arguments[0] == 'c') closed(client, end.outgoing);
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
