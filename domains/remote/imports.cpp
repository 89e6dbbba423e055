// Asking another node for a service, offering it here, passing calls on.
#include "domains/remote/imports.h"

#include <new>

#include "domains/remote/exports.h"
#include "libnemesis/clock.h"
#include "libnemesis/invocation/connection_handles.h"
#include "libnemesis/log/log.h"

namespace nemesis::nodes {
namespace {

using namespace invocation;
using E = NodesError;

constexpr std::uint32_t kClientsMax = 16, kSlots = 4;

/// The lists of failures are the same.
E error_of(Failure why) { return static_cast<E>(why); }

}  // namespace

Result<Service, E> Imports::ask(remote::PeerId peer, std::string_view service, Instant until) {
    std::byte request[256], reply[256];
    if (auto const same = calls_->check(peer, directory_number, Directory::info.hash, until); !same)
        return fail(error_of(same.error()));
    NodeTransport transport(*calls_, peer, directory_number, request, reply);
    DirectoryProxy<NodeTransport> directory(transport);
    directory.set_until(until);
    auto const found = directory.find(service);
    if (found) return *found;
    return fail(found.error() == DirectoryError::NoSuchService ? E::NoSuchService
                                                               : static_cast<E>(found.error()));
}

Imports::Import* Imports::find(remote::Address node, std::string_view service,
                               Service const& found) {
    InterfaceHash const hash{found.identity.hash_low, found.identity.hash_high};
    Import* free = nullptr;
    for (auto& import : imports_) {
        if (!import.used) {
            if (free == nullptr) free = &import;
        } else if (import.node == node && import.service.view() == service &&
                   import.info.hash == hash && import.info.request_max == found.request_max &&
                   import.info.reply_max == found.reply_max) {
            return &import;
        }
    }
    return free;
}

Result<void, E> Imports::offer(Import& import, remote::Address node, std::string_view service,
                               Service const& found) {
    auto* const kind = relay_->kind_of(found.identity.hash_low).value_or(nullptr);
    if (kind == nullptr) return fail(E::NoMemory);
    import.owner = this;
    import.kind = kind;
    import.node = node;
    (void)import.service.assign(service);
    import.interface_name = found.identity.name;
    import.info.name = import.interface_name.view();
    import.info.version = found.identity.version;
    import.info.hash = {found.identity.hash_low, found.identity.hash_high};
    import.info.request_max = found.request_max;
    import.info.reply_max = found.reply_max;
    import.info.dispatch = &Imports::forward;
    import.info.entries = {};
    auto* const offered = new (&import.offered) binder::Offered(&import, import.info, *backlog_);
    auto const made = session_->offer(*offered, {.clients_max = kClientsMax,
                                                 .slots = kSlots,
                                                 .mode = CallServer::Mode::Workers,
                                                 .takes_handles = true,
                                                 .unreferenced = relay_->unreferenced_far()});
    if (!made) return fail(error_of(made.error()));
    import.used = true;
    return {};
}

Result<std::uint64_t, E> Imports::import(std::string_view node, std::string_view service,
                                         std::uint64_t at_most) {
    KnownNode const* known = nullptr;
    for (auto const& one : nodes_)
        if (one.name == node) known = &one;
    if (known == nullptr) return fail(E::NoSuchNode);
    auto const longest = static_cast<std::uint64_t>(call_longest.ns());
    auto const until =
        now() + Duration::ns(static_cast<std::int64_t>(at_most < longest ? at_most : longest));
    auto const peer = calls_->connect(known->address);
    if (!peer) return fail(error_of(peer.error()));
    auto const found = TRY(ask(*peer, service, until));
    // The other node's word, for rings and buffers of ours.
    if (found.request_max > body_bytes_max || found.reply_max > body_bytes_max)
        return fail(E::TooLong);
    auto* const kind = relay_->kind_of(found.identity.hash_low).value_or(nullptr);
    if (kind == nullptr) return fail(E::NoMemory);
    if (auto const why = relay_->learn_far(*kind, *peer, found.object, until); why != Failure::None)
        return fail(error_of(why));
    importing_.lock();
    auto* const import = find(known->address, service, found);
    Result<void, E> done = fail(E::NoMemory);
    if (import != nullptr)
        done = import->used ? Result<void, E>() : offer(*import, known->address, service, found);
    if (done) {
        Critical const critical;
        import->peer = *peer;
        import->object = found.object;
    }
    importing_.unlock();
    if (!done) return fail(done.error());
    return import->offered.number();
}

Result<Nodes::CountersResult, E> Imports::counters() {
    Critical const critical;
    auto const& c = calls_->node().counters();
    return CountersResult{calls_->station().value,
                          Counters{c.sent, c.received, c.repeated, c.duplicates,
                                   c.malformed + c.strange, calls_->dropped()}};
}

Served Imports::forward(void* self, std::uint16_t operation, std::span<std::byte const> body,
                        std::span<std::byte> reply, HandleTable* handles) {
    auto& import = *static_cast<Import*>(self);
    remote::PeerId peer;
    std::uint32_t object = 0;
    {
        Critical const critical;
        peer = import.peer;
        object = import.object;
    }
    return import.owner->relay_->pass_out(*import.kind, peer, object, operation, body, reply,
                                          handles);
}

}  // namespace nemesis::nodes
