// Verbs about the store as a whole: mkfs, mount, status, clean, scrub, fail, replace, check,
// salvage, simulate.

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <thread>

#include "fs/check/check.h"
#include "fs/check/salvage.h"
#include "fs/simulator/rows.h"
#include "fs/tools/host_store.h"
#include "fs/tools/progress.h"
#include "fs/tools/verbs.h"

namespace nemesis::fs::tools {
namespace {

unsigned long long ull(u64 n) { return n; }

int ready_pipe = -1;

/// In the mount's own process, once it can be used: tells the one that waits, and lets go of the
/// terminal.
void mount_ready() {
    if (ready_pipe < 0) return;
    char const good = 0;
    [[maybe_unused]] ssize_t const n = ::write(ready_pipe, &good, 1);
    ::close(ready_pipe);
    int const null = ::open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3 && null >= 0; ++fd) ::dup2(null, fd);
    if (null > 2) ::close(null);
}

int mount_here(Arguments const& a) {
    std::string problem;
    OpenOptions options;
    options.owner = true;
    options.streams = static_cast<u32>(a.number("streams", 16));
    std::unique_ptr<StoreAccess> const s = open_store(a.disk, options, &problem);
    if (!s) return complain(a, problem);
    return mount_store(static_cast<HostStore&>(*s), a.rest[0], mount_ready);
}

/// Waits for work that has a cursor; the store goes on by itself.
StoreStatus wait_for(StoreAccess& s, std::string const& label, bool StoreStatus::* busy,
                     u64 StoreStatus::* cursor) {
    StoreStatus t = s.order(Order::Status);
    Progress progress(label, cursor ? t.statistics.segments : 0);
    for (;;) {
        t = s.order(Order::Status);
        if (!(t.*busy) || t.health != Health::Mounted) return t;
        progress.update(cursor ? t.*cursor : t.statistics.segments_cleaned);
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
}

/// Opens the disks to read them as they are, while nobody owns them.
bool open_quiet(Arguments const& a, FileDisks& port, u64* blocks) {
    // An owner that is just ending is waited for.
    for (int i = 0;; ++i) {
        bool locked = false;
        std::string const p = port.open(a.disk, false, &locked);
        if (p.empty()) break;
        RemoteStore owner;
        u32 process = static_cast<u32>(lock_holder(a.disk[0]));
        bool const answers = locked && owner.connect(control_name(a.disk));
        if (answers) process = owner.order(Order::Status, 0, {}).process;
        if (locked && !answers && i < 100) {
            port.close();
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
            continue;
        }
        complain(a, !locked ? p
                            : "the store is in use by process " + std::to_string(process) + "; " +
                                  a.verb + " reads disks at rest: unmount first");
        return false;
    }
    for (u32 d = 0; d < disks; ++d) {
        if (port.blocks(d) && (!*blocks || port.blocks(d) < *blocks)) *blocks = port.blocks(d);
    }
    if (*blocks <= segments_start) {
        complain(a, "there are no disks to " + a.verb);
        return false;
    }
    return true;
}

/// The store's shelf, when it has one. errors: text
std::string open_shelf(FileDisks& port, DirectoryVolume* shelf) {
    Superblock s{};
    if (!newest_superblock(port, &s)) return "";
    s.tertiary[sizeof s.tertiary - 1] = 0;
    return s.tertiary[0] ? shelf->open(s.tertiary, s) : "";
}

check::ReadUnit units_of(DirectoryVolume const& shelf) {
    if (shelf.path().empty()) return nullptr;
    return [&shelf](u64 number, u32 blocks, u8* out) { return shelf.read(number, blocks, out); };
}

}  // namespace

int make(Arguments const& a) {
    u64 usable = 0;
    std::string const p =
        make_store(a.disk, a.number("size", 0), a.has("force"), a.text("tertiary"), &usable);
    if (!p.empty()) return complain(a, p);
    std::printf(a.json ? "{\"usable\":%llu}\n" : "usable: %llu bytes\n", ull(usable));
    return 0;
}

int mount(Arguments const& a) {
    if (a.number("streams", 16) > 4096) return refuse(a, "--streams is 4096 at most");
    if (a.has("foreground")) return mount_here(a);
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return complain(a, std::strerror(errno));
    pid_t const child = ::fork();
    if (child < 0) return complain(a, std::strerror(errno));
    if (child == 0) {
        ::close(ends[0]);
        ::setsid();
        ready_pipe = ends[1];
        int const result = mount_here(a);
        std::fflush(nullptr);
        ::_exit(result);
    }
    ::close(ends[1]);
    char good = 0;
    if (::read(ends[0], &good, 1) == 1) {
        if (a.json) std::printf("{\"process\":%d}\n", static_cast<int>(child));
        return 0;
    }
    int result = 0;
    ::waitpid(child, &result, 0);
    return WIFEXITED(result) && WEXITSTATUS(result) != 0 ? WEXITSTATUS(result) : 1;
}

int status(StoreAccess& s, Arguments const& a) {
    static char const* const names[] = {"live", "dead", "rebuilding"};
    StoreStatus const t = s.order(Order::Status);
    std::string disks_text;
    for (u32 d = 0; d < disks; ++d) {
        char const* const n = names[static_cast<int>(t.disk[d])];
        disks_text +=
            a.json ? std::string(d ? "," : "") + "\"" + n + "\"" : std::string(d ? " " : "") + n;
    }
    u64 const segment = u64{1} << 20;
    bool const read_only = t.health != Health::Mounted;
    std::string const owner = t.mounted_at[0] ? t.mounted_at : "";
    if (a.json) {
        std::printf(
            "{\"disks\":[%s],\"bytes\":%llu,\"free\":%llu,\"reserved\":%llu,\"read_only\":%s,"
            "\"acknowledgement\":\"volatile\",\"rolled_forward\":%llu,\"damaged\":%u,"
            "\"owner\":%u,\"mounted_at\":%s,\"calibrated\":%s,\"model\":%s,\"streams\":%u,"
            "\"rebuilding\":%s,\"cleaning\":%s,\"scrubbing\":%s,\"shelf\":%s,"
            "\"shelf_there\":%s,\"units\":%llu}\n",
            disks_text.c_str(), ull(t.statistics.segments * segment),
            ull(t.statistics.segments_free * segment),
            ull(t.statistics.segments_reserved * segment), read_only ? "true" : "false",
            ull(t.statistics.rolled_forward), t.damage_count, t.process, quoted(owner).c_str(),
            t.model.known() ? "true" : "false", quoted(model_text(t.model)).c_str(), t.streams_max,
            t.rebuilding ? "true" : "false", t.cleaning ? "true" : "false",
            t.scrubbing ? "true" : "false", quoted(t.shelf).c_str(),
            t.shelf_there ? "true" : "false", ull(t.units));
        return 0;
    }
    std::printf(
        "disks      %s\nsize       %llu\nfree       %llu (%llu of it kept for deletion and "
        "cleaning)\nstate      %s\nwrites     volatile until fsync: no UPS is configured\n",
        disks_text.c_str(), ull(t.statistics.segments * segment),
        ull(t.statistics.segments_free * segment), ull(t.statistics.segments_reserved * segment),
        read_only ? "read-only: more is lost than redundancy covers" : "writable");
    if (!owner.empty())
        std::printf("owner      process %u, mounted at %s\n", t.process, owner.c_str());
    std::printf("rates      %s\n", t.model.known()
                                       ? ("guaranteed by " + model_text(t.model)).c_str()
                                       : "none guaranteed: run calibrate first");
    if (t.shelf[0]) {
        std::printf("shelf      %s, %s, %llu units written\n", t.shelf,
                    t.shelf_there ? "there" : "NOT there: what is on it cannot be read",
                    ull(t.units));
    }
    if (t.rebuilding) {
        std::printf("rebuilding segment %llu of %llu\n", ull(t.rebuild_cursor),
                    ull(t.statistics.segments));
    }
    for (u32 i = 0; i < t.damage_count && i < Store::damage_max; ++i) {
        Store::Damage const& d = t.damage[i];
        std::printf("damaged    pnode %llu block %llu level %u\n", ull(d.owner), ull(d.index),
                    d.level);
    }
    return 0;
}

int clean(StoreAccess& s, Arguments const& a) {
    u64 const before = s.order(Order::Status).statistics.segments_cleaned;
    if (s.order(Order::Clean).health != Health::Mounted) {
        return complain(a, "the store is read-only and cannot be cleaned");
    }
    StoreStatus const t = wait_for(s, "clean", &StoreStatus::cleaning, nullptr);
    std::printf(a.json ? "{\"cleaned\":%llu}\n" : "cleaned: %llu segments\n",
                ull(t.statistics.segments_cleaned - before));
    return t.health == Health::Mounted ? 0 : 1;
}

int scrub(StoreAccess& s, Arguments const& a) {
    Statistics const before = s.order(Order::Status).statistics;
    s.order(Order::Scrub);
    StoreStatus const t = wait_for(s, "scrub", &StoreStatus::scrubbing, &StoreStatus::scrub_cursor);
    std::printf(a.json ? "{\"repaired\":%llu,\"damaged\":%u,\"lost_garbage\":%llu}\n"
                       : "repaired: %llu, damaged: %u, lost garbage found: %llu\n",
                ull(t.statistics.repaired - before.repaired), t.damage_count,
                ull(t.statistics.garbage_found - before.garbage_found));
    return t.health == Health::Mounted && t.damage_count == 0 ? 0 : 1;
}

int fail(StoreAccess& s, Arguments const& a) {
    u32 const d = static_cast<u32>(a.rest[0][0] - '0');
    StoreStatus const t = s.order(Order::Fail, d);
    if (!t.accepted) return complain(a, "disk " + a.rest[0] + " is dead already");
    if (t.health != Health::Mounted) {
        return complain(a, "one more disk is away than redundancy covers: the store is read-only");
    }
    std::printf(a.json ? "{\"dead\":%u}\n" : "disk %u is dead: the store works without it\n", d);
    return 0;
}

int replace(StoreAccess& s, Arguments const& a) {
    u32 const d = static_cast<u32>(a.rest[0][0] - '0');
    if (!s.order(Order::Replace, d).accepted) {
        return complain(a, "disk " + a.rest[0] + " is not dead, or its image is too small");
    }
    StoreStatus const t =
        wait_for(s, "replace", &StoreStatus::rebuilding, &StoreStatus::rebuild_cursor);
    if (t.disk[d] != DiskState::Live) {
        return complain(a, "disk " + a.rest[0] + " is not rebuilt; it can be resumed by a mount");
    }
    std::printf(a.json ? "{\"rebuilt\":%u}\n" : "disk %u is rebuilt\n", d);
    return 0;
}

int check(Arguments const& a) {
    FileDisks port;
    u64 blocks = 0;
    if (!open_quiet(a, port, &blocks)) return 1;
    Progress progress("check", 0);
    DirectoryVolume shelf;
    std::string const shelf_problem = open_shelf(port, &shelf);
    if (!shelf_problem.empty()) std::fprintf(stderr, "pegasus_fs: %s\n", shelf_problem.c_str());
    u64 reads = 0;
    check::Report const r = check::run(
        [&](u32 d, u64 n, u8* out) {
            if (++reads % 256 == 0) progress.update(reads);
            return n < port.blocks(d) && port.read(d, n, out);
        },
        blocks, units_of(shelf));
    if (a.json) {
        std::printf(
            "{\"clean\":%s,\"segments\":%llu,\"in_use\":%llu,\"written\":%llu,\"live\":%llu,"
            "\"garbage\":%llu,\"pnodes\":%llu,\"shelved\":%llu,\"shelved_unread\":%llu,"
            "\"problems\":%zu}\n",
            r.clean ? "true" : "false", ull(r.segments), ull(r.segments_in_use), ull(r.written),
            ull(r.live), ull(r.garbage), ull(r.pnodes), ull(r.shelved), ull(r.shelved_unread),
            r.problems.size());
    } else {
        std::printf(
            "%llu of %llu segments in use, %llu blocks written = %llu live + %llu garbage, "
            "%llu pnodes, %llu groups after the checkpoint\n",
            ull(r.segments_in_use), ull(r.segments), ull(r.written), ull(r.live), ull(r.garbage),
            ull(r.pnodes), ull(r.groups_rolled));
        if (r.shelved > 0) {
            std::printf("%llu blocks on the shelf in %llu units%s\n", ull(r.shelved), ull(r.units),
                        r.shelved_unread ? ", which is not there: not proved" : "");
        }
        for (std::string const& p : r.problems) std::printf("%s\n", p.c_str());
        std::printf(r.clean ? "clean\n" : "NOT clean\n");
    }
    return r.clean ? 0 : 1;
}

int salvage(Arguments const& a) {
    if (!a.has("to")) return refuse(a, "salvage needs --to DIRECTORY, which must be empty or new");
    FileDisks port;
    u64 blocks = 0;
    if (!open_quiet(a, port, &blocks)) return 1;
    Progress progress("salvage", blocks);
    DirectoryVolume shelf;
    std::string const shelf_problem = open_shelf(port, &shelf);
    if (!shelf_problem.empty()) std::fprintf(stderr, "pegasus_fs: %s\n", shelf_problem.c_str());
    check::Salvaged const r = check::salvage(
        [&](u32 d, u64 n, u8* out) {
            progress.update(n);
            return n < port.blocks(d) && port.read(d, n, out);
        },
        blocks, a.text("to"), units_of(shelf));
    if (!r.error.empty()) return complain(a, r.error);
    if (a.json) {
        std::string lost;
        for (std::string const& l : r.lost) lost += (lost.empty() ? "" : ",") + quoted(l);
        std::printf(
            "{\"files\":%llu,\"directories\":%llu,\"bytes\":%llu,\"unnamed\":%llu,"
            "\"by_name\":%llu,\"lost_blocks\":%llu,\"lost\":[%s]}\n",
            ull(r.files), ull(r.directories), ull(r.bytes), ull(r.unnamed), ull(r.by_name),
            ull(r.lost_blocks), lost.c_str());
    } else {
        std::printf(
            "%llu files in %llu directories, %llu bytes; %llu without a name are in "
            "lost+found\n",
            ull(r.files), ull(r.directories), ull(r.bytes), ull(r.unnamed));
        if (r.by_name > 0) {
            std::printf("%llu blocks were found by their summaries' names only\n", ull(r.by_name));
        }
        for (std::string const& l : r.lost) std::printf("lost: %s\n", l.c_str());
    }
    return r.lost_blocks == 0 ? 0 : 1;
}

/// Row 11 runs a build of the core that can leave checks out: the program beside this one.
static int simulate_mutants(Arguments const& a) {
    std::error_code error;
    std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
    program.replace_filename("fs_mutants");
    std::vector<std::string> words{program.string(), "--count",
                                   std::to_string(a.number("count", 0))};
    if (a.has("seed")) words.insert(words.end(), {"--seed", std::to_string(a.number("seed", 0))});
    if (a.json) words.push_back("--json");
    std::vector<char*> list;
    for (std::string& w : words) list.push_back(w.data());
    list.push_back(nullptr);
    execv(list[0], list.data());
    return refuse(a, "row 11 is a program of its own, " + program.string() +
                         ", which is not there: ./peg build host --target fs_mutants");
}

int simulate(Arguments const& a) {
    simulator::RowOptions options;
    options.seed = a.number("seed", 1);
    options.count = a.number("count", 0);
    options.length = static_cast<u32>(a.number("length", 2));
    u64 const row = a.number("row", 0);
    if (row == 11) return simulate_mutants(a);
    simulator::RowResult const r = simulator::run_row(static_cast<int>(row), options);
    if (r.text.starts_with("there is no row")) return refuse(a, r.text);
    if (a.json) {
        std::printf(
            "{\"row\":%llu,\"seed\":%llu,\"passed\":%s,\"count\":%llu,\"seconds\":%.3f,"
            "\"text\":%s}\n",
            ull(row), ull(options.seed), r.passed ? "true" : "false", ull(r.count), r.seconds,
            quoted(r.text).c_str());
    } else {
        std::printf("%s\n", r.text.c_str());
    }
    return r.passed ? 0 : 1;
}

}  // namespace nemesis::fs::tools
