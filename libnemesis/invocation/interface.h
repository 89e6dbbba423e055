#pragma once
// What generated code says about an interface, and what it needs from the way a call takes.
//
// Three ways (docs/architecture.md): a procedure call is a virtual function and needs nothing of
// this; a protected call goes through libnemesis/invocation/call_client.h; a remote call through
// remote.h. Both are a Transport to the generated proxy, and both end in the generated dispatch
// function. The 128-bit hash of an interface's canonical text is compared when a binding is made.
// Source: PEG94 "Naming and Invocation".

#include <cstdint>
#include <span>
#include <string_view>

#include "libnemesis/base/result.h"
#include "libnemesis/base/ring.h"
#include "libnemesis/base/units.h"
#include "libnemesis/invocation/failure.h"

namespace nemesis::invocation {

class HandleTable;
class Transport;

/// The most that a binding's area for granted arguments can have (granted.h). units: bytes
inline constexpr std::uint32_t granted_bytes_max = 1u << 20;

/// Names the canonical text of an interface. Not a defence against malice: what arrives is checked
/// whatever the hash says.
struct InterfaceHash {
    std::uint64_t low = 0, high = 0;
    friend constexpr bool operator==(InterfaceHash const&, InterfaceHash const&) = default;
};

/// How a call was served: 0 or an error (a std::uint16_t: so the two are one word of a reply's
/// header), and the bytes of the result.
struct Served {
    std::uint32_t status = 0;
    std::uint32_t body_bytes = 0;
};

/// A call that failed so.
constexpr Served served(Failure f) { return {static_cast<std::uint16_t>(f), 0}; }

/// The generated dispatcher: decodes `body`, calls the object, encodes into `reply`.
/// errors: the status; never an exception, never an access outside the two ranges
using Dispatch = Served (*)(void* object, std::uint16_t operation, std::span<std::byte const> body,
                            std::span<std::byte> reply, HandleTable* handles);

/// Generated: serves the oldest of `requests`, a brief announcement whose header's word is `what`,
/// and those behind it that begin alike, at most `most` altogether; returns how many, at least 1
/// (announced.h). requires: a slot is full and has room for such a body; nothing is given back
using Announced = std::uint64_t (*)(void* object, RingSink<> const& requests, std::uint64_t what,
                                    std::uint64_t most);

/// An interface as data. One constant for each, made by the stub compiler.
struct InterfaceInfo {
    std::string_view name;  ///< with its namespace: "clock.Clock"
    std::uint32_t version = 1;
    InterfaceHash hash;
    std::uint32_t operations = 0;                  ///< including those of the base
    std::uint32_t request_max = 0, reply_max = 0;  ///< units: bytes of a body
    std::span<std::uint8_t const> description;     ///< docs/formats/interface_language.md
    InterfaceInfo const* base = nullptr;
    Dispatch dispatch = nullptr;
    /// By number, what `dispatch` goes to for that operation: who serves many calls goes there at
    /// once. Empty where it is not known.
    std::span<Dispatch const> entries = {};
    /// By number, what serves announcements of it that lie together; null: nothing does. May be
    /// shorter than there are operations.
    std::span<Announced const> announced = {};
    /// Makes a proxy in `place` (room for proxy_bytes); yields the interface's pointer.
    void* (*make_proxy)(void* place, Transport& transport, std::uint32_t object) = nullptr;
    std::uint32_t proxy_bytes = 0;
    /// The implementation of which every operation fails with `failure`.
    void* (*failing)(Failure failure) = nullptr;
    std::uint32_t granted_max = 0;  ///< of the granted arguments of one call. units: bytes
};

/// Whether a pointer to `have` can be used as one to `wanted`: the same, or an extension of it.
constexpr bool extends(InterfaceInfo const& have, InterfaceInfo const& wanted) {
    for (auto const* i = &have; i != nullptr; i = i->base) {
        if (i->hash == wanted.hash) return true;
    }
    return false;
}

/// What two sides tell each other when a binding is made.
struct InterfaceIdentity {
    InterfaceHash hash;
    std::uint32_t version = 0;
    char name[52] = {};

    static constexpr InterfaceIdentity of(InterfaceInfo const& info) {
        InterfaceIdentity id{info.hash, info.version, {}};
        for (std::size_t i = 0; i < info.name.size() && i < sizeof(id.name) - 1; ++i)
            id.name[i] = info.name[i];
        return id;
    }
    std::string_view name_view() const {
        std::size_t n = 0;
        while (n < sizeof(name) && name[n] != 0) ++n;
        return {name, n};
    }
};
static_assert(sizeof(InterfaceIdentity) == 72);

/// "client speaks clock.Clock version 2 (hash), server offers ...": for a log. Returns what it
/// wrote of `to`.
std::string_view describe_mismatch(InterfaceIdentity const& client, InterfaceIdentity const& server,
                                   std::span<char> to);

/// An operation that every object has: its interface's description (InterfaceInfo::description), in
/// pieces. Arguments: u64, the first byte wanted; result: bytes from there on, as many as the reply
/// has room for; none: that was the end. So programs can call what they were not built with.
inline constexpr std::uint16_t describe_operation = 0xffff;
/// What a dispatcher does with a number that is none of its operations. errors: NoSuchOperation
Served describe_or_refuse(InterfaceInfo const& info, std::uint16_t operation,
                          std::span<std::byte const> body, std::span<std::byte> reply);

/// A proxy's result where the reply's body is no such result: a broken peer. Out of line, so that
/// the way to a sound one has no part of it.
template <typename R>
[[gnu::noinline, gnu::cold]] R unsound() {
    return fail(static_cast<typename R::error_type>(Failure::BadMessage));
}

/// What is called.
struct CallTarget {
    std::uint32_t object = 0;     ///< in the peer's table; 0: what the binding was made for
    std::uint16_t operation = 0;  ///< in the order of the interface, those of the base first
};

/// How a call's bytes reach another domain or machine, as a proxy sees it. One call: begin, write
/// the arguments, call, read the result in place, done. context: threads of the owning domain
class Transport {
public:
    /// A request being written. owner: the transport; valid until call, announce or abandon
    struct Outgoing {
        std::span<std::byte> body;
        std::uint64_t token = 0;
    };
    /// A reply being read. owner: the transport; valid until done. The peer may write it meanwhile.
    struct Incoming {
        std::uint16_t status = 0;
        std::span<std::byte const> body;
        std::uint64_t token = 0;
    };

    /// Room for a request of at most `body_max` bytes. errors: Busy, TooLong, PeerDead, Unreachable
    /// (there is no connection, or no longer)
    [[nodiscard]] virtual Result<Outgoing, Failure> begin(std::uint32_t body_max) = 0;
    virtual void abandon(Outgoing const& outgoing) = 0;
    /// Sends the first `bytes` and waits for the reply. errors: all but the declared ones
    [[nodiscard]] virtual Result<Incoming, Failure> call(Outgoing const& outgoing,
                                                         CallTarget target, std::uint32_t bytes,
                                                         Instant until) = 0;
    virtual void done(Incoming const& incoming) = 0;
    /// Sends the first `bytes`; there is no reply, and no certainty.
    [[nodiscard]] virtual Result<void, Failure> announce(Outgoing const& outgoing,
                                                         CallTarget target,
                                                         std::uint32_t bytes) = 0;
    /// How handles travel, or null: then they do not.
    virtual HandleTable* handles() = 0;
    /// Where granted arguments must lie; empty: there are none.
    virtual std::span<std::byte const> granted() { return {}; }

protected:
    ~Transport() = default;
};

}  // namespace nemesis::invocation
