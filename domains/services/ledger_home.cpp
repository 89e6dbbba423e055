// ledger_home: where the book of the probes is, or can come to be (home.h).
// Argument: the number of this home ("0"), and 'b' if the book begins its life here ("0b").
#include <new>

#include "domains/names/names_client.h"
#include "domains/services/home.h"
#include "domains/services/ledger.if.h"
#include "libnemesis/clock.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;
using services::LedgerError;

constexpr std::uint64_t space_bytes = 16 * 1024;

class Book final : public services::Ledger, public services::Resident {
public:
    Result<EnterResult, LedgerError> enter(std::uint8_t writer, std::uint64_t number) override {
        if (!is_here()) return fail(LedgerError::NoSuchObject);
        if (writer >= services::writers_max || number != written_.last[writer] + 1)
            return fail(LedgerError::OutOfOrder);
        written_.last[writer] = number;
        return EnterResult{written_.moves, dib().id};
    }
    Result<std::uint64_t, LedgerError> last(std::uint8_t writer) override {
        if (!is_here()) return fail(LedgerError::NoSuchObject);
        if (writer >= services::writers_max) return fail(LedgerError::OutOfOrder);
        return written_.last[writer];
    }
    std::uint32_t save(std::span<std::byte, services::moved_max> to) override {
        ++written_.moves;
        __builtin_memcpy(to.data(), &written_, sizeof(written_));
        return sizeof(written_);
    }
    bool restore(std::span<std::byte const> state) override {
        if (state.size() != sizeof(written_)) return false;
        __builtin_memcpy(&written_, state.data(), sizeof(written_));
        return true;
    }

private:
    struct Written {
        std::uint64_t moves = 0;
        std::uint64_t last[services::writers_max] = {};
    };
    Written written_;
};

/// All that lives as long as the domain: no destructors are ever run.
struct Everything {
    explicit Everything(names::NameSpace const& own) : space(own) {}
    Book book;
    invocation::Backlog calls, moves;
    binder::Session session;
    name_service::SystemNames system{session};
    names::NameSpace space;
    binder::Offered offered{static_cast<services::Ledger*>(&book), services::Ledger::info, calls};
    name_service::Publication name{session, offered};
    services::Home home{session, space, book, name};
    binder::Offered offered_home{nullptr, services::Migrant::info, moves};
    name_service::Publication name_of_home{session, offered_home};
    Thread notices, mover;
};
alignas(Everything) std::byte memory[sizeof(Everything)];

void need(bool holds, std::uint64_t line) {
    if (!holds) sys::exit(line);
}
#define NEED(holds) need(holds, __LINE__)

void start(Thread& thread, void (*function)(void*), void* argument, char const* name) {
    auto* const stack = pages::take(8);
    NEED(stack != nullptr &&
         thread.start(function, argument,
                      {.stack = stack, .stack_bytes = 8 * abi::kPageSize, .name = name}));
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto* const names_memory = static_cast<std::byte*>(pages::take(space_bytes / abi::kPageSize));
    NEED(names_memory != nullptr);
    auto const space = names::NameSpace::create({names_memory, space_bytes}, 1);
    NEED(space.has_value());
    auto& all = *new (memory) Everything(*space);
    NEED(all.session.open().has_value());
    NEED(all.space.make_directory("global").has_value());
    NEED(all.space.mount("global", all.system).has_value());
    start(
        all.notices, [](void* self) { static_cast<binder::Session*>(self)->serve(); }, &all.session,
        "serve");
    start(
        all.mover, [](void* self) { static_cast<invocation::Backlog*>(self)->run(); }, &all.moves,
        "mover");
    NEED(all.name.prepare("services/ledger", {}).has_value());
    if (env.arguments[1] == 'b') all.home.begin();
    NEED(all.name_of_home
             .publish(env.arguments[0] == '0' ? "services/home0" : "services/home1",
                      {.clients_max = services::Home::clients_max,
                       .mode = invocation::CallServer::Mode::Workers,
                       .per_client = all.home.per_client()},
                      now() + Duration::s(1))
             .has_value());
    all.calls.run();
}
