#include "fs/simulator/agent_oracle.h"

#include <algorithm>
#include <set>

#include "fs/agent/message.h"
#include "fs/core/crc32c.h"

namespace nemesis::fs::simulator {
namespace {

u64 mix(u64 x) {
    x ^= x >> 31;
    x *= 0x9E37'79B9'7F4A'7C15;
    return x ^ x >> 29;
}
bool counts(AgentStep const& s, AgentOutcome const& o) { return o.good && may_be_new(s.op); }
u64 hash_text(std::string const& t) {
    return u64{crc32c(t.data(), t.size())} << 32 | static_cast<u32>(t.size());
}

}  // namespace

std::string to_text(AgentStep const& s) {
    return "op " + std::to_string(static_cast<int>(s.op)) + " file " + std::to_string(s.file) +
           " " + s.name + " file2 " + std::to_string(s.file2) + " " + s.name2 + " offset " +
           std::to_string(s.offset) + " length " + std::to_string(s.length);
}

std::string bytes_of(AgentStep const& s) {
    if (s.op == Op::Symlink || s.op == Op::SetXattr) {
        return std::string(s.length, static_cast<char>(s.fill));
    }
    std::string text(s.length, static_cast<char>(s.fill));
    for (u64 i = 0; i < text.size(); i += 97)
        text[i] = static_cast<char>('0' + (s.offset + i) % 10);
    return text;
}

std::string facts_text(PnodeType type, u16 mode, u32 links, u64 size) {
    return std::to_string(static_cast<int>(type)) + " " + std::to_string(mode) + " " +
           std::to_string(links) + " " + std::to_string(type == PnodeType::Directory ? 0 : size);
}

AgentOracle::AgentOracle() {
    auto s = std::make_shared<State>();
    s->files[0] = {PnodeType::Directory, 2, nullptr, 0, 0755, {}};
    auto n = std::make_shared<Node>();
    n->state = s;
    n->hash = hash_of(*n);
    nodes_.push_back(n);
}

/// What the operation does to a state, and whether it succeeds.
bool AgentOracle::apply(State& s, AgentStep const& step, AgentOutcome* outcome) {
    auto const directory = [&](u32 n) { return s.files.contains(n) && s.files[n].directory(); };
    auto const at = [&](u32 d, std::string const& n) {
        auto const it = s.names.find({d, n});
        return it == s.names.end() ? ~0u : it->second;
    };
    auto const empty = [&](u32 d) {
        auto const it = s.names.lower_bound({d, ""});
        return it == s.names.end() || it->first.first != d;
    };
    auto const remove = [&](u32 n, u32 parent) {
        File& f = s.files[n];
        if (f.directory()) {
            --s.files[parent].links;
            s.files.erase(n);
        } else if (--f.links == 0) {
            s.files.erase(n);
        }
    };
    auto const content = [&](u32 n, std::string text) {
        File& f = s.files[n];
        f.crc = text.empty() ? 0 : crc32c(text.data(), text.size());
        f.data = std::make_shared<std::string const>(std::move(text));
    };
    auto const file = [&] {
        return s.files.contains(step.file) && s.files[step.file].type == PnodeType::File;
    };
    switch (step.op) {
        case Op::Create: {
            if (!directory(step.file) || at(step.file, step.name) != ~0u) return false;
            bool const makes_directory = step.type == PnodeType::Directory;
            s.names[{step.file, step.name}] = step.made;
            s.files[step.made] = {step.type,
                                  makes_directory ? 2u : 1u,
                                  std::make_shared<std::string const>(),
                                  0,
                                  static_cast<u16>(makes_directory ? 0755 : 0644),
                                  {}};
            if (makes_directory) ++s.files[step.file].links;
            return true;
        }
        case Op::Symlink:
            if (!directory(step.file) || at(step.file, step.name) != ~0u) return false;
            s.names[{step.file, step.name}] = step.made;
            s.files[step.made] = {PnodeType::Symlink, 1, nullptr, 0, 0777, {}};
            content(step.made, bytes_of(step));
            return true;
        case Op::ReadLink:
            if (!s.files.contains(step.file)) return false;
            if (s.files[step.file].type != PnodeType::Symlink) return false;
            outcome->data = *s.files[step.file].data;
            return true;
        case Op::SetAttributes:
            if (!s.files.contains(step.file)) return false;
            s.files[step.file].mode = step.mode;
            return true;
        case Op::SetXattr:
            if (!s.files.contains(step.file)) return false;
            s.files[step.file].xattrs[step.name] = bytes_of(step);
            return true;
        case Op::RemoveXattr:
            return s.files.contains(step.file) && s.files[step.file].xattrs.erase(step.name) == 1;
        case Op::GetXattr: {
            if (!s.files.contains(step.file)) return false;
            auto const& all = s.files[step.file].xattrs;
            auto const it = all.find(step.name);
            if (it == all.end()) return false;
            outcome->data = it->second;
            return true;
        }
        case Op::ListXattr:
            if (!s.files.contains(step.file)) return false;
            for (auto const& [k, v] : s.files[step.file].xattrs) outcome->data += k + '\0';
            return true;
        case Op::Write: {
            if (!file()) return false;
            std::string text = *s.files[step.file].data;
            if (text.size() < step.offset + step.length) text.resize(step.offset + step.length);
            std::string const bytes = bytes_of(step);
            std::copy(bytes.begin(), bytes.end(),
                      text.begin() + static_cast<std::ptrdiff_t>(step.offset));
            content(step.file, std::move(text));
            return true;
        }
        case Op::Truncate: {
            if (!file()) return false;
            std::string text = *s.files[step.file].data;
            text.resize(step.offset);
            content(step.file, std::move(text));
            return true;
        }
        case Op::Link: {
            bool const there = s.files.contains(step.file2) && !directory(step.file2);
            if (!directory(step.file) || !there || at(step.file, step.name) != ~0u) return false;
            s.names[{step.file, step.name}] = step.file2;
            ++s.files[step.file2].links;
            return true;
        }
        case Op::Unlink:
        case Op::Rmdir: {
            u32 const n = directory(step.file) ? at(step.file, step.name) : ~0u;
            if (n == ~0u || directory(n) != (step.op == Op::Rmdir)) return false;
            if (step.op == Op::Rmdir && !empty(n)) return false;
            s.names.erase({step.file, step.name});
            remove(n, step.file);
            return true;
        }
        case Op::Rename: {
            if (!directory(step.file) || !directory(step.file2)) return false;
            u32 const from = at(step.file, step.name);
            u32 const to = at(step.file2, step.name2);
            if (from == ~0u) return false;
            if (from == to) return true;
            if (directory(from) && from == step.file2) return false;
            if (to != ~0u) {
                if (directory(from) != directory(to)) return false;
                if (directory(to) && !empty(to)) return false;
                remove(to, step.file2);
            }
            s.names.erase({step.file, step.name});
            s.names[{step.file2, step.name2}] = from;
            if (directory(from)) {
                --s.files[step.file].links;
                ++s.files[step.file2].links;
            }
            return true;
        }
        case Op::Lookup:
            if (!directory(step.file) || at(step.file, step.name) == ~0u) return false;
            outcome->found = at(step.file, step.name);
            return true;
        case Op::Read: {
            if (!file()) return false;
            std::string const& text = *s.files[step.file].data;
            if (step.offset < text.size()) outcome->data = text.substr(step.offset, step.length);
            return true;
        }
        case Op::GetAttributes: {
            if (!s.files.contains(step.file)) return false;
            File const& f = s.files[step.file];
            outcome->data = facts_text(f.type, f.mode, f.links, f.directory() ? 0 : f.data->size());
            return true;
        }
        case Op::ReadDirectory: {
            if (!directory(step.file)) return false;
            for (auto it = s.names.lower_bound({step.file, ""});
                 it != s.names.end() && it->first.first == step.file; ++it) {
                outcome->data += it->first.second + (directory(it->second) ? "/ " : " ");
            }
            return true;
        }
        default:
            return true;
    }
}

/// The number of the file behind each path.
std::map<std::string, u32> AgentOracle::paths(State const& s) {
    std::map<std::string, u32> all{{"", 0}};
    std::vector<std::pair<std::string, u32>> todo{{"", 0}};
    while (!todo.empty()) {
        auto const [path, d] = todo.back();
        todo.pop_back();
        for (auto it = s.names.lower_bound({d, ""}); it != s.names.end() && it->first.first == d;
             ++it) {
            std::string const p = path.empty() ? it->first.second : path + "/" + it->first.second;
            all[p] = it->second;
            if (s.files.at(it->second).directory()) todo.emplace_back(p, it->second);
        }
    }
    return all;
}

std::string AgentOracle::dump(State const& s, bool numbers) {
    std::map<std::string, u32> const all = paths(s);
    std::map<u32, std::string> first;
    std::string text;
    for (auto const& [path, n] : all) {
        File const& f = s.files.at(n);
        std::string line = " t" + std::to_string(static_cast<int>(f.type)) + " m" +
                           std::to_string(f.mode) + " n" + std::to_string(f.links);
        for (auto const& [k, v] : f.xattrs) line += " x" + k + "=" + v;
        if (f.type == PnodeType::Symlink) line += " >" + *f.data;
        if (f.type == PnodeType::File) {
            line += " s" + std::to_string(f.data->size()) + " c" + std::to_string(f.crc);
        }
        auto const [it, fresh] = first.emplace(n, path);
        if (numbers) line += " #" + std::to_string(n);
        text += path + line + (fresh ? "" : " =" + it->second) + "\n";
    }
    return text;
}

u64 AgentOracle::hash_of(Node const& n) {
    u64 h = 1;
    for (auto const& [name, file] : n.state->names) {
        h = mix(h + name.first * 0x51ED + hash_text(name.second) + mix(file));
    }
    for (auto const& [number, f] : n.state->files) {
        h = mix(h ^ number) + (f.data ? u64{f.crc} << 24 ^ f.data->size() : 7) + f.links;
        h = mix(h + f.mode);
        for (auto const& [k, v] : f.xattrs) h = mix(h ^ hash_text(k)) + hash_text(v);
    }
    for (u32 a = 0; a < oracle_agents; ++a) {
        h = mix(h * 3 + n.applied[a] * 2 + n.effective[a]);
        if (n.effective[a]) {
            AgentOutcome const& o = n.outcome[a];
            h = mix(h + o.good + o.found * 2 + hash_text(o.data));
        }
    }
    return h;
}

/// Adds every state that operations on their way may lead to.
void AgentOracle::close() {
    std::map<u64, NodeRef> known;
    for (NodeRef const& n : nodes_) known[n->hash] = n;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
        for (u32 a = 0; a < oracle_agents; ++a) {
            NodeRef const n = nodes_[i];
            if (!pending_[a] || n->effective[a]) continue;
            auto next = std::make_shared<Node>(*n);
            auto state = std::make_shared<State>(*n->state);
            next->outcome[a] = AgentOutcome{};
            next->outcome[a].good = apply(*state, step_[a], &next->outcome[a]);
            next->state = next->outcome[a].good ? std::shared_ptr<State const>(state) : n->state;
            next->effective[a] = true;
            next->applied[a] += counts(step_[a], next->outcome[a]) ? 1 : 0;
            next->before = {n};
            next->hash = hash_of(*next);
            auto const [it, fresh] = known.try_emplace(next->hash, next);
            if (fresh) {
                nodes_.push_back(next);
            } else {
                it->second->before.push_back(n);
            }
        }
    }
}

