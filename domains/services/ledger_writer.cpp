// ledger_writer: two threads that write into the book of the probes through one handle, while it
// moves from home to home, and check that each entry is made once.
//
// Arguments: which of the writers this is, whether it is said that a home will be killed ('k' or
// '-'), and how many moves there will be ("1-40"). For each thread holds: between two answers there
// are at most as many errors as the book was about to move meanwhile, and one if a home is killed;
// all are of calls that were not made, but then. After the last move each thread makes 50 entries
// more. Exits with 0x600'0000 and how many errors there were, or 0xbad'0000 and the line where
// something was not as it must be.
#include "domains/names/service.h"
#include "domains/parties/client.h"
#include "domains/services/ledger.if.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;
using invocation::Failure;

constexpr std::uint64_t entries_at_the_end = 50;

struct Client : parties::Client {
    using parties::Client::Client;
    name_service::ServiceHandle<services::Ledger, services::LedgerProxy> book{
        space, session, "global/services/ledger"};
    std::uint8_t number = 0;
    bool kills = false;
    std::uint64_t moves = 0;
    std::uint64_t errors = 0, entries = 0;
    Thread second;
};

void write_until_the_last(Client& client, std::uint8_t writer) {
    std::uint64_t moves = 0, failed = 0, left = entries_at_the_end, deaths = 0;
    for (std::uint64_t number = 1; left != 0;) {
        auto const entered = client.book->enter(writer, number);
        if (entered) {
            CHECK(entered->moves >= moves && failed <= entered->moves - moves, failed);
            moves = entered->moves;
            failed = 0;
            ++number;
            ++client.entries;
            if (moves >= client.moves) --left;
            continue;
        }
        auto const why = static_cast<Failure>(entered.error());
        if (why == Failure::Busy) {
            Thread::yield();
            continue;
        }
        ++client.errors;
        if (why == Failure::NoSuchObject) {
            ++failed;
            continue;
        }
        // The home that it was at has been killed: the call may have been made.
        CHECK(client.kills && deaths++ == 0, static_cast<std::uint64_t>(why));
        CHECK(why == Failure::PeerDead || why == Failure::Cancelled,
              static_cast<std::uint64_t>(why));
        for (;;) {
            auto const last = client.book->last(writer);
            if (last) {
                CHECK(*last == number || *last == number - 1, *last);
                number = *last + 1;
                break;
            }
            ++client.errors;
            auto const again = static_cast<Failure>(last.error());
            CHECK((again == Failure::NoSuchObject && ++failed < 3) || again == Failure::Busy,
                  static_cast<std::uint64_t>(again));
        }
    }
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto* const stack = pages::take(4);
    CHECK(stack != nullptr, 0);
    auto& client = parties::open_client<Client>();
    client.number = static_cast<std::uint8_t>(env.arguments[0] - '0');
    client.kills = env.arguments[1] == 'k';
    for (auto const* at = env.arguments + 2; *at >= '0' && *at <= '9'; ++at)
        client.moves = client.moves * 10 + static_cast<std::uint64_t>(*at - '0');
    CHECK(client.second.start(
              [](void* self) {
                  auto& all = *static_cast<Client*>(self);
                  write_until_the_last(all, static_cast<std::uint8_t>(2 * all.number + 1));
              },
              &client, {.stack = stack, .stack_bytes = 4 * abi::kPageSize, .name = "second"}),
          0);
    write_until_the_last(client, static_cast<std::uint8_t>(2 * client.number));
    client.second.join();
    log::line("entries ", client.entries, ", errors ", client.errors, ", connections ",
              client.book.connections());
    sys::exit(0x600'0000 + client.errors);
}
