#include "tests/simulator/relay_world.h"

#include <cstring>
#include <list>
#include <map>
#include <memory>
#include <set>

#include "domains/handles/vault.if.h"
#include "domains/remote/handle_relay.h"
#include "libnemesis/clock.h"
#include "libnemesis/invocation/held.h"
#include "libnemesis/memory/pages.h"
#include "tests/simulator/network.h"
#include "tests/simulator/strands.h"

namespace nemesis::simulation {

using namespace invocation;
using vault::Token;
using vault::TokenError;
using vault::VaultError;

class RelayWorld;
namespace {
RelayWorld* world = nullptr;  // one at a time
constexpr int clients = 2;
constexpr std::uint32_t bytes_max = 1024, places_max = 8;
}  // namespace

/// A token of some domain: alive while somebody can name it or it is kept.
struct TokenObject final : Token {
    std::uint64_t number = 0;
    bool is_named = false;
    std::uint32_t kept = 0;
    bool is_alive() const { return is_named || kept != 0; }
    Result<std::uint64_t, TokenError> value() override;
};

/// One end of a connection of two domains of a machine, of which calls take no time.
struct LocalEnd final : Transport, HandleLink {
    Export exports[48];
    Import imports[48];
    ConnectionHandles table{exports, imports, this};
    LocalEnd* other = nullptr;
    std::list<Bytes> bodies;

    LocalEnd() {
        table.set_imports(imports, this, this);
        table.set_no_root();
    }
    Result<Outgoing, Failure> begin(std::uint32_t body_max) override {
        bodies.emplace_back(body_max);
        return Outgoing{bodies.back(), reinterpret_cast<std::uint64_t>(&bodies.back())};
    }
    void abandon(Outgoing const& o) override { release_body(o.token); }
    Result<Incoming, Failure> call(Outgoing const& out, CallTarget target, std::uint32_t bytes,
                                   Instant until) override;
    void done(Incoming const& in) override { release_body(in.token); }
    Result<void, Failure> announce(Outgoing const& out, CallTarget target,
                                   std::uint32_t bytes) override;
    HandleTable* handles() override { return &table; }
    std::uint64_t enter() override { return 0; }
    void leave(std::uint64_t) override {}
    Result<void, Failure> reach() override { return {}; }
    bool release(std::uint32_t number, std::uint32_t count) override {
        other->table.released(number, count);
        return true;
    }
    void wanted() override {}

    Served serve(Export const& to, std::uint16_t operation, Bytes const& body,
                 std::span<std::byte> reply);

private:
    void release_body(std::uint64_t token) {
        bodies.remove_if(
            [&](Bytes const& b) { return reinterpret_cast<std::uint64_t>(&b) == token; });
    }
};

/// Both ends: a domain's, and that of the domain of the relay.
struct Connection {
    LocalEnd domain, relay;
    Connection() {
        domain.other = &relay;
        relay.other = &domain;
    }
};

struct VaultObject final : vault::Vault {
    std::list<TokenObject> tokens;
    Held<Token> places[places_max];
    TokenObject* own(Maillon<Token> const& token);
    void drop_all() {
        for (std::uint32_t i = 0; i < places_max; ++i) (void)drop(i);
    }
    Result<Maillon<Token>, VaultError> make(std::uint64_t value) override;
    Result<bool, VaultError> keep(std::uint32_t place, Maillon<Token> const& token) override;
    Result<std::uint64_t, VaultError> ask(std::uint32_t place) override;
    Result<Maillon<Token>, VaultError> take(std::uint32_t place) override;
    Result<void, VaultError> drop(std::uint32_t place) override;
    Result<std::uint64_t, VaultError> look(Maillon<Token> const& token) override;
    Result<CountsResult, VaultError> counts() override { return CountsResult{}; }
    Result<void, VaultError> put(std::uint32_t place, Maillon<Token> const& token) override {
        (void)keep(place, token);
        return {};
    }
    Result<void, VaultError> show(std::span<Maillon<Token> const>) override { return {}; }
};

struct RelayMachine;

/// What a client calls: the vault of another machine.
struct FarRoot {
    RelayMachine* machine = nullptr;
    int target = 0;
    nodes::Kind* kind = nullptr;
    InterfaceInfo info;
    static Served forward(void* self, std::uint16_t operation, std::span<std::byte const> body,
                          std::span<std::byte> reply, HandleTable* handles);
};

struct Client {
    FarRoot root;
    Connection connection;
    bool has_room = false;  ///< for what it gives, at the relay
    std::list<TokenObject> tokens;
};

/// A machine in one life.
struct Life {
    explicit Life(RelayMachine& machine) : calls(machine), relay(calls) {}
    nodes::NodeCalls calls;
    nodes::HandleRelay relay;
    nodes::Kind* kind = nullptr;
    VaultObject vault;
    Connection binding;  ///< of the relay's domain to the vault
    bool vault_is_busy = false;
    Client client[clients];
    std::list<Strand> strands;
};

struct RelayMachine final : NetworkNode {
    std::unique_ptr<Life> of_life;
    bool is_dying = false;

