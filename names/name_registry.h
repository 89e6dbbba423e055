#pragma once
// NameRegistry: a name space that many domains bind names in, with an account of whose is what.
//
// Every name belongs to the client that bound it: no other can unbind or replace it, it counts
// against that client's share of the memory, and it goes when the client leaves. A directory of a
// client that has left stays while others have names in it, belongs to nobody then, and goes with
// the last of them. Names that the registry's owner binds itself belong to no client and stay.
//
// A name that stands for an object whose handle's function is `mount_function` is a mount point:
// the object is a name server. What lies below such a name is not looked for here; the answer says
// whom to ask, and from which byte of the path on. So nobody waits in a registry for anybody else.
//
// Hardware free, allocates nothing: `accounts` has one entry for each cell of the name space.
// Context: one caller at a time. Invariants: check_invariants().
// Source: PEG94 "Naming and Invocation"; differs: whoever asks goes on to the mounted server
// himself.

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "names/name_space.h"

namespace nemesis::names {

/// Whose a node is. shape: one for each cell of the name space
struct NodeAccount {
    std::uint32_t client = 0;  ///< 0: no client's; else its number + 1
    bool abandoned = false;    ///< a directory whose client has left: goes when it is empty
    CellNumber next = 0, previous = 0;  ///< of the same client
};

/// What a client has.
struct NameClient {
    bool live = false;
    CellNumber first = 0;     ///< its names
    std::uint32_t cells = 0;  ///< what they take
};

/// Where to go on. units: bytes of the path that was asked for
struct Referral {
    Handle server;
    std::size_t rest = 0;
};

/// See the head of this file.
class NameRegistry {
public:
    struct Options {
        std::uint32_t cells_per_client = 4096;
        std::uint64_t mount_function = 0;
    };

    /// requires: accounts.size() >= space.cells(), `space` without mounts; owner: borrows all
    NameRegistry(NameSpace& space, std::span<NodeAccount> accounts, std::span<NameClient> clients,
                 Options const& options)
        : space_(&space), accounts_(accounts), clients_(clients), options_(options) {}

    /// A new client's number; none when there are too many. context: O(clients)
    std::optional<std::uint32_t> enter();
    /// The client is gone: takes one of its names away. True while there are more; then its number
    /// is free again. context: O(log names + depth)
    bool leave_step(std::uint32_t client);

    // As the operations of NameSpace, of whose errors they have all, for one client.
    /// errors: also NotYours (the name is another's), Full (the client's share is used up)
    [[nodiscard]] Result<void, NameError> bind(std::uint32_t client, std::string_view path,
                                               Handle handle, BindMode mode);
    [[nodiscard]] Result<void, NameError> make_directory(std::uint32_t client,
                                                         std::string_view path);
    [[nodiscard]] Result<void, NameError> unbind(std::uint32_t client, std::string_view path);
    [[nodiscard]] Result<Handle, NameError> resolve(std::string_view path) const {
        return space_->resolve(path);
    }
    /// Names that stand for name servers are listed as mount points.
    [[nodiscard]] Result<void, NameError> list(std::string_view path, std::string_view after,
                                               NameList& names) const;

    /// The mount point that `path` leads through, if it leads through one. `itself`: the whole path
    /// may be the mount point. context: O(components^2), for requests that have failed
    std::optional<Referral> referral(std::string_view path, bool itself) const;

    NameClient const& client(std::uint32_t number) const { return clients_[number]; }
    NameSpace& space() { return *space_; }
    /// Whether every name is in the account of one client at most, and all sums are right. For
    /// tests: O(cells)
    bool check_invariants() const;

private:
    static std::uint32_t cost_of(std::size_t name_bytes);
    Result<void, NameError> make(std::uint32_t client, std::string_view path, CellKind kind,
                                 Handle handle);
    void charge(std::uint32_t client, CellNumber node);
    void discharge(CellNumber node);
    void erased_below(CellNumber parent);

    NameSpace* space_;
    std::span<NodeAccount> accounts_;
    std::span<NameClient> clients_;
    Options options_;
};

}  // namespace nemesis::names
