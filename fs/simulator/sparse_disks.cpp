#include "fs/simulator/sparse_disks.h"

#include <cstring>

#include "fs/core/crc32c.h"
#include "fs/core/empty_store.h"

namespace nemesis::fs::simulator {

IoCount operator-(IoCount const& a, IoCount const& b) {
    return {a.reads - b.reads, a.writes - b.writes, a.flushes - b.flushes,
            a.blocks_read - b.blocks_read, a.blocks_written - b.blocks_written};
}

void SparseDisks::put(u32 disk, u64 block, u8 const* data) {
    u64 const key = u64{disk} << 48 | block;
    if (is_zero_block(data)) {
        block_.erase(key);
        return;
    }
    std::unique_ptr<u8[]>& b = block_[key];
    if (!b) b = std::make_unique_for_overwrite<u8[]>(block_bytes);
    std::memcpy(b.get(), data, block_bytes);
}

void SparseDisks::get(u32 disk, u64 block, u8* out) const {
    auto const it = block_.find(u64{disk} << 48 | block);
    if (it == block_.end()) {
        std::memset(out, 0, block_bytes);
    } else {
        std::memcpy(out, it->second.get(), block_bytes);
    }
}

Duration SparseDisks::service_time(DiskCommand const& c) {
    if (!model.timed) return Duration::ns(0);
    if (c.operation == DiskOperation::Flush) return model.rotation;
    if (c.operation == DiskOperation::Reserve) return Duration::ns(0);
    u64& head = head_at_[c.disk];
    Duration const t = Disks::transfer_time(model, blocks_, head, c.block, c.count,
                                            static_cast<u32>(turns_.below(1000)));
    head = c.block + c.count;
    return t;
}

void SparseDisks::submit(DiskCommand const& c) { queue_.push_back({c, Instant::never()}); }

void SparseDisks::abandon(u32 disk) {
    std::erase_if(queue_, [&](Queued& q) { return q.command.disk == disk; });
}

Instant SparseDisks::step(Store& store, Instant now) {
    std::size_t pick = 0;
    for (std::size_t i = 0; i < queue_.size(); ++i) {
        Queued& q = queue_[i];
        if (q.due == Instant::never()) {
            Instant& free = free_at_[q.command.disk];
            free = (free > now ? free : now) + service_time(q.command);
            q.due = free;
        }
        if (q.due < queue_[pick].due) pick = i;
    }
    Queued const q = queue_[pick];
    queue_.erase(queue_.begin() + static_cast<std::ptrdiff_t>(pick));
    DiskCommand const& c = q.command;
    bool const good = c.operation == DiskOperation::Reserve || c.block + c.count <= blocks_;
    u64 const segment = (c.block - segments_start) / rows_per_segment;
    switch (c.operation) {
        case DiskOperation::Read:
            ++count.reads;
            count.blocks_read += c.count;
            if (c.block >= segments_start && segment < untouchable.size() && untouchable[segment]) {
                strayed += c.count;
            }
            for (u32 i = 0; good && i < c.count; ++i) get(c.disk, c.block + i, c.data[i]);
            break;
        case DiskOperation::Write:
            ++count.writes;
            count.blocks_written += c.count;
            for (u32 i = 0; good && i < c.count; ++i) put(c.disk, c.block + i, c.data[i]);
            break;
        case DiskOperation::Flush:
            ++count.flushes;
            break;
        case DiskOperation::Reserve:
            break;
    }
    Instant const end = q.due > now ? q.due : now;
    store.advance(end);
    store.disk_done(c.tag, good ? DiskStatus::Good : DiskStatus::Error);
    return end;
}

namespace {

constexpr u64 first_table_segment = 4;  // the heads have those before

/// Gives blocks of the segment table their places, one segment after the other.
class TableWriter {
public:
    TableWriter(SparseDisks& out, Superblock const& s, u32 blocks)
        : out_(out), superblock_(s), blocks_(blocks) {}

    Pointer add(u8 const* data, u32 level, u64 index) {
        if (count_ == blocks_) seal();
        u32 const crc = crc32c_block(data);
        SummaryEntry const e = SummaryEntry::of(crc, segment_file, BlockKind::Data, level, index);
        summary_.slot[count_][0] = e.crc_index;
        summary_.slot[count_][1] = e.owner_level;
        std::memcpy(block_[++count_], data, block_bytes);
        return {Address::of(segment_, count_), crc, 1};
    }

