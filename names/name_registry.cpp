#include "names/name_registry.h"

#include "libnemesis/base/assert.h"

namespace nemesis::names {

/// The node, and the pieces of a name that does not fit into it.
std::uint32_t NameRegistry::cost_of(std::size_t name_bytes) {
    if (name_bytes <= component_inline) return 1;
    auto const beyond = name_bytes - component_inline;
    return static_cast<std::uint32_t>(1 + (beyond + text_piece_bytes - 1) / text_piece_bytes);
}

std::optional<std::uint32_t> NameRegistry::enter() {
    for (std::uint32_t n = 0; n < clients_.size(); ++n) {
        if (clients_[n].live) continue;
        clients_[n] = {.live = true};
        return n;
    }
    return std::nullopt;
}

void NameRegistry::charge(std::uint32_t client, CellNumber node) {
    auto& c = clients_[client];
    accounts_[node] = {.client = client + 1, .next = c.first};
    if (c.first != 0) accounts_[c.first].previous = node;
    c.first = node;
    c.cells += cost_of(space_->node(node).length);
}

/// requires: the node is still there
void NameRegistry::discharge(CellNumber node) {
    auto& a = accounts_[node];
    if (a.client == 0) return;
    auto& c = clients_[a.client - 1];
    (a.previous != 0 ? accounts_[a.previous].next : c.first) = a.next;
    if (a.next != 0) accounts_[a.next].previous = a.previous;
    c.cells -= cost_of(space_->node(node).length);
    a = {};
}

/// Directories that nobody wants any more go with what was last in them.
void NameRegistry::erased_below(CellNumber parent) {
    while (parent != space_->root() && accounts_[parent].abandoned &&
           space_->node(parent).directory.child_count == 0) {
        auto const above = space_->node(parent).parent;
        accounts_[parent] = {};
        if (!space_->unbind_node(parent)) return;
        parent = above;
    }
}

bool NameRegistry::leave_step(std::uint32_t client) {
    auto& c = clients_[client];
    if (auto const node = c.first; node != 0) {
        auto const& n = space_->node(node);
        auto const parent = n.parent;
        auto const stays = n.kind == CellKind::Directory && n.directory.child_count != 0;
        discharge(node);
        if (stays) {
            accounts_[node].abandoned = true;
        } else {
            auto const gone = space_->unbind_node(node);
            ASSERT(gone.has_value());
            erased_below(parent);
        }
    }
    if (c.first != 0) return true;
    c = {};
    return false;
}

Result<void, NameError> NameRegistry::make(std::uint32_t client, std::string_view path,
                                           CellKind kind, Handle handle) {
    TRY_VOID(check_path(path));
    auto const cost = cost_of(split_last(relative(path)).last.size());
    if (clients_[client].cells + cost > options_.cells_per_client) return fail(NameError::Full);
    if (kind == CellKind::Directory) {
        TRY_VOID(space_->make_directory(path));
    } else {
        TRY_VOID(space_->bind(path, handle));
    }
    charge(client, space_->own_node(path));
    return {};
}

Result<void, NameError> NameRegistry::bind(std::uint32_t client, std::string_view path,
                                           Handle handle, BindMode mode) {
    auto const there = space_->own_node(path);
    if (there == 0 || mode == BindMode::New || handle == Handle{} ||
        space_->node(there).kind != CellKind::Object)
        return make(client, path, CellKind::Object, handle);
    if (accounts_[there].client != client + 1) return fail(NameError::NotYours);
    return space_->bind(path, handle, BindMode::Replace);
}

Result<void, NameError> NameRegistry::make_directory(std::uint32_t client, std::string_view path) {
    return make(client, path, CellKind::Directory, {});
}

Result<void, NameError> NameRegistry::unbind(std::uint32_t client, std::string_view path) {
    TRY_VOID(check_path(path));
    auto const there = space_->own_node(path);
    if (there == 0) return space_->unbind(path);  // it knows why not
    if (there == space_->root()) return fail(NameError::InUse);
    if (accounts_[there].client != client + 1) return fail(NameError::NotYours);
    auto const& n = space_->node(there);
    if (n.kind == CellKind::Directory && n.directory.child_count != 0)
        return fail(NameError::NotEmpty);
    auto const parent = n.parent;
    discharge(there);
    TRY_VOID(space_->unbind_node(there));
    erased_below(parent);
    return {};
}

Result<void, NameError> NameRegistry::list(std::string_view path, std::string_view after,
                                           NameList& names) const {
    TRY_VOID(space_->list(path, after, names));
    auto const directory = relative(path);
    for (std::uint32_t i = 0; i < names.count; ++i) {
        auto& entry = names.entries[i];
        if (entry.kind != NameKind::Object) continue;
        char whole[path_bytes_max + 1 + component_bytes_max];
        __builtin_memcpy(whole, directory.data(), directory.size());
        auto bytes = directory.size();
        if (bytes != 0) whole[bytes++] = '/';
        __builtin_memcpy(whole + bytes, entry.bytes, entry.length);
        auto const node = space_->own_node({whole, bytes + entry.length});
        if (node != 0 && space_->node(node).handle.function == options_.mount_function)
            entry.kind = NameKind::MountPoint;
    }
    return {};
}

std::optional<Referral> NameRegistry::referral(std::string_view path, bool itself) const {
    if (!check_path(path)) return std::nullopt;
    auto const skipped = path.size() - relative(path).size();
    auto const whole = relative(path);
    for (std::size_t at = 0; at < whole.size();) {
        auto const end = at + find_slash(part(whole, at));
        if (end == whole.size() && !itself) return std::nullopt;
        auto const node = space_->own_node(part(whole, 0, end));
        if (node == 0) return std::nullopt;
        if (auto const& n = space_->node(node); n.kind == CellKind::Object) {
            if (n.handle.function != options_.mount_function) return std::nullopt;
            return Referral{n.handle, skipped + (end == whole.size() ? end : end + 1)};
        }
        at = end + 1;
    }
    return std::nullopt;
}

bool NameRegistry::check_invariants() const {
    if (!space_->check_invariants()) return false;
    for (std::uint32_t number = 0; number < clients_.size(); ++number) {
        auto const& c = clients_[number];
        if (!c.live && (c.first != 0 || c.cells != 0)) return false;
        std::uint32_t cells = 0;
        CellNumber before = 0;
        for (auto node = c.first; node != 0; node = accounts_[node].next) {
            auto const& a = accounts_[node];
            if (a.client != number + 1 || a.previous != before || a.abandoned) return false;
            cells += cost_of(space_->node(node).length);
            if (cells > options_.cells_per_client) return false;
            before = node;
        }
        if (cells != c.cells) return false;
    }
    for (CellNumber node = 1; node < accounts_.size(); ++node) {
        auto const& a = accounts_[node];
        if (!a.abandoned) continue;
        if (a.client != 0 || space_->node(node).kind != CellKind::Directory ||
            space_->node(node).directory.child_count == 0)
            return false;
    }
    return true;
}

}  // namespace nemesis::names
