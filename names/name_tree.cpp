#include "names/name_tree.h"

#include <algorithm>
#include <bit>

#include "libnemesis/base/assert.h"

namespace nemesis::names {
namespace {

constexpr std::uint32_t slots_per_cell = 4;

/// Slots for so many cells: a power of two, at least four times as many, less the rounding down
/// that memory may force on `create`.
std::uint64_t slots_for(std::uint64_t cells) { return std::bit_ceil(cells * slots_per_cell); }

}  // namespace

std::size_t NameTree::bytes_for(std::uint32_t names) {
    ASSERT(names <= names_max);
    std::uint64_t const cells = std::uint64_t{names} + 2;  // number 0 and the root
    return cells * sizeof(Cell) + slots_for(cells) * sizeof(Slot) + sizeof(Cell);
}

Result<NameTree, NameError> NameTree::create(std::span<std::byte> memory, std::uint64_t seed) {
    auto const address = reinterpret_cast<std::uintptr_t>(memory.data());
    std::size_t const skipped = -address % sizeof(Cell);
    if (memory.size() < skipped + bytes_for(1) - sizeof(Cell)) return fail(NameError::Full);
    std::size_t const bytes = memory.size() - skipped;
    // The largest number of slots that leaves room for a quarter as many cells.
    std::uint64_t slots = slots_for(3);
    while (slots * 2 <= slots_for(std::uint64_t{names_max} + 2)) {
        std::uint64_t const cells = slots * 2 / slots_per_cell / 2 + 1;
        if (cells * sizeof(Cell) + slots * 2 * sizeof(Slot) > bytes) break;
        slots *= 2;
    }
    std::uint64_t const cells =
        std::min((bytes - slots * sizeof(Slot)) / sizeof(Cell), slots / slots_per_cell);
    auto* const first = reinterpret_cast<Cell*>(memory.data() + skipped);
    auto* const table = reinterpret_cast<Slot*>(first + cells);
    for (std::uint64_t i = 0; i < slots; i++) table[i] = Slot{0, 0};
    NameTree tree(first, static_cast<std::uint32_t>(cells), table, slots - 1, seed);
    first[0].node = Node{};
    first[1].node = Node{};
    first[1].node.kind = CellKind::Directory;
    first[1].node.directory = {0, 0, 0, 0};
    for (auto number = static_cast<CellNumber>(cells); number-- > 2;) tree.give_cell(number);
    return tree;
}

// ---- cells ----

CellNumber NameTree::take_cell() {
    CellNumber const number = first_free_;
    if (number == 0) return 0;
    first_free_ = cells_[number].text.next;
    --free_count_;
    return number;
}

void NameTree::give_cell(CellNumber number) {
    cells_[number].text = TextPiece{};
    cells_[number].text.kind = CellKind::Free;
    cells_[number].text.next = first_free_;
    first_free_ = number;
    ++free_count_;
}

CellNumber NameTree::take_layer() {
    CellNumber const number = take_cell();
    if (number != 0) {
        cells_[number].layer = LayerCell{};
        cells_[number].layer.kind = CellKind::Layer;
    }
    return number;
}

void NameTree::give_layer(CellNumber number) {
    ASSERT(kind(number) == CellKind::Layer);
    give_cell(number);
}

CellNumber NameTree::take_text(std::string_view text) {
    std::size_t const pieces = (text.size() + text_piece_bytes - 1) / text_piece_bytes;
    if (pieces > free_count_) return 0;
    CellNumber first = 0;
    for (std::size_t i = pieces; i-- > 0;) {
        CellNumber const number = take_cell();
        auto const bytes = part(text, i * text_piece_bytes, text_piece_bytes);
        TextPiece& piece = cells_[number].text;
        piece = TextPiece{};
        piece.kind = CellKind::Text;
        piece.next = first;
        __builtin_memcpy(piece.bytes, bytes.data(), bytes.size());
        first = number;
    }
    return first;
}

void NameTree::give_text(CellNumber first) {
    while (first != 0) {
        CellNumber const next = cells_[first].text.next;
        give_cell(first);
        first = next;
    }
}

std::string_view NameTree::read_text(CellNumber first, std::uint32_t bytes, char* buffer) const {
    std::uint32_t done = 0;
    for (; first != 0; first = cells_[first].text.next) {
        auto const part = std::min<std::uint32_t>(bytes - done, text_piece_bytes);
        __builtin_memcpy(buffer + done, cells_[first].text.bytes, part);
        done += part;
    }
    ASSERT(done == bytes);
    return {buffer, bytes};
}

// ---- names ----

std::string_view NameTree::name(CellNumber number, char* buffer) const {
    Node const& n = node(number);
    std::size_t const inline_bytes = std::min<std::size_t>(n.length, component_inline);
    __builtin_memcpy(buffer, n.words, inline_bytes);
    if (n.more != 0) {
        read_text(n.more, static_cast<std::uint32_t>(n.length - component_inline),
                  buffer + component_inline);
    }
    return {buffer, n.length};
}

bool NameTree::rest_equals(Node const& n, Component const& name) const {
    if (n.words[1] != name.words[1] || n.words[2] != name.words[2]) return false;
    if (n.more == 0) return true;
    std::string_view text = part(name.text, component_inline);
    for (CellNumber at = n.more; at != 0; at = cells_[at].text.next) {
        auto const size = std::min(text.size(), text_piece_bytes);
        if (__builtin_memcmp(cells_[at].text.bytes, text.data(), size) != 0) return false;
        text.remove_prefix(size);
    }
    return text.empty();
}

int NameTree::compare(std::string_view text, Node const& n) const {
    char buffer[component_bytes_max];
    if (n.more == 0) {
        __builtin_memcpy(buffer, n.words, component_inline);
        return text.compare(std::string_view(buffer, n.length));
    }
    return text.compare(
        name(static_cast<CellNumber>(reinterpret_cast<Cell const*>(&n) - cells_), buffer));
}

Result<CellNumber, NameError> NameTree::insert(CellNumber parent, Component const& name,
                                               CellKind kind) {
    ASSERT(node(parent).kind == CellKind::Directory);
    ASSERT(find(parent, name) == 0);
    std::uint64_t const hash = child_hash(parent, name.hash);
    CellNumber more = 0;
    if (name.text.size() > component_inline) {
        more = take_text(part(name.text, component_inline));
        if (more == 0) return fail(NameError::Full);
    }
    CellNumber const number = take_cell();
    if (number == 0 || !table_insert(hash, number)) {
        if (number != 0) give_cell(number);
        give_text(more);
        return fail(NameError::Full);
    }
    Node& n = node(number);
    n = Node{};
    n.kind = kind;
    n.length = static_cast<std::uint16_t>(name.text.size());
    n.parent = parent;
    for (std::size_t i = 0; i < component_words; i++) n.words[i] = name.words[i];
    n.more = more;
    n.tag = static_cast<std::uint32_t>(hash >> 32);
    if (kind == CellKind::Directory) {
        n.directory = {0, 0, 0, 0};
    } else {
        n.handle = Handle{};
    }
    treap_insert(parent, number, name.text);
    ++node(parent).directory.child_count;
    return number;
}

void NameTree::erase(CellNumber number) {
    Node& n = node(number);
    ASSERT(number != root());
    ASSERT(n.kind == CellKind::Object || n.kind == CellKind::Directory);
    if (n.kind == CellKind::Directory) {
        ASSERT(n.directory.child_count == 0);
        ASSERT(n.directory.first_layer == 0);
        ASSERT(n.directory.aliases == 0);
    }
    char buffer[component_bytes_max];
    treap_erase(n.parent, number, name(number, buffer));
    --node(n.parent).directory.child_count;
    table_erase(number);
    give_text(n.more);
    give_cell(number);
}

// ---- the table ----

std::uint64_t NameTree::hash_of(CellNumber number) const {
    char buffer[component_bytes_max];
    PathScan scan(name(number, buffer), seed_);
    Component component;
    bool const fits = scan.next(component);
    ASSERT(fits);
    return child_hash(node(number).parent, component.hash);
}

bool NameTree::table_insert(std::uint64_t hash, CellNumber cell) {
    for (std::uint32_t probe = 0; probe < probes_max; probe++) {
        Slot& slot = slots_[(hash + probe) & mask_];
        if (slot.cell != 0) continue;
        slot = Slot{static_cast<std::uint32_t>(hash >> 32), cell};
        return true;
    }
    return false;
}

void NameTree::table_erase(CellNumber cell) {
    std::uint64_t hole = hash_of(cell);
    while (slots_[hole & mask_].cell != cell) ++hole;
    // What stands behind the hole moves into it if its own place is not behind the hole too, so
    // that no lookup meets an empty slot on its way.
    for (std::uint64_t next = hole + 1; slots_[next & mask_].cell != 0; next++) {
        std::uint64_t const home = hash_of(slots_[next & mask_].cell);
        if (((next - home) & mask_) < ((next - hole) & mask_)) continue;
        slots_[hole & mask_] = slots_[next & mask_];
        hole = next;
    }
    slots_[hole & mask_] = Slot{0, 0};
}

// ---- the treap ----

void NameTree::treap_insert(CellNumber parent, CellNumber number, std::string_view text) {
    Node& added = node(number);
    CellNumber* link = &node(parent).directory.children;
    while (*link != 0 && !before(added, node(*link))) {
        Node& n = node(*link);
        link = compare(text, n) < 0 ? &n.left : &n.right;
    }
    // What hung here is split into what comes before the new name and what comes after it.
    CellNumber rest = *link;
    *link = number;
    CellNumber* left = &added.left;
    CellNumber* right = &added.right;
    while (rest != 0) {
        Node& n = node(rest);
        if (compare(text, n) < 0) {
            *right = rest;
            right = &n.left;
            rest = n.left;
        } else {
            *left = rest;
            left = &n.right;
            rest = n.right;
        }
    }
    *left = 0;
    *right = 0;
}

void NameTree::treap_erase(CellNumber parent, CellNumber number, std::string_view text) {
    CellNumber* link = &node(parent).directory.children;
    while (*link != number) {
        ASSERT(*link != 0);
        Node& n = node(*link);
        link = compare(text, n) < 0 ? &n.left : &n.right;
    }
    CellNumber a = node(number).left;
    CellNumber b = node(number).right;
    while (a != 0 && b != 0) {
        if (before(node(a), node(b))) {
            *link = a;
            link = &node(a).right;
            a = *link;
        } else {
            *link = b;
            link = &node(b).left;
            b = *link;
        }
    }
    *link = a != 0 ? a : b;
}

CellNumber NameTree::next_child(CellNumber directory, std::string_view after) const {
    CellNumber best = 0;
    for (CellNumber at = node(directory).directory.children; at != 0;) {
        Node const& n = node(at);
        if (compare(after, n) < 0) {
            best = at;
            at = n.left;
        } else {
            at = n.right;
        }
    }
    return best;
}

// ---- invariants ----

bool NameTree::check_invariants() const {
    std::uint64_t nodes = 0, pieces = 0, pieces_owned = 0, others = 0, in_table = 0, children = 0;
    for (std::uint64_t i = 0; i <= mask_; i++) in_table += slots_[i].cell != 0;
    for (CellNumber number = 1; number < cell_count_; number++) {
        CellKind const k = kind(number);
        if (k == CellKind::Text) pieces++;
        if (k == CellKind::Layer) {
            others++;
            pieces_owned += (layer(number).prefix_bytes + text_piece_bytes - 1) / text_piece_bytes;
        }
        if (k != CellKind::Object && k != CellKind::Directory) continue;
        Node const& n = node(number);
        nodes++;
        if (number != root()) {
            std::uint64_t const hash = hash_of(number);
            std::uint32_t probe = 0;
            while (probe < probes_max && slots_[(hash + probe) & mask_].cell != number) {
                if (slots_[(hash + probe) & mask_].cell == 0) return false;
                probe++;
            }
            if (probe == probes_max || n.tag != static_cast<std::uint32_t>(hash >> 32))
                return false;
            if (node(n.parent).kind != CellKind::Directory) return false;
            if (n.length > component_inline) {
                pieces_owned +=
                    (n.length - component_inline + text_piece_bytes - 1) / text_piece_bytes;
            }
        }
        for (CellNumber const side : {n.left, n.right}) {
            if (side != 0 && (before(node(side), n) || node(side).parent != n.parent)) return false;
        }
        if (k == CellKind::Directory) {
            // next_child finds each child once, in order: the treap is a search tree.
            char buffer[component_bytes_max];
            std::string_view last;
            std::uint32_t count = 0;
            for (CellNumber at = next_child(number, ""); at != 0; at = next_child(number, last)) {
                if (node(at).parent != number || count > n.directory.child_count) return false;
                last = name(at, buffer);
                count++;
            }
            if (count != n.directory.child_count) return false;
            children += count;
        }
    }
    return nodes == children + 1 && in_table == children && pieces == pieces_owned &&
           nodes + pieces + others + free_count_ + 1 == cell_count_;
}

}  // namespace nemesis::names
