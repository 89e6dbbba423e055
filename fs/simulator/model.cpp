#include "fs/simulator/model.h"

#include <algorithm>
#include <functional>

#include "fs/core/crc32c.h"
#include "fs/simulator/films.h"

namespace nemesis::fs::simulator {

std::string to_text(Step const& s) {
    static char const* const names[] = {
        "create", "mkdir",        "append",      "overwrite",   "truncate",   "punch",
        "link",   "symlink",      "rename",      "unlink",      "rmdir",      "setxattr",
        "fsync",  "exchange",     "removexattr", "clean",       "checkpoint", "chmod",
        "settle", "createstream", "recordstart", "recordround", "recordstop", "migrate",
        "recall", "beside"};
    std::string t = names[static_cast<int>(s.kind)];
    if (!s.path.empty()) t += " " + s.path;
    if (!s.path2.empty()) t += " " + s.path2;
    if (s.length || s.offset) t += " @" + std::to_string(s.offset) + "+" + std::to_string(s.length);
    return t;
}

std::string content(Step const& s) {
    std::string d(s.length, 0);
    for (u64 i = 0; i < s.length; ++i) {
        d[i] = static_cast<char>(s.fill + (i + s.offset) / 512 % 64 + 1);
    }
    return d;
}

Model::Model() : root_(std::make_shared<Node>()) {
    root_->type = PnodeType::Directory;
    root_->mode = 0755;
    root_->nlink = 2;
}

Model Model::copy() const {
    std::map<Node const*, std::shared_ptr<Node>> made;
    std::function<std::shared_ptr<Node>(Node const&)> clone = [&](Node const& n) {
        auto& c = made[&n];
        if (!c) {
            c = std::make_shared<Node>(n);
            auto const keep = c;
            for (auto& [name, child] : keep->children) child = clone(*child);
            return keep;
        }
        return c;
    };
    Model m;
    m.root_ = clone(*root_);
    return m;
}

std::shared_ptr<Model::Node> Model::find(std::string const& path, Error* error) const {
    auto n = root_;
    *error = Error::None;
    for (std::size_t i = 0; i < path.size();) {
        std::size_t const end = std::min(path.find('/', i), path.size());
        if (n->type != PnodeType::Directory) {
            *error = Error::NotDirectory;
            return nullptr;
        }
        auto const it = n->children.find(path.substr(i, end - i));
        if (it == n->children.end()) {
            *error = Error::NoEntry;
            return nullptr;
        }
        n = it->second;
        i = end + 1;
    }
    return n;
}

Error Model::parent_of(std::string const& path, std::shared_ptr<Node>* d, std::string* name) const {
    std::size_t const slash = path.rfind('/');
    *name = slash == std::string::npos ? path : path.substr(slash + 1);
    Error e;
    *d = find(slash == std::string::npos ? "" : path.substr(0, slash), &e);
    if (e != Error::None) return e;
    return (*d)->type == PnodeType::Directory ? Error::None : Error::NotDirectory;
}

Error Model::rename(Step const& s, bool exchange) {
    std::shared_ptr<Node> a, b;
    std::string from, to;
    Error e = parent_of(s.path, &a, &from);
    if (e != Error::None) return e;
    e = parent_of(s.path2, &b, &to);
    if (e != Error::None) return e;
    auto const it = a->children.find(from);
    if (it == a->children.end()) return Error::NoEntry;
    auto const m = it->second;
    auto const target = b->children.find(to);
    auto const o = target == b->children.end() ? nullptr : target->second;
    if (exchange && !o) return Error::NoEntry;
    std::function<bool(Node const&, Node const*)> contains = [&](Node const& n, Node const* x) {
        if (&n == x) return true;
        return std::any_of(n.children.begin(), n.children.end(),
                           [&](auto const& c) { return contains(*c.second, x); });
    };
    bool const md = m->type == PnodeType::Directory;
    bool const od = o && o->type == PnodeType::Directory;
    if (md && a != b && contains(*m, b.get())) return Error::Invalid;
    if (exchange && od && a != b && contains(*o, a.get())) return Error::Invalid;
    if (m == o) return Error::None;
    if (exchange) {
        a->children[from] = o;
        b->children[to] = m;
        if (md) --a->nlink, ++b->nlink;
        if (od) ++a->nlink, --b->nlink;
        return Error::None;
    }
    if (o) {
        if (md && !od) return Error::NotDirectory;
        if (!md && od) return Error::IsDirectory;
        if (od && !o->children.empty()) return Error::NotEmpty;
        if (od) --b->nlink;
        --o->nlink;
    }
    a->children.erase(from);
    b->children[to] = m;
    if (md) --a->nlink, ++b->nlink;
    return Error::None;
}

Error Model::apply(Step const& s) {
    Error e = Error::None;
    std::shared_ptr<Node> d;
    std::string name;
    auto const file = [&]() -> std::shared_ptr<Node> {
        auto n = find(s.path, &e);
        if (!n) return nullptr;
        if (n->type != PnodeType::File) {
            e = n->type == PnodeType::Directory ? Error::IsDirectory : Error::Invalid;
            return nullptr;
        }
        return n;
    };
    switch (s.kind) {
        case StepKind::Create:
        case StepKind::CreateStream:
        case StepKind::Mkdir:
        case StepKind::Symlink: {
            if (e = parent_of(s.path, &d, &name); e != Error::None) return e;
            if (d->children.contains(name)) return Error::Exists;
            auto n = std::make_shared<Node>();
            if (s.kind == StepKind::Mkdir) {
                n->type = PnodeType::Directory;
                n->mode = 0755;
                n->nlink = 2;
                ++d->nlink;
            } else if (s.kind == StepKind::Symlink) {
                n->type = PnodeType::Symlink;
                n->mode = 0777;
                n->data = s.path2;
            } else if (s.kind == StepKind::CreateStream) {
                n->type = PnodeType::Stream;
            }
            d->children[name] = n;
            return Error::None;
        }
        case StepKind::Append:
        case StepKind::Overwrite: {
            auto n = file();
            if (!n) return e;
            u64 const at = s.kind == StepKind::Append ? n->data.size() : s.offset;
            Step copy = s;
            copy.offset = at;
            std::string const c = content(copy);
            if (c.empty()) return Error::None;  // writing no bytes does not move the end
            if (n->data.size() < at + c.size()) n->data.resize(at + c.size());
            n->data.replace(at, c.size(), c);
            return Error::None;
        }
        case StepKind::Truncate: {
            auto n = file();
            if (!n) return e;
            n->data.resize(s.offset);
            return Error::None;
        }
        case StepKind::Punch: {
            auto n = find(s.path, &e);
            if (!n) return e;
            if (s.length == 0 || n->type != PnodeType::File) return Error::Invalid;
            for (u64 i = s.offset; i < s.offset + s.length && i < n->data.size(); ++i)
                n->data[i] = 0;
            return Error::None;
        }
        case StepKind::Link: {
            auto n = find(s.path, &e);
            if (!n) return e;
            if (e = parent_of(s.path2, &d, &name); e != Error::None) return e;
            if (n->type == PnodeType::Directory) return Error::NotPermitted;
            if (d->children.contains(name)) return Error::Exists;
            d->children[name] = n;
            ++n->nlink;
            return Error::None;
        }
        case StepKind::Rename:
            return rename(s, false);
        case StepKind::Exchange:
            return rename(s, true);
        case StepKind::Unlink: {
            if (e = parent_of(s.path, &d, &name); e != Error::None) return e;
            auto const it = d->children.find(name);
            if (it == d->children.end()) return Error::NoEntry;
            if (it->second->type == PnodeType::Directory) return Error::IsDirectory;
            --it->second->nlink;
            d->children.erase(it);
            return Error::None;
        }
        case StepKind::Rmdir: {
            if (e = parent_of(s.path, &d, &name); e != Error::None) return e;
            auto const it = d->children.find(name);
            if (it == d->children.end()) return Error::NoEntry;
            if (it->second->type != PnodeType::Directory) return Error::NotDirectory;
            if (!it->second->children.empty()) return Error::NotEmpty;
            d->children.erase(it);
            --d->nlink;
            return Error::None;
        }
        case StepKind::SetXattr: {
            auto n = find(s.path, &e);
            if (!n) return e;
            std::size_t const eq = s.path2.find('=');
            n->xattrs[s.path2.substr(0, eq)] = s.path2.substr(eq + 1);
            return Error::None;
        }
        case StepKind::RemoveXattr: {
            auto n = find(s.path, &e);
            if (!n) return e;
            return n->xattrs.erase(s.path2) ? Error::None : Error::NoData;
        }
        case StepKind::Chmod: {
            auto n = find(s.path, &e);
            if (!n) return e;
            n->mode = static_cast<u16>(s.offset & 07777);
            return Error::None;
        }
        case StepKind::Migrate:
        case StepKind::Recall: {
            auto n = find(s.path, &e);
            if (!n) return e;
            bool const data = n->type == PnodeType::File || n->type == PnodeType::Stream;
            return data ? Error::None : Error::Invalid;
        }
        case StepKind::Fsync:
        case StepKind::Clean:
        case StepKind::Beside:
        case StepKind::Checkpoint:
        case StepKind::Settle:
        case StepKind::RecordStart:
        case StepKind::RecordRound:
        case StepKind::RecordStop:
            return Error::None;
    }
    return Error::None;
}

std::string Model::dump() const {
    std::map<std::string, Node const*> all;
    std::function<void(std::string const&, Node const&)> walk = [&](std::string const& p,
                                                                    Node const& n) {
        all[p] = &n;
        for (auto const& [name, c] : n.children) walk(p.empty() ? name : p + "/" + name, *c);
    };
    walk("", *root_);
    std::map<Node const*, std::string> first;
    std::string text;
    for (auto const& [path, n] : all) {
        std::string line = " t" + std::to_string(static_cast<int>(n->type)) + " m" +
                           std::to_string(n->mode) + " n" + std::to_string(n->nlink);
        for (auto const& [k, v] : n->xattrs) line += " x" + k + "=" + v;
        if (n->type == PnodeType::Symlink) {
            line += " >" + n->data;
        } else if (n->type != PnodeType::Directory && n->type != PnodeType::Stream) {
            line += " s" + std::to_string(n->data.size());
            u32 crc = 0;
            for (u64 at = 0; at < n->data.size(); at += 1 << 20) {
                std::size_t const bytes = std::min<std::size_t>(1 << 20, n->data.size() - at);
                crc = crc * 31 + crc32c(n->data.data() + at, bytes);
            }
            line += " c" + std::to_string(crc);
        }
        auto const [it, fresh] = first.emplace(n, path);
        text += path + line + (fresh ? "" : " =" + it->second) + "\n";
    }
    return text;
}

Error apply(Client& c, Machine& m, Step const& s) {
    switch (s.kind) {
        case StepKind::Create:
            return c.create(s.path);
        case StepKind::Mkdir:
            return c.mkdir(s.path);
        case StepKind::Append: {
            Attributes a;
            if (Error const e = c.lookup(s.path, &a); e != Error::None) return e;
            Step copy = s;
            copy.offset = a.size;
            return c.write(s.path, a.size, content(copy));
        }
        case StepKind::Overwrite:
            return c.write(s.path, s.offset, content(s));
        case StepKind::Truncate:
            return c.truncate(s.path, s.offset);
        case StepKind::Punch:
            return c.punch(s.path, s.offset, s.length);
        case StepKind::Link:
            return c.link(s.path, s.path2);
        case StepKind::Symlink:
            return c.symlink(s.path2, s.path);
        case StepKind::Rename:
            return c.rename(s.path, s.path2);
        case StepKind::Exchange:
            return c.rename(s.path, s.path2, rename_exchange);
        case StepKind::Unlink:
            return c.unlink(s.path);
        case StepKind::Rmdir:
            return c.rmdir(s.path);
        case StepKind::SetXattr: {
            std::size_t const eq = s.path2.find('=');
            return c.set_xattr(s.path, s.path2.substr(0, eq), s.path2.substr(eq + 1));
        }
        case StepKind::RemoveXattr:
            return c.remove_xattr(s.path, s.path2);
        case StepKind::Chmod:
            return c.chmod(s.path, static_cast<u16>(s.offset & 07777));
        case StepKind::Fsync:
            return c.fsync();
        case StepKind::Clean:
            return m.clean() ? Error::None : Error::Busy;
        case StepKind::Beside:
            m.store().scrub();
            m.store().clean();
            m.some(4);
            return Error::None;
        case StepKind::Checkpoint:
            m.store().checkpoint();
            m.pump();
            return Error::None;
        case StepKind::Settle:
            m.later(Duration::s(40));
            return Error::None;
        case StepKind::CreateStream:
            return c.create(s.path, PnodeType::Stream);
        case StepKind::RecordStart:
            return c.open_streams({s.path, s.path2});
        case StepKind::RecordRound: {
            Error const e = record_film_round(c, s.length);
            m.later(Duration::s(1));
            return e;
        }
        case StepKind::RecordStop:
            return c.close_streams();
        case StepKind::Migrate:
        case StepKind::Recall: {
            bool const out = s.kind == StepKind::Migrate;
            // What was written lately may still be on its way back from the shelf: that ends.
            for (u32 tries = 0;; ++tries) {
                Error const e = out ? c.migrate(s.path) : c.recall(s.path);
                if (e != Error::Busy || c.stuck || tries == 60) return e;
                m.later(Duration::s(1));
            }
        }
    }
    return Error::None;
}

}  // namespace nemesis::fs::simulator
