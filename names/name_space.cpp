#include "names/name_space.h"

#include <algorithm>
#include <optional>

#include "libnemesis/base/assert.h"

namespace nemesis::names {
namespace {

/// An error after which the next layer is tried, and which of two tells more.
bool says_nothing_here(NameError error) {
    return error == NameError::NotFound || error == NameError::NotADirectory ||
           error == NameError::IsADirectory;
}
NameError more_telling(NameError a, NameError b) { return std::max(a, b); }
static_assert(NameError::NotFound < NameError::NotADirectory &&
              NameError::NotADirectory < NameError::IsADirectory);

/// Joins a mount's prefix and the rest of a path. errors: nullopt when too long
std::optional<std::string_view> join(std::string_view prefix, std::string_view rest,
                                     char (&buffer)[path_bytes_max]) {
    std::size_t const slash = prefix.empty() || rest.empty() ? 0 : 1;
    if (prefix.size() + slash + rest.size() > path_bytes_max) return std::nullopt;
    __builtin_memmove(buffer, prefix.data(), prefix.size());
    if (slash != 0) buffer[prefix.size()] = '/';
    __builtin_memcpy(buffer + prefix.size() + slash, rest.data(), rest.size());
    return std::string_view(buffer, prefix.size() + slash + rest.size());
}

}  // namespace

/// Holds the gate for a scope.
class NameSpace::Inside {
public:
    explicit Inside(Gate* gate) : gate_(gate) {
        if (gate_ != nullptr) gate_->enter();
    }
    ~Inside() {
        if (gate_ != nullptr) gate_->leave();
    }
    Inside(Inside const&) = delete;
    Inside& operator=(Inside const&) = delete;

private:
    Gate* gate_;
};

/// A listing in the making: the smallest names after `after` of the layers so far, in order.
struct NameSpace::Merge {
    Walk& walk;
    std::string_view after;
    NameList& out;
    /// Beyond this name some layer has not been read; its bytes are in `limit_bytes`.
    std::optional<std::string_view> limit = {};
    char limit_bytes[component_bytes_max] = {};

