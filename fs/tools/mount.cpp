// The FUSE front: libfuse3's low-level interface, many threads that queue to the core one at a
// time, kernel write-back cache off. write() returns once the data is in memory; fsync and syncfs
// once a flush has completed on all live disks.

#define FUSE_USE_VERSION 312

#include <fuse3/fuse_lowlevel.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "fs/tools/host_store.h"

namespace nemesis::fs::tools {
namespace {

HostStore* the_store = nullptr;

u64 number_of(fuse_ino_t ino) { return ino == FUSE_ROOT_ID ? root_directory : ino; }
fuse_ino_t ino_of(u64 number) { return number == root_directory ? FUSE_ROOT_ID : number; }

struct stat stat_of(Attributes const& a) {
    struct stat s{};
    s.st_ino = ino_of(a.pnode);
    mode_t type = S_IFREG;
    switch (a.type) {
        case PnodeType::Directory:
            type = S_IFDIR;
            break;
        case PnodeType::Symlink:
            type = S_IFLNK;
            break;
        case PnodeType::Fifo:
            type = S_IFIFO;
            break;
        case PnodeType::Socket:
            type = S_IFSOCK;
            break;
        case PnodeType::Device:
            type = S_IFCHR;
            break;
        default:
            break;
    }
    s.st_mode = type | a.mode;
    s.st_nlink = a.nlink;
    s.st_uid = a.uid;
    s.st_gid = a.gid;
    s.st_rdev = a.rdev;
    s.st_size = static_cast<off_t>(a.size);
    s.st_blksize = block_bytes;
    s.st_blocks = static_cast<blkcnt_t>((a.size + 511) / 512);
    auto const time = [](i64 ns) { return timespec{ns / 1'000'000'000, ns % 1'000'000'000}; };
    s.st_atim = time(a.atime_ns);
    s.st_mtim = time(a.mtime_ns);
    s.st_ctim = time(a.ctime_ns);
    return s;
}

Request request(fuse_req_t req, Op op, fuse_ino_t ino) {
    Request r;
    r.op = op;
    r.pnode = number_of(ino);
    // The kernel checks permissions (default_permissions); owners of new files come from here.
    fuse_ctx const* c = fuse_req_ctx(req);
    r.who.uid = c->uid;
    r.who.gid = c->gid;
    return r;
}

Name name_of(char const* text) { return {text, static_cast<u32>(std::strlen(text))}; }
int errno_of(Error e) { return static_cast<int>(e); }

/// What the kernel knows of a name. It may know any number of them, and holds nothing: if a pnode
/// gets another life meanwhile, its generation tells.
fuse_entry_param entry_of(Attributes const& a) {
    fuse_entry_param p{};
    p.ino = ino_of(a.pnode);
    p.generation = a.generation;
    p.attr = stat_of(a);
    p.attr_timeout = p.entry_timeout = 1.0;
    return p;
}

void reply_entry(fuse_req_t req, Attributes const& a) {
    fuse_entry_param const p = entry_of(a);
    fuse_reply_entry(req, &p);
}

/// An open file holds its pnode, so that it stays when it is unlinked.
Error hold(u64 pnode) {
    Request r;
    r.op = Op::Hold;
    r.pnode = pnode;
    return the_store->call(r);
}
void release(u64 pnode) {
    Request r;
    r.op = Op::Release;
    r.pnode = pnode;
    r.length = 1;
    the_store->call(r);
}

void finish(fuse_req_t req, Request& r) { fuse_reply_err(req, errno_of(the_store->call(r))); }

void do_lookup(fuse_req_t req, fuse_ino_t parent, char const* name) {
    Request r = request(req, Op::Lookup, parent);
    r.name = name_of(name);
    Error const e = the_store->call(r);
    if (e != Error::None) {
        fuse_reply_err(req, errno_of(e));
    } else {
        reply_entry(req, r.attributes);
    }
}

void do_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
    Request r = request(req, Op::GetAttributes, ino);
    if (Error const e = the_store->call(r); e != Error::None) {
        fuse_reply_err(req, errno_of(e));
        return;
    }
    struct stat const s = stat_of(r.attributes);
    fuse_reply_attr(req, &s, 1.0);
}

void do_setattr(fuse_req_t req, fuse_ino_t ino, struct stat* s, int what, fuse_file_info* info) {
    if (what & FUSE_SET_ATTR_SIZE) {
        Request r = request(req, Op::Truncate, ino);
        r.offset = static_cast<u64>(s->st_size);
        if (Error const e = the_store->call(r); e != Error::None) {
            fuse_reply_err(req, errno_of(e));
            return;
        }
    }
    Request r = request(req, Op::SetAttributes, ino);
    i64 const now = std::chrono::duration_cast<std::chrono::nanoseconds>(
                        std::chrono::system_clock::now().time_since_epoch())
                        .count();
    if (what & FUSE_SET_ATTR_MODE) r.flags |= set_mode, r.attributes.mode = s->st_mode & 07777;
    if (what & FUSE_SET_ATTR_UID) r.flags |= set_uid, r.attributes.uid = s->st_uid;
    if (what & FUSE_SET_ATTR_GID) r.flags |= set_gid, r.attributes.gid = s->st_gid;
    if (what & FUSE_SET_ATTR_ATIME) {
        r.flags |= set_atime;
        r.attributes.atime_ns = what & FUSE_SET_ATTR_ATIME_NOW
                                    ? now
                                    : s->st_atim.tv_sec * 1'000'000'000 + s->st_atim.tv_nsec;
    }
    if (what & FUSE_SET_ATTR_MTIME) {
        r.flags |= set_mtime;
        r.attributes.mtime_ns = what & FUSE_SET_ATTR_MTIME_NOW
                                    ? now
                                    : s->st_mtim.tv_sec * 1'000'000'000 + s->st_mtim.tv_nsec;
    }
    if (r.flags) {
        if (Error const e = the_store->call(r); e != Error::None) {
            fuse_reply_err(req, errno_of(e));
            return;
        }
    }
    do_getattr(req, ino, info);
}

void make(fuse_req_t req, fuse_ino_t parent, char const* name, mode_t mode, dev_t rdev,
          PnodeType type, char const* target = nullptr) {
    Request r = request(req, target ? Op::Symlink : Op::Create, parent);
    r.type = type;
    r.mode = mode & 07777;
    r.name = name_of(name);
    if (target) r.name2 = name_of(target);
    r.attributes.rdev = static_cast<u32>(rdev);
    if (Error const e = the_store->call(r); e != Error::None) {
        fuse_reply_err(req, errno_of(e));
    } else {
        reply_entry(req, r.attributes);
    }
}

void do_mknod(fuse_req_t req, fuse_ino_t parent, char const* name, mode_t mode, dev_t rdev) {
    PnodeType const type = S_ISFIFO(mode)   ? PnodeType::Fifo
                           : S_ISSOCK(mode) ? PnodeType::Socket
                           : S_ISREG(mode)  ? PnodeType::File
                                            : PnodeType::Device;
    make(req, parent, name, mode, rdev, type);
}
void do_mkdir(fuse_req_t req, fuse_ino_t parent, char const* name, mode_t mode) {
    make(req, parent, name, mode, 0, PnodeType::Directory);
}
void do_symlink(fuse_req_t req, char const* target, fuse_ino_t parent, char const* name) {
    make(req, parent, name, 0777, 0, PnodeType::Symlink, target);
}

void do_readlink(fuse_req_t req, fuse_ino_t ino) {
    char text[block_bytes + 1] = {};
    Request r = request(req, Op::ReadLink, ino);
    r.buffer = reinterpret_cast<u8*>(text);
    r.length = block_bytes;
    if (Error const e = the_store->call(r); e != Error::None) {
        fuse_reply_err(req, errno_of(e));
    } else {
        fuse_reply_readlink(req, text);
    }
}

void do_unlink(fuse_req_t req, fuse_ino_t parent, char const* name) {
    Request r = request(req, Op::Unlink, parent);
    r.name = name_of(name);
    finish(req, r);
}
void do_rmdir(fuse_req_t req, fuse_ino_t parent, char const* name) {
    Request r = request(req, Op::Rmdir, parent);
    r.name = name_of(name);
    finish(req, r);
}
void do_rename(fuse_req_t req, fuse_ino_t a, char const* name, fuse_ino_t b, char const* name2,
               unsigned flags) {
    Request r = request(req, Op::Rename, a);
    r.pnode2 = number_of(b);
    r.name = name_of(name);
    r.name2 = name_of(name2);
    r.flags = flags;  // the kernel's RENAME_NOREPLACE and RENAME_EXCHANGE are 1 and 2
    if (flags > (rename_noreplace | rename_exchange)) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    finish(req, r);
}
void do_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, char const* name) {
    Request r = request(req, Op::Link, parent);
    r.pnode2 = number_of(ino);
    r.name = name_of(name);
    if (Error const e = the_store->call(r); e != Error::None) {
        fuse_reply_err(req, errno_of(e));
    } else {
        reply_entry(req, r.attributes);
    }
}