void AgentOracle::submit(u32 agent, AgentStep const& step) {
    if (pending_[agent]) {
        // Of an incarnation that is gone: it takes effect before this or never.
        close();
        std::map<u64, NodeRef> known;
        for (NodeRef const& n : nodes_) settle(n, agent, false, &known);
        take(known);
    }
    pending_[agent] = true;
    step_[agent] = step;
}

/// Adds to `known` the state with the agent's operation not on its way any more.
void AgentOracle::settle(NodeRef const& n, u32 agent, bool answered,
                         std::map<u64, NodeRef>* known) const {
    auto next = std::make_shared<Node>(*n);
    // What was never answered is promised by nothing.
    if (!answered && n->effective[agent] && counts(step_[agent], n->outcome[agent])) {
        --next->applied[agent];
    }
    next->effective[agent] = false;
    next->outcome[agent] = AgentOutcome{};
    next->before = {n};
    next->hash = hash_of(*next);
    auto const [it, fresh] = known->try_emplace(next->hash, next);
    if (!fresh) it->second->before.push_back(n);
}

bool AgentOracle::done(u32 agent, AgentOutcome const& outcome) {
    close();
    std::map<u64, NodeRef> left;
    for (NodeRef const& n : nodes_) {
        AgentOutcome const& o = n->outcome[agent];
        if (!n->effective[agent] || o.good != outcome.good ||
            (!outcome.partial && o.data != outcome.data) ||
            (!outcome.partial && step_[agent].op == Op::Lookup && o.good &&
             o.found != outcome.found)) {
            continue;
        }
        settle(n, agent, true, &left);
    }
    if (left.empty()) return false;
    take(left);
    pending_[agent] = false;
    changes_[agent] += counts(step_[agent], outcome) ? 1 : 0;
    return true;
}

