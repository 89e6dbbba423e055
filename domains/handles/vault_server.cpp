// vault_server: offers a Vault, with one object for each client and a worker.
// Argument: the offer's name. What it holds is offered as "NAME.holdings".
#include <new>

#include "domains/binder/session.h"
#include "domains/handles/vault.if.h"
#include "domains/parties/server.h"
#include "libnemesis/clock.h"
#include "libnemesis/invocation/held.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;
using namespace nemesis::invocation;
using vault::Token;
using vault::TokenError;
using vault::VaultError;

constexpr std::uint32_t tokens_max = 64, clients_max = 8, places_max = 8;

class TokenObject final : public Token {
public:
    Result<std::uint64_t, TokenError> value() override { return number; }
    std::uint64_t number = 0;
    std::uint32_t clients = 0;  ///< that can name it; 0: free
    std::uint32_t kept = 0;     ///< places that have it
};

struct Client final : vault::Vault {
    Result<Maillon<Token>, VaultError> make(std::uint64_t value) override;
    Result<bool, VaultError> keep(std::uint32_t place, Maillon<Token> const& token) override;
    Result<std::uint64_t, VaultError> ask(std::uint32_t place) override;
    Result<Maillon<Token>, VaultError> take(std::uint32_t place) override;
    Result<void, VaultError> drop(std::uint32_t place) override;
    Result<std::uint64_t, VaultError> look(Maillon<Token> const& token) override;
    Result<CountsResult, VaultError> counts() override;
    Result<void, VaultError> put(std::uint32_t place, Maillon<Token> const& token) override {
        (void)keep(place, token);
        return {};
    }
    Result<void, VaultError> show(std::span<Maillon<Token> const>) override { return {}; }

    bool used = false;
    Held<Token> places[places_max];
};

TokenObject* tokens = nullptr;
Client* clients = nullptr;

/// The token of ours that the handle is the pointer of; null: somebody else's.
TokenObject* own(Maillon<Token> const& token) {
    if (!token.is_direct()) return nullptr;
    auto* const object = static_cast<TokenObject*>(static_cast<Token*>(token.reference()));
    return object >= tokens && object < tokens + tokens_max ? object : nullptr;
}

Result<Maillon<Token>, VaultError> Client::make(std::uint64_t value) {
    enter_critical();
    TokenObject* free = nullptr;
    for (std::uint32_t i = 0; i < tokens_max && free == nullptr; ++i) {
        if (tokens[i].clients == 0 && tokens[i].kept == 0) free = &tokens[i];
    }
    if (free != nullptr) {
        free->number = value;
        free->clients = 1;  // this client, by the handle that is on its way
    }
    leave_critical();
    if (free == nullptr) return fail(VaultError::NoMemory);
    return Maillon<Token>(free);
}

Result<bool, VaultError> Client::keep(std::uint32_t place, Maillon<Token> const& token) {
    if (place >= places_max) return fail(VaultError::NoSuchPlace);
    if (places[place]) (void)drop(place);
    auto* const mine = own(token);
    if (mine != nullptr) ++mine->kept;
    places[place] = Held<Token>(token);
    return mine != nullptr;
}

Result<std::uint64_t, VaultError> Client::ask(std::uint32_t place) {
    if (place >= places_max || !places[place]) return fail(VaultError::NoSuchPlace);
    auto const value = places[place]->value();
    if (!value) return fail(static_cast<VaultError>(value.error()));
    return *value;
}

Result<Maillon<Token>, VaultError> Client::take(std::uint32_t place) {
    if (place >= places_max || !places[place]) return fail(VaultError::NoSuchPlace);
    if (auto* const mine = own(places[place].maillon()); mine != nullptr) mine->clients = 1;
    return places[place].maillon();
}

Result<void, VaultError> Client::drop(std::uint32_t place) {
    if (place >= places_max || !places[place]) return fail(VaultError::NoSuchPlace);
    if (auto* const mine = own(places[place].maillon()); mine != nullptr) --mine->kept;
    places[place] = {};
    return {};
}

Result<std::uint64_t, VaultError> Client::look(Maillon<Token> const& token) {
    auto copy = token;
    auto const value = copy->value();
    if (!value) return fail(static_cast<VaultError>(value.error()));
    return *value;
}

Result<vault::Vault::CountsResult, VaultError> Client::counts() {
    CountsResult all{};
    for (std::uint32_t i = 0; i < tokens_max; ++i)
        all.tokens += tokens[i].clients != 0 || tokens[i].kept != 0 ? 1 : 0;
    for (std::uint32_t c = 0; c < clients_max; ++c) {
        for (auto const& place : clients[c].places) all.kept += place ? 1 : 0;
    }
    return all;
}

void* open_client(void*, std::uint64_t) {
    for (std::uint32_t i = 0; i < clients_max; ++i) {
        if (clients[i].used) continue;
        clients[i].used = true;
        return static_cast<vault::Vault*>(&clients[i]);
    }
    return nullptr;
}
void close_client(void*, void* object) {
    auto& client = *static_cast<Client*>(static_cast<vault::Vault*>(object));
    for (std::uint32_t i = 0; i < places_max; ++i) (void)client.drop(i);
    client.used = false;
}
void unreferenced(void*, void* object) {
    auto& token = *static_cast<TokenObject*>(static_cast<Token*>(object));
    token.clients = 0;
}

/// All that lives as long as the domain: no destructors are ever run.
struct Server {
    TokenObject token_objects[tokens_max];
    Client client_objects[clients_max];
    Backlog backlog;
    binder::Session session;
    binder::Offered offered{nullptr, vault::Vault::info, backlog};
    parties::OfferedHoldings holdings{backlog};
};

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto* const memory = pages::take(sizeof(Server) / abi::kPageSize + 1);
    if (memory == nullptr) sys::exit(8);
    auto& server = *new (memory) Server;
    tokens = server.token_objects;
    clients = server.client_objects;
    if (!server.session.open()) sys::exit(9);
    std::string_view const name = env.arguments;
    parties::offer(server.session, server.offered,
                   {.name = name,
                    .clients_max = clients_max,
                    .mode = CallServer::Mode::Workers,
                    .per_client = {open_client, close_client, nullptr},
                    .takes_handles = true,
                    .unreferenced = {unreferenced, nullptr}});
    server.holdings.offer_for(server.session, name);
    if (!server.session.start_serving()) sys::exit(8);
    server.backlog.run();
}