void do_open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* info) {
    if (Error const e = hold(number_of(ino)); e != Error::None) {
        fuse_reply_err(req, errno_of(e));
        return;
    }
    info->keep_cache = 1;
    if (fuse_reply_open(req, info) != 0) release(number_of(ino));  // nobody waits for it any more
}
void do_create(fuse_req_t req, fuse_ino_t parent, char const* name, mode_t mode,
               fuse_file_info* info) {
    Request r = request(req, Op::Create, parent);
    r.type = PnodeType::File;
    r.mode = mode & 07777;
    r.name = name_of(name);
    Error e = the_store->call(r);
    if (e == Error::Exists && !(info->flags & O_EXCL)) {  // somebody else was first
        Request l = request(req, Op::Lookup, parent);
        l.name = r.name;
        e = the_store->call(l);
        r.attributes = l.attributes;
    }
    if (e == Error::None) e = hold(r.attributes.pnode);
    if (e != Error::None) {
        fuse_reply_err(req, errno_of(e));
        return;
    }
    fuse_entry_param const p = entry_of(r.attributes);
    info->keep_cache = 1;
    if (fuse_reply_create(req, &p, info) != 0) release(r.attributes.pnode);
}
void do_release(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
    release(number_of(ino));
    fuse_reply_err(req, 0);
}