    void send(remote::Address to, std::span<std::byte const> datagram) override {
        if (!is_dying) NetworkNode::send(to, datagram);
    }
    void on_request(remote::Incoming const& request) override;
    void on_announcement(remote::Incoming const&) override {}
    void on_reply(std::uint64_t cookie, remote::Status status,
                  std::span<std::byte const> bytes) override;
    void on_cancelled(remote::CallToken) override {}
    void on_unreferenced(std::uint32_t, std::uint64_t tag) override {
        of_life->relay.unreferenced_near(tag);
    }
    void on_peer_lost(remote::PeerId) override {}
};

/// A strand's call of another node.
struct Waiting {
    Strand* strand;
    std::span<std::byte> room;
    remote::Status status = remote::Status::Ok;
    std::uint32_t bytes = 0;
    bool is_over = false;
};

class RelayWorld final : public Network {
public:
    RelayWorld(std::uint64_t seed, WorldOptions const& options) : Network(seed, options) {
        world = this;
        for (int i = 0; i < nodes; ++i) {
            machines_[i].number = i;
            boot(machines_[i]);
        }
    }
    ~RelayWorld() override {
        for (auto& m : machines_) die(m);
        world = nullptr;
    }

    void* pages(std::uint64_t count) {
        pages_.push_back(std::make_unique<Bytes>(count * abi::kPageSize));
        return pages_.back()->data();
    }
    Random& random() { return random_; }
    std::uint64_t next_number() { return ++numbers_; }
    WorldReport& report() { return report_; }

    /// Lets it run, if it still is, after what happens now.
    void wake(RelayMachine& m, Strand* strand, Duration after = Duration::ns(0)) {
        int const which = m.number, life = m.life;
        at(now_ + after, [this, which, life, strand] {
            auto& machine = machines_[which];
            if (machine.life != life || !machine.of_life) return;
            for (auto& s : machine.of_life->strands)
                if (&s == strand) s.resume();
            machine.of_life->strands.remove_if([](Strand const& s) { return s.is_over(); });
        });
    }
    void start(RelayMachine& m, std::function<void()> body) {
        wake(m, &m.of_life->strands.emplace_back(m.number, std::move(body)));
    }
    /// The strand that runs now waits.
    void sleep(Duration time) {
        auto* const strand = Strand::running;
        wake(machines_[strand->machine()], strand, time);
        strand->wait();
    }

private:
    NetworkNode& node_at(int which) override { return machines_[which]; }

    void die(RelayMachine& m) {
        m.is_dying = true;
        if (m.of_life) {
            for (auto& strand : m.of_life->strands) strand.kill();
            m.of_life->vault.drop_all();
            m.of_life.reset();
        }
        m.is_dying = false;
    }

