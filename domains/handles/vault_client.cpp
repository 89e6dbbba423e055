// vault_client: passes handles to a vault and back, and checks what they lead to; other modes are
// hostile.
//
// Argument: a letter, a number.
//   c  all kinds of handles, with the vaults "vault" and "other"; exits with 0x600
//   l  the same with "vault" without end; nothing of the one before may be left when it begins
//   d  as l, and comes through NUMBER deaths of the vault; exits with 0x600
//   v  the same with "vault" once; exits with 0x600 and how many endpoints the vault has in use
//      while this client is bound to what it holds
//   s  holds a token and sleeps until it is told of the vault's death; then the token is dead,
//   without
//      a call. Exits with 0x600
//   h  holds tokens of the vault's, the vault holds one of its own, and both are asked for ever
//   x  handles and releases of anybody's making, for ever
// Exits with 0xe00 and a number when so many endpoints of a binding that is over are still in use.
// Exits with 0xbad'0000 and the line where something was not as it must be.
#include <new>

#include "domains/binder/session.h"
#include "domains/handles/vault.if.h"
#include "domains/parties/server.h"
#include "libnemesis/base/random.h"
#include "libnemesis/clock.h"
#include "libnemesis/invocation/held.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;
using namespace nemesis::invocation;
using vault::Token;
using vault::TokenError;
using vault::VaultError;
using Vault = vault::VaultProxy<CallClient>;