void do_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info*) {
    std::vector<u8> buffer(size);
    Request r = request(req, Op::Read, ino);
    r.offset = static_cast<u64>(offset);
    r.length = size;
    r.buffer = buffer.data();
    if (Error const e = the_store->call(r); e != Error::None) {
        fuse_reply_err(req, errno_of(e));
    } else {
        fuse_reply_buf(req, reinterpret_cast<char*>(buffer.data()), r.count);
    }
}

void do_write(fuse_req_t req, fuse_ino_t ino, char const* data, size_t size, off_t offset,
              fuse_file_info* info) {
    Request r = request(req, Op::Write, ino);
    r.offset = static_cast<u64>(offset);
    r.length = size;
    r.buffer = reinterpret_cast<u8*>(const_cast<char*>(data));
    Error e = the_store->call(r);
    if (e == Error::None && info->flags & (O_SYNC | O_DSYNC)) {
        Request f = request(req, Op::Fsync, ino);
        e = the_store->call(f);
    }
    if (e != Error::None) {
        fuse_reply_err(req, errno_of(e));
    } else {
        fuse_reply_write(req, r.count);
    }
}

void do_fsync(fuse_req_t req, fuse_ino_t ino, int, fuse_file_info*) {
    Request r = request(req, Op::Fsync, ino);
    finish(req, r);
}

void do_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                  fuse_file_info*) {
    if (mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) {
        fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    Request r = request(req, Op::Punch, ino);
    r.offset = static_cast<u64>(offset);
    r.length = static_cast<u64>(length);
    finish(req, r);
}

void do_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info*) {
    std::vector<u8> items(size);
    std::vector<char> out(size);
    Request r = request(req, Op::ReadDirectory, ino);
    r.offset = static_cast<u64>(offset);
    r.buffer = items.data();
    r.length = size;
    if (Error const e = the_store->call(r); e != Error::None) {
        fuse_reply_err(req, errno_of(e));
        return;
    }
    size_t used = 0;
    for (u64 at = 0; at < r.count;) {
        DirectoryItem item;
        std::memcpy(&item, items.data() + at, sizeof item);
        std::string const name(reinterpret_cast<char*>(items.data() + at + sizeof item),
                               item.name_length);
        Attributes a;
        a.pnode = item.pnode;
        a.type = item.type;
        struct stat const s = stat_of(a);
        size_t const bytes = fuse_add_direntry(req, out.data() + used, size - used, name.c_str(),
                                               &s, static_cast<off_t>(item.cookie));
        if (bytes > size - used) break;
        used += bytes;
        at += (sizeof item + item.name_length + 7) / 8 * 8;
    }
    fuse_reply_buf(req, out.data(), used);
}

