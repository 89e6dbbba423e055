#pragma once
// A client that calls services by their names in /global, checks what it is told, and ends with the
// line of its source in which something did not hold.
//
// context: the main thread of a domain that the binder knows.

#include <cstddef>
#include <new>

#include "domains/names/names_client.h"
#include "domains/parties/check.h"
#include "libnemesis/memory/pages.h"
#include "names/name_space.h"

namespace nemesis::parties {

/// What lives as long as the domain: no destructors are ever run. Derived from by what a client has
/// besides; its handles come after these.
struct Client {
    explicit Client(names::NameSpace const& own) : space(own) {}
    binder::Session session;
    name_service::SystemNames system{session};
    names::NameSpace space;
};

/// The one client of this domain: it knows the binder, and the system's names are at "global".
template <typename Derived>
Derived& open_client() {
    constexpr std::uint64_t space_bytes = 16 * 1024;
    alignas(Derived) static std::byte client_memory[sizeof(Derived)];
    auto* const memory = static_cast<std::byte*>(pages::take(space_bytes / abi::kPageSize));
    CHECK(memory != nullptr, 0);
    auto const space = names::NameSpace::create({memory, space_bytes}, 1);
    CHECK(space.has_value(), 0);
    auto& client = *new (client_memory) Derived(*space);
    CHECK(client.session.open().has_value(), 0);
    CHECK(client.space.make_directory("global").has_value(), 0);
    CHECK(client.space.mount("global", client.system).has_value(), 0);
    return client;
}

}  // namespace nemesis::parties
