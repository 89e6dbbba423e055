// migrate and recall: data to the tertiary volume and back.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "fs/tools/progress.h"
#include "fs/tools/verbs.h"

namespace nemesis::fs::tools {
namespace {

struct Item {
    std::string path;
    Attributes at;
};

/// The files and streams of those paths, and of what is below them. Nonzero: the verb's result.
int collect(StoreAccess& s, Arguments const& a, std::vector<Item>* out) {
    std::vector<Item> todo;
    for (std::string const& path : a.rest) {
        Attributes at;
        if (Error const e = s.lookup(path, &at); e != Error::None) return complain(a, path, e);
        bool const known = at.type == PnodeType::File || at.type == PnodeType::Stream ||
                           at.type == PnodeType::Directory;
        if (!known) return complain(a, path + ": only files and streams have data to move");
        todo.push_back({path, at});
    }
    std::vector<u8> buffer(65536);
    while (!todo.empty()) {
        Item const item = todo.back();
        todo.pop_back();
        if (item.at.type == PnodeType::File || item.at.type == PnodeType::Stream) {
            out->push_back(item);
        }
        if (item.at.type != PnodeType::Directory) continue;
        for (u64 cookie = 0;;) {
            Request r = StoreAccess::request(Op::ReadDirectory, item.at.pnode);
            r.offset = cookie;
            r.buffer = buffer.data();
            r.length = buffer.size();
            if (Error const e = s.call(r); e != Error::None) return complain(a, item.path, e);
            if (r.count == 0) break;
            for (u64 n = 0; n < r.count;) {
                DirectoryItem entry;
                std::memcpy(&entry, buffer.data() + n, sizeof entry);
                std::string const name(reinterpret_cast<char*>(buffer.data() + n + sizeof entry),
                                       entry.name_length);
                n += (sizeof entry + entry.name_length + 7) / 8 * 8;
                cookie = entry.cookie;
                if (name == "." || name == "..") continue;
                Request g = StoreAccess::request(Op::GetAttributes, entry.pnode);
                Error const e = s.call(g);
                if (e == Error::Stale) continue;  // it has gone meanwhile
                if (e != Error::None) return complain(a, name, e);
                todo.push_back({item.path.empty() ? name : item.path + "/" + name, g.attributes});
            }
        }
    }
    return 0;
}

int move_all(StoreAccess& s, Arguments const& a, std::vector<Item> const& items, Op op) {
    u64 total = 0;
    for (Item const& i : items) total += i.at.size;
    Progress progress(a.verb, total, true);
    u64 done = 0;
    for (Item const& i : items) {
        Request r = StoreAccess::request(op, i.at.pnode);
        if (Error const e = s.call(r); e != Error::None) return complain(a, i.path, e);
        progress.update(done += i.at.size);
    }
    // As after the command: what it says is so, whoever owns the disks.
    Request f = StoreAccess::request(Op::Fsync, root_directory);
    if (Error const e = s.call(f); e != Error::None) return complain(a, "", e);
    std::printf(a.json ? "{\"files\":%zu,\"bytes\":%llu}\n" : "%zu files, %llu bytes\n",
                items.size(), static_cast<unsigned long long>(total));
    return 0;
}

}  // namespace

void tell_wait(Arguments const& a, std::string const& path, u64 ms) {
    if (a.json) return;
    std::string const about =
        ms > 0 ? "about " + std::to_string((ms + 999) / 1000) + " s" : "it is fetched first";
    std::fprintf(stderr, "%s is on the shelf; %s\n", path.c_str(), about.c_str());
}

int migrate(StoreAccess& s, Arguments const& a) {
    StoreStatus const t = s.order(Order::Status);
    if (!t.shelf[0]) {
        return complain(a, "this store has no shelf; one is made with mkfs --tertiary DIRECTORY");
    }
    if (!t.shelf_there) return complain(a, "the shelf " + std::string(t.shelf) + " is not there");
    std::vector<Item> items;
    if (int const result = collect(s, a, &items)) return result;
    auto const now = std::chrono::system_clock::now().time_since_epoch();
    i64 const now_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
    u64 const longest = u64{1} << 32;
    i64 const age_ns = static_cast<i64>(std::min(a.number("cold", 0), longest)) * 1'000'000'000;
    std::erase_if(items, [&](Item const& i) {
        i64 const used = std::max(i.at.mtime_ns, i.at.atime_ns);
        return a.has("cold") && now_ns - used < age_ns;
    });
    return move_all(s, a, items, Op::Migrate);
}

int recall(StoreAccess& s, Arguments const& a) {
    std::vector<Item> items;
    if (int const result = collect(s, a, &items)) return result;
    std::erase_if(items, [](Item const& i) { return !i.at.on_shelf; });
    return move_all(s, a, items, Op::Recall);
}

}  // namespace nemesis::fs::tools