void do_statfs(fuse_req_t req, fuse_ino_t) {
    Statistics const s = the_store->statistics();
    struct statvfs v{};
    v.f_bsize = v.f_frsize = block_bytes;
    v.f_blocks = s.segments * segment_blocks;
    v.f_bfree = s.segments_free * segment_blocks;
    u64 const usable =
        s.segments_free > s.segments_reserved ? s.segments_free - s.segments_reserved : 0;
    v.f_bavail = usable * segment_blocks;
    v.f_files = s.pnodes + usable * segment_blocks;
    v.f_ffree = v.f_favail = usable * segment_blocks;
    v.f_namemax = name_max;
    fuse_reply_statfs(req, &v);
}

void do_setxattr(fuse_req_t req, fuse_ino_t ino, char const* name, char const* value, size_t size,
                 int flags) {
    Request r = request(req, Op::SetXattr, ino);
    r.name = name_of(name);
    r.name2 = {value, static_cast<u32>(size)};
    r.flags = static_cast<u32>(flags);
    finish(req, r);
}

void xattr(fuse_req_t req, Request& r, size_t size) {
    std::vector<u8> buffer(size);
    r.buffer = buffer.data();
    r.length = size;
    Error const e = the_store->call(r);
    if (e == Error::ValueTooBig) {
        fuse_reply_err(req, ERANGE);
    } else if (e != Error::None) {
        fuse_reply_err(req, errno_of(e));
    } else if (size == 0) {
        fuse_reply_xattr(req, r.count);
    } else {
        fuse_reply_buf(req, reinterpret_cast<char*>(buffer.data()), r.count);
    }
}
void do_getxattr(fuse_req_t req, fuse_ino_t ino, char const* name, size_t size) {
    Request r = request(req, Op::GetXattr, ino);
    r.name = name_of(name);
    xattr(req, r, size);
}
void do_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
    Request r = request(req, Op::ListXattr, ino);
    xattr(req, r, size);
}
void do_removexattr(fuse_req_t req, fuse_ino_t ino, char const* name) {
    Request r = request(req, Op::RemoveXattr, ino);
    r.name = name_of(name);
    finish(req, r);
}

}  // namespace

int mount_store(HostStore& store, std::string const& where, void (*ready)()) {
    the_store = &store;
    store.mounted_at(where);
    fuse_lowlevel_ops ops{};
    ops.lookup = do_lookup;
    ops.getattr = do_getattr;
    ops.setattr = do_setattr;
    ops.mknod = do_mknod;
    ops.mkdir = do_mkdir;
    ops.symlink = do_symlink;
    ops.readlink = do_readlink;
    ops.unlink = do_unlink;
    ops.rmdir = do_rmdir;
    ops.rename = do_rename;
    ops.link = do_link;
    ops.open = ops.opendir = do_open;
    ops.create = do_create;
    ops.release = ops.releasedir = do_release;
    ops.read = do_read;
    ops.write = do_write;
    ops.fsync = do_fsync;
    ops.fsyncdir = do_fsync;
    ops.fallocate = do_fallocate;
    ops.readdir = do_readdir;
    ops.statfs = do_statfs;
    ops.setxattr = do_setxattr;
    ops.getxattr = do_getxattr;
    ops.listxattr = do_listxattr;
    ops.removexattr = do_removexattr;
    char const* arguments[] = {"pegasus_fs", "-o",
                               "default_permissions,fsname=pegasus,subtype=pegasus"};
    fuse_args args = FUSE_ARGS_INIT(3, const_cast<char**>(arguments));
    fuse_session* session = fuse_session_new(&args, &ops, sizeof ops, nullptr);
    fuse_opt_free_args(&args);
    if (!session) return 1;
    if (fuse_set_signal_handlers(session) != 0 || fuse_session_mount(session, where.c_str()) != 0) {
        std::fprintf(stderr, "pegasus_fs: cannot mount at %s: is it an empty directory?\n",
                     where.c_str());
        fuse_session_destroy(session);
        return 1;
    }
    ready();
    fuse_loop_config* config = fuse_loop_cfg_create();
    int const result = fuse_session_loop_mt(session, config);
    fuse_loop_cfg_destroy(config);
    fuse_session_unmount(session);
    fuse_remove_signal_handlers(session);
    fuse_session_destroy(session);
    return store.close() && result >= 0 ? 0 : 1;
}

}  // namespace nemesis::fs::tools
