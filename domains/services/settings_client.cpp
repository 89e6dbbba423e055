// settings_client: reads Settings through a handle with an agent that it has never been linked
// with, and checks what comes from where, how old it is, and what it costs.
//
// Argument: a letter.
//   a  any agent is accepted: repeated reads stay here; a value changed by another handle is seen
//      before the lease is over, an own write at once; prints the costs
//   n  no policy   r  the policy refuses   p  only publishers below "global/services/"
//   q  only publishers elsewhere, and images of another hash
//   o  there is no agent   h  it is of another interface   b  it is broken   s  it is a stranger's
//   d  the service dies and comes back: what its second life says is never mixed with the first's
// Exits with 0x600, or 0xbad'0000 and the line where something was not as it must be.
#include "domains/parties/client.h"
#include "domains/services/agent.h"
#include "domains/services/settings.if.h"
#include "libnemesis/base/hash.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"

namespace {

using namespace nemesis;
using invocation::Failure;
using parties::check;
using services::AgentLoader;
using services::SettingsError;

constexpr auto lease = Duration::ms(10);  ///< the service's
/// What a thread may wait for the processor, and a read take, at most.
constexpr auto delay_max = Duration::us(500);

template <typename T>
T value_of(Result<T, SettingsError> const& result, std::uint64_t line) {
    check(result.has_value(), line, result ? 0 : static_cast<std::uint64_t>(result.error()));
    return *result;
}
#define VALUE(result) value_of(result, __LINE__)

using Handle = name_service::ServiceHandle<services::Settings, services::SettingsProxy>;

struct Client : parties::Client {
    using parties::Client::Client;
    Handle plain{space, session, "global/services/settings"};
};

std::uint64_t asked_count = 0;  ///< how often the policy was asked
bool accept(void*, services::OfferedAgent const& agent) {
    ++asked_count;
    return agent.name == "global/services/settings" && agent.publisher != 0 &&
           agent.image.size() > 4096;
}
bool refuse(void*, services::OfferedAgent const&) {
    ++asked_count;
    return false;
}

std::uint64_t reads(Client& client) { return VALUE(client.plain->asked()).reads; }

/// One call; the least of some tries, because interrupts come in between.
template <typename F>
std::uint64_t least_cost(F&& call) {
    std::uint64_t least = UINT64_MAX;
    for (int i = 0; i < 20; ++i) {
        auto const before = cycle_count();
        call();
        auto const cost = cycle_count() - before;
        least = cost < least ? cost : least;
    }
    return least;
}

/// Through the handle, in which there is an agent, calls do what they do without one.
void caches(Client& client, Handle& settings) {
    CHECK(VALUE(settings->read("life")).value.view() == "1", 0);
    // Repeated reads do not leave the domain while the lease lasts.
    for (int i = 0; i < 50; ++i) {
        auto const begun = now();
        CHECK(VALUE(settings->read("life")).value.view() == "1", i);
        auto const before = reads(client);
        for (int k = 0; k < 20; ++k) CHECK(VALUE(settings->read("life")).value.view() == "1", k);
        auto const passed = now() - begun;
        CHECK(passed >= lease || reads(client) <= before + 1, passed.ns());
        Thread::sleep_until(now() + Duration::us(137));
    }
    CHECK(reads(client) < 50, reads(client));
    // What somebody else changes is seen before the lease is over, and not taken back again.
    for (std::uint64_t i = 1; i <= 20; ++i) {
        char const text[2] = {static_cast<char>('a' + i % 26), static_cast<char>('0' + i % 10)};
        std::string_view const value(text, 2);
        if (i > 1) (void)VALUE(settings->read("colour"));
        CHECK(client.plain->write("colour", value).has_value(), i);
        auto const written = now();
        while (VALUE(settings->read("colour")).value.view() != value)
            CHECK(now() - written < lease + delay_max, i);
        for (int k = 0; k < 5; ++k) CHECK(VALUE(settings->read("colour")).value.view() == value, i);
        // What it changes itself is seen at once.
        CHECK(settings->write("colour", "own").has_value(), i);
        CHECK(VALUE(settings->read("colour")).value.view() == "own", i);
        CHECK(VALUE(client.plain->read("colour")).value.view() == "own", i);
    }
    auto const missing = settings->read("nowhere");
    CHECK(!missing && missing.error() == SettingsError::NoSuchSetting, 0);
    // More names than the agent keeps.
    for (char c = 'a'; c < 'a' + 13; ++c) CHECK(settings->write({&c, 1}, {&c, 1}).has_value(), c);
    for (int i = 0; i < 10; ++i) {
        for (char c = 'a'; c < 'a' + 13; ++c) {
            auto const found = VALUE(settings->read({&c, 1}));
            CHECK(found.value.view() == std::string_view(&c, 1), c);
        }
    }
    auto const here = least_cost([&] { (void)settings->read("life"); });
    auto const there = least_cost([&] { (void)client.plain->read("life"); });
    CHECK(here * 2 < there, here);
    log::line("agent: a read here ", here, ", at the service ", there);
}

/// It is as if agents had not been thought of.
void plain(Client& client, Handle& settings, AgentLoader& agents, Failure why, bool asked) {
    for (int i = 0; i < 100; ++i) CHECK(VALUE(settings->read("life")).value.view() == "1", i);
    CHECK(reads(client) == 100, reads(client));
    CHECK(!settings.has_agent() && settings.handle().is_direct(), 0);
    CHECK(agents.why_not() == why, static_cast<std::uint64_t>(agents.why_not()));
    CHECK((asked_count != 0) == asked, asked_count);
}

/// The service dies; its second life has another value.
void reborn(Handle& settings) {
    std::uint64_t failed = 0;
    std::string_view expected = "1";
    bool asks = false;
    for (auto const end = now() + Duration::s(1); settings.connections() < 2;) {
        CHECK(now() < end, 0);
        // While the agent answers, nobody notices a death.
        asks = !asks;
        if (asks && !settings->asked()) ++failed;
        auto const life = settings->read("life");
        if (!life) {
            ++failed;
            continue;
        }
        if (settings.connections() == 2) expected = "2";
        CHECK(life->value.view() == expected, settings.connections());
    }
    for (int i = 0; i < 100; ++i) CHECK(VALUE(settings->read("life")).value.view() == "2", i);
    CHECK(failed <= 1 && settings.has_agent(), failed);
}

void run(Client& client, char mode) {
    constexpr std::string_view here[] = {"elsewhere/", "global/services/"};
    constexpr std::string_view elsewhere[] = {"elsewhere/"};
    constexpr std::uint64_t other_hash[] = {1};
    services::AcceptedAgents list;
    services::AgentPolicy policy{accept, nullptr};
    if (mode == 'n') policy = {};
    if (mode == 'r') policy = {refuse, nullptr};
    if (mode == 'p' || mode == 'q') policy = list.policy();
    if (mode == 'p') list.publishers = here;
    if (mode == 'q') list = {elsewhere, other_hash};
    AgentLoader agents(policy);
    Handle settings(client.space, client.session, "global/services/settings", {.agents = &agents});
    CHECK(!settings.has_agent(), 0);
    switch (mode) {
        case 'a':
        case 'p':
            caches(client, settings);
            CHECK(settings.has_agent() && agents.why_not() == Failure::None, 0);
            break;
        case 'n':
        case 'q':
        case 's':
            plain(client, settings, agents, Failure::Refused, false);
            break;
        case 'r':
            plain(client, settings, agents, Failure::Refused, true);
            break;
        case 'o':
            plain(client, settings, agents, Failure::Unreachable, false);
            break;
        case 'h':
            plain(client, settings, agents, Failure::WrongInterface, false);
            break;
        case 'b':
            plain(client, settings, agents, Failure::BadMessage, true);
            break;
        case 'd':
            reborn(settings);
            break;
        default:
            CHECK(false, 0);
    }
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto& client = parties::open_client<Client>();
    run(client, env.arguments[0]);
    sys::exit(0x600);
}
