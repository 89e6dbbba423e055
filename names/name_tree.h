#pragma once
// NameTree: the memory of a name space: nodes, found by (parent, name) in a bounded number of steps
// and listed in order of their names.
//
// All memory is one range that the caller gives: cells of 64 bytes (a node, a piece of a long name,
// or what NameSpace keeps about a mount) and a hash table of four slots a cell. A lookup looks at
// no more than `probes_max` slots; an insertion that would need more is refused as Full, which at
// a quarter's load and a seed that others do not know does not happen before the cells run out.
// The children of a directory are also a treap in order of their names, its priorities the seeded
// hashes: insertion, removal and "the next name after this" are O(log n) expected, without
// recursion.
//
// Invariants (check_invariants): each node but the root is in the table within probes_max slots of
// its place, with no empty slot between, and in its parent's treap, which is in order of names and
// a heap of tags; child_count is right; every cell is free, a node, or a piece that one owner has.
// Not made for several threads at once: the owner locks.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "libnemesis/base/result.h"
#include "names/handle.h"
#include "names/name_error.h"
#include "names/path.h"

namespace nemesis::names {

/// A cell's number. 0: none.
using CellNumber = std::uint32_t;

/// What a cell is used for.
enum class CellKind : std::uint8_t { Free, Object, Directory, Text, Layer };

/// A name: an object or a directory. shape: one cell
struct Node {
    CellKind kind;
    std::uint8_t flags;
    std::uint16_t length;  ///< of the name, bytes
    CellNumber parent;
    std::uint64_t words[component_words];  ///< the name's first bytes, zero padded
    CellNumber left, right;                ///< in the parent's treap
    CellNumber more;                       ///< pieces of the name beyond component_inline bytes
    std::uint32_t tag;                     ///< upper half of the hash of parent and name
    union {
        Handle handle;  ///< of an object
        struct {
            CellNumber children;  ///< the treap's root
            std::uint32_t child_count;
            CellNumber first_layer;  ///< of a mount point; 0: only its own children
            std::uint32_t aliases;   ///< layers elsewhere that show this directory
        } directory;
    };
};
static_assert(sizeof(Node) == 64);

inline constexpr std::size_t text_piece_bytes = 56;
/// A piece of a long name. shape: one cell
struct TextPiece {
    CellKind kind;
    CellNumber next;
    char bytes[text_piece_bytes];
};
static_assert(sizeof(TextPiece) == 64);

class NameServer;

/// One layer of a union (name_space.h). shape: one cell
struct LayerCell {
    CellKind kind;
    std::uint8_t source;   ///< NameSpace's LayerSource
    std::uint8_t accepts;  ///< whether new names go here
    std::uint8_t reserved;
    CellNumber next;        ///< the union's next layer
    CellNumber point;       ///< the directory this is a layer of
    CellNumber target;      ///< of an alias: what it shows
    CellNumber next_mount;  ///< all mounts and aliases of the name space
    CellNumber prefix;      ///< of a server: text pieces of the path there
    std::uint32_t prefix_bytes;
    std::uint32_t generation;  ///< tells this mount from others that had the cell
    NameServer* server;
    std::uint64_t unused[3];
};
static_assert(sizeof(LayerCell) == 64);

/// See the head of this file.
class NameTree {
public:
    static constexpr std::uint32_t probes_max = 64;
    static constexpr std::uint32_t names_max = 1u << 26;

    /// How much memory a tree needs for `names` short names (24 bytes or less), beside the root.
    /// units: bytes; requires: names <= names_max
    static std::size_t bytes_for(std::uint32_t names);

    /// A tree with only a root in `memory`, which it fills with as many cells as fit. `seed`:
    /// random, unknown to whoever chooses names. errors: Full: the memory is too small for one
    /// name; context: O(memory); owner: borrows it
    [[nodiscard]] static Result<NameTree, NameError> create(std::span<std::byte> memory,
                                                            std::uint64_t seed);

    CellNumber root() const { return 1; }
    Node& node(CellNumber number) { return cells_[number].node; }
    Node const& node(CellNumber number) const { return cells_[number].node; }
    LayerCell& layer(CellNumber number) { return cells_[number].layer; }
    LayerCell const& layer(CellNumber number) const { return cells_[number].layer; }
    CellKind kind(CellNumber number) const { return cells_[number].node.kind; }
    std::uint32_t cells_free() const { return free_count_; }
    std::uint32_t cells() const { return cell_count_; }
    std::uint64_t seed() const { return seed_; }

