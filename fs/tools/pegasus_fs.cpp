// pegasus_fs: a Pegasus store on five image files or block devices, from the command line.
//
// One process owns the disks while it runs (a lock on each image); a second is refused.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "fs/check/check.h"
#include "fs/tools/host_store.h"

namespace nemesis::fs::tools {
namespace {

constexpr char const* usage =
    "pegasus_fs VERB DISK0 DISK1 DISK2 DISK3 DISK4 [ARGUMENTS] [--json]\n"
    "  mkfs [--size BYTES] [--force]     make a store; --size makes or resizes image files\n"
    "  mount DIRECTORY [--foreground]    mount through FUSE; ends cleanly on unmount and signals\n"
    "  ls [PATH]   get PATH [FILE]   put FILE PATH   mkdir PATH   rm PATH\n"
    "  status      clean      scrub      check\n"
    "  fail N      declare disk N (0..4) dead\n"
    "  replace N   rebuild disk N on the image in its place, which must be blank or stale\n";

struct Arguments {
    std::vector<std::string> rest;
    bool json = false;
    bool force = false;
    bool foreground = false;
    u64 size = 0;
};

int complain(std::string const& text) {
    std::fprintf(stderr, "pegasus_fs: %s\n", text.c_str());
    return 1;
}

int complain(std::string const& path, Error e) {
    return complain(path + ": " + std::strerror(static_cast<int>(e)));
}

bool split(std::string const& path, std::string* parent, std::string* name) {
    std::size_t const slash = path.rfind('/');
    *parent = slash == std::string::npos ? "" : path.substr(0, slash);
    *name = slash == std::string::npos ? path : path.substr(slash + 1);
    return !name->empty();
}

int list(HostStore& s, std::string const& path, bool json) {
    Attributes a;
    if (Error const e = s.lookup(path, &a); e != Error::None) return complain(path, e);
    std::vector<u8> buffer(65536);
    bool first = true;
    if (json) std::printf("[");
    for (u64 cookie = 0;;) {
        Request r;
        r.op = Op::ReadDirectory;
        r.pnode = a.pnode;
        r.offset = cookie;
        r.buffer = buffer.data();
        r.length = buffer.size();
        if (Error const e = s.call(r); e != Error::None) return complain(path, e);
        if (r.count == 0) break;
        for (u64 at = 0; at < r.count;) {
            DirectoryItem item;
            std::memcpy(&item, buffer.data() + at, sizeof item);
            std::string const name(reinterpret_cast<char*>(buffer.data() + at + sizeof item),
                                   item.name_length);
            at += (sizeof item + item.name_length + 7) / 8 * 8;
            cookie = item.cookie;
            if (name == "." || name == "..") continue;
            Request g;
            g.op = Op::GetAttributes;
            g.pnode = item.pnode;
            if (Error const e = s.call(g); e != Error::None) return complain(name, e);
            char const type = "?-dlbps-?"[static_cast<int>(g.attributes.type)];
            unsigned long long const size = g.attributes.size;
            if (json) {
                std::string quoted;
                for (char c : name) {
                    if (c == '"' || c == '\\') quoted += '\\';
                    if (static_cast<unsigned char>(c) >= 32) quoted += c;
                }
                std::printf("%s{\"name\":\"%s\",\"type\":\"%c\",\"size\":%llu}", first ? "" : ",",
                            quoted.c_str(), type, size);
            } else {
                std::printf("%c%04o %5u %5u %12llu %s\n", type, g.attributes.mode, g.attributes.uid,
                            g.attributes.gid, size, name.c_str());
            }
            first = false;
        }
    }
    if (json) std::printf("]\n");
    return 0;
}

int get(HostStore& s, std::string const& path, std::string const& file) {
    Attributes a;
    if (Error const e = s.lookup(path, &a); e != Error::None) return complain(path, e);
    std::FILE* out = file.empty() ? stdout : std::fopen(file.c_str(), "wb");
    if (!out) return complain(file + ": " + std::strerror(errno));
    std::vector<u8> buffer(1 << 20);
    for (u64 at = 0; at < a.size;) {
        Request r;
        r.op = Op::Read;
        r.pnode = a.pnode;
        r.offset = at;
        r.length = buffer.size();
        r.buffer = buffer.data();
        if (Error const e = s.call(r); e != Error::None) return complain(path, e);
        if (r.count == 0) break;
        if (std::fwrite(buffer.data(), 1, r.count, out) != r.count)
            return complain(file + ": write");
        at += r.count;
    }
    if (out != stdout) std::fclose(out);
    return 0;
}

int put(HostStore& s, std::string const& file, std::string const& path) {
    std::FILE* in = file == "-" ? stdin : std::fopen(file.c_str(), "rb");
    if (!in) return complain(file + ": " + std::strerror(errno));
    std::string parent, name;
    if (!split(path, &parent, &name)) return complain("put needs a file's name");
    Attributes d;
    if (Error const e = s.lookup(parent, &d); e != Error::None) return complain(parent, e);
    Request c;
    c.op = Op::Create;
    c.pnode = d.pnode;
    c.mode = 0644;
    c.name = {name.data(), static_cast<u32>(name.size())};
    Error e = s.call(c);
    if (e == Error::Exists) {
        c.op = Op::Lookup;
        e = s.call(c);
        Request t;
        t.op = Op::Truncate;
        t.pnode = c.attributes.pnode;
        if (e == Error::None) e = s.call(t);
    }
    if (e != Error::None) return complain(path, e);
    std::vector<u8> buffer(1 << 20);
    u64 at = 0;
    while (std::size_t const n = std::fread(buffer.data(), 1, buffer.size(), in)) {
        Request r;
        r.op = Op::Write;
        r.pnode = c.attributes.pnode;
        r.offset = at;
        r.length = n;
        r.buffer = buffer.data();
        if (e = s.call(r); e != Error::None) return complain(path, e);
        if (r.count != n) return complain(path, Error::NoSpace);
        at += n;
    }
    if (in != stdin) std::fclose(in);
    return 0;
}

int name_operation(HostStore& s, std::string const& verb, std::string const& path) {
    std::string parent, name;
    if (!split(path, &parent, &name)) return complain(verb + " needs a name");
    Attributes d;
    if (Error const e = s.lookup(parent, &d); e != Error::None) return complain(parent, e);
    Request r;
    r.op = verb == "mkdir" ? Op::Create : Op::Unlink;
    r.type = PnodeType::Directory;
    r.mode = 0755;
    r.pnode = d.pnode;
    r.name = {name.data(), static_cast<u32>(name.size())};
    Error e = s.call(r);
    if (verb == "rm" && e == Error::IsDirectory) {
        r.op = Op::Rmdir;
        e = s.call(r);
    }
    return e == Error::None ? 0 : complain(path, e);
}

int status(HostStore& s, bool json) {
    static char const* const names[] = {"live", "dead", "rebuilding"};
    Statistics const t = s.store().statistics();
    bool const read_only = s.store().health() == Health::ReadOnly;
    std::string disks_text;
    for (u32 d = 0; d < disks; ++d) {
        char const* const n = names[static_cast<int>(s.store().disk_state(d))];
        disks_text +=
            json ? std::string(d ? "," : "") + "\"" + n + "\"" : std::string(d ? " " : "") + n;
    }
    unsigned long long const total = t.segments << 20, free_bytes = t.segments_free << 20,
                             reserved = t.segments_reserved << 20;
    if (json) {
        std::printf(
            "{\"disks\":[%s],\"bytes\":%llu,\"free\":%llu,\"reserved\":%llu,\"read_only\":%s,"
            "\"acknowledgement\":\"volatile\",\"rolled_forward\":%llu,\"damaged\":%u}\n",
            disks_text.c_str(), total, free_bytes, reserved, read_only ? "true" : "false",
            static_cast<unsigned long long>(t.rolled_forward), s.store().damage_count());
    } else {
        std::printf(
            "disks      %s\nsize       %llu\nfree       %llu (%llu of it kept for deletion and "
            "cleaning)\nstate      %s\nwrites     volatile until fsync: no UPS is configured\n",
            disks_text.c_str(), total, free_bytes, reserved,
            read_only ? "read-only: more is lost than redundancy covers" : "writable");
        for (u32 i = 0; i < s.store().damage_count(); ++i) {
            Store::Damage const& d = s.store().damage()[i];
            std::printf("damaged    pnode %llu block %llu level %u\n",
                        static_cast<unsigned long long>(d.owner),
                        static_cast<unsigned long long>(d.index), d.level);
        }
    }
    return 0;
}

int check_store(std::vector<std::string> const& paths, bool json) {
    FileDisks port;
    if (std::string const problem = port.open(paths); !problem.empty()) return complain(problem);
    u64 blocks = 0;
    for (u32 d = 0; d < disks; ++d) {
        if (port.blocks(d) && (!blocks || port.blocks(d) < blocks)) blocks = port.blocks(d);
    }
    if (blocks <= segments_start) return complain("no disks to check");
    check::Report const r = check::run(
        [&](u32 d, u64 n, u8* out) { return n < port.blocks(d) && port.read(d, n, out); }, blocks);
    if (json) {
        std::printf(
            "{\"clean\":%s,\"segments\":%llu,\"in_use\":%llu,\"written\":%llu,\"live\":%llu,"
            "\"garbage\":%llu,\"pnodes\":%llu,\"problems\":%zu}\n",
            r.clean ? "true" : "false", static_cast<unsigned long long>(r.segments),
            static_cast<unsigned long long>(r.segments_in_use),
            static_cast<unsigned long long>(r.written), static_cast<unsigned long long>(r.live),
            static_cast<unsigned long long>(r.garbage), static_cast<unsigned long long>(r.pnodes),
            r.problems.size());
    } else {
        std::printf(
            "%llu of %llu segments in use, %llu blocks written = %llu live + %llu garbage, "
            "%llu pnodes, %llu groups after the checkpoint\n",
            static_cast<unsigned long long>(r.segments_in_use),
            static_cast<unsigned long long>(r.segments), static_cast<unsigned long long>(r.written),
            static_cast<unsigned long long>(r.live), static_cast<unsigned long long>(r.garbage),
            static_cast<unsigned long long>(r.pnodes),
            static_cast<unsigned long long>(r.groups_rolled));
        for (std::string const& p : r.problems) std::printf("%s\n", p.c_str());
        std::printf(r.clean ? "clean\n" : "NOT clean\n");
    }
    return r.clean ? 0 : 1;
}

int run(int argc, char** argv) {
    Arguments a;
    for (int i = 1; i < argc; ++i) {
        std::string const s = argv[i];
        if (s == "--json")
            a.json = true;
        else if (s == "--force")
            a.force = true;
        else if (s == "--foreground")
            a.foreground = true;
        else if (s == "--size" && i + 1 < argc)
            a.size = std::strtoull(argv[++i], nullptr, 0);
        else
            a.rest.push_back(s);
    }
    if (a.rest.size() < 1 + disks) {
        std::fputs(usage, stderr);
        return 2;
    }
    std::string const verb = a.rest[0];
    std::vector<std::string> const paths(a.rest.begin() + 1, a.rest.begin() + 1 + disks);
    std::vector<std::string> more(a.rest.begin() + 1 + disks, a.rest.end());
    if (verb == "mkfs") {
        u64 usable = 0;
        if (std::string const p = make_store(paths, a.size, a.force, &usable); !p.empty()) {
            return complain(p);
        }
        std::printf(a.json ? "{\"usable\":%llu}\n" : "usable: %llu bytes\n",
                    static_cast<unsigned long long>(usable));
        return 0;
    }
    if (verb == "check") return check_store(paths, a.json);
    HostStore s;
    if (std::string const p = s.open(paths); !p.empty()) return complain(p);
    int result = 2;
    more.resize(2);
    if (verb == "mount") return more[0].empty() ? 2 : mount_store(s, more[0], a.foreground);
    if (verb == "ls") result = list(s, more[0], a.json);
    if (verb == "get") result = get(s, more[0], more[1]);
    if (verb == "put") result = put(s, more[0], more[1]);
    if (verb == "mkdir" || verb == "rm") result = name_operation(s, verb, more[0]);
    if (verb == "status") result = status(s, a.json);
    if (verb == "clean") {
        s.store().clean();
        u64 const before = s.store().statistics().segments_free;
        result = s.wait(&Store::cleaning) ? 0 : 1;
        std::printf(a.json ? "{\"freed\":%lld}\n" : "freed: %lld segments\n",
                    static_cast<long long>(s.store().statistics().segments_free - before));
    }
    if (verb == "scrub") {
        s.store().scrub();
        result = s.wait(&Store::scrubbing) && s.store().damage_count() == 0 ? 0 : 1;
        Statistics const t = s.store().statistics();
        std::printf(
            a.json ? "{\"repaired\":%llu,\"damaged\":%u}\n" : "repaired: %llu, damaged: %u\n",
            static_cast<unsigned long long>(t.repaired), s.store().damage_count());
    }
    if ((verb == "fail" || verb == "replace") && more[0].size() == 1 && more[0][0] >= '0' &&
        more[0][0] < '5') {
        u32 const d = static_cast<u32>(more[0][0] - '0');
        if (verb == "fail") {
            s.store().fail_disk(d);
            s.pump();
            result = s.store().disk_state(d) == DiskState::Dead ? 0 : 1;
        } else if (!s.store().replace_disk(d, d)) {
            result = complain("disk " + more[0] + " is not dead, or its image is too small");
        } else {
            s.store().run();
            result = s.wait(&Store::rebuilding) ? 0 : 1;
        }
    }
    if (result == 2) std::fputs(usage, stderr);
    bool const writable = s.store().health() == Health::Mounted;
    s.close();
    if (writable && s.store().health() != Health::Stopped) {
        return complain("the store could not be closed cleanly");
    }
    return result;
}

}  // namespace
}  // namespace nemesis::fs::tools

int main(int argc, char** argv) { return nemesis::fs::tools::run(argc, argv); }
