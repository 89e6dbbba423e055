#include "names/inheritance.h"

namespace nemesis::names {
namespace {

/// A path that grows and shrinks by components.
class PathBuffer {
public:
    std::string_view view() const { return {bytes_, length_}; }
    bool push(std::string_view component) {
        std::size_t const slash = length_ == 0 ? 0 : 1;
        if (length_ + slash + component.size() > path_bytes_max) return false;
        if (slash != 0) bytes_[length_] = '/';
        __builtin_memmove(bytes_ + length_ + slash, component.data(), component.size());
        length_ += slash + component.size();
        return true;
    }
    /// Takes the last component off. owner: the result is valid until the next push
    std::string_view pop() {
        Split const split = split_last(view());
        length_ = split.parent.size();
        return split.last;
    }

private:
    char bytes_[path_bytes_max];
    std::size_t length_ = 0;
};

Inherit rule_for(std::span<InheritRule const> rules, std::string_view path) {
    for (InheritRule const& rule : rules) {
        if (relative(rule.path) == path) return rule.how;
    }
    return Inherit::Private;
}

Result<void, NameError> share(NameSpace& child, NameServer& parent, std::string_view path) {
    // At the root the child's own names come first, or it could have none.
    LayerOrder const order = path.empty() ? LayerOrder::After : LayerOrder::Replace;
    TRY(child.mount(path, parent, {.prefix = path, .order = order, .accepts_names = true}));
    return {};
}

}  // namespace

Result<void, NameError> inherit(NameSpace& child, NameServer& parent,
                                std::span<InheritRule const> rules, Request const& request) {
    switch (rule_for(rules, {})) {
        case Inherit::Nothing:
            return {};
        case Inherit::Shared:
            return share(child, parent, {});
        case Inherit::Private:
            break;
    }
    // Down into each directory when it comes in its parent's list, and on after it when it is done:
    // one path and one page, however deep the tree.
    PathBuffer path;
    char after_bytes[component_bytes_max];
    std::string_view after;
    auto const go_on_after = [&](std::string_view name) {
        __builtin_memmove(after_bytes, name.data(), name.size());
        after = {after_bytes, name.size()};
    };
    for (;;) {
        NameList page;
        TRY_VOID(parent.list(path.view(), after, page, request));
        bool down = false;
        for (NameEntry const& entry : page.names()) {
            if (!check_component(entry.name())) return fail(NameError::BadAnswer);
            if (!path.push(entry.name())) return fail(NameError::TooLong);
            Inherit const how = rule_for(rules, path.view());
            if (how != Inherit::Nothing && entry.kind == NameKind::Object) {
                auto const handle = TRY(parent.resolve(path.view(), request));
                TRY_VOID(child.bind(path.view(), handle));
            } else if (how != Inherit::Nothing) {
                TRY_VOID(child.make_directory(path.view()));
                if (how == Inherit::Shared || entry.kind == NameKind::MountPoint) {
                    TRY_VOID(share(child, parent, path.view()));
                } else {
                    down = true;
                    break;
                }
            }
            go_on_after(path.pop());
        }
        if (down) {
            after = {};
        } else if (page.more) {
            if (page.count == 0) return fail(NameError::BadAnswer);
        } else {
            if (path.view().empty()) return {};
            go_on_after(path.pop());
        }
    }
}

}  // namespace nemesis::names
