// vault_far: passes handles to a vault on another machine and back (domains/handles/vault.if), and
// checks what they lead to.
//
// Argument: the vault's name ("/b/vault"), a letter, and how many rounds ("/b/vault c20").
//   c  all kinds of handles, while another thread has tokens of its own looked at; in the end
//   nothing
//      is left at the vault; exits with 0
//   h  the vault keeps a token of this domain's and asks it; then this domain waits to be killed
//   g  comes after the death of a machine that did so: its token's number can be had from nobody,
//   the
//      vault's own has gone, and in the end nothing is left; exits with 0
// Else exits with 0xbad'0000 and the line where something was not as it must be.
#include <new>

#include "domains/handles/vault.if.h"
#include "domains/node/service_names.h"
#include "domains/parties/check.h"
#include "libnemesis/invocation/held.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;
using namespace nemesis::invocation;
using vault::Token;
using vault::TokenError;
using vault::VaultError;

constexpr std::uint64_t names_bytes = 16 * 1024;
constexpr auto allowed = Duration::s(60);

using parties::check;

template <typename T>
T value_of(Result<T, VaultError> const& result, std::uint64_t line) {
    check(result.has_value(), line, result ? 0 : static_cast<std::uint64_t>(result.error()));
    return *result;
}
/// The ring of a binding is short, and what is given back lies in it too: then the call is made
/// again.
template <typename Call>
auto patiently(Call&& call) {
    for (;;) {
        auto result = call();
        if (result || result.error() != VaultError::Busy) return result;
        Thread::sleep_until(now() + Duration::us(100));
    }
}
#define PATIENTLY(call) patiently([&] { return call; })
#define VALUE(call) value_of(PATIENTLY(call), __LINE__)

class OwnToken final : public Token {
public:
    Result<std::uint64_t, TokenError> value() override { return number; }
    std::uint64_t number = 0;
    std::uint64_t let_go = 0;  ///< how often nobody elsewhere could name it any more
};

/// All that lives as long as the domain: no destructors are ever run.
struct User {
    static void unreferenced(void*, void* object) {
        ++static_cast<OwnToken*>(static_cast<Token*>(object))->let_go;
    }
    explicit User(names::NameSpace const& own) : space(own) {}
    binder::Session session;
    Backlog backlog;
    binder::Giver giver{backlog, CallServer::Mode::Workers, {unreferenced, nullptr}};
    binder::Bound bound{giver};
    names::NameSpace space;
    node::NodeNames far{session, "b"};
    OwnToken mine;
    Thread worker;
};
alignas(User) std::byte user_memory[sizeof(User)];
using Vault = vault::VaultProxy<CallClient>;

template <typename F>
void wait_for(F&& condition, std::uint64_t line) {
    for (auto const end = now() + allowed; !condition();
         Thread::sleep_until(now() + Duration::ms(2)))
        check(now() < end, line);
}

void bind(User& user, std::string_view name) {
    for (auto const end = now() + allowed;;) {
        auto const found = user.space.resolve(name, {.deadline = now() + Duration::s(5)});
        if (found && user.session.bind(user.bound, found->reference, vault::Vault::info, 4, end))
            return;
        CHECK(now() < end, 0);
        Thread::sleep_until(now() + Duration::ms(5));
    }
}

/// Another thread's calls beside those of the first: each is answered by its own token.
struct Beside {
    static void run(void* self) {
        auto& beside = *static_cast<Beside*>(self);
        Vault far(*beside.client);
        far.set_until(now() + allowed);
        OwnToken token;
        for (std::uint64_t i = 0; !beside.is_over; ++i) {
            token.number = 100'000 + i;
            CHECK(VALUE(far.look(Maillon<Token>(&token))) == token.number, i);
            ++beside.looks;
        }
        // The vault's machine has let it go before this stack is gone.
        wait_for([&] { return token.let_go != 0; }, __LINE__);
        beside.has_ended = true;
    }
    CallClient* client = nullptr;
    bool volatile is_over = false, has_ended = false;
    std::uint64_t looks = 0;
};

