// names: the system's name server. Serves names.if to every domain that binds to its offer "names";
// the tree and the account of whose names are whose is names/name_registry.h.
//
// Requests are served in place, on the client's time and in turn: the registry's functions run with
// activations off, and none of them asks anybody else. What a client leaves behind when it dies is
// taken away by the thread that serves the binder's notices, in steps.
// Argument: how many names there may be, how many of them one client's, how many clients
// ("4096 1024 60"),
// and the name of the offer if it is not "names". Directory "services" is the
// server's own, and so is "services/names", which stands for the server itself.
#include <new>

#include "domains/binder/session.h"
#include "domains/names/names.if.h"
#include "domains/names/serve_names.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"
#include "names/name_registry.h"

namespace nemesis::name_service {
namespace {

using names::NameError;

static_assert(static_cast<std::uint8_t>(Why::NotYours) + 1 == names::name_errors);
static_assert(static_cast<std::uint8_t>(Why::ReadOnly) ==
              static_cast<std::uint8_t>(NameError::ReadOnly));
static_assert(path_max == names::path_bytes_max && name_max == names::component_bytes_max &&
              page_max <= names::NameList::entries_max);

Why why_of(NameError e) { return static_cast<Why>(e); }

/// One client; its operations are those of names.if.
class Client final : public Names {
public:
    Result<Found, NamesError> resolve(std::string_view path) override {
        auto const found = registry->resolve(path);
        if (found) return Found::make_object(target_of(*found));
        return elsewhere<Found>(path, false, found.error());
    }
    Result<Listed, NamesError> list(std::string_view path, std::string_view after) override {
        auto& names = *listing;
        if (auto const done = registry->list(path, after, names); !done)
            return elsewhere<Listed>(path, true, done.error());
        // Filled in where it is returned: the stack is that of activations.
        Result<Listed, NamesError> listed;
        listed->tag = Listed::Tag::Page;
        auto& page = *new (&listed->page) Page;
        page.more = names.more || names.count > page_max;
        for (auto const& entry :
             names.names().first(names.count < page_max ? names.count : page_max)) {
            (void)page.entries.resize(page.entries.size() + 1);
            auto& said = page.entries[page.entries.size() - 1];
            said.kind = static_cast<Kind>(entry.kind);
            (void)said.name.assign(entry.name());
        }
        return listed;
    }
    Result<Changed, NamesError> bind(std::string_view path, Target const& target,
                                     bool replace) override {
        auto const mode = replace ? names::BindMode::Replace : names::BindMode::New;
        return changed(path,
                       registry->bind(number, path, {target.offer, target.interface_low}, mode));
    }
    Result<Changed, NamesError> make_directory(std::string_view path) override {
        return changed(path, registry->make_directory(number, path));
    }
    Result<Changed, NamesError> unbind(std::string_view path) override {
        return changed(path, registry->unbind(number, path));
    }
    Result<RoomResult, NamesError> room() override {
        auto const& space = registry->space();
        return RoomResult{space.cells(), space.cells_free(), share, registry->client(number).cells};
    }

    names::NameRegistry* registry = nullptr;
    names::NameList* listing = nullptr;  ///< one for all: operations run one at a time
    std::uint32_t number = 0, share = 0;

private:
    static Target target_of(names::Handle const& handle) {
        return {handle.reference, handle.function};
    }
    /// The answer to what failed here: whom to ask instead, or why.
    template <typename Answer>
    Answer elsewhere(std::string_view path, bool itself, NameError why) const {
        if (why == NameError::NotADirectory) {
            if (auto const on = registry->referral(path, itself))
                return Answer::make_elsewhere(
                    {target_of(on->server), static_cast<std::uint16_t>(on->rest)});
        }
        return Answer::make_failed(why_of(why));
    }
    Changed changed(std::string_view path, Result<void, NameError> const& done) const {
        if (done) return Changed::make_done();
        return elsewhere<Changed>(path, false, done.error());
    }
};

/// An array that lasts as long as the domain.
template <typename T>
std::span<T> take_array(std::uint64_t count) {
    auto* const memory =
        static_cast<T*>(pages::take((count * sizeof(T) + abi::kPageSize - 1) / abi::kPageSize));
    if (memory == nullptr) return {};
    for (std::uint64_t i = 0; i < count; ++i) new (&memory[i]) T;
    return {memory, count};
}

/// All that lives as long as the domain: no destructors are ever run.
struct Server {
    Server(names::NameSpace const& all, std::span<names::NodeAccount> accounts,
           std::span<names::NameClient> records, std::span<Client> objects,
           names::NameRegistry::Options const& options)
        : space(all), registry(space, accounts, records, options), clients(objects) {
        for (auto& client : clients) {
            client.registry = &registry;
            client.listing = &listing;
            client.share = options.cells_per_client;
        }
    }

