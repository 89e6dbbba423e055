// ledger_mover: moves the book of the probes from home to home.
// Argument: 'm' and how often, at random instants ("m40"); or 'w': once, from home 0 to home 1 with
// a pause between taking and settling, and ends, with 0x601, when that has begun.
// Exits with 0x600, or 0xbad'0000 and the line where something was not as it must be.
#include "domains/names/service.h"
#include "domains/parties/client.h"
#include "domains/services/migrant.if.h"
#include "libnemesis/base/random.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;

constexpr std::uint64_t pause_ns = 20'000'000;

using Handle = name_service::ServiceHandle<services::Migrant, services::MigrantProxy>;
constexpr std::string_view paths[] = {"global/services/home0", "global/services/home1"};

struct Client : parties::Client {
    using parties::Client::Client;
    Handle homes[2] = {{space, session, paths[0]}, {space, session, paths[1]}};
    Thread second;
};

void move_often(Client& client, std::uint64_t count) {
    Random random(20261124);
    Duration longest = Duration::ns(0);
    for (std::uint64_t i = 1; i <= count; ++i) {
        Thread::sleep_until(now() + Duration::ns(random.between(1'000, 2'000'000)));
        auto const begun = now();
        auto const moved = client.homes[i % 2]->fetch(paths[(i + 1) % 2], 0);
        CHECK(moved.has_value(), moved ? 0 : static_cast<std::uint64_t>(moved.error()));
        longest = std::max(longest, now() - begun);
        // It is not there twice, and cannot be taken from where it is not.
        auto const again = client.homes[i % 2]->fetch(paths[(i + 1) % 2], 0);
        CHECK(!again && again.error() == services::MigrantError::IsHere, i);
        auto const taken = client.homes[(i + 1) % 2]->take();
        CHECK(!taken && taken.error() == services::MigrantError::NotHere, i);
        auto const settled = client.homes[i % 2]->settle();
        CHECK(!settled && settled.error() == services::MigrantError::NotHere, i);
    }
    log::line("moves ", count, ", the longest ", longest.ns(), " ns");
}

/// Ends when the name is gone, which is when the state is taken, or will be at once.
void watch(Client& client) {
    for (auto const end = now() + Duration::s(1);
         client.space.resolve("global/services/ledger", {.deadline = end});) {
        CHECK(now() < end, 0);
        Thread::sleep_until(now() + Duration::us(50));
    }
    Thread::sleep_until(now() + Duration::ms(2));
    sys::exit(0x601);
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto* const stack = pages::take(8);
    CHECK(stack != nullptr, 0);
    auto& client = parties::open_client<Client>();
    if (env.arguments[0] == 'm') {
        std::uint64_t count = 0;
        for (auto const* at = env.arguments + 1; *at >= '0' && *at <= '9'; ++at)
            count = count * 10 + static_cast<std::uint64_t>(*at - '0');
        move_often(client, count);
        sys::exit(0x600);
    }
    // Home 0 is there, with the book: else the watcher would see a name that is not there yet.
    for (auto const end = now() + Duration::s(1);
         !client.space.resolve("global/services/ledger", {.deadline = end});) {
        CHECK(now() < end, 0);
        Thread::sleep_until(now() + Duration::us(50));
    }
    CHECK(client.second.start(
              [](void* self) {
                  auto& all = *static_cast<Client*>(self);
                  (void)all.homes[1]->fetch(paths[0], pause_ns);
                  for (;;) Thread::sleep_until(now() + Duration::s(1));
              },
              &client, {.stack = stack, .stack_bytes = 8 * abi::kPageSize, .name = "second"}),
          0);
    watch(client);
}