    /// Whether names from this one on can still matter.
    bool wants(std::string_view name) const {
        return out.count < NameList::entries_max || name < out.entries[out.count - 1].name();
    }
    /// Adds a name unless an earlier layer had it.
    void add(std::string_view name, NameKind kind) {
        std::uint32_t at = 0;
        while (at < out.count && out.entries[at].name() < name) ++at;
        if (at < out.count && out.entries[at].name() == name) return;
        if (at == NameList::entries_max) {
            out.more = true;
            return;
        }
        if (out.count == NameList::entries_max) {
            out.more = true;
            --out.count;
        }
        for (std::uint32_t i = out.count; i > at; i--) out.entries[i] = out.entries[i - 1];
        out.entries[at].set(name, kind);
        ++out.count;
    }
    /// A layer has more names, all after `last`.
    void unread_after(std::string_view last) {
        if (limit && *limit <= last) return;
        __builtin_memcpy(limit_bytes, last.data(), last.size());
        limit = std::string_view(limit_bytes, last.size());
    }
    /// What lies beyond the limit is not known to be next.
    void finish() {
        if (!limit) return;
        out.more = true;
        while (out.count > 0 && out.entries[out.count - 1].name() > *limit) --out.count;
    }
};

Result<NameSpace, NameError> NameSpace::create(std::span<std::byte> memory, std::uint64_t seed,
                                               Gate* gate) {
    return NameSpace(TRY(NameTree::create(memory, seed)), gate);
}

/// The commonest question.
struct NameSpace::Resolving {
    Result<Handle, NameError> operator()(NameServer& server, std::string_view path,
                                         Request const& onward) const {
        return server.resolve(path, onward);
    }
};

/// Asks a server, outside the gate. requires: request.hops > 0
template <typename Ask>
[[gnu::always_inline]] inline std::invoke_result_t<Ask, NameServer&, std::string_view,
                                                   Request const&>
NameSpace::ask_server(NameServer& server, std::string_view path, Request const& request,
                      Ask&& question) const {
    Request const onward{request.deadline, static_cast<std::uint8_t>(request.hops - 1)};
    if (gate_ != nullptr) gate_->leave();
    auto const answer = question(server, path, onward);
    if (gate_ != nullptr) gate_->enter();
    return answer;
}

// ---- resolution ----

Result<Handle, NameError> NameSpace::resolve(std::string_view path, Request const& request) const {
    if (path.size() > path_bytes_max) [[unlikely]]
        return fail(NameError::TooLong);
    Inside const inside(gate_);
    CellNumber at = tree_.root();
    PathScan scan(relative(path), tree_.seed());
    while (!scan.at_end()) {
        Node const& n = tree_.node(at);
        if (n.kind != CellKind::Directory) [[unlikely]]
            return resolve_failed(path, at);
        if (n.directory.first_layer != 0) {
            LayerCell const& layer = tree_.layer(n.directory.first_layer);
            // The commonest union is one server; all else, and what goes wrong, is looked at there.
            if (layer.next != 0 || LayerSource{layer.source} != LayerSource::Server ||
                layer.prefix_bytes != 0 || request.hops == 0 || scan.rest().front() == '/') {
                return resolve_in_unions(path, at, scan.rest(), request);
            }
            auto const before = changes_;
            auto const found = ask_server(*layer.server, scan.rest(), request, Resolving{});
            if (found && *found != Handle{}) [[likely]]
                return found;
            if (found) return fail(NameError::BadAnswer);
            if (changes_ != before) {
                return resolve_in_unions(path, tree_.root(), relative(path), request);
            }
            TRY_VOID(check_path(path));
            return found;
        }
        ShortComponent component;
        if (scan.next_short(component)) [[likely]] {
            at = tree_.find(at, component);
        } else {
            // Copied, so that the scan itself stays where it is fast.
            PathScan further = scan;
            Component long_one;
            if (!further.next(long_one)) [[unlikely]]
                return resolve_failed(path, 0);
            scan = further;
            at = tree_.find(at, long_one);
        }
        if (at == 0) [[unlikely]]
            return resolve_failed(path, 0);
    }
    Node const& n = tree_.node(at);
    if (n.kind == CellKind::Object) [[likely]]
        return n.handle;
    return resolve_failed(path, at);
}

/// Why a path without unions has led to `at` (0: nowhere) and no further.
Result<Handle, NameError> NameSpace::resolve_failed(std::string_view path, CellNumber at) const {
    TRY_VOID(check_path(path));
    if (at == 0) return fail(NameError::NotFound);
    return fail(tree_.kind(at) == CellKind::Directory ? NameError::IsADirectory
                                                      : NameError::NotADirectory);
}

Result<Handle, NameError> NameSpace::resolve_in_unions(std::string_view path, CellNumber at,
                                                       std::string_view rest,
                                                       Request const& request) const {
    // A server would take a slash at the beginning for its root; all else that is malformed names
    // nothing here and is refused there.
    if (!rest.empty() && rest.front() == '/') return fail(NameError::BadName);
    for (std::uint32_t tries = 0; tries < restarts_max; tries++) {
        Walk walk{request};
        auto const found = resolve_at(at, rest, walk, 0);
        if (found) return found;
        if (!walk.changed) {
            TRY_VOID(check_path(path));
            return found;
        }
        at = tree_.root();
        rest = relative(path);
    }
    return fail(NameError::InUse);
}

/// The child that the first component of `rest` names, or 0; takes the component off.
CellNumber NameSpace::child(CellNumber directory, std::string_view& rest) const {
    PathScan scan(rest, tree_.seed());
    Component component;
    if (!scan.next(component)) return 0;
    rest = scan.rest();
    return tree_.find(directory, component);
}

Result<Handle, NameError> NameSpace::resolve_at(CellNumber at, std::string_view rest, Walk& walk,
                                                std::uint32_t nesting) const {
    if (nesting > nesting_max) return fail(NameError::Tangled);
    for (;;) {
        if (walk.steps == 0) return fail(NameError::Tangled);
        --walk.steps;
        Node const& n = tree_.node(at);
        if (n.kind == CellKind::Object) {
            if (rest.empty()) return n.handle;
            return fail(NameError::NotADirectory);
        }
        if (rest.empty()) return fail(NameError::IsADirectory);
        if (n.directory.first_layer != 0) break;
        at = child(at, rest);
        if (at == 0) return fail(NameError::NotFound);
    }
    NameError telling = NameError::NotFound;
    for (CellNumber layer = tree_.node(at).directory.first_layer; layer != 0;
         layer = tree_.layer(layer).next) {
        auto const found = resolve_layer(layer, rest, walk, nesting);
        if (found || !says_nothing_here(found.error())) return found;
        if (walk.changed) return fail(NameError::InUse);
        telling = more_telling(telling, found.error());
    }
    return fail(telling);
}

Result<Handle, NameError> NameSpace::resolve_layer(CellNumber number, std::string_view rest,
                                                   Walk& walk, std::uint32_t nesting) const {
    LayerCell const& layer = tree_.layer(number);
    switch (LayerSource{layer.source}) {
        case LayerSource::Own: {
            CellNumber const at = child(layer.point, rest);
            if (at == 0) return fail(NameError::NotFound);
            return resolve_at(at, rest, walk, nesting + 1);
        }
        case LayerSource::Alias:
            return resolve_at(layer.target, rest, walk, nesting + 1);
        case LayerSource::Server:
            break;
    }
    auto const found = ask(number, rest, walk, Resolving{});
    if (found && *found == Handle{}) return fail(NameError::BadAnswer);
    return found;
}

/// Asks the server of a layer, outside the gate; notes whether names have changed meanwhile.
template <typename Ask>
std::invoke_result_t<Ask, NameServer&, std::string_view, Request const&> NameSpace::ask(
    CellNumber number, std::string_view rest, Walk& walk, Ask&& question) const {
    using Answer = std::invoke_result_t<Ask, NameServer&, std::string_view, Request const&>;
    LayerCell const& layer = tree_.layer(number);
    if (walk.request.hops == 0) return Answer(fail(NameError::TooManyHops));
    char buffer[path_bytes_max];
    if (layer.prefix_bytes != 0) {
        auto const prefix = tree_.read_text(layer.prefix, layer.prefix_bytes, buffer);
        auto const joined = join(prefix, rest, buffer);
        if (!joined) return Answer(fail(NameError::TooLong));
        rest = *joined;
    }
    std::uint64_t const before = changes_;
    Answer answer = ask_server(*layer.server, rest, walk.request, question);
    if (changes_ != before) walk.changed = true;
    return answer;
}

// ---- listing ----

Result<void, NameError> NameSpace::list(std::string_view path, std::string_view after,
                                        NameList& names, Request const& request) const {
    TRY_VOID(check_path(path));
    if (after.size() > component_bytes_max) return fail(NameError::TooLong);
    Inside const inside(gate_);
    for (std::uint32_t tries = 0; tries < restarts_max; tries++) {
        names.count = 0;
        names.more = false;
        Walk walk{request};
        Merge merge{walk, after, names};
        auto const listed = list_at(tree_.root(), relative(path), merge, 0);
        if (walk.changed) continue;
        if (!listed) names.count = 0;
        merge.finish();
        return listed;
    }
    names.count = 0;
    return fail(NameError::InUse);
}

Result<void, NameError> NameSpace::list_at(CellNumber at, std::string_view rest, Merge& merge,
                                           std::uint32_t nesting) const {
    if (nesting > nesting_max) return fail(NameError::Tangled);
    for (;;) {
        if (merge.walk.steps == 0) return fail(NameError::Tangled);
        --merge.walk.steps;
        Node const& n = tree_.node(at);
        if (n.kind == CellKind::Object) return fail(NameError::NotADirectory);
        if (n.directory.first_layer != 0) break;
        if (rest.empty()) {
            list_own(at, merge);
            return {};
        }
        at = child(at, rest);
        if (at == 0) return fail(NameError::NotFound);
    }
    bool any = false;
    NameError telling = NameError::NotFound;
    for (CellNumber layer = tree_.node(at).directory.first_layer; layer != 0;
         layer = tree_.layer(layer).next) {
        auto const listed = list_layer(layer, rest, merge, nesting);
        if (merge.walk.changed) return fail(NameError::InUse);
        if (listed) {
            any = true;
        } else if (!says_nothing_here(listed.error())) {
            return listed;
        } else {
            telling = more_telling(telling, listed.error());
        }
    }
    if (!any) return fail(telling);
    return {};
}

void NameSpace::list_own(CellNumber at, Merge& merge) const {
    char buffer[component_bytes_max];
    std::string_view last = merge.after;
    for (CellNumber c = tree_.next_child(at, last); c != 0; c = tree_.next_child(at, last)) {
        last = tree_.name(c, buffer);
        if (!merge.wants(last)) {
            merge.out.more = true;
            return;
        }
        Node const& n = tree_.node(c);
        merge.add(last, n.kind == CellKind::Object     ? NameKind::Object
                        : n.directory.first_layer != 0 ? NameKind::MountPoint
                                                       : NameKind::Directory);
    }
}

Result<void, NameError> NameSpace::list_layer(CellNumber number, std::string_view rest,
                                              Merge& merge, std::uint32_t nesting) const {
    LayerCell const& layer = tree_.layer(number);
    switch (LayerSource{layer.source}) {
        case LayerSource::Own: {
            if (rest.empty()) {
                list_own(layer.point, merge);
                return {};
            }
            CellNumber const at = child(layer.point, rest);
            if (at == 0) return fail(NameError::NotFound);
            return list_at(at, rest, merge, nesting + 1);
        }
        case LayerSource::Alias:
            return list_at(layer.target, rest, merge, nesting + 1);
        case LayerSource::Server:
            break;
    }
    return list_server(number, rest, merge);
}

/// Merges a page that a server gives. What it says is checked: names well formed, in order, after
/// what was asked for, and some of them if there are more.
[[gnu::noinline]] Result<void, NameError> NameSpace::list_server(CellNumber number,
                                                                 std::string_view rest,
                                                                 Merge& merge) const {
    NameList page;
    TRY_VOID(ask(number, rest, merge.walk,
                 [&](NameServer& server, std::string_view path, Request const& onward) {
                     return server.list(path, merge.after, page, onward);
                 }));
    if (page.count > NameList::entries_max || (page.more && page.count == 0)) {
        return fail(NameError::BadAnswer);
    }
    std::string_view last = merge.after;
    for (NameEntry const& entry : page.names()) {
        if (!check_component(entry.name()) || entry.name() <= last ||
            entry.kind > NameKind::MountPoint) {
            return fail(NameError::BadAnswer);
        }
        last = entry.name();
    }
    for (NameEntry const& entry : page.names()) merge.add(entry.name(), entry.kind);
    if (page.more) merge.unread_after(last);
    return {};
}

// ---- changes ----

Result<void, NameError> NameSpace::bind(std::string_view path, Handle handle, BindMode mode,
                                        Request const& request) {
    if (handle == Handle{}) return fail(NameError::BadHandle);
    return change(path, {Change::Bind, handle, mode}, request);
}

Result<void, NameError> NameSpace::make_directory(std::string_view path, Request const& request) {
    return change(path, {Change::MakeDirectory, {}, BindMode::New}, request);
}

Result<void, NameError> NameSpace::unbind(std::string_view path, Request const& request) {
    return change(path, {Change::Unbind, {}, BindMode::New}, request);
}

Result<void, NameError> NameSpace::change(std::string_view path, ChangeOf const& what,
                                          Request const& request) {
    TRY_VOID(check_path(path));
    Inside const inside(gate_);
    CellNumber at = tree_.root();
    std::string_view rest = relative(path);
    Walk walk{request};
    if (rest.empty()) {
        return fail(what.change == Change::Unbind ? NameError::InUse : NameError::Exists);
    }
    for (;;) {
        if (walk.steps == 0) return fail(NameError::Tangled);
        --walk.steps;
        Node const& n = tree_.node(at);
        if (n.kind == CellKind::Object) return fail(NameError::NotADirectory);
        CellNumber layer = n.directory.first_layer;
        while (layer != 0 && tree_.layer(layer).accepts == 0) layer = tree_.layer(layer).next;
        if (n.directory.first_layer != 0) {
            if (layer == 0) return fail(NameError::ReadOnly);
            LayerCell const& accepting = tree_.layer(layer);
            if (LayerSource{accepting.source} == LayerSource::Alias) {
                at = accepting.target;
                continue;
            }
            if (LayerSource{accepting.source} == LayerSource::Server) {
                return ask(layer, rest, walk,
                           [&](NameServer& server, std::string_view there, Request const& onward) {
                               switch (what.change) {
                                   case Change::Bind:
                                       return server.bind(there, what.handle, what.mode, onward);
                                   case Change::MakeDirectory:
                                       return server.make_directory(there, onward);
                                   case Change::Unbind:
                                       break;
                               }
                               return server.unbind(there, onward);
                           });
            }
        }
        if (find_slash(rest) == rest.size()) return apply(at, rest, what);
        at = child(at, rest);
        if (at == 0) return fail(NameError::NotFound);
    }
}

/// The change itself, to the own names of `directory`.
Result<void, NameError> NameSpace::apply(CellNumber directory, std::string_view name,
                                         ChangeOf const& what) {
    PathScan scan(name, tree_.seed());
    Component component;
    bool const fits = scan.next(component);
    ASSERT(fits);  // change has checked the path
    CellNumber const there = tree_.find(directory, component);
    if (what.change == Change::Unbind) {
        if (there == 0) return fail(NameError::NotFound);
        return unbind_node(there);
    } else if (what.change == Change::MakeDirectory) {
        if (there != 0) return fail(NameError::Exists);
        TRY(tree_.insert(directory, component, CellKind::Directory));
    } else {
        CellNumber number = there;
        if (there != 0) {
            if (tree_.kind(there) == CellKind::Directory) return fail(NameError::IsADirectory);
            if (what.mode == BindMode::New) return fail(NameError::Exists);
        } else {
            number = TRY(tree_.insert(directory, component, CellKind::Object));
        }
        tree_.node(number).handle = what.handle;
    }
    ++changes_;
    return {};
}

Result<void, NameError> NameSpace::unbind_node(CellNumber number) {
    if (number == tree_.root()) return fail(NameError::InUse);
    if (Node const& n = tree_.node(number); n.kind == CellKind::Directory) {
        if (n.directory.first_layer != 0 || n.directory.aliases != 0) return fail(NameError::InUse);
        if (n.directory.child_count != 0) return fail(NameError::NotEmpty);
    }
    tree_.erase(number);
    ++changes_;
    return {};
}

CellNumber NameSpace::own_node(std::string_view path) const {
    CellNumber at = tree_.root();
    for (std::string_view rest = relative(path); !rest.empty();) {
        if (tree_.kind(at) != CellKind::Directory) return 0;
        at = child(at, rest);
        if (at == 0) return 0;
    }
    return at;
}

// ---- mounts ----

/// The directory of the own tree that `path` names, whatever is mounted.
Result<CellNumber, NameError> NameSpace::own_directory(std::string_view path) const {
    TRY_VOID(check_path(path));
    CellNumber at = tree_.root();
    for (std::string_view rest = relative(path); !rest.empty();) {
        if (tree_.kind(at) != CellKind::Directory) return fail(NameError::NotADirectory);
        at = child(at, rest);
        if (at == 0) return fail(NameError::NotFound);
    }
    if (tree_.kind(at) != CellKind::Directory) return fail(NameError::NotADirectory);
    return at;
}

Result<MountId, NameError> NameSpace::mount(std::string_view path, NameServer& server,
                                            MountOptions const& options) {
    TRY_VOID(check_path(options.prefix));
    Inside const inside(gate_);
    CellNumber const point = TRY(own_directory(path));
    unsigned steps = steps_max;
    if (server.leads_to(*this, steps)) return fail(NameError::Cycle);
    return add_layer(point, LayerSource::Server, 0, &server, options);
}

Result<MountId, NameError> NameSpace::alias(std::string_view path, std::string_view target_path,
                                            MountOptions const& options) {
    Inside const inside(gate_);
    CellNumber const point = TRY(own_directory(path));
    CellNumber const target = TRY(own_directory(target_path));
    if (alias_count_ == aliases_max) return fail(NameError::TooManyLayers);
    if (would_return(point, target)) return fail(NameError::Cycle);
    MountOptions plain = options;
    plain.prefix = {};
    auto const id = TRY(add_layer(point, LayerSource::Alias, target, nullptr, plain));
    ++tree_.node(target).directory.aliases;
    ++alias_count_;
    return id;
}

Result<MountId, NameError> NameSpace::add_layer(CellNumber point, LayerSource source,
                                                CellNumber target, NameServer* server,
                                                MountOptions const& options) {
    auto& directory = tree_.node(point).directory;
    std::uint32_t count = 0;
    for (CellNumber l = directory.first_layer; l != 0; l = tree_.layer(l).next) ++count;
    bool const replaces = options.order == LayerOrder::Replace;
    if (replaces && count != 0) return fail(NameError::InUse);
    // The first layer beside the own names makes a layer of those too.
    bool const own_needed = count == 0 && !replaces;
    if (count + (own_needed ? 1 : 0) == layers_max) return fail(NameError::TooManyLayers);

    std::string_view const prefix = relative(options.prefix);
    CellNumber const text = tree_.take_text(prefix);
    if (text == 0 && !prefix.empty()) return fail(NameError::Full);
    CellNumber const number = tree_.take_layer();
    CellNumber const own = own_needed ? tree_.take_layer() : 0;
    if (number == 0 || (own_needed && own == 0)) {
        if (number != 0) tree_.give_layer(number);
        tree_.give_text(text);
        return fail(NameError::Full);
    }
    if (own != 0) {
        LayerCell& layer = tree_.layer(own);
        layer.source = static_cast<std::uint8_t>(LayerSource::Own);
        layer.accepts = 1;
        layer.point = point;
        directory.first_layer = own;
    }
    LayerCell& layer = tree_.layer(number);
    layer.source = static_cast<std::uint8_t>(source);
    layer.accepts = options.accepts_names ? 1 : 0;
    layer.point = point;
    layer.target = target;
    layer.server = server;
    layer.prefix = text;
    layer.prefix_bytes = static_cast<std::uint32_t>(prefix.size());
    layer.generation = ++generation_;
    layer.next_mount = first_mount_;
    first_mount_ = number;
    CellNumber* link = &directory.first_layer;
    if (options.order == LayerOrder::After) {
        while (*link != 0) link = &tree_.layer(*link).next;
    }
    layer.next = *link;
    *link = number;
    ++changes_;
    return MountId{number, layer.generation};
}

Result<void, NameError> NameSpace::unmount(MountId id) {
    Inside const inside(gate_);
    CellNumber* mount_link = &first_mount_;
    while (*mount_link != 0 && *mount_link != id.cell) {
        mount_link = &tree_.layer(*mount_link).next_mount;
    }
    if (*mount_link == 0 || tree_.layer(id.cell).generation != id.generation) {
        return fail(NameError::NoSuchMount);
    }
    LayerCell& layer = tree_.layer(id.cell);
    *mount_link = layer.next_mount;
    auto& directory = tree_.node(layer.point).directory;
    CellNumber* link = &directory.first_layer;
    while (*link != id.cell) link = &tree_.layer(*link).next;
    *link = layer.next;
    // Own names alone are no union.
    CellNumber const left = directory.first_layer;
    if (left != 0 && LayerSource{tree_.layer(left).source} == LayerSource::Own &&
        tree_.layer(left).next == 0) {
        directory.first_layer = 0;
        tree_.give_layer(left);
    }
    if (LayerSource{layer.source} == LayerSource::Alias) {
        --tree_.node(layer.target).directory.aliases;
        --alias_count_;
    }
    tree_.give_text(layer.prefix);
    tree_.give_layer(id.cell);
    ++changes_;
    return {};
}

bool NameSpace::is_within(CellNumber inner, CellNumber outer) const {
    while (inner != outer && inner != tree_.root()) inner = tree_.node(inner).parent;
    return inner == outer;
}

/// Whether going down from `target` leads to `point`, through aliases too.
/// context: O(aliases^2 * depth)
bool NameSpace::would_return(CellNumber point, CellNumber target) const {
    CellNumber reached[aliases_max + 1] = {target};
    std::uint32_t count = 1;
    for (std::uint32_t i = 0; i < count; i++) {
        if (is_within(point, reached[i])) return true;
        for (CellNumber m = first_mount_; m != 0; m = tree_.layer(m).next_mount) {
            LayerCell const& layer = tree_.layer(m);
            if (LayerSource{layer.source} != LayerSource::Alias ||
                !is_within(layer.point, reached[i])) {
                continue;
            }
            if (std::find(reached, reached + count, layer.target) == reached + count) {
                reached[count++] = layer.target;
            }
        }
    }
    return false;
}

bool NameSpace::leads_to(NameSpace const& space, unsigned& steps) const {
    if (this == &space) return true;
    for (CellNumber m = first_mount_; m != 0; m = tree_.layer(m).next_mount) {
        if (steps == 0) return false;
        --steps;
        NameServer const* const server = tree_.layer(m).server;
        if (server != nullptr && server->leads_to(space, steps)) return true;
    }
    return false;
}

bool NameSpace::check_invariants() const {
    if (!tree_.check_invariants()) return false;
    std::uint32_t aliases = 0, mounts = 0, listed = 0, targets = 0;
    for (CellNumber m = first_mount_; m != 0; m = tree_.layer(m).next_mount) {
        LayerCell const& layer = tree_.layer(m);
        if (layer.kind != CellKind::Layer || ++mounts > tree_.cells()) return false;
        if (LayerSource{layer.source} != LayerSource::Alias) continue;
        ++aliases;
        if (tree_.kind(layer.target) != CellKind::Directory) return false;
        if (would_return(layer.point, layer.target)) return false;
    }
    for (CellNumber number = 1; number < tree_.cells(); number++) {
        if (tree_.kind(number) != CellKind::Directory) continue;
        auto const& directory = tree_.node(number).directory;
        targets += directory.aliases;
        std::uint32_t count = 0, own = 0;
        for (CellNumber l = directory.first_layer; l != 0; l = tree_.layer(l).next) {
            LayerCell const& layer = tree_.layer(l);
            if (layer.kind != CellKind::Layer || layer.point != number) return false;
            if (++count > layers_max) return false;
            own += LayerSource{layer.source} == LayerSource::Own;
        }
        if (own > 1 || (own == 1 && count == 1)) return false;
        listed += count - own;
    }
    return aliases == alias_count_ && targets == aliases && listed == mounts;
}

}  // namespace nemesis::names
