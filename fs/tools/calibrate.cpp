// calibrate: measures the disks and keeps a model of the slowest in the store.
//
// Only reads are timed, past the host's page cache where the file system allows it (O_DIRECT), so
// nothing on the disks changes. Transfer: runs of columns at the beginning, in the middle and at
// the end; the slowest, less a tenth. Rotation: the spread of single blocks read at random places
// close to each other. Seeks: the quickest of these, and of reads that go from end to end; what the
// latter spread more than a turn counts as seek. Of five disks the worst in each number is taken.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>

#include "fs/tools/host_store.h"
#include "fs/tools/progress.h"
#include "fs/tools/verbs.h"

namespace nemesis::fs::tools {
namespace {

constexpr u32 singles = 96;
constexpr u64 run_bytes = u64{1} << 20;
constexpr u32 runs = 16;

class Probe {
public:
    explicit Probe(std::string const& path) {
        fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
        if (fd_ < 0) {
            fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
            cached_ = true;
        }
        off_t const bytes = fd_ >= 0 ? ::lseek(fd_, 0, SEEK_END) : 0;
        bytes_ = bytes > 0 ? static_cast<u64>(bytes) / block_bytes * block_bytes : 0;
        buffer_.reset(static_cast<u8*>(std::aligned_alloc(block_bytes, run_bytes)));
    }
    ~Probe() {
        if (fd_ >= 0) ::close(fd_);
    }
    u64 bytes() const { return bytes_; }
    bool cached() const { return cached_; }
    /// What a read takes; 0: it failed.
    Duration time(u64 at, u64 bytes) {
        at = at / block_bytes * block_bytes;
        if (cached_)
            ::posix_fadvise(fd_, static_cast<off_t>(at), static_cast<off_t>(bytes),
                            POSIX_FADV_DONTNEED);
        auto const start = std::chrono::steady_clock::now();
        ssize_t const n = ::pread(fd_, buffer_.get(), bytes, static_cast<off_t>(at));
        auto const ns = std::chrono::duration_cast<std::chrono::nanoseconds>(
            std::chrono::steady_clock::now() - start);
        return n == static_cast<ssize_t>(bytes) ? Duration::ns(std::max<i64>(ns.count(), 1))
                                                : Duration::ns(0);
    }

private:
    struct Free {
        void operator()(u8* p) const { std::free(p); }
    };
    int fd_ = -1;
    bool cached_ = false;
    u64 bytes_ = 0;
    std::unique_ptr<u8, Free> buffer_;
};

/// The value that nineteen of twenty do not exceed.
Duration nearly_all(std::vector<Duration>& times) {
    std::sort(times.begin(), times.end());
    return times[times.size() * 19 / 20];
}

bool measure(Probe& p, DiskModel* m, Progress& progress, u64* done) {
    std::mt19937_64 random(1);
    std::vector<Duration> near, far;
    u64 const window = std::min<u64>(p.bytes() / 2, u64{64} << 20);
    u64 const middle = p.bytes() / 2 - window / 2;
    Duration slowest;
    for (u64 start : {u64{0}, p.bytes() / 2, p.bytes() - std::min(p.bytes(), run_bytes * runs)}) {
        Duration sum;
        u64 bytes = 0;
        for (u32 i = 0; i < runs; ++i) {
            u64 const at = start + i * run_bytes;
            if (at + run_bytes > p.bytes()) break;
            Duration const t = p.time(at, run_bytes);
            if (t.ns() == 0) return false;
            // The first one has the seek in it.
            if (i == 0) continue;
            sum += t;
            bytes += run_bytes;
            progress.update(++*done);
        }
        if (bytes == 0) continue;
        slowest = std::max(slowest, sum / static_cast<i64>(bytes / run_bytes));
    }
    if (slowest.ns() == 0) return false;
    for (u32 i = 0; i < singles; ++i) {
        near.push_back(p.time(middle + random() % window, block_bytes));
        u64 const edge = random() % (p.bytes() / 16);
        far.push_back(p.time(i % 2 ? edge : p.bytes() - block_bytes - edge, block_bytes));
        if (near.back().ns() == 0 || far.back().ns() == 0) return false;
        progress.update(++*done);
    }
    Duration const near_most = nearly_all(near);
    Duration const far_most = nearly_all(far);
    m->bytes_per_second = static_cast<u64>(static_cast<double>(run_bytes) * 0.9e9 /
                                           static_cast<double>(slowest.ns()));
    m->seek_min = near.front();
    m->rotation = near_most - near.front();
    Duration const rest = far_most - m->rotation;
    m->seek_max = std::max({rest, far.front(), m->seek_min});
    return m->bytes_per_second > 0;
}

}  // namespace

int calibrate(StoreAccess& s, Arguments const& a) {
    DiskModel worst{};
    Progress progress("calibrate", disks * (3 * (runs - 1) + singles));
    u64 done = 0;
    u32 measured = 0;
    bool cached = false;
    StoreStatus const now = s.order(Order::Status);
    for (u32 d = 0; d < disks; ++d) {
        if (now.disk[d] == DiskState::Dead) continue;
        Probe probe(a.disk[d]);
        DiskModel m;
        if (probe.bytes() < 2 * run_bytes || !measure(probe, &m, progress, &done)) {
            return complain(a, a.disk[d] + ": cannot be measured: it is too small or unreadable");
        }
        cached = cached || probe.cached();
        bool const first = measured++ == 0;
        worst.rotation = std::max(worst.rotation, m.rotation);
        worst.seek_min = std::max(worst.seek_min, m.seek_min);
        worst.seek_max = std::max(worst.seek_max, m.seek_max);
        worst.bytes_per_second =
            first ? m.bytes_per_second : std::min(worst.bytes_per_second, m.bytes_per_second);
    }
    if (measured == 0) return complain(a, "no disk is live");
    std::string const text = model_text(worst);
    Request r = StoreAccess::request(Op::SetXattr, root_directory);
    r.name = {model_attribute, static_cast<u32>(std::strlen(model_attribute))};
    r.name2 = {text.data(), static_cast<u32>(text.size())};
    if (Error const e = s.call(r); e != Error::None) return complain(a, "the model", e);
    Request f = StoreAccess::request(Op::Fsync, root_directory);
    if (Error const e = s.call(f); e != Error::None) return complain(a, "the model", e);
    s.order(Order::UseModel, 0, worst);
    std::printf(a.json ? "{\"rotation_ms\":%.3f,\"seek_min_ms\":%.3f,\"seek_max_ms\":%.3f,"
                         "\"bytes_per_second\":%llu,\"page_cache\":%s}\n"
                       : "rotation %.3f ms, seeks %.3f to %.3f ms, %llu bytes/s%s\n",
                static_cast<double>(worst.rotation.ns()) / 1e6,
                static_cast<double>(worst.seek_min.ns()) / 1e6,
                static_cast<double>(worst.seek_max.ns()) / 1e6,
                static_cast<unsigned long long>(worst.bytes_per_second),
                a.json ? (cached ? "true" : "false")
                       : (cached ? " (through the host's page cache: the images' file system "
                                   "has no direct reads)"
                                 : ""));
    return 0;
}

}  // namespace nemesis::fs::tools
