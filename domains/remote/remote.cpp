// remote: the domain through which the others of this machine and other machines call each other.
//
// It owns the node of remote invocation (node_calls.h), offers "nodes" to the binder (imports.h),
// and answers other nodes for the services it was told to export (exports.h). The main thread is
// the node's pump; one thread answers the binder, some serve imports, some do the jobs of others.
// Argument: "nodes=a:026e656d000a,b:026e656d000b exports=clock,filter": who is called how, by the
// address of its network card, and what others may use here. The command line's incarnation=NUMBER
// makes this life of the node different from all earlier ones.
#include <new>

#include "domains/binder/session.h"
#include "domains/remote/exports.h"
#include "domains/remote/imports.h"
#include "libnemesis/base/random.h"
#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/machine.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;
using namespace nemesis::nodes;

constexpr std::uint32_t kWorkers = 4, kJobThreads = 4;
constexpr std::uint64_t kStackPages = 8;

/// The next word of `text` up to `separator`, which `text` loses.
std::string_view take_word(std::string_view& text, char separator) {
    std::size_t n = 0;
    while (n < text.size() && text[n] != separator) ++n;
    std::string_view const word(text.data(), n);
    text.remove_prefix(n < text.size() ? n + 1 : n);
    return word;
}

bool starts(std::string_view text, std::string_view with) {
    return text.size() >= with.size() && text.substr(0, with.size()) == with;
}

/// What the argument says.
struct Settings {
    KnownNode nodes[nodes_max];
    std::string_view services[services_max];
    std::uint32_t node_count = 0, service_count = 0;
};

bool read_nodes(std::string_view text, Settings& settings) {
    while (!text.empty()) {
        auto one = take_word(text, ',');
        auto const name = take_word(one, ':');
        if (settings.node_count == nodes_max || name.empty() || one.size() != 12) return false;
        std::uint64_t address = 0;
        for (char const c : one) {
            auto const digit = c >= '0' && c <= '9'   ? c - '0'
                               : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                                      : -1;
            if (digit < 0) return false;
            address = address << 4 | static_cast<std::uint64_t>(digit);
        }
        settings.nodes[settings.node_count++] = {name, {address}};
    }
    return true;
}

bool read_services(std::string_view text, Settings& settings) {
    while (!text.empty()) {
        if (settings.service_count == services_max) return false;
        settings.services[settings.service_count++] = take_word(text, ',');
    }
    return true;
}

bool read_argument(std::string_view text, Settings& settings) {
    while (!text.empty()) {
        auto word = take_word(text, ' ');
        bool const sound = starts(word, "nodes=")     ? read_nodes(word.substr(6), settings)
                           : starts(word, "exports=") ? read_services(word.substr(8), settings)
                                                      : word.empty();
        if (!sound) return false;
    }
    return true;
}

/// The number behind "incarnation=" of the machine's command line, stirred with the counter: an
/// emulator may begin every life with the same one.
std::uint64_t incarnation() {
    auto const line = machine_command_line();
    std::uint64_t number = 0;
    for (char const c : line.after("incarnation=")) {
        if (c < '0' || c > '9') break;
        number = number * 10 + static_cast<std::uint64_t>(c - '0');
    }
    SplitMix mix(number ^ cycle_count() << 20);
    return mix.next();
}

template <typename T>
T* room() {
    return static_cast<T*>(pages::take((sizeof(T) + abi::kPageSize - 1) / abi::kPageSize));
}

[[noreturn]] void failed(std::string_view why) {
    log::line(why);
    sys::exit(8);
}

bool start(void (*function)(void*), void* argument, char const* name) {
    auto* const thread = room<Thread>();
    auto* const stack = pages::take(kStackPages);
    return thread != nullptr && stack != nullptr &&
           (new (thread) Thread)
               ->start(function, argument,
                       {.stack = stack, .stack_bytes = kStackPages * abi::kPageSize, .name = name});
}

/// All that lives as long as the domain: no destructors are ever run.
struct Everything {
    Settings settings;
    binder::Session session;
    invocation::Backlog backlog;
    NodeCalls calls;
    HandleRelay relay{calls};
    Exports exports{calls, relay, session, backlog};
    Imports* imports = nullptr;
};

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto* const memory = room<Everything>();
    auto* const imports_memory = room<Imports>();
    if (memory == nullptr || imports_memory == nullptr) failed("no memory");
    auto& all = *new (memory) Everything;
    if (!read_argument(env.arguments, all.settings)) failed("the argument makes no sense");
    if (!all.session.open()) failed("no binder");
    if (!all.calls.open(incarnation(), all.exports)) failed("no channel to a network driver");
    if (!all.relay.open()) failed("no memory for descriptions");
    if (!all.exports.open({all.settings.services, all.settings.service_count}))
        failed("no memory for jobs");
    all.imports = new (imports_memory) Imports(all.calls, all.relay, all.session, all.backlog,
                                               {all.settings.nodes, all.settings.node_count});
    auto& offered = *new (room<binder::Offered>())
                        binder::Offered(static_cast<Nodes*>(all.imports), Nodes::info, all.backlog);
    auto const done = all.session.offer(
        offered, {.name = "nodes", .slots = 4, .mode = invocation::CallServer::Mode::Workers});
    if (!done) failed("the binder does not take the offer");
    auto const serve = [](void* self) { static_cast<binder::Session*>(self)->serve(); };
    auto const work = [](void* self) { static_cast<invocation::Backlog*>(self)->run(); };
    auto const jobs = [](void* self) { static_cast<Exports*>(self)->work(); };
    bool started = start(serve, &all.session, "serve");
    for (std::uint32_t i = 0; i < kWorkers; ++i)
        started = started && start(work, &all.backlog, "worker");
    for (std::uint32_t i = 0; i < kJobThreads; ++i)
        started = started && start(jobs, &all.exports, "job");
    if (!started) failed("too few context slots for the threads");
    all.calls.pump();
}