std::vector<u32> AgentOracle::could_find(u32 agent) {
    close();
    std::vector<u32> found;
    for (NodeRef const& n : nodes_) {
        if (n->effective[agent] && n->outcome[agent].good) found.push_back(n->outcome[agent].found);
    }
    return found;
}

void AgentOracle::take(std::map<u64, NodeRef> const& nodes) {
    nodes_.clear();
    for (auto const& [hash, n] : nodes) nodes_.push_back(n);
}

bool AgentOracle::judge(std::string const& text, bool rolled_back) {
    close();
    std::set<Node const*> looked_at;
    std::vector<std::shared_ptr<Node const>> todo(nodes_.begin(), nodes_.end());
    NodeRef same;
    while (!todo.empty()) {
        std::shared_ptr<Node const> const n = todo.back();
        todo.pop_back();
        if (!looked_at.insert(n.get()).second) continue;
        bool enough = true;
        for (u32 a = 0; a < oracle_agents; ++a) {
            enough = enough && n->applied[a] >= durable_[a];
        }
        if (!enough) continue;
        if (rolled_back) todo.insert(todo.end(), n->before.begin(), n->before.end());
        if (dump(*n->state) != text) continue;
        // Several states may look the same, with other files behind the same names. Nobody has a
        // handle after this, so they are one state with other numbers.
        same = std::make_shared<Node>();
        same->state = n->state;
        same->applied = changes_;
        same->hash = hash_of(*same);
        break;
    }
    if (!same) return false;
    nodes_ = {same};
    durable_ = changes_;
    pending_ = {};
    return true;
}

bool AgentOracle::exists(u32 file) const {
    for (NodeRef const& n : nodes_) {
        if (n->state->files.contains(file)) return true;
    }
    return false;
}

bool AgentOracle::is_directory(u32 file) const {
    auto const& files = nodes_.front()->state->files;
    auto const it = files.find(file);
    return it != files.end() && it->second.directory();
}

}  // namespace nemesis::fs::simulator
