#include "domains/console/console_output.h"

#include <algorithm>

#include "domains/console/console.if.h"
#include "domains/names/names_client.h"
#include "libnemesis/clock.h"
#include "libnemesis/start/output.h"

namespace nemesis::console {
namespace {

constexpr auto patience = Duration::s(2);  ///< with whoever shows it
constexpr std::size_t piece_max = 1024;    ///< of one call: Console.write

/// For ever: no destructors are run.
struct Way {
    explicit Way(binder::Session& session) : names(session), proxy(bound.client()) {}
    name_service::SystemNames names;
    binder::Bound bound;
    ConsoleProxy<invocation::CallClient> proxy;
    Mutex writing;
};
alignas(Way) std::byte way_memory[sizeof(Way)];
alignas(binder::Session) std::byte session_memory[sizeof(binder::Session)];
Way& way() { return *reinterpret_cast<Way*>(way_memory); }

/// Yields how much of it was shown.
std::size_t write(std::string_view text) {
    auto& to = way();
    if (state().rw->activations_on == 0 || to.bound.client().is_dead()) return 0;
    std::size_t shown = 0;
    to.writing.lock();
    while (shown < text.size()) {
        auto const piece = text.substr(shown, piece_max);
        to.proxy.set_until(now() + patience);
        if (!to.proxy.write(piece)) break;
        shown += piece.size();
    }
    to.writing.unlock();
    return shown;
}

}  // namespace

bool write_to_console(binder::Session& session) {
    auto const root = session.binder().root();
    if (!root || *root == 0) return false;
    auto& to = *new (way_memory) Way(session);
    to.names.ask_first(*root);
    auto const until = now() + patience;
    auto const found = to.names.resolve(name, {.deadline = until});
    if (!found || found->function != Console::info.hash.low ||
        !session.bind(to.bound, found->reference, Console::info, 2, until))
        return false;
    set_output(&write);
    return true;
}

bool write_to_console() {
    auto& session = *new (session_memory) binder::Session;
    return session.open() && write_to_console(session);
}

}  // namespace nemesis::console
