// ls, get, put, mkdir, rm.

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "fs/tools/progress.h"
#include "fs/tools/verbs.h"

namespace nemesis::fs::tools {
namespace {

constexpr u64 piece = u64{1} << 20;

Name name_of(std::string const& s) { return {s.data(), static_cast<u32>(s.size())}; }

}  // namespace

int create_or_lookup(StoreAccess& s, Arguments const& a, std::string const& path, PnodeType type,
                     Attributes* out, bool* made) {
    std::string parent;
    std::string name;
    if (!split(path, &parent, &name)) return refuse(a, a.verb + " needs a name");
    Attributes d;
    if (Error const e = s.lookup(parent, &d); e != Error::None) return complain(a, parent, e);
    Request c = StoreAccess::request(Op::Create, d.pnode);
    c.type = type;
    c.mode = 0644;
    c.name = name_of(name);
    Error e = s.call(c);
    *made = e == Error::None;
    if (e == Error::Exists) {
        c.op = Op::Lookup;
        e = s.call(c);
    }
    if (e != Error::None) return complain(a, path, e);
    *out = c.attributes;
    return 0;
}

int list(StoreAccess& s, Arguments const& a) {
    std::string const path = a.rest.empty() ? "" : a.rest[0];
    Attributes at;
    if (Error const e = s.lookup(path, &at); e != Error::None) return complain(a, path, e);
    std::vector<u8> buffer(65536);
    std::string out;
    for (u64 cookie = 0;;) {
        Request r = StoreAccess::request(Op::ReadDirectory, at.pnode);
        r.offset = cookie;
        r.buffer = buffer.data();
        r.length = buffer.size();
        if (Error const e = s.call(r); e != Error::None) return complain(a, path, e);
        if (r.count == 0) break;
        for (u64 n = 0; n < r.count;) {
            DirectoryItem item;
            std::memcpy(&item, buffer.data() + n, sizeof item);
            std::string const name(reinterpret_cast<char*>(buffer.data() + n + sizeof item),
                                   item.name_length);
            n += (sizeof item + item.name_length + 7) / 8 * 8;
            cookie = item.cookie;
            if (name == "." || name == "..") continue;
            Request g = StoreAccess::request(Op::GetAttributes, item.pnode);
            if (Error const e = s.call(g); e != Error::None) return complain(a, name, e);
            char const type = "?-dlbpsv?"[static_cast<int>(g.attributes.type)];
            unsigned long long const size = g.attributes.size;
            char line[128];
            if (a.json) {
                std::snprintf(line, sizeof line, ",\"type\":\"%c\",\"size\":%llu,\"on_shelf\":%s}",
                              type, size, g.attributes.on_shelf ? "true" : "false");
                out += (out.empty() ? "" : ",") + ("{\"name\":" + quoted(name)) + line;
            } else {
                std::snprintf(line, sizeof line, "%c%04o %5u %5u %12llu ", type, g.attributes.mode,
                              g.attributes.uid, g.attributes.gid, size);
                std::printf("%s%s%s\n", line, name.c_str(),
                            g.attributes.on_shelf ? "  (on the shelf)" : "");
            }
        }
    }
    if (a.json) std::printf("[%s]\n", out.c_str());
    return 0;
}

int get(StoreAccess& s, Arguments const& a) {
    std::string const& path = a.rest[0];
    std::string const file = a.rest.size() > 1 ? a.rest[1] : "-";
    if (a.json && file == "-") return refuse(a, "get --json needs a file for the data");
    Attributes at;
    if (Error const e = s.lookup(path, &at); e != Error::None) return complain(a, path, e);
    std::FILE* out = file == "-" ? stdout : std::fopen(file.c_str(), "wb");
    if (!out) return complain(a, file + ": " + std::strerror(errno));
    if (at.on_shelf) tell_wait(a, path, 0);
    std::vector<u8> buffer(piece);
    Progress progress("get " + path, at.size, true);
    u64 done = 0;
    while (done < at.size) {
        Request r = StoreAccess::request(Op::Read, at.pnode);
        r.offset = done;
        r.length = buffer.size();
        r.buffer = buffer.data();
        if (Error const e = s.call(r); e != Error::None) return complain(a, path, e);
        if (r.count == 0) break;
        if (std::fwrite(buffer.data(), 1, r.count, out) != r.count)
            return complain(a, file + ": " + std::strerror(errno));
        done += r.count;
        progress.update(done);
    }
    if (out != stdout && std::fclose(out) != 0) {
        return complain(a, file + ": " + std::strerror(errno));
    }
    if (a.json) std::printf("{\"bytes\":%llu}\n", static_cast<unsigned long long>(done));
    return 0;
}

int put(StoreAccess& s, Arguments const& a) {
    std::string const& file = a.rest[0];
    std::string const& path = a.rest[1];
    std::FILE* in = file == "-" ? stdin : std::fopen(file.c_str(), "rb");
    if (!in) return complain(a, file + ": " + std::strerror(errno));
    struct stat info{};
    bool const sized = ::fstat(fileno(in), &info) == 0 && S_ISREG(info.st_mode);
    Attributes at_path;
    bool made = false;
    if (int const result = create_or_lookup(s, a, path, PnodeType::File, &at_path, &made)) {
        return result;
    }
    Error e = Error::None;
    Request t = StoreAccess::request(Op::Truncate, at_path.pnode);
    if (!made) e = s.call(t);
    if (e != Error::None) return complain(a, path, e);
    std::vector<u8> buffer(piece);
    Progress progress("put " + path, sized ? static_cast<u64>(info.st_size) : 0, true);
    u64 at = 0;
    while (std::size_t const n = std::fread(buffer.data(), 1, buffer.size(), in)) {
        Request r = StoreAccess::request(Op::Write, at_path.pnode);
        r.offset = at;
        r.length = n;
        r.buffer = buffer.data();
        if (e = s.call(r); e != Error::None) return complain(a, path, e);
        if (r.count != n) return complain(a, path, Error::NoSpace);
        at += n;
        progress.update(at);
    }
    bool const bad = std::ferror(in) != 0;
    if (in != stdin) std::fclose(in);
    if (bad) return complain(a, file + ": cannot be read to its end");
    // As after the command: what it put in is on the disks, whoever owns them.
    Request f = StoreAccess::request(Op::Fsync, at_path.pnode);
    if (e = s.call(f); e != Error::None) return complain(a, path, e);
    if (a.json) std::printf("{\"bytes\":%llu}\n", static_cast<unsigned long long>(at));
    return 0;
}

int make_directory(StoreAccess& s, Arguments const& a) {
    std::string parent;
    std::string name;
    if (!split(a.rest[0], &parent, &name)) return refuse(a, "mkdir needs a name");
    Attributes d;
    if (Error const e = s.lookup(parent, &d); e != Error::None) return complain(a, parent, e);
    Request r = StoreAccess::request(Op::Create, d.pnode);
    r.type = PnodeType::Directory;
    r.mode = 0755;
    r.name = name_of(name);
    Error const e = s.call(r);
    if (e == Error::None && a.json) std::printf("{}\n");
    return e == Error::None ? 0 : complain(a, a.rest[0], e);
}

int remove(StoreAccess& s, Arguments const& a) {
    std::string parent;
    std::string name;
    if (!split(a.rest[0], &parent, &name)) return refuse(a, "rm needs a name");
    Attributes d;
    if (Error const e = s.lookup(parent, &d); e != Error::None) return complain(a, parent, e);
    Request r = StoreAccess::request(Op::Unlink, d.pnode);
    r.name = name_of(name);
    Error e = s.call(r);
    if (e == Error::IsDirectory) {
        r.op = Op::Rmdir;
        e = s.call(r);
    }
    if (e == Error::None && a.json) std::printf("{}\n");
    return e == Error::None ? 0 : complain(a, a.rest[0], e);
}

}  // namespace nemesis::fs::tools