void all_kinds(User& user, Vault& far, std::uint64_t round) {
    // The vault's own: a proxy here, its own pointer when it comes back.
    {
        auto const theirs = Held<Token>::adopt(VALUE(far.make(1000 + round)));
        CHECK(!theirs.maillon().is_direct(), round);
        auto handle = theirs.maillon();
        auto const value = handle->value();
        CHECK(value && *value == 1000 + round, value ? *value : 0);
        CHECK(VALUE(far.look(theirs.maillon())) == 1000 + round, round);
        CHECK(VALUE(far.keep(0, theirs.maillon())), round);
        CHECK(VALUE(far.ask(0)) == 1000 + round, round);
    }
    // Nobody here holds it any more; the vault does.
    CHECK(VALUE(far.ask(0)) == 1000 + round, round);
    {
        auto again = Held<Token>::adopt(VALUE(far.take(0)));
        auto const value = again->value();
        CHECK(value && *value == 1000 + round, round);
    }
    CHECK(PATIENTLY(far.drop(0)).has_value(), round);
    // One of this domain's: looked at, then kept; the pointer itself when it comes back.
    user.mine.number = 7000 + round;
    CHECK(VALUE(far.look(Maillon<Token>(&user.mine))) == 7000 + round, round);
    CHECK(!VALUE(far.keep(1, Maillon<Token>(&user.mine))), round);
    user.mine.number = 8000 + round;
    CHECK(VALUE(far.ask(1)) == 8000 + round, round);
    CHECK(VALUE(far.keep(2, Maillon<Token>(&user.mine))) == false, round);
    {
        auto const back = Held<Token>::adopt(VALUE(far.take(1)));
        CHECK(back.maillon().is_direct() &&
                  back.maillon().reference() == static_cast<Token*>(&user.mine),
              round);
    }
    auto const let_go = user.mine.let_go;
    CHECK(PATIENTLY(far.drop(1)).has_value(), round);
    CHECK(VALUE(far.ask(2)) == 8000 + round, round);
    CHECK(PATIENTLY(far.drop(2)).has_value(), round);
    // The same without a reply.
    user.mine.number = 9000 + round;
    CHECK(PATIENTLY(far.put(3, Maillon<Token>(&user.mine))).has_value(), round);
    CHECK(VALUE(far.ask(3)) == 9000 + round, round);
    CHECK(PATIENTLY(far.drop(3)).has_value(), round);
    // It is known here that nobody there has it any more.
    wait_for([&] { return user.mine.let_go > let_go; }, __LINE__);
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto* const memory = static_cast<std::byte*>(pages::take(names_bytes / abi::kPageSize));
    auto* const stack = pages::take(8);
    CHECK(memory != nullptr && stack != nullptr, 0);
    auto const space = names::NameSpace::create({memory, names_bytes}, 1);
    CHECK(space.has_value(), 0);
    auto& user = *new (user_memory) User(*space);
    CHECK(user.session.open().has_value(), 0);
    CHECK(user.space.make_directory("b").has_value() && user.space.mount("b", user.far).has_value(),
          0);
    constexpr std::uint64_t stack_pages = 8;
    CHECK(user.session.start_serving(stack_pages).has_value(), 0);
    constexpr auto stack_bytes = stack_pages * abi::kPageSize;
    CHECK(user.worker.start([](void* self) { static_cast<Backlog*>(self)->run(); }, &user.backlog,
                            {.stack = stack, .stack_bytes = stack_bytes, .name = "worker"}),
          0);
    std::string_view text(env.arguments);
    std::size_t space_at = 0;
    while (space_at < text.size() && text[space_at] != ' ') ++space_at;
    CHECK(space_at + 1 < text.size(), 0);
    auto const mode = text[space_at + 1];
    std::uint64_t rounds = 0;
    for (auto i = space_at + 2; i < text.size(); ++i)
        rounds = rounds * 10 + static_cast<std::uint64_t>(text[i] - '0');
    bind(user, {text.data(), space_at});
    Vault far(user.bound.client());
    far.set_until(now() + allowed);
    if (mode == 'c') {
        static Beside beside;
        static Thread other;
        beside.client = &user.bound.client();
        auto* const other_stack = pages::take(stack_pages);
        CHECK(other_stack != nullptr &&
                  other.start(Beside::run, &beside,
                              {.stack = other_stack, .stack_bytes = stack_bytes, .name = "beside"}),
              0);
        for (std::uint64_t i = 0; i < rounds; ++i) all_kinds(user, far, i);
        CHECK(beside.looks != 0, 0);
        beside.is_over = true;
        wait_for([&] { return static_cast<bool>(beside.has_ended); }, __LINE__);
        wait_for([&] { return VALUE(far.counts()).tokens == 0; }, __LINE__);
        CHECK(VALUE(far.counts()).kept == 0, 0);
        log::line("@handles ", rounds, " rounds");
        sys::exit(0);
    }
    if (mode == 'h') {
        auto const theirs = Held<Token>::adopt(VALUE(far.make(1)));
        CHECK(!VALUE(far.keep(3, Maillon<Token>(&user.mine))), 0);
        CHECK(VALUE(far.counts()).tokens == 1, 0);
        log::line("@holds");
        for (;;) Thread::sleep_until(now() + Duration::s(1));
    }
    wait_for([&] { return VALUE(far.counts()).tokens == 0; }, __LINE__);
    CHECK(VALUE(far.counts()).kept == 1, 0);
    auto const dead = far.ask(3);
    CHECK(!dead && dead.error() == VaultError::PeerDead, 0);
    CHECK(PATIENTLY(far.drop(3)).has_value() && VALUE(far.counts()).kept == 0, 0);
    // As before.
    all_kinds(user, far, 1);
    log::line("@gone");
    sys::exit(0);
}