    void boot(RelayMachine& m) {
        begin_life(m, {vault::Vault::info.hash.low, vault::Vault::info.hash.high});
        m.of_life = std::make_unique<Life>(m);
        auto& life = *m.of_life;
        if (!life.relay.open()) wrong("no relay");
        life.kind = *life.relay.kind_of(vault::Vault::info.hash.low);
        auto const token_gone = ConnectionHandles::Unreferenced{
            [](void*, void* object) {
                auto& token = *static_cast<TokenObject*>(static_cast<Token*>(object));
                token.is_named = false;
            },
            nullptr};
        life.binding.domain.table.set_root(static_cast<vault::Vault*>(&life.vault),
                                           vault::Vault::info);
        life.binding.domain.table.on_unreferenced(token_gone);
        life.binding.relay.table.on_unreferenced(life.relay.unreferenced_far());
        for (int i = 0; i < clients; ++i) {
            auto& client = life.client[i];
            client.root.machine = &m;
            client.root.target = (m.number + 1 + i) % nodes;
            client.root.kind = life.kind;
            client.root.info = vault::Vault::info;
            client.root.info.dispatch = &FarRoot::forward;
            client.root.info.entries = {};
            client.connection.relay.table.set_root(&client.root, client.root.info);
            client.connection.relay.table.on_unreferenced(life.relay.unreferenced_far());
            // Some relays have little room for what a client gives them.
            auto& relay_end = client.connection.relay;
            client.has_room = random_.below(2) == 0;
            if (!client.has_room)
                relay_end.table.set_imports(std::span(relay_end.imports).first(3), &relay_end,
                                            &relay_end);
            client.connection.domain.table.on_unreferenced(token_gone);
            start(m, [this, &m, &client, i] { live(m, client, i); });
        }
    }

    void reboot(int which) override {
        count(machines_[which]);
        die(machines_[which]);
        boot(machines_[which]);
    }

    void plan() override {
        plan_trouble();
        if (!calm_ && random_.below(3) == 0)
            silence(static_cast<int>(random_.below(nodes)), Instant() + some(activity));
        // Whoever cannot be told any more that nobody wants them lets his vault's places go.
        at(Instant() + activity + Duration::s(30), [this] {
            for (auto& m : machines_) m.of_life->vault.drop_all();
        });
    }

    /// Whether it is known what the client's calls look like.
    bool is_known(RelayMachine& m, Client& client) {
        auto const peer =
            m.node->connect(remote::Address{static_cast<std::uint64_t>(client.root.target)}, now_);
        return peer && m.of_life->relay.learn_far(*client.root.kind, *peer, root_object,
                                                  now_ + Duration::s(2)) == Failure::None;
    }
    /// What a client does in its life.
    void live(RelayMachine& m, Client& client, int which);

    void finish() override {
        Network::finish();
        for (auto& m : machines_) {
            auto& life = *m.of_life;
            if (!life.strands.empty()) wrong("a thread waits for ever");
            if (life.relay.far_count() != 0) wrong("a far object is kept for ever");
            if (life.relay.near_count() != 0) wrong("a near object is kept for ever");
            auto const empty = [&](Connection const& c, std::string const& whose) {
                for (auto const* end : {&c.domain, &c.relay})
                    if (end->table.exported() != 1 || end->table.imported() != 0)
                        wrong(whose + "'s connection keeps, at the " +
                              (end == &c.domain ? "domain's" : "relay's") + " end, " +
                              std::to_string(end->table.exported() - 1) + " exports and " +
                              std::to_string(end->table.imported()) + " imports for ever");
            };
            empty(life.binding, "the vault");
            for (auto const& token : life.vault.tokens)
                if (token.is_alive()) wrong("a vault's token lives for ever");
            for (auto& client : life.client) {
                empty(client.connection, "a client");
                for (auto const& token : client.tokens)
                    if (token.is_alive()) wrong("a client's token lives for ever");
            }
        }
    }

