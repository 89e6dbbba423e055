#pragma once
// HandleRelay: handles in the bodies of calls between machines.
//
// A body that is passed on is not read but for its handles: where they are says the description of
// the interface (libnemesis/invocation/handle_places.h), which is had from the object itself, once
// for each interface. Two kinds of objects come about:
//
//   near   an object of a domain here that another node may call: an object of the node, held for
//          as long as some peer holds it or might be about to
//   far    an object of another node that a domain here may call: an object of this domain, which
//          passes calls on; when nobody here can name it any more the other node is told
//
// A far object that goes back to its node goes as that node's number, and is the direct pointer
// there again. Nothing is passed on to a third node. What the peers' calls, losses and lives do to
// the counting is the node's (libnemesis/remote): a handle in a message that does not arrive is
// taken back, and all that a dead or silent node held is let go.
//
// Bodies with handles have at most `body_max` bytes. An announcement with handles goes as a call
// whose reply is not looked at, and the worker that passes it on waits for that. An interface whose
// description is longer than a page, or that was not told, is not called through handles or with
// them. Tables are bounded; when one is full the call fails with NoMemory, and what has come with
// it is dropped again. Context: threads; tables are touched with activations off.
// Source: PEG94 "Naming and Invocation".

#include <cstdint>
#include <span>

#include "domains/remote/node_calls.h"
#include "kernel/abi/layout.h"
#include "libnemesis/invocation/connection_handles.h"
#include "libnemesis/invocation/handle_places.h"

namespace nemesis::nodes {

class HandleRelay;

/// An interface, as far as it is known here. For ever, so that tables may point to it.
struct Kind {
    invocation::InterfaceInfo info;  ///< only the low half of the hash; passes calls on
    std::span<std::uint8_t const> description;
    bool is_known = false;
    /// Bits: of the first operations, those with handles in arguments and results, perhaps.
    std::uint64_t arguments = ~0ull, results = ~0ull;

    bool may_have(std::uint16_t operation, invocation::BodyKind kind) const {
        auto const bits = kind == invocation::BodyKind::Arguments ? arguments : results;
        return operation >= 64 || (bits >> operation & 1) != 0;
    }
};

/// An object of another node.
struct FarObject {
    HandleRelay* relay = nullptr;
    Kind* kind = nullptr;                      ///< null: free
    invocation::HandleTable* table = nullptr;  ///< by which it can be named here
    remote::PeerId peer;
    std::uint32_t number = 0;
    std::uint32_t count = 0;  ///< handles that the other node has given us
};

/// An object of a domain here.
struct NearObject {
    Kind* kind = nullptr;  ///< null: free
    invocation::AnyMaillon handle;
    std::uint32_t number = 0;  ///< of the node's
};

/// Own objects that go along with a message.
struct Gifts {
    std::uint32_t count = 0;
    std::uint32_t fresh = 0;  ///< bit: the object is known to nobody else yet
    std::uint32_t objects[remote::handles_max] = {};
    std::span<std::uint32_t const> span() const { return {objects, count}; }
};

/// See the head of this file. owner: for ever
class HandleRelay {
public:
    static constexpr std::uint32_t kinds_max = 16, far_max = 64, near_max = 64;
    static constexpr std::uint32_t body_max = 1024;
    /// Tags of near objects, from here on.
    static constexpr std::uint64_t near_tag = 1ull << 32;

    explicit HandleRelay(NodeCalls& calls) : calls_(&calls) {}
    HandleRelay(HandleRelay const&) = delete;
    HandleRelay& operator=(HandleRelay const&) = delete;

    /// errors: NoMemory
    [[nodiscard]] Result<void, Failure> open();
    /// The interface with that hash. errors: NoMemory
    [[nodiscard]] Result<Kind*, Failure> kind_of(std::uint64_t hash_low);

