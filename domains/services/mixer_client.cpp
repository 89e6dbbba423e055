// mixer_client: two threads that call a Mixer without end through one handle, while it dies and
// comes back, and check every answer and every error.
//
// For each thread holds: between two answers there are at most as many errors as lives have ended.
// When the service says that it is not killed any more each thread makes 50 calls; then the domain
// gives the connection back, looks whether it has as many endpoints as at first, and exits with
// 0x600'0000 and how many errors there were. Exits with 0xbad'0000 and the line where something
// was not as it must be.
#include "domains/names/service.h"
#include "domains/parties/client.h"
#include "domains/parties/holdings.h"
#include "domains/services/mixer.if.h"
#include "libnemesis/clock.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;
using invocation::Failure;

constexpr std::uint64_t calls_at_the_end = 50;

struct Client : parties::Client {
    using parties::Client::Client;
    name_service::ServiceHandle<services::Mixer, services::MixerProxy> mixer{
        space, session, "global/services/mixer"};
    std::uint64_t errors = 0;
    Thread second;
};

void call_until_the_last(Client& client) {
    std::uint64_t life = 0, failed = 0, left = calls_at_the_end;
    for (std::uint64_t mark = 0; left != 0; ++mark) {
        auto const answer = client.mixer->mix(mark);
        if (!answer) {
            auto const why = static_cast<Failure>(answer.error());
            if (why == Failure::Busy) {
                // The other thread has not read its answer yet: it gets its turn.
                Thread::yield();
                continue;
            }
            CHECK(why == Failure::PeerDead || why == Failure::Cancelled ||
                      why == Failure::Unreachable,
                  static_cast<std::uint64_t>(why));
            ++failed;
            ++client.errors;
            CHECK(client.mixer.connections() != 0 && failed <= 1000, failed);
            continue;
        }
        CHECK(answer->mixed == 3 * mark + answer->life, mark);
        CHECK(answer->life >= life && failed <= answer->life - life, failed);
        life = answer->life;
        failed = 0;
        if (answer->last) --left;
    }
}

}  // namespace

extern "C" void nem_main(abi::Environment const&) {
    auto* const stack = pages::take(4);
    CHECK(stack != nullptr, 0);
    auto& client = parties::open_client<Client>();
    auto const before = parties::endpoints_used();
    CHECK(client.second.start(
              [](void* self) { call_until_the_last(*static_cast<Client*>(self)); }, &client,
              {.stack = stack, .stack_bytes = 4 * abi::kPageSize, .name = "second"}),
          0);
    call_until_the_last(client);
    client.second.join();
    client.mixer.forget();
    // One more is the connection to the name server.
    CHECK(parties::endpoints_used() == before + 1, parties::endpoints_used() - before);
    sys::exit(0x600'0000 + client.errors);
}