    names::NameSpace space;
    names::NameRegistry registry;
    names::NameList listing;
    std::span<Client> clients;
    invocation::Backlog backlog;
    binder::Session session;
    binder::Offered offered{nullptr, Names::info, backlog};

    void* open() {
        enter_critical();
        auto const number = registry.enter();
        leave_critical();
        if (!number) return nullptr;
        clients[*number].number = *number;
        return static_cast<Names*>(&clients[*number]);
    }
    void close(void* object) {
        auto const number = static_cast<Client*>(static_cast<Names*>(object))->number;
        for (bool more = true; more;) {
            enter_critical();
            for (int i = 0; more && i < 16; ++i) more = registry.leave_step(number);
            leave_critical();
        }
    }
};
alignas(Server) std::byte server_memory[sizeof(Server)];

std::uint32_t next_number(char const*& at, std::uint32_t otherwise) {
    while (*at == ' ') ++at;
    if (*at < '0' || *at > '9') return otherwise;
    std::uint32_t n = 0;
    for (; *at >= '0' && *at <= '9'; ++at) n = n * 10 + static_cast<std::uint32_t>(*at - '0');
    return n;
}

}  // namespace

void serve_names(char const* at) {
    auto const names_max = next_number(at, 4096);
    auto const share = next_number(at, 1024);
    auto const clients_max = next_number(at, 60);
    while (*at == ' ') ++at;
    std::string_view const name = *at != 0 ? at : "names";
    auto const bytes = names::NameTree::bytes_for(names_max);
    auto const memory = take_array<std::byte>(bytes);
    if (memory.empty()) return log::line("no memory for ", names_max, " names");
    // What clients choose is names, and they see no addresses: the clock and our number will do.
    auto space = names::NameSpace::create(memory, cycle_count() * 0x9E37'79B9'7F4A'7C15 ^ dib().id);
    if (!space) return log::line("names: ", text(space.error()));
    auto const accounts = take_array<names::NodeAccount>(space->cells());
    auto const records = take_array<names::NameClient>(clients_max);
    auto const clients = take_array<Client>(clients_max);
    if (accounts.empty() || records.empty() || clients.empty())
        return log::line("no memory for the accounts of ", names_max, " names");
    auto& server = *new (server_memory)
                       Server(*space, accounts, records, clients,
                              {.cells_per_client = share, .mount_function = Names::info.hash.low});
    (void)server.space.make_directory("services");
    if (!server.session.open()) return log::line("no channel 'binder'");
    binder::Offered::PerClient const each{
        [](void* self, std::uint64_t) { return static_cast<Server*>(self)->open(); },
        [](void* self, void* object) { static_cast<Server*>(self)->close(object); }, &server};
    // The name of one that has just died may be taken for a moment yet.
    for (auto const end = now() + Duration::ms(50);;) {
        auto const offered = server.session.offer(
            server.offered,
            {.name = name, .clients_max = clients_max, .slots = 4, .per_client = each});
        if (offered) break;
        if (offered.error() != invocation::Failure::Busy || now() > end)
            return log::line("not offered: ", text(offered.error()));
        Thread::sleep_until(now() + Duration::us(20));
    }
    (void)server.space.bind("services/names", {server.offered.number(), Names::info.hash.low});
    if (!server.session.start_serving()) return log::line("no memory for a thread");
    server.backlog.run();
}

}  // namespace nemesis::name_service
