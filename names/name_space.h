#pragma once
// NameSpace: a domain's own tree of names, with other name spaces mounted in it.
//
// A directory that something is mounted on is a *union*: an ordered list of layers, each its own
// names, another directory of this name space (an alias), or a server. What is in a union:
//   resolve   tries the layers in order, each with the whole rest of the path; the first that has
//             an object of that name wins;
//   list      merges the directories of that name of all layers; of equal names the first counts;
//   bind, make_directory, unbind   go to the first layer that accepts names, and to no other.
// A layer that cannot answer (Unreachable, DeadlinePassed, ...) ends a resolution with its error:
// else a name would silently mean another object while a server is down.
// Paths given to `mount`, `alias` and as an alias's target name directories of the own tree, as it
// is below all mounts.
//
// The local case (no union on the way) touches nothing but this domain's memory and makes no call.
// Before a server is asked the gate, if there is one, is left, and entered again afterwards; when
// names have changed meanwhile and the search must go on, it begins anew, at most `restarts_max`
// times.
//
// Invariants (check_invariants): those of NameTree; a union has at most layers_max layers, at most
// one of them its own names; what an alias shows knows how many do; following own names and aliases
// downward never returns to where it began (aliases that would are refused as Cycle).
// Source: PEG94 "Naming and Invocation"; differs: unions, after Plan 9, are by whole path and not
// by component, so that two trees mount on top of each other.

#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include "libnemesis/base/result.h"
#include "names/handle.h"
#include "names/name_error.h"
#include "names/name_server.h"
#include "names/name_tree.h"

namespace nemesis::names {

inline constexpr std::uint32_t layers_max = 8;
inline constexpr std::uint32_t aliases_max = 64;
inline constexpr std::uint32_t steps_max = 512;   ///< directories one resolution looks at in unions
inline constexpr std::uint32_t nesting_max = 24;  ///< unions within unions
inline constexpr std::uint32_t restarts_max = 8;

/// Where a new layer goes. Replace: it hides the directory's own names; only on a directory without
/// layers.
enum class LayerOrder : std::uint8_t { Before, After, Replace };

/// How something is mounted. `prefix`: the path at the server that appears here.
struct MountOptions {
    std::string_view prefix = {};
    LayerOrder order = LayerOrder::Replace;
    bool accepts_names = false;
};

/// Names one mount, for unmount. {0, 0} is none.
struct MountId {
    CellNumber cell = 0;
    std::uint32_t generation = 0;
};

/// What several threads of a domain share a name space with.
class Gate {
public:
    virtual void enter() = 0;
    virtual void leave() = 0;

protected:
    Gate() = default;
    Gate(Gate const&) = default;
    Gate& operator=(Gate const&) = default;
    ~Gate() = default;
};

/// See the head of this file. context: threads; without a gate one at a time
class NameSpace {
public:
    /// An empty name space in `memory` (NameTree::bytes_for says how much). `seed`: random, unknown
    /// to whoever chooses names. errors: Full; owner: borrows memory and gate
    [[nodiscard]] static Result<NameSpace, NameError> create(std::span<std::byte> memory,
                                                             std::uint64_t seed,
                                                             Gate* gate = nullptr);

    /// What `path` stands for.
    /// errors: NotFound, NotADirectory, IsADirectory, BadName, TooLong, Tangled, InUse (names kept
    /// changing: try again), and those of servers asked; context: local names O(bytes), no call
    [[nodiscard]] Result<Handle, NameError> resolve(std::string_view path,
                                                    Request const& request = {}) const;

    /// The next names of a directory after `after` ("": from the first), in order of their bytes.
    /// errors: as resolve; NotADirectory when it is an object everywhere
    [[nodiscard]] Result<void, NameError> list(std::string_view path, std::string_view after,
                                               NameList& names, Request const& request = {}) const;

    /// Lets `path` stand for `handle`. Its directory must exist.
    /// errors: Exists (New), IsADirectory, NotFound, ReadOnly, Full, BadHandle, BadName, TooLong
    [[nodiscard]] Result<void, NameError> bind(std::string_view path, Handle handle,
                                               BindMode mode = BindMode::New,
                                               Request const& request = {});
    /// errors: Exists, NotFound, NotADirectory, ReadOnly, Full, BadName, TooLong
    [[nodiscard]] Result<void, NameError> make_directory(std::string_view path,
                                                         Request const& request = {});
    /// Takes an object, or an empty directory, away.
    /// errors: NotFound, NotEmpty, InUse (mount point, or shown by an alias; the root), ReadOnly
    [[nodiscard]] Result<void, NameError> unbind(std::string_view path,
                                                 Request const& request = {});