void check(bool holds, std::uint64_t line) {
    if (!holds) sys::exit(0xbad'0000 + line);
}
#define CHECK(holds) check(holds, __LINE__)

class OwnToken final : public Token {
public:
    Result<std::uint64_t, TokenError> value() override { return number; }
    std::uint64_t number = 0;
    std::uint64_t let_go = 0;  ///< how often a vault had it no more
};

/// All that lives as long as the domain: no destructors are ever run.
struct User {
    static void unreferenced(void*, void* object) {
        ++static_cast<OwnToken*>(static_cast<Token*>(object))->let_go;
    }
    binder::Session session;
    Backlog backlog;
    binder::Giver vault_giver{backlog, CallServer::Mode::Workers, {unreferenced, nullptr}};
    binder::Giver other_giver{backlog, CallServer::Mode::Workers, {unreferenced, nullptr}};
    binder::Bound vault{vault_giver}, other{other_giver};
    OwnToken mine;
    Thread worker;
};

User& make_user() {
    auto* const memory = pages::take(sizeof(User) / abi::kPageSize + 1);
    auto* const stack = pages::take(4);
    CHECK(memory != nullptr && stack != nullptr);
    auto& user = *new (memory) User;
    CHECK(user.session.open().has_value());
    CHECK(user.session.start_serving().has_value());
    CHECK(user.worker.start([](void* self) { static_cast<Backlog*>(self)->run(); }, &user.backlog,
                            {.stack = stack, .stack_bytes = 4 * abi::kPageSize, .name = "worker"}));
    return user;
}

void bind(User& user, binder::Bound& bound, std::string_view name,
          InterfaceInfo const& info = vault::Vault::info) {
    for (auto const end = now() + Duration::ms(300);;) {
        auto const done = user.session.bind_named(bound, name, info, 16, end);
        if (done) return;
        CHECK(now() < end &&
              (done.error() == Failure::Unreachable || done.error() == Failure::PeerDead));
        Thread::sleep_until(now() + Duration::us(50));
    }
}

template <typename F>
bool soon(F&& condition) {
    for (auto const end = now() + Duration::ms(100); !condition();) {
        if (now() > end) return false;
        Thread::sleep_until(now() + Duration::us(50));
    }
    return true;
}

/// Every kind of handle once. Errors of calls are the caller's to judge; wrong results are not.
Result<void, VaultError> round(User& user, std::uint64_t number) {
    Vault vault(user.vault.client());
    // The vault's own object: here a proxy, there the pointer again.
    auto theirs = Held<Token>::adopt(TRY(vault.make(number)));
    auto const value_of = [](Held<Token>& token) -> Result<std::uint64_t, VaultError> {
        auto const value = token->value();
        if (!value) return fail(static_cast<VaultError>(value.error()));
        return *value;
    };
    CHECK(TRY(value_of(theirs)) == number);
    CHECK(TRY(vault.keep(0, theirs.maillon())));
    auto const stale = theirs.maillon();
    theirs = {};
    // Kept there it lives on; and what has been given back here is no handle any more.
    CHECK(TRY(vault.ask(0)) == number);
    CHECK(Maillon<Token>(stale)->value().error() == TokenError::NoSuchObject);
    theirs = Held<Token>::adopt(TRY(vault.take(0)));
    TRY_VOID(vault.drop(0));
    CHECK(TRY(value_of(theirs)) == number);
    // This domain's own object: called by the vault, kept there, and the pointer again here.
    auto& mine = user.mine;
    mine.number = number + 1;
    auto const before = mine.let_go;
    CHECK(TRY(vault.look(&mine)) == number + 1);
    CHECK(!TRY(vault.keep(1, &mine)));
    CHECK(TRY(vault.ask(1)) == number + 1);
    mine.number = number + 2;
    CHECK(TRY(vault.ask(1)) == number + 2);
    auto const back = TRY(vault.take(1));
    CHECK(back.is_direct() && back.reference() == static_cast<Token*>(&mine));
    TRY_VOID(vault.drop(1));
    // The same without a reply.
    mine.number = number + 3;
    TRY_VOID(vault.put(1, &mine));
    CHECK(TRY(vault.ask(1)) == number + 3);
    TRY_VOID(vault.drop(1));
    if (!soon([&] { return mine.let_go > before || user.vault.is_dead(); })) CHECK(false);
    return {};
}

void everything(User& user) {
    bind(user, user.vault, "vault");
    bind(user, user.other, "other");
    CHECK(round(user, 100).has_value());
    Vault vault(user.vault.client()), other(user.other.client());
    // A table has an end, and what could not be given is not kept by anybody.
    Held<Token> many[8];
    std::uint64_t made = 0;
    for (; made < 8; ++made) {
        auto const token = vault.make(made);
        if (!token) break;
        many[made] = Held<Token>::adopt(*token);
    }
    CHECK(made == 7);
    CHECK(vault.counts()->tokens == 7);
    for (std::uint64_t i = 0; i < made; ++i) CHECK(*many[i]->value() == i);
    // A handle can be copied, and the last one counts.
    auto copy = many[3];
    many[3] = {};
    CHECK(*copy->value() == 3);
    // One vault's token in the other: this domain forwards, and holds it as long.
    CHECK(!*other.keep(0, copy.maillon()));
    copy = {};
    CHECK(*other.ask(0) == 3);
    auto const home = other.take(0);
    CHECK(home && *Held<Token>::adopt(*home)->value() == 3);
    CHECK(other.drop(0).has_value());
    for (auto& token : many) token = {};
    CHECK(soon([&] { return vault.counts()->tokens == 0; }));
    CHECK(vault.ask(0).error() == VaultError::NoSuchPlace);
    // Announced are more than the vault has room for, then as many as it has: none stays given.
    OwnToken shown[10];
    for (std::size_t const count : {std::size(shown), std::size_t{4}}) {
        Maillon<Token> all[std::size(shown)];
        for (std::size_t i = 0; i < count; ++i) all[i] = &shown[i];
        CHECK(other.show({all, count}).has_value());
        CHECK(soon([&] {
            std::uint64_t let_go = 0;
            for (auto const& token : shown) let_go += token.let_go;
            return let_go == (count == std::size(shown) ? count : count + std::size(shown));
        }));
    }
    // A vault that ends its binding lets go of all at once.
    auto const before = user.mine.let_go;
    for (std::uint32_t i = 0; i < 8; ++i) CHECK(other.keep(i, &user.mine).has_value());
    user.session.unbind(user.other);
    CHECK(soon([&] { return user.mine.let_go == before + 1; }));
    CHECK(soon([&] { return vault.counts()->kept == 0; }));
}

[[noreturn]] void rounds(User& user, std::uint64_t deaths) {
    auto const before = parties::endpoints_used();
    for (std::uint64_t died = 0;;) {
        bind(user, user.vault, "vault");
        Vault vault(user.vault.client());
        // What the one before has left goes without it.
        auto const clean = [&] {
            auto const counts = vault.counts();
            return !counts || (counts->tokens == 0 && counts->kept == 0);
        };
        CHECK(soon(clean));
        for (std::uint64_t i = 1;; ++i) {
            auto const done = round(user, i);
            if (done) continue;
            CHECK(deaths != 0 &&
                  (done.error() == VaultError::PeerDead || done.error() == VaultError::Cancelled));
            break;
        }
        user.session.unbind(user.vault);
        if (auto const used = parties::endpoints_used(); used != before)
            sys::exit(0xe00 + used - before);
        if (++died == deaths) sys::exit(0x600);
    }
}

/// Nobody's death has left anything at the vault; how many endpoints it has.
[[noreturn]] void verify(User& user) {
    bind(user, user.vault, "vault");
    CHECK(round(user, 5).has_value());
    user.session.unbind(user.vault);
    bind(user, user.vault, parties::HoldingsName("vault").view(), parties::Holdings::info);
    parties::HoldingsProxy<CallClient> holdings(user.vault.client());
    auto const used = parties::endpoints_settled(holdings);
    CHECK(used.has_value());
    sys::exit(0x600 + *used);
}

/// Knows of the vault's death, and that of its token, without a call.
[[noreturn]] void sleep(User& user) {
    static bool volatile told = false;
    user.vault.client().watch({[](void*) { told = true; }, nullptr});
    bind(user, user.vault, "vault");
    auto token = Held<Token>::adopt(*Vault(user.vault.client()).make(1));
    while (!told) {
        CHECK(!token.is_dead() || user.vault.is_dead());
        Thread::sleep_until(now() + Duration::us(20));
    }
    CHECK(token.is_dead());
    CHECK(token->value().error() == TokenError::PeerDead);
    sys::exit(0x600);
}

/// Has tokens that others may want.
[[noreturn]] void hold(User& user) {
    bind(user, user.vault, "vault");
    Vault vault(user.vault.client());
    for (std::uint32_t i = 0; i < 5; ++i) {
        auto const token = vault.make(7777);
        CHECK(token && vault.keep(i, *token).has_value());
    }
    user.mine.number = 8888;
    CHECK(vault.keep(5, &user.mine).has_value());
    for (;;) {
        CHECK(vault.ask(0).value_or(0) == 7777 && vault.ask(5).value_or(0) == 8888);
        Thread::sleep_until(now() + Duration::us(300));
    }
}

/// Bodies with handles that nobody gave, and releases of what nobody has.
[[noreturn]] void nonsense(User& user, std::uint64_t seed) {
    bind(user, user.vault, "vault");
    auto& client = user.vault.client();
    Random random(seed);
    constexpr std::uint32_t keep = 1, ask = 2, look = 5;
    for (;;) {
        WireHandle wire;
        wire.owner = static_cast<HandleOwner>(random.below(4));
        wire.number = static_cast<std::uint32_t>(
            random.below(3) == 0
                ? random.next()
                : random.below(9) + random.below(9) * ConnectionHandles::exports_max);
        wire.hash = random.below(8) == 0 ? random.next() : Token::info.hash.low;
        auto const operation = static_cast<std::uint16_t>(random.below(2) == 0 ? keep : look);
        auto const room = client.begin(24);
        CHECK(room.has_value());
        auto* const body = room->body.data();
        std::uint64_t const place = random.below(9);
        __builtin_memcpy(body, &place, 8);
        __builtin_memcpy(body + (operation == keep ? 8 : 0), &wire, sizeof(wire));
        // Tokens are called by operation 0; a number that is none of ours must be refused.
        auto const target =
            random.below(3) == 0 ? CallTarget{wire.number, 0} : CallTarget{0, operation};
        auto const bytes = target.object != 0 ? 0u : operation == keep ? 24u : 16u;
        auto const reply = client.call(*room, target, bytes, now() + Duration::ms(2));
        if (reply) {
            // Tokens that we were given are good, and have the value 1; nobody else's are.
            if (reply->status == 0 && (operation == look || target.object != 0) &&
                wire.owner != HandleOwner::Nobody)
                CHECK(reply->body.size() == 8 &&
                      marshal::load_once<std::uint64_t>(reply->body.data()) == 1);
            client.done(*reply);
        }
        if (random.below(3) == 0)
            (void)client.release(wire.number, static_cast<std::uint32_t>(random.next()));
        if (random.below(3) == 0) (void)Vault(client).make(1);
        if (random.below(8) == 0) {
            Vault vault(client);
            vault.set_until(now() + Duration::ms(2));
            (void)vault.ask(ask);
        }
    }
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto const* at = env.arguments + 1;
    std::uint64_t number = 0;
    for (; *at >= '0' && *at <= '9'; ++at)
        number = number * 10 + static_cast<std::uint64_t>(*at - '0');
    auto& user = make_user();
    switch (env.arguments[0]) {
        case 'l':
        case 'd':
            rounds(user, env.arguments[0] == 'd' ? number : 0);
        case 'v':
            verify(user);
        case 's':
            sleep(user);
        case 'h':
            hold(user);
        case 'x':
            nonsense(user, number);
        default:
            everything(user);
    }
    sys::exit(0x600);
}