    std::list<std::unique_ptr<Bytes>> pages_;
    RelayMachine machines_[nodes];
    std::uint64_t numbers_ = 0;
    /// By place, of all vaults and lives: the numbers of what may be there.
    std::map<std::uint32_t, std::set<std::uint64_t>> kept_;
};

// ---- vault, tokens, clients ----

Result<std::uint64_t, TokenError> TokenObject::value() {
    if (!is_alive()) world->wrong("a token is called that nobody can name");
    return number;
}

TokenObject* VaultObject::own(Maillon<Token> const& token) {
    for (auto& one : tokens)
        if (token == Maillon<Token>(&one)) return &one;
    if (token.is_direct()) world->wrong("a pointer that is none of this domain's");
    return nullptr;
}
Result<Maillon<Token>, VaultError> VaultObject::make(std::uint64_t value) {
    auto& token = tokens.emplace_back();
    token.number = value;
    token.is_named = true;
    return Maillon<Token>(&token);
}
Result<bool, VaultError> VaultObject::keep(std::uint32_t place, Maillon<Token> const& token) {
    if (place >= places_max) return fail(VaultError::NoSuchPlace);
    if (places[place]) (void)drop(place);
    auto* const mine = own(token);
    if (mine != nullptr) ++mine->kept;
    places[place] = Held<Token>(token);
    return mine != nullptr;
}
Result<std::uint64_t, VaultError> VaultObject::ask(std::uint32_t place) {
    if (place >= places_max || !places[place]) return fail(VaultError::NoSuchPlace);
    auto held = places[place];
    auto const value = held->value();
    if (!value) return fail(static_cast<VaultError>(value.error()));
    return *value;
}
Result<Maillon<Token>, VaultError> VaultObject::take(std::uint32_t place) {
    if (place >= places_max || !places[place]) return fail(VaultError::NoSuchPlace);
    if (auto* const mine = own(places[place].maillon())) mine->is_named = true;
    return places[place].maillon();
}
Result<void, VaultError> VaultObject::drop(std::uint32_t place) {
    if (place >= places_max || !places[place]) return fail(VaultError::NoSuchPlace);
    if (auto* const mine = own(places[place].maillon())) --mine->kept;
    places[place] = {};
    return {};
}
Result<std::uint64_t, VaultError> VaultObject::look(Maillon<Token> const& token) {
    Held<Token> held(token);
    auto const value = held->value();
    if (!value) return fail(static_cast<VaultError>(value.error()));
    return *value;
}

void RelayWorld::live(RelayMachine& m, Client& client, int which) {
    vault::VaultProxy<LocalEnd> far(client.connection.domain);
    std::vector<std::pair<Held<Token>, std::uint64_t>> held;
    auto const place = static_cast<std::uint32_t>(m.number * clients + which);
    auto const own_token = [&]() -> TokenObject& {
        auto& token = client.tokens.emplace_back();
        token.number = next_number();
        token.is_named = true;
        return token;
    };
    auto const note = [&](bool succeeded) {
        ++report_.calls;
        if (succeeded) ++report_.succeeded;
    };
    // As who imports a service does before it offers it.
    for (auto failed = true; failed; failed = !is_known(m, client)) {
        if (now_ >= Instant() + activity || Strand::running->is_killed()) return;
        sleep(some(Duration::ms(50)));
    }
    while (now_ < Instant() + activity && !Strand::running->is_killed()) {
        sleep(some(Duration::ms(250)));
        switch (random_.below(10)) {
            case 0:
            case 1: {
                auto const number = next_number();
                auto token = far.make(number);
                note(token.has_value());
                if (!token) break;
                ++report_.handles;
                held.emplace_back(Held<Token>::adopt(*token), number);
                break;
            }
            case 2: {
                if (held.empty()) break;
                auto& [token, number] = held[random_.below(held.size())];
                auto const value = token->value();
                note(value.has_value());
                if (value && *value != number) wrong("a handle leads to another token");
                break;
            }
            case 3: {
                if (held.empty()) break;
                auto& [token, number] = held[random_.below(held.size())];
                kept_[place].insert(number);
                auto const is_own = far.keep(place, token.maillon());
                note(is_own.has_value());
                if (is_own && !*is_own) wrong("a token that came home is not the pointer");
                break;
            }
            case 4: {
                auto& token = own_token();
                kept_[place].insert(token.number);
                auto const is_own = far.keep(place, Maillon<Token>(&token));
                note(is_own.has_value());
                if (is_own && *is_own) wrong("a token of here is said to be of there");
                ++report_.handles;
                break;
            }
            case 8: {
                // Without a reply: one of here, or one of there that comes home.
                if (held.empty() || random_.below(2) == 0) {
                    auto& token = own_token();
                    kept_[place].insert(token.number);
                    note(far.put(place, Maillon<Token>(&token)).has_value());
                    if (!calm_ || !client.has_room) break;
                    if (auto const value = far.ask(place); !value || *value != token.number)
                        wrong("what was put there is not, and nothing was lost");
                } else {
                    auto& [token, number] = held[random_.below(held.size())];
                    kept_[place].insert(number);
                    note(far.put(place, token.maillon()).has_value());
                }
                ++report_.handles;
                break;
            }
            case 9: {
                // More than one message carries between machines, or just as many.
                std::vector<Maillon<Token>> tokens;
                for (auto n = random_.below(11); n != 0; --n) tokens.emplace_back(&own_token());
                note(far.show(tokens).has_value());
                break;
            }
            case 5: {
                auto const value = far.ask(place);
                note(value.has_value());
                if (value && !kept_[place].contains(*value))
                    wrong("another token is where ours was put");
                break;
            }
            case 6: {
                auto& token = own_token();
                auto const value = far.look(Maillon<Token>(&token));
                note(value.has_value());
                if (value && *value != token.number) wrong("another token was looked at");
                ++report_.handles;
                break;
            }
            default: {
                auto token = far.take(place);
                note(token.has_value());
                if (!token) break;
                if (token->is_direct()) {
                    auto const& mine =
                        *static_cast<TokenObject*>(static_cast<Token*>(token->reference()));
                    if (!kept_[place].contains(mine.number)) wrong("another token comes home");
                    break;
                }
                auto copy = Held<Token>::adopt(*token);
                if (auto const value = copy->value(); value && !kept_[place].contains(*value))
                    wrong("another token is taken");
                break;
            }
        }
        if (held.size() > 3) held.erase(held.begin());
    }
}

// ---- what the relay stands on ----

Result<Transport::Incoming, Failure> LocalEnd::call(Outgoing const& out, CallTarget target,
                                                    std::uint32_t bytes, Instant until) {
    Bytes const body(out.body.begin(), out.body.begin() + bytes);
    release_body(out.token);
    auto const* const object = other->table.find(target.object);
    if (object == nullptr) return fail(Failure::NoSuchObject);
    auto const to = *object;
    auto& reply = bodies.emplace_back(bytes_max);
    other->table.set_until(until);
    auto const made = other->serve(to, target.operation, body, reply);
    return Incoming{static_cast<std::uint16_t>(made.status),
                    std::span(reply).first(made.body_bytes),
                    reinterpret_cast<std::uint64_t>(&reply)};
}

Result<void, Failure> LocalEnd::announce(Outgoing const& out, CallTarget target,
                                         std::uint32_t bytes) {
    Bytes const body(out.body.begin(), out.body.begin() + bytes);
    release_body(out.token);
    auto const* const object = other->table.find(target.object);
    if (object == nullptr) return {};
    auto const to = *object;
    other->table.set_until(Instant::never());
    (void)other->serve(to, target.operation, body, {});
    return {};
}

/// As a CallServer serves it.
Served LocalEnd::serve(Export const& to, std::uint16_t operation, Bytes const& body,
                       std::span<std::byte> reply) {
    auto const made = to.info->dispatch(to.object, operation, body, reply, &table.arguments());
    table.end_arguments();
    return made;
}

Served FarRoot::forward(void* self, std::uint16_t operation, std::span<std::byte const> body,
                        std::span<std::byte> reply, HandleTable* handles) {
    auto& root = *static_cast<FarRoot*>(self);
    auto const peer = root.machine->node->connect(
        remote::Address{static_cast<std::uint64_t>(root.target)}, world->time());
    if (!peer) return served(Failure::Busy);
    return root.machine->of_life->relay.pass_out(*root.kind, *peer, root_object, operation, body,
                                                 reply, handles);
}

void RelayMachine::on_request(remote::Incoming const& in) {
    world->start(*this, [this, token = in.token, tag = in.tag, operation = in.operation,
                         until = in.deadline, body = Bytes(in.bytes.begin(), in.bytes.end())] {
        auto& life = *of_life;
        auto arguments = body;
        Bytes reply(bytes_max);
        nodes::HandleRelay::Request const request{.peer = token.peer,
                                                  .operation = operation,
                                                  .has_reply = true,
                                                  .until = until,
                                                  .body = arguments,
                                                  .reply = reply};
        nodes::HandleRelay::Answer answer;
        if (tag == 0) {
            // The vault has one worker.
            while (life.vault_is_busy) world->sleep(Duration::us(500));
            life.vault_is_busy = true;
            answer = life.relay.pass_in(*life.kind, life.binding.relay, 0, request);
            life.vault_is_busy = false;
        } else {
            answer = life.relay.pass_in_near(tag, request);
        }
        nodes::Gifts gifts;
        auto const result = life.relay.give(answer, request, gifts);
        if (!node->reply(token, static_cast<remote::Status>(result.status),
                         std::span(reply).first(result.body_bytes), gifts.span(), world->time()))
            life.relay.take_back(gifts);
        ++world->report().executed;
    });
}

void RelayMachine::on_reply(std::uint64_t cookie, remote::Status status,
                            std::span<std::byte const> bytes) {
    auto& waiting = *reinterpret_cast<Waiting*>(cookie);
    waiting.status = bytes.size() > waiting.room.size() ? remote::Status::BadMessage : status;
    waiting.bytes = static_cast<std::uint32_t>(std::min(bytes.size(), waiting.room.size()));
    if (waiting.bytes != 0) std::memcpy(waiting.room.data(), bytes.data(), waiting.bytes);
    waiting.is_over = true;
    world->wake(*this, waiting.strand);
}

WorldReport run_relay_world(std::uint64_t seed, WorldOptions const& options) {
    return std::make_unique<RelayWorld>(seed, options)->run();
}

}  // namespace nemesis::simulation