    /// Asks the object for its interface's description, if it is not known yet. To be done before a
    /// domain here can call it: what handles come with a call of which nothing is known cannot be
    /// given back. errors: those of a call. context: threads; blocks, not after `until`
    [[nodiscard]] Failure learn_far(Kind& kind, remote::PeerId peer, std::uint32_t object,
                                    Instant until);
    /// A call by a domain here, of an object of another node, to its end: as a dispatcher.
    invocation::Served pass_out(Kind& kind, remote::PeerId peer, std::uint32_t object,
                                std::uint16_t operation, std::span<std::byte const> body,
                                std::span<std::byte> reply, invocation::HandleTable* handles);
    /// A request of another node, in memory of our own, whose reply goes there.
    struct Request {
        remote::PeerId peer = {};
        std::uint16_t operation = 0;
        bool has_reply = false;
        Instant until = {};
        std::span<std::byte> body = {};
        std::span<std::byte> reply = {};
    };
    /// How that has ended, and what is to be given with the reply.
    struct Answer {
        invocation::Served served;
        invocation::HandlePlaces places = {};
        invocation::HandleTable* table = nullptr;
    };
    /// Passes it on to the object `number` of the other end of `transport`.
    Answer pass_in(Kind& kind, invocation::Transport& transport, std::uint32_t number,
                   Request const& request);
    /// The same for the near object with that tag.
    Answer pass_in_near(std::uint64_t tag, Request const& request);
    /// Makes the reply one that the other node understands. Yields the status to send.
    /// requires: Critical until it is sent with `gifts`, or they are taken back
    invocation::Served give(Answer const& answer, Request const& request, Gifts& gifts);
    /// A request that is not passed on: what came with it is dropped.
    void refuse(Kind& kind, Request const& request);
    void refuse_near(std::uint64_t tag, Request const& request);
    /// What a message gave that was not sent. requires: Critical
    void take_back(Gifts const& gifts);

    /// No peer holds a near object any more. requires: Critical
    void unreferenced_near(std::uint64_t tag);
    /// For the connections on which far objects are given.
    invocation::ConnectionHandles::Unreferenced unreferenced_far();

    /// How many there are.
    std::uint32_t far_count() const;
    std::uint32_t near_count() const;

private:
    static invocation::Served forward(void* self, std::uint16_t operation,
                                      std::span<std::byte const> body, std::span<std::byte> reply,
                                      invocation::HandleTable* handles);
    template <typename Ask>
    Failure learn(Kind& kind, Ask&& ask);
    Failure learn_near(Kind& kind, invocation::Transport& transport, std::uint32_t number,
                       Instant until);
    Failure send_out(std::span<std::byte> body, invocation::HandlePlaces const& places,
                     invocation::HandleTable& table, remote::PeerId peer, bool are_ours,
                     Gifts& gifts);
    Failure take_in(std::span<std::byte> body, invocation::HandlePlaces const& places,
                    invocation::HandleTable& table, remote::PeerId peer);
    Result<invocation::WireHandle, Failure> out(invocation::WireHandle const& wire,
                                                invocation::HandleTable& table, remote::PeerId peer,
                                                bool is_ours, Gifts& gifts);
    Result<invocation::WireHandle, Failure> in(invocation::WireHandle const& wire,
                                               invocation::HandleTable& table, remote::PeerId peer);
    Result<NearObject*, Failure> near_of(invocation::AnyMaillon const& handle, Kind& kind,
                                         bool& is_fresh);
    Result<FarObject*, Failure> far_of(Kind& kind, invocation::HandleTable& table,
                                       remote::PeerId peer, std::uint32_t number);
    void drop_far(FarObject& far);
    void drop_unused(invocation::WireHandle const& wire, remote::PeerId peer);
    NearObject* near_at(std::uint64_t tag);

    NodeCalls* calls_;
    std::byte* descriptions_ = nullptr;  ///< a page for each kind
    std::uint32_t kind_count_ = 0;
    Kind kinds_[kinds_max];
    FarObject far_[far_max];
    NearObject near_[near_max];
};

}  // namespace nemesis::nodes