    /// The child of `parent` with that name, or 0. context: any, at most probes_max slots
    [[gnu::always_inline]] CellNumber find(CellNumber parent, Component const& name) const {
        // Short names have their other words zero.
        return find_like(parent, name.hash, name.words[0], name.text.size(),
                         [&](Node const& n) { return n.length <= 8 || rest_equals(n, name); });
    }
    [[gnu::always_inline]] CellNumber find(CellNumber parent, ShortComponent const& name) const {
        return find_like(parent, name.hash, name.word, name.length,
                         [](Node const&) { return true; });
    }

    /// Adds a name to a directory that has none of it; the caller fills in what it stands for.
    /// errors: Full; requires: a well-formed component; context: O(log n) expected
    [[nodiscard]] Result<CellNumber, NameError> insert(CellNumber parent, Component const& name,
                                                       CellKind kind);
    /// Takes a name away. requires: not the root; a directory without children and layers
    void erase(CellNumber number);

    /// The child with the smallest name after `name` ("": the first), or 0. context: O(log n)
    CellNumber next_child(CellNumber directory, std::string_view name) const;
    /// Copies a node's name. shape: `buffer` has component_bytes_max bytes
    std::string_view name(CellNumber number, char* buffer) const;

    /// Cells for NameSpace: a layer, and a text in pieces. errors: 0 when there is no room
    CellNumber take_layer();
    CellNumber take_text(std::string_view text);
    std::string_view read_text(CellNumber first, std::uint32_t bytes, char* buffer) const;
    void give_layer(CellNumber number);
    void give_text(CellNumber first);

    /// Whether everything the file header promises holds. For tests: O(cells)
    bool check_invariants() const;

private:
    union Cell {
        Node node;
        TextPiece text;
        LayerCell layer;
    };
    struct Slot {
        std::uint32_t tag;
        CellNumber cell;
    };

    NameTree(Cell* cells, std::uint32_t cell_count, Slot* slots, std::uint64_t mask,
             std::uint64_t seed)
        : cells_(cells), slots_(slots), mask_(mask), seed_(seed), cell_count_(cell_count) {}

    /// The name's hash is well mixed: the same name below different parents is moved apart by the
    /// product, different names are apart already.
    [[gnu::always_inline]] static std::uint64_t child_hash(CellNumber parent, std::uint64_t name) {
        return name + parent * 0xD6E8'FEB8'6659'FD93ull;
    }
    template <typename Rest>
    [[gnu::always_inline]] CellNumber find_like(CellNumber parent, std::uint64_t name_hash,
                                                std::uint64_t word, std::size_t length,
                                                Rest&& rest_equal) const {
        std::uint64_t const hash = child_hash(parent, name_hash);
        auto const is_it = [&](Slot slot) {
            Node const& n = cells_[slot.cell].node;
            return n.words[0] == word && n.parent == parent && n.length == length && rest_equal(n);
        };
        Slot const first = slots_[hash & mask_];
        if (first.tag == hash >> 32 && is_it(first)) [[likely]]
            return first.cell;
        if (first.cell == 0) return 0;
        auto const tag = static_cast<std::uint32_t>(hash >> 32);
        for (std::uint32_t probe = 1; probe < probes_max; probe++) {
            Slot const slot = slots_[(hash + probe) & mask_];
            if (slot.cell == 0) return 0;
            if (slot.tag == tag && is_it(slot)) return slot.cell;
        }
        return 0;
    }
    bool rest_equals(Node const& node, Component const& name) const;
    /// Below, equal to or above 0, as `text` compares with the node's name.
    int compare(std::string_view text, Node const& node) const;
    bool before(Node const& a, Node const& b) const { return a.tag < b.tag; }
    CellNumber take_cell();
    void give_cell(CellNumber number);
    std::uint64_t hash_of(CellNumber number) const;
    bool table_insert(std::uint64_t hash, CellNumber cell);
    void table_erase(CellNumber cell);
    void treap_insert(CellNumber parent, CellNumber number, std::string_view text);
    void treap_erase(CellNumber parent, CellNumber number, std::string_view text);

    Cell* cells_;
    Slot* slots_;
    std::uint64_t mask_;
    std::uint64_t seed_;
    std::uint32_t cell_count_;
    std::uint32_t free_count_ = 0;
    CellNumber first_free_ = 0;
};

}  // namespace nemesis::names