    /// Makes the names of `server` appear at `path`, a directory of the own tree.
    /// errors: NotFound, NotADirectory, InUse (Replace over layers), TooManyLayers, Full, Cycle
    /// owner: the server outlives the mount and the requests through it
    [[nodiscard]] Result<MountId, NameError> mount(std::string_view path, NameServer& server,
                                                   MountOptions const& options = {});
    /// Makes the own directory `target` appear at `path` too. `prefix` is not used.
    /// errors: as mount; Cycle when what `target` shows contains `path`; TooManyLayers
    [[nodiscard]] Result<MountId, NameError> alias(std::string_view path, std::string_view target,
                                                   MountOptions const& options = {});
    /// Takes a mount or alias away. errors: NoSuchMount
    [[nodiscard]] Result<void, NameError> unmount(MountId id);

    /// Whether `space` can be reached through a mount of this one: see NameServer::leads_to.
    bool leads_to(NameSpace const& space, unsigned& steps) const;

    // For who keeps account of the own names (name_registry.h), below all mounts. A node keeps its
    // number as long as its name is bound.
    /// The own node that `path` names, or 0. context: O(bytes)
    CellNumber own_node(std::string_view path) const;
    /// requires: `number` came from own_node and its name is still bound
    Node const& node(CellNumber number) const { return tree_.node(number); }
    CellNumber root() const { return tree_.root(); }
    /// As unbind of the node's path. errors: NotEmpty, InUse; requires: as node
    [[nodiscard]] Result<void, NameError> unbind_node(CellNumber number);

    std::uint32_t cells() const { return tree_.cells(); }
    std::uint32_t cells_free() const { return tree_.cells_free(); }
    /// Whether everything the file header promises holds. For tests: O(cells)
    bool check_invariants() const;

private:
    enum class LayerSource : std::uint8_t { Own, Alias, Server };
    enum class Change : std::uint8_t { Bind, MakeDirectory, Unbind };
    struct Walk {
        Request const& request;
        std::uint32_t steps = steps_max;
        bool changed = false;
    };
    struct ChangeOf {
        Change change;
        Handle handle;
        BindMode mode;
    };
    struct Merge;
    struct Resolving;
    class Inside;

    NameSpace(NameTree tree, Gate* gate) : tree_(tree), gate_(gate) {}

    Result<Handle, NameError> resolve_failed(std::string_view path, CellNumber at) const;
    Result<Handle, NameError> resolve_in_unions(std::string_view path, CellNumber at,
                                                std::string_view rest,
                                                Request const& request) const;
    Result<Handle, NameError> resolve_at(CellNumber at, std::string_view rest, Walk& walk,
                                         std::uint32_t nesting) const;
    Result<Handle, NameError> resolve_layer(CellNumber layer, std::string_view rest, Walk& walk,
                                            std::uint32_t nesting) const;
    Result<void, NameError> list_at(CellNumber at, std::string_view rest, Merge& merge,
                                    std::uint32_t nesting) const;
    Result<void, NameError> list_layer(CellNumber layer, std::string_view rest, Merge& merge,
                                       std::uint32_t nesting) const;
    Result<void, NameError> list_server(CellNumber layer, std::string_view rest,
                                        Merge& merge) const;
    void list_own(CellNumber at, Merge& merge) const;
    template <typename Ask>
    std::invoke_result_t<Ask, NameServer&, std::string_view, Request const&> ask_server(
        NameServer& server, std::string_view path, Request const& request, Ask&& question) const;
    template <typename Ask>
    std::invoke_result_t<Ask, NameServer&, std::string_view, Request const&> ask(
        CellNumber layer, std::string_view rest, Walk& walk, Ask&& question) const;

    Result<void, NameError> change(std::string_view path, ChangeOf const& what,
                                   Request const& request);
    Result<void, NameError> apply(CellNumber directory, std::string_view name,
                                  ChangeOf const& what);
    Result<CellNumber, NameError> own_directory(std::string_view path) const;
    CellNumber child(CellNumber directory, std::string_view& rest) const;
    Result<MountId, NameError> add_layer(CellNumber point, LayerSource source, CellNumber target,
                                         NameServer* server, MountOptions const& options);
    bool is_within(CellNumber inner, CellNumber outer) const;
    bool would_return(CellNumber point, CellNumber target) const;

    NameTree tree_;
    Gate* gate_;
    CellNumber first_mount_ = 0;  ///< all layers but own names
    std::uint32_t alias_count_ = 0;
    std::uint32_t generation_ = 0;
    std::uint64_t changes_ = 0;
};

}  // namespace nemesis::names
