// Row 8 and the second half of row 6: recovery, and cleaning of the same garbage, in stores of
// 10 GB to 10 TB that are three quarters full (sparse_disks.h). At 10 GB the generated store is
// held against one that is filled through the core.

#include <chrono>
#include <cmath>
#include <cstdio>
#include <optional>

#include "fs/simulator/rows.h"
#include "fs/simulator/sparse_disks.h"

namespace nemesis::fs::simulator {
namespace {

constexpr u64 segments_of_10_gb = 10'000'000'000 / (1 << 20);

/// A store on sparse disks, driven to completion.
class Large {
public:
    Large(u64 segments, bool full, u32 blocks_of_table = 247)
        : disks(blocks_for(segments)), segments_(segments) {
        format(disks, segments, full, blocks_of_table);
        options_.frames = 4096;
        options_.clean_threshold = 0;
        options_.clean_automatically = false;
    }

    bool mount() {
        std::size_t const bytes = Store::memory_needed(options_, segments_);
        store_.reset();
        memory_ = std::make_unique_for_overwrite<u8[]>(bytes);
        store_.emplace(Arena(memory_.get(), bytes), disks, options_);
        store_->mount(now, 1'000'000'000);
        pump();
        return store_->health() == Health::Mounted;
    }
    void pump() {
        store_->run();
        while (disks.busy()) {
            now = disks.step(*store_, now);
            store_->run();
        }
    }
    bool call(Request& r) {
        store_->submit(r);
        pump();
        return r.done && r.error == Error::None;
    }
    bool write(std::string const& name, u64 bytes, std::string const& data) {
        Request r;
        r.op = Op::Create;
        r.pnode = root_directory;
        r.mode = 0644;
        r.name = {name.data(), static_cast<u32>(name.size())};
        if (!call(r)) return false;
        u64 const file = r.attributes.pnode;
        for (u64 at = 0; at < bytes; at += data.size()) {
            Request w;
            w.op = Op::Write;
            w.pnode = file;
            w.offset = at;
            w.length = data.size();
            w.buffer = reinterpret_cast<u8*>(const_cast<char*>(data.data()));
            if (!call(w) || w.count != data.size()) return false;
        }
        return true;
    }
    bool unlink(std::string const& name) {
        Request r;
        r.op = Op::Unlink;
        r.pnode = root_directory;
        r.name = {name.data(), static_cast<u32>(name.size())};
        return call(r);
    }
    bool sync() {
        Request r;
        r.op = Op::Fsync;
        return call(r);
    }
    bool clean() {
        store_->clean();
        pump();
        store_->checkpoint();
        pump();
        return !store_->cleaning();
    }
    bool unmount() {
        store_->unmount();
        pump();
        return store_->health() == Health::Stopped;
    }
    /// The same garbage everywhere: files of 32 KiB, every second of which goes.
    bool make_garbage(u32 files) {
        std::string const data(32768, 'g');
        for (u32 i = 0; i < files; ++i) {
            if (!write("g" + std::to_string(i), data.size(), data)) return false;
        }
        if (!sync()) return false;
        for (u32 i = 0; i < files; i += 2) {
            if (!unlink("g" + std::to_string(i))) return false;
        }
        if (!sync()) return false;
        store_->checkpoint();
        pump();
        return true;
    }
    /// Zeros, which cost nothing to keep, until three quarters of the segments are in use.
    bool fill() {
        std::string const zeros(1 << 20, 0);
        for (u32 i = 0; store_->statistics().segments_free > segments_ / 4; ++i) {
            if (!write("z" + std::to_string(i), 64 << 20, zeros) || !sync()) return false;
        }
        // What filling and cleaning leave behind goes, too.
        for (u32 i = 0; i < 8; ++i) {
            if (!clean()) return false;
        }
        return true;
    }
    Store& store() { return *store_; }

    SparseDisks disks;
    Instant now;

private:
    u64 segments_;
    Options options_;
    std::unique_ptr<u8[]> memory_;
    std::optional<Store> store_;
};

std::string text_of(IoCount const& c) {
    char text[160];
    std::snprintf(text, sizeof text, "%llu reads of %llu blocks, %llu writes of %llu blocks",
                  static_cast<unsigned long long>(c.reads),
                  static_cast<unsigned long long>(c.blocks_read),
                  static_cast<unsigned long long>(c.writes),
                  static_cast<unsigned long long>(c.blocks_written));
    return text;
}

bool within(u64 a, u64 b) {
    return std::fabs(static_cast<double>(a) - static_cast<double>(b)) <=
           0.01 * static_cast<double>(b);
}
bool within(IoCount const& a, IoCount const& b) {
    return within(a.reads, b.reads) && within(a.blocks_read, b.blocks_read) &&
           within(a.writes, b.writes) && within(a.blocks_written, b.blocks_written);
}

constexpr u32 garbage_files = 2048;
/// To compare with a store that was filled through the core: there the segment that the cold head
/// stands in holds files, too, and one block of a directory in it makes it a victim. That is one
/// segment more, of so many that it does not count.
constexpr u32 garbage_files_compared = 32'768;

/// A pass of the cleaner over the same garbage. errors: empty when the store was not usable
std::optional<IoCount> cleaning_io(u64 segments, bool generated, u32 files, u64* strayed) {
    Large m(segments, generated, 19);
    if (!m.mount() || (!generated && !m.fill()) || !m.make_garbage(files)) return std::nullopt;
    IoCount const before = m.disks.count;
    if (!m.clean() || m.store().statistics().segments_cleaned == 0) return std::nullopt;
    *strayed += m.disks.strayed;
    return m.disks.count - before;
}

struct Recovery {
    IoCount all;
    IoCount roll_forward;  // what the same mount without a log does not do
    double seconds = 0;    // simulated, to the end of the first operation
};

/// A store whose log has just not been closed by a checkpoint loses its power.
std::optional<Recovery> recovery(u64 segments, u64* strayed) {
    Large m(segments, true);
    // A first mount makes the root; then one that finds no log, to compare with.
    if (!m.mount() || !m.unmount()) return std::nullopt;
    IoCount before = m.disks.count;
    if (!m.mount()) return std::nullopt;
    IoCount const short_log = m.disks.count - before;
    std::string const data(1 << 20, 'r');
    u64 const checkpoints = m.store().statistics().checkpoints;
    u64 const start = m.store().statistics().blocks_written;
    for (u32 i = 0; m.store().statistics().blocks_written - start < 250u * segment_blocks; ++i) {
        if (!m.write("r" + std::to_string(i), 1 << 20, data) || !m.sync()) return std::nullopt;
    }
    if (m.store().statistics().checkpoints != checkpoints) return std::nullopt;
    m.disks.forget();
    m.disks.model.timed = true;
    before = m.disks.count;
    Instant const then = m.now;
    if (!m.mount()) return std::nullopt;
    Request r;
    r.op = Op::Lookup;
    r.pnode = root_directory;
    r.name = {"r0", 2};
    if (!m.call(r)) return std::nullopt;
    Recovery result;
    result.all = m.disks.count - before;
    result.roll_forward = result.all - short_log;
    result.seconds = static_cast<double>((m.now - then).ns()) * 1e-9;
    *strayed += m.disks.strayed;
    return result;
}

}  // namespace

RowResult row_cleaning_at_any_size(RowOptions const& o) {
    auto const start = std::chrono::steady_clock::now();
    RowResult r;
    r.passed = true;
    u64 strayed = 0;
    r.text = "row 6, a pass over the same garbage, three quarters full:";
    std::optional<IoCount> first;
    for (u64 gb = 10; gb <= 10'000 && r.passed; gb *= 10) {
        auto const io = cleaning_io(segments_of_10_gb * gb / 10, true, garbage_files, &strayed);
        if (!first) first = io;
        r.passed = io && within(*io, *first);
        r.text += "\n  " + std::to_string(gb) + " GB: " + (io ? text_of(*io) : "not usable");
        ++r.count;
    }
    if (o.count > 0 && r.passed) {
        r.text += "\n  sixteen times the garbage, 10 GB:";
        std::optional<IoCount> made[2];
        for (bool generated : {true, false}) {
            auto& io = made[generated];
            io = cleaning_io(segments_of_10_gb, generated, garbage_files_compared, &strayed);
            r.text += generated ? "\n    generated: " : "\n    filled through the core: ";
            r.text += io ? text_of(*io) : "not usable";
        }
        r.passed = made[0] && made[1] && within(*made[0], *made[1]);
    }
    r.passed = r.passed && strayed == 0;
    r.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    char text[100];
    std::snprintf(text, sizeof text, "\n  %llu blocks of other segments read, %.1f s",
                  static_cast<unsigned long long>(strayed), r.seconds);
    r.text += text;
    return r;
}

RowResult row_recovery(RowOptions const&) {
    auto const start = std::chrono::steady_clock::now();
    RowResult r;
    r.passed = true;
    u64 strayed = 0;
    r.text = "row 8, recovery with 250 segments of log, three quarters full:";
    std::optional<Recovery> first;
    for (u64 gb = 10; gb <= 10'000 && r.passed; gb *= 10) {
        std::optional<Recovery> const now = recovery(segments_of_10_gb * gb / 10, &strayed);
        if (!first) first = now;
        r.passed = now && now->seconds <= 5 && within(now->roll_forward, first->roll_forward);
        char text[300];
        if (now) {
            std::snprintf(text, sizeof text,
                          "\n  %llu GB: %.2f s to the first operation; %s; of the log %s",
                          static_cast<unsigned long long>(gb), now->seconds,
                          text_of(now->all).c_str(), text_of(now->roll_forward).c_str());
            r.text += text;
        }
        ++r.count;
    }
    r.passed = r.passed && strayed == 0;
    r.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    char text[100];
    std::snprintf(text, sizeof text, "\n  %llu blocks of other segments read, %.1f s",
                  static_cast<unsigned long long>(strayed), r.seconds);
    r.text += text;
    return r;
}

}  // namespace nemesis::fs::simulator