namespace nemesis {

Instant now() { return simulation::world->time(); }
void* pages::take(std::uint64_t count) { return simulation::world->pages(count); }

/// One machine's threads learn an interface one after the other.
void Mutex::lock() {
    static Thread somebody;
    while (owner_ != nullptr) simulation::world->sleep(Duration::us(500));
    owner_ = &somebody;
}
void Mutex::unlock() { owner_ = nullptr; }

namespace nodes {

remote::Node& NodeCalls::node() { return *machine_->node; }

Result<std::uint32_t, Failure> NodeCalls::call(
    remote::PeerId peer, std::uint32_t object, std::uint16_t operation,
    std::span<std::byte const> body, std::span<std::byte> room, Instant until,
    std::uint16_t& status, std::span<std::uint32_t const> gives, bool* was_begun) {
    auto const time = now();
    simulation::Waiting waiting{.strand = simulation::Strand::running, .room = room};
    auto const made = node().call(peer,
                                  {.object = object,
                                   .operation = operation,
                                   .deadline = std::min(until, time + call_longest),
                                   .cookie = reinterpret_cast<std::uint64_t>(&waiting),
                                   .gives = gives},
                                  body, time);
    if (was_begun != nullptr) *was_begun = made.has_value();
    if (!made) return fail(static_cast<Failure>(made.error()));
    while (!waiting.is_over) simulation::Strand::running->wait();
    status = static_cast<std::uint16_t>(waiting.status);
    if (status != 0 && status < invocation::declared_error_first)
        return fail(static_cast<Failure>(status));
    return waiting.bytes;
}

Result<void, Failure> NodeCalls::announce(remote::PeerId, std::uint32_t, std::uint16_t,
                                          std::span<std::byte const>) {
    return fail(Failure::Refused);
}

}  // namespace nodes
}  // namespace nemesis
