// tally_client: calls a Tally that it may fetch, and checks where it is, what it says, and what a
// call costs.
//
// Argument: a letter and a number.
//   f  fetches it at the first use; then calls go on when the service is dead; prints the costs
//   r  its policy refuses the code: the object is called where it is
//   l  calls it where it is, then fetches it: the sum comes along; then puts another function into
//      the maillon, which the next call meets
//   x  NUMBER times in turn a service that lies about its code: an error of the call, and nothing
//      is left here
// Exits with 0x600, or 0xbad'0000 and the line where something was not as it must be.
#include "domains/parties/client.h"
#include "domains/services/object_fetcher.h"
#include "domains/services/tally_object.h"
#include "libnemesis/activation/domain_status.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"

namespace {

using namespace nemesis;
using invocation::Failure;
using services::Tally;
using services::TallyError;

constexpr std::uint64_t first_sum = 7'000;  ///< of the service's objects

using Handle = name_service::ServiceHandle<Tally, services::TallyProxy>;

using parties::Client;

/// The last image that was asked about.
std::uint64_t asked_bytes = 0;
bool accept(void*, std::span<std::byte const> image) {
    asked_bytes = image.size();
    return true;
}
bool refuse(void*, std::span<std::byte const> image) {
    asked_bytes = image.size();
    return false;
}

template <typename T>
std::uint64_t value_of(T const& result, std::uint64_t line) {
    parties::check(result.has_value(), line,
                   result ? 0 : static_cast<std::uint64_t>(result.error()));
    return *result;
}
#define VALUE(result) value_of(result, __LINE__)

constexpr std::uint64_t calls_measured = 1'000;

/// A thousand calls; the least of some tries, because interrupts come in between.
template <typename F>
std::uint64_t least_cost(F&& call_all) {
    std::uint64_t least = UINT64_MAX;
    for (int i = 0; i < 20; ++i) {
        auto const before = cycle_count();
        call_all();
        auto const cost = cycle_count() - before;
        least = cost < least ? cost : least;
    }
    return least;
}
[[gnu::noinline]] void call_virtually(Tally* tally) {
    asm volatile("" : "+r"(tally));
    for (std::uint64_t i = 0; i < calls_measured; ++i) {
        asm volatile("" : "+r"(tally));
        (void)tally->add(i);
    }
}
[[gnu::noinline]] void call_through(invocation::Maillon<Tally>* tally) {
    asm volatile("" : "+r"(tally));
    for (std::uint64_t i = 0; i < calls_measured; ++i) {
        asm volatile("" : "+r"(tally)::"memory");
        (void)(*tally)->add(i);
    }
}

void fetch(Client& client) {
    services::ImageFetcher fetcher({accept, nullptr});
    Handle tally(client.space, client.session, "global/services/tally", {.fetcher = &fetcher});
    auto const begun = cycle_count();
    CHECK(VALUE(tally->add(5)) == first_sum + 5, 0);
    auto const first = cycle_count() - begun;
    CHECK(tally.is_fetched() && tally.handle().is_direct() && asked_bytes > 4096, asked_bytes);
    CHECK(VALUE(tally->place()) == dib().id, 0);
    CHECK(!tally.bound().is_bound() && tally.connections() == 1, 0);
    // A call is a procedure call: at most three instructions more than by a plain pointer.
    auto const plain =
        least_cost([&] { call_virtually(static_cast<Tally*>(tally.handle().reference())); });
    auto const through = least_cost([&] { call_through(&tally.handle()); });
    CHECK(through <= plain + 3 * calls_measured + 10, through - plain);
    log::line("fetched: first call ", first, ", then per 1000 calls ", through, ", by pointer ",
              plain);
    auto const sum = VALUE(tally->add(0));
    // The service dies meanwhile; its name goes.
    for (auto const end = now() + Duration::ms(200);
         client.space.resolve("global/services/tally", {.deadline = end});) {
        CHECK(now() < end, 0);
        Thread::sleep_until(now() + Duration::us(100));
    }
    CHECK(VALUE(tally->add(1)) == sum + 1, 0);
}

void refused(Client& client) {
    services::ImageFetcher fetcher({refuse, nullptr});
    Handle tally(client.space, client.session, "global/services/tally", {.fetcher = &fetcher});
    for (std::uint64_t i = 1; i <= 100; ++i) {
        CHECK(VALUE(tally->add(1)) == first_sum + i, i);
        CHECK(VALUE(tally->place()) != dib().id, i);
    }
    CHECK(asked_bytes > 4096 && !tally.is_fetched() && tally.handle().is_direct(), asked_bytes);
    // Without a policy nothing is even asked for.
    services::ImageFetcher none({});
    Handle other(client.space, client.session, "global/services/tally", {.fetcher = &none});
    asked_bytes = 0;
    CHECK(VALUE(other->add(1)) == first_sum + 1 && asked_bytes == 0, asked_bytes);
}

/// What stands in for the object when the maillon has been replaced.
class Other final : public services::TallyObject {
    Result<std::uint64_t, TallyError> add(std::uint64_t n) override { return n + 1'000'000; }
};

void late(Client& client) {
    services::ImageFetcher fetcher({accept, nullptr});
    Handle tally(client.space, client.session, "global/services/tally");
    for (std::uint64_t i = 1; i <= 10; ++i) CHECK(VALUE(tally->add(i)) != 0, i);
    CHECK(VALUE(tally->place()) != dib().id && tally.handle().is_direct(), 0);
    tally.fetch_with(fetcher);
    CHECK(!tally.handle().is_direct(), 0);
    CHECK(VALUE(tally->add(1)) == first_sum + 55 + 1, 0);
    CHECK(VALUE(tally->place()) == dib().id && tally.is_fetched(), 0);
    // Whoever replaces the function is obeyed by the next call, and by each.
    static Other other;
    static std::uint64_t asked = 0;
    auto const was = tally.handle();
    tally.handle().set_function(nullptr, [](invocation::AnyMaillon&) -> Result<void*, Failure> {
        ++asked;
        return static_cast<void*>(static_cast<Tally*>(&other));
    });
    for (std::uint64_t i = 1; i <= 3; ++i)
        CHECK(VALUE(tally->add(4)) == 1'000'004 && asked == i, asked);
    tally.handle().set_function(nullptr, [](invocation::AnyMaillon&) -> Result<void*, Failure> {
        return fail(Failure::Refused);
    });
    auto const none = tally->add(4);
    CHECK(!none && none.error() == TallyError::Refused, 0);
    tally.handle() = was;
    CHECK(VALUE(tally->add(0)) == first_sum + 56, 0);
}

/// One service that lies. Whether the lie did no harm: bytes were changed that nobody needs.
bool lied_to_once(Client& client) {
    services::ImageFetcher fetcher({accept, nullptr});
    Handle tally(client.space, client.session, "global/services/tally", {.fetcher = &fetcher});
    auto const done = tally->place();
    if (done) {
        CHECK(tally.is_fetched() && *done == dib().id, *done);
        return true;
    }
    CHECK(done.error() == TallyError::BadMessage, static_cast<std::uint64_t>(done.error()));
    CHECK(tally.bound().is_bound() && !tally.handle().is_direct(), 0);
    return false;
}

void lied_to(Client& client, std::uint64_t count) {
    std::uint64_t frames = 0, harmless = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        if (lied_to_once(client)) ++harmless;
        auto const used = domain_status(dib().id).value_or(abi::DomainStatus{}).frames_used;
        if (i == 20) frames = used;
        if (i > 20) CHECK(used <= frames, used - frames);
    }
    log::line("lies ", count, ", harmless ", harmless);
    CHECK(harmless * 4 < count, harmless);
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto& client = parties::open_client<Client>();
    std::uint64_t number = 0;
    for (auto const* at = env.arguments + 1; *at >= '0' && *at <= '9'; ++at)
        number = number * 10 + static_cast<std::uint64_t>(*at - '0');
    switch (env.arguments[0]) {
        case 'f':
            fetch(client);
            break;
        case 'r':
            refused(client);
            break;
        case 'l':
            late(client);
            break;
        case 'x':
            lied_to(client, number);
            break;
        default:
            CHECK(false, 0);
    }
    sys::exit(0x600);
}
