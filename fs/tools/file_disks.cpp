#include "fs/tools/file_disks.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace nemesis::fs::tools {
namespace {

/// Whether a block device that is in use has an owner like us, not a mount of something else.
bool locked_by_another(std::string const& path) {
    int const fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool const locked = ::flock(fd, LOCK_SH | LOCK_NB) != 0;
    ::close(fd);
    return locked;
}

}  // namespace

FileDisks::~FileDisks() {
    stop();
    close();
}

void FileDisks::close() {
    for (int& fd : fd_) {
        if (fd >= 0) ::close(fd);
        fd = -1;
    }
}

std::string FileDisks::open(std::vector<std::string> const& paths, bool create, bool* locked) {
    *locked = false;
    for (u32 d = 0; d < disks; ++d) {
        struct stat s{};
        bool const device = ::stat(paths[d].c_str(), &s) == 0 && S_ISBLK(s.st_mode);
        // O_EXCL of a block device: refused while it is mounted.
        int const flags = O_RDWR | O_CLOEXEC | (device ? O_EXCL : create ? O_CREAT : 0);
        fd_[d] = ::open(paths[d].c_str(), flags, 0600);
        if (fd_[d] < 0) {
            if (!create && errno != EBUSY) continue;
            std::string const problem = paths[d] + ": " + std::strerror(errno);
            *locked = device && locked_by_another(paths[d]);
            return problem;
        }
        if (::flock(fd_[d], LOCK_EX | LOCK_NB) != 0) {
            *locked = true;
            return paths[d] + " is in use";
        }
        off_t const bytes = ::lseek(fd_[d], 0, SEEK_END);
        blocks_[d] = bytes > 0 ? static_cast<u64>(bytes) / block_bytes : 0;
    }
    return "";
}

void FileDisks::start(std::mutex& lock, std::function<void(u32, DiskStatus)> done) {
    store_lock_ = &lock;
    done_ = std::move(done);
    for (u32 d = 0; d < disks; ++d) drive_[d].thread = std::thread([this, d] { serve(d); });
}

void FileDisks::stop() {
    for (Drive& d : drive_) {
        {
            std::lock_guard<std::mutex> guard(d.lock);
            d.ends = true;
        }
        d.work.notify_all();
        if (d.thread.joinable()) d.thread.join();
    }
}

void FileDisks::submit(DiskCommand const& c) {
    Drive& d = drive_[c.disk];
    {
        std::lock_guard<std::mutex> guard(d.lock);
        d.queue.push_back(
            {c.operation, c.tag, c.block, d.life, std::vector<u8*>(c.data, c.data + c.count)});
    }
    d.work.notify_one();
}

void FileDisks::abandon(u32 disk) {
    Drive& d = drive_[disk];
    std::lock_guard<std::mutex> guard(d.lock);
    ++d.life;
    d.queue.clear();
}

DiskStatus FileDisks::execute(u32 disk, Queued const& q, std::vector<u8>& buffer) const {
    int const fd = fd_[disk];
    if (fd < 0) return DiskStatus::Error;
    if (q.operation == DiskOperation::Reserve) return DiskStatus::Good;  // one owner, by the lock
    if (q.operation == DiskOperation::Flush) {
        return ::fdatasync(fd) == 0 ? DiskStatus::Good : DiskStatus::Error;
    }
    off_t const at = static_cast<off_t>(q.block * block_bytes);
    ssize_t const want = static_cast<ssize_t>(q.data.size() * block_bytes);
    if (q.operation == DiskOperation::Read) {
        buffer.resize(static_cast<std::size_t>(want));
        return ::pread(fd, buffer.data(), buffer.size(), at) == want ? DiskStatus::Good
                                                                     : DiskStatus::Error;
    }
    std::vector<iovec> parts;
    for (u8* p : q.data) parts.push_back({p, block_bytes});
    return ::pwritev(fd, parts.data(), static_cast<int>(parts.size()), at) == want
               ? DiskStatus::Good
               : DiskStatus::Error;
}

void FileDisks::serve(u32 disk) {
    Drive& d = drive_[disk];
    std::vector<u8> buffer;
    for (;;) {
        Queued q;
        {
            std::unique_lock<std::mutex> guard(d.lock);
            d.work.wait(guard, [&] { return d.ends || !d.queue.empty(); });
            if (d.queue.empty()) return;
            q = std::move(d.queue.front());
            d.queue.pop_front();
        }
        DiskStatus const status = execute(disk, q, buffer);
        std::lock_guard<std::mutex> store(*store_lock_);
        {
            std::lock_guard<std::mutex> guard(d.lock);
            if (q.life != d.life) continue;
        }
        if (q.operation == DiskOperation::Read && status == DiskStatus::Good) {
            for (std::size_t i = 0; i < q.data.size(); ++i) {
                std::memcpy(q.data[i], buffer.data() + i * block_bytes, block_bytes);
            }
        }
        done_(q.tag, status);
    }
}

bool FileDisks::read(u32 disk, u64 block, u8* out) const {
    return fd_[disk] >= 0 && ::pread(fd_[disk], out, block_bytes,
                                     static_cast<off_t>(block * block_bytes)) == block_bytes;
}

bool FileDisks::write(u32 disk, u64 block, void const* data) const {
    return fd_[disk] >= 0 && ::pwrite(fd_[disk], data, block_bytes,
                                      static_cast<off_t>(block * block_bytes)) == block_bytes;
}

int lock_holder(std::string const& path) {
    struct stat s{};
    if (::stat(path.c_str(), &s) != 0) return 0;
    std::FILE* f = std::fopen("/proc/locks", "r");
    if (!f) return 0;
    char line[256];
    int holder = 0;
    while (std::fgets(line, sizeof line, f)) {
        int pid = 0;
        unsigned major_number = 0;
        unsigned minor_number = 0;
        unsigned long inode = 0;
        if (std::sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%lu", &pid, &major_number, &minor_number,
                        &inode) == 4 &&
            inode == s.st_ino) {
            holder = pid;
        }
    }
    std::fclose(f);
    return holder;
}

}  // namespace nemesis::fs::tools
