#include "fs/tools/directory_volume.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <vector>

namespace nemesis::fs::tools {
namespace {

constexpr u64 unit_bytes = u64{unit_blocks_max + 1} * block_bytes;
// By experience of a disk that is not in use otherwise.
constexpr Duration seek = Duration::ms(20);
constexpr Duration transfer = Duration::ms(10);  // of a unit

std::string label_of(Superblock const& store) {
    std::string text = "pegasus tertiary volume 1 of store ";
    for (u8 b : store.uuid) {
        char digits[3];
        std::snprintf(digits, sizeof digits, "%02x", b);
        text += digits;
    }
    return text + "\n";
}

std::string folder_of(std::string const& path, u64 number) {
    char name[32];
    std::snprintf(name, sizeof name, "/units/%05llx",
                  static_cast<unsigned long long>(number >> 12));
    return path + name;
}

std::string file_of(std::string const& path, u64 number) {
    char name[32];
    std::snprintf(name, sizeof name, "/%08llx", static_cast<unsigned long long>(number));
    return folder_of(path, number) + name;
}

/// Writes the whole file and flushes it. False: errno says why.
bool write_file(std::string const& path, void const* data, u64 bytes) {
    int const fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    u8 const* p = static_cast<u8 const*>(data);
    u64 done = 0;
    while (done < bytes) {
        ssize_t const n = ::write(fd, p + done, bytes - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += static_cast<u64>(n);
    }
    bool const good = done == bytes && ::fsync(fd) == 0;
    ::close(fd);
    return good;
}

bool flush_folder(std::string const& path) {
    int const fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return false;
    bool const good = ::fsync(fd) == 0;
    ::close(fd);
    return good;
}

}  // namespace

std::string DirectoryVolume::make(std::string const& path, Superblock const& store, bool force) {
    std::error_code problem;
    std::filesystem::create_directories(path, problem);
    if (problem) return path + ": " + problem.message();
    bool const empty = std::filesystem::is_empty(path, problem);
    if (problem) return path + ": " + problem.message();
    bool const volume = std::filesystem::exists(path + "/volume", problem);
    if (!empty && !(force && volume)) {
        return path + (volume ? " is a store's shelf already; give --force to overwrite it"
                              : " holds something already; give an empty directory");
    }
    std::filesystem::remove_all(path + "/units", problem);
    if (problem) return path + ": " + problem.message();
    std::filesystem::create_directory(path + "/units", problem);
    std::string const label = label_of(store);
    bool const good =
        !problem && write_file(path + "/volume", label.data(), label.size()) && flush_folder(path);
    return good ? "" : path + ": " + std::strerror(errno);
}

std::string DirectoryVolume::open(std::string const& path, Superblock const& store) {
    int const fd = ::open((path + "/volume").c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return "the shelf " + path + " is not there: " + std::strerror(errno);
    char text[128] = {};
    ssize_t const n = ::read(fd, text, sizeof text);
    ::close(fd);
    if (n < 0 || std::string(text, static_cast<std::size_t>(n)) != label_of(store)) {
        return path + " is not this store's shelf";
    }
    path_ = path;
    return "";
}

void DirectoryVolume::start(std::mutex& lock, std::function<void(TertiaryStatus)> done) {
    store_lock_ = &lock;
    done_ = std::move(done);
    thread_ = std::thread([this] { serve(); });
}

void DirectoryVolume::stop() {
    {
        std::lock_guard<std::mutex> guard(lock_);
        ends_ = true;
    }
    work_.notify_all();
    if (thread_.joinable()) thread_.join();
}

u64 DirectoryVolume::units() {
    struct statvfs s{};
    if (path_.empty() || ::statvfs(path_.c_str(), &s) != 0) return 0;
    u64 const more = u64{s.f_bavail} * s.f_frsize / (2 * unit_bytes);  // half is left to others
    u64 const most = units_max - highest_;
    return highest_ + (more < most ? more : most);
}

Duration DirectoryVolume::wait(u64 units) {
    return seek + transfer * static_cast<i64>(units < units_max ? units : units_max);
}

void DirectoryVolume::submit(TertiaryCommand const& c) {
    {
        std::lock_guard<std::mutex> guard(lock_);
        command_ = c;
        asked_ = true;
        if (c.unit >= highest_) highest_ = c.unit + 1;
    }
    work_.notify_one();
}

bool DirectoryVolume::read(u64 number, u32 blocks, u8* out) const {
    int const fd = ::open(file_of(path_, number).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    u64 const want = (u64{blocks} + 1) * block_bytes;
    u64 done = 0;
    while (done < want) {
        ssize_t const n = ::pread(fd, out + done, want - done, static_cast<off_t>(done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += static_cast<u64>(n);
    }
    ::close(fd);
    return done == want;
}

bool DirectoryVolume::put(TertiaryCommand const& c) const {
    std::string const folder = folder_of(path_, c.unit);
    std::string const file = file_of(path_, c.unit);
    std::error_code problem;
    bool const fresh = std::filesystem::create_directory(folder, problem);
    if (problem) return false;
    if (fresh && !flush_folder(path_ + "/units")) return false;
    return write_file(file + ".new", c.data, u64{c.blocks} * block_bytes) &&
           ::rename((file + ".new").c_str(), file.c_str()) == 0 && flush_folder(folder);
}

bool DirectoryVolume::erase(u64 number) const {
    return ::unlink(file_of(path_, number).c_str()) == 0 || errno == ENOENT;
}

void DirectoryVolume::serve() {
    std::vector<u8> buffer(unit_bytes);
    for (;;) {
        TertiaryCommand c{};
        {
            std::unique_lock<std::mutex> guard(lock_);
            work_.wait(guard, [&] { return ends_ || asked_; });
            if (!asked_) return;
            asked_ = false;
            c = command_;
        }
        bool good = false;
        switch (c.operation) {
            case TertiaryOperation::Put:
                good = put(c);
                break;
            case TertiaryOperation::Get:
                good = c.blocks > 0 && c.blocks <= unit_blocks_max + 1 &&
                       read(c.unit, c.blocks - 1, buffer.data());
                break;
            case TertiaryOperation::Erase:
                good = erase(c.unit);
                break;
        }
        std::lock_guard<std::mutex> store(*store_lock_);
        if (good && c.operation == TertiaryOperation::Get) {
            std::memcpy(c.data, buffer.data(), std::size_t{c.blocks} * block_bytes);
        }
        done_(good ? TertiaryStatus::Good : TertiaryStatus::Error);
    }
}

}  // namespace nemesis::fs::tools