    void seal() {
        u32 const rows = (count_ + 1 + columns - 1) / columns;
        summary_.magic = summary_magic;
        summary_.version = format_version;
        summary_.address = Address::of(segment_, 0).value;
        std::memcpy(&summary_.store, superblock_.uuid, 8);
        summary_.group = 1;
        summary_.next_segment = segment_ + 1;
        summary_.pnode_count = first_pnode;
        summary_.mount_count = 1;
        summary_.entries = static_cast<u16>(count_);
        summary_.rows = static_cast<u8>(rows);
        summary_.last = summary_.checkpoint = 1;
        summary_.crc = 0;
        summary_.crc = crc32c(&summary_, block_bytes);
        std::memcpy(block_[0], &summary_, block_bytes);
        for (u32 r = 0; r < rows; ++r) {
            u8* row[columns];
            for (u32 c = 0; c < columns; ++c) {
                row[c] = block_[r * columns + c];
                out_.put(c, at(r), row[c]);
            }
            u8 parity[block_bytes];
            parity_of(parity, row);
            out_.put(parity_disk, at(r), parity);
        }
        summary_ = {};
        std::memset(block_, 0, sizeof block_);
        count_ = 0;
        ++segment_;
    }
    u64 next_segment() const { return segment_; }
    u32 open_blocks() const { return count_; }

private:
    u64 at(u32 row) const { return segments_start + segment_ * rows_per_segment + row; }

    SparseDisks& out_;
    Superblock const& superblock_;
    u32 const blocks_;
    u64 segment_ = first_table_segment;
    u32 count_ = 0;
    Summary summary_{};
    alignas(8) u8 block_[segment_blocks][block_bytes] = {};
};

}  // namespace

void format(SparseDisks& out, u64 segments, bool three_quarters_full, u32 blocks_of_table) {
    Superblock s = empty_superblock(segments);
    s.uuid[0] = 0x5C;
    s.disk_blocks = out.blocks(0);
    s.hash_seed = 11;
    Checkpoint c = first_checkpoint(s);
    out.untouchable.assign(segments, false);
    if (three_quarters_full) {
        u64 const pages = (segments + segments_per_block - 1) / segments_per_block;
        u64 blocks = pages;  // of the table, with its nodes
        for (u64 n = pages, level = 0; level < c.root[segment_file].height; ++level) {
            n = (n + node_pointers - 1) / node_pointers;
            blocks += n;
        }
        u64 const table = (blocks + blocks_of_table - 1) / blocks_of_table;
        auto const writer = std::make_unique<TableWriter>(out, s, blocks_of_table);
        std::vector<Pointer> below;
        for (u64 i = 0; i < pages; ++i) {
            u64 page[segments_per_block] = {};
            for (u64 k = 0; k < segments_per_block; ++k) {
                u64 const n = i * segments_per_block + k;
                if (n < first_table_segment || n >= segments) continue;
                if (n < first_table_segment + table) {
                    u64 const left = blocks - (n - first_table_segment) * blocks_of_table;
                    u32 const here =
                        left < blocks_of_table ? static_cast<u32>(left) : blocks_of_table;
                    page[k] = SegmentEntry::of(SegmentUse::Log, (here + 4) / 4, here, 1).value;
                } else if (n % 4 != 3) {
                    page[k] = SegmentEntry::of(SegmentUse::Log, 64, 247, 1).value;
                    out.untouchable[n] = true;
                }
            }
            below.push_back(writer->add(reinterpret_cast<u8*>(page), 0, i));
        }
        for (u32 level = 1; level <= c.root[segment_file].height; ++level) {
            std::vector<Pointer> nodes;
            for (u64 i = 0; i * node_pointers < below.size(); ++i) {
                Pointer node[node_pointers] = {};
                for (u64 k = 0; k < node_pointers && i * node_pointers + k < below.size(); ++k) {
                    node[k] = below[i * node_pointers + k];
                }
                nodes.push_back(writer->add(reinterpret_cast<u8*>(node), level, i));
            }
            below = nodes;
        }
        if (writer->open_blocks() > 0) writer->seal();
        for (u64 i = 0; i < below.size(); ++i) c.root[segment_file].pointer[i] = below[i];
        c.crc = 0;
        c.crc = crc32c(&c, block_bytes);
    }
    for (u32 d = 0; d < disks; ++d) {
        s.disk_index = d;
        for (u64 at : {superblock_head, s.disk_blocks - 1}) {
            s.block = at;
            s.crc = 0;
            s.crc = crc32c(&s, block_bytes);
            out.put(d, at, reinterpret_cast<u8*>(&s));
        }
        out.put(d, c.block, reinterpret_cast<u8*>(&c));
    }
}

}  // namespace nemesis::fs::simulator
