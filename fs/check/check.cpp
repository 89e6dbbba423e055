#include "fs/check/check.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <set>
#include <unordered_map>

#include "fs/check/checksum.h"

namespace nemesis::fs::check {
namespace {

using Block = std::array<u8, block_bytes>;

struct Named {
    u64 owner;
    u64 index;
    u32 level;
    BlockKind kind;
    bool operator==(Named const&) const = default;
};

class Run {
public:
    Run(ReadBlock const& read, u64 blocks, ReadUnit const& units)
        : read_(read), blocks_(blocks), read_unit_(units) {}
    Report go();

private:
    void problem(std::string text) {
        if (report_.problems.size() < 100) report_.problems.push_back(std::move(text));
    }
    bool superblocks();
    bool checkpoint();
    bool read_row(u64 segment, u32 row, std::array<Block, disks>& out, bool* has);
    bool read_data(Pointer p, Block& out);
    bool read_shelved(Pointer p, Block& out);
    bool unit(UnitName name);
    bool summary_at(u64 segment, u32 row, Summary& out);
    bool partial_sound(Summary const& s, u64 segment, u32 row);
    void roll_forward();
    void apply(std::vector<Summary> const& group);
    void segment_table();
    void summaries();
    bool walk(u64 owner, TreeRoot const& root, std::map<u64, Pointer>* leaves, bool live = true);
    bool walk_node(u64 owner, u32 level, u64 index, Pointer p, std::map<u64, Pointer>* leaves,
                   bool live);
    void reach(u64 owner, BlockKind kind, u32 level, u64 index, Pointer p, bool live);
    void pnodes();
    void stream(u64 number, Pnode const& p, std::map<u64, Pointer> const& leaves);
    void directory(u64 number, Pnode const& p, std::map<u64, Pointer> const& leaves);
    bool directory_block(u64 number, u64 block, u64 low, u64 high, int level,
                         std::map<u64, Pointer> const& leaves, std::set<u64>& used, u64* last);
    void garbage();
    void add_garbage(Record const& r);
    void proof();

    bool present(u32 disk, u64 segment) const {
        if (state_[disk] == DiskState::Live) return true;
        if (state_[disk] == DiskState::Dead) return false;
        return segment < rebuild_cursor_ || birth(segment) >= super_.rebuild_birth;
    }
    u64 birth(u64 segment) const {
        return segment < segments_.size() ? SegmentEntry{segments_[segment]}.birth() : 0;
    }
    static std::string where(u64 a) {
        Address const x{a};
        if (x.volume() != 0) {
            return "unit " + std::to_string(UnitName{x.segment()}.number()) + " block " +
                   std::to_string(x.block());
        }
        return "segment " + std::to_string(x.segment()) + " block " + std::to_string(x.block());
    }

    ReadBlock const& read_;
    u64 blocks_;
    ReadUnit const& read_unit_;
    Report report_;
    Superblock super_{};
    Checkpoint check_{};
    u32 position_[disks] = {0, 1, 2, 3, 4};
    DiskState state_[disks] = {};
    u64 rebuild_cursor_ = 0;
    std::vector<u64> segments_;
    u64 pnode_count_ = 0;
    u64 durable_ = 0;  // the last group that is known to have been written whole
    u64 free_pnode_ = 0;
    LogHead head_[heads] = {};
    std::map<u64, Pointer> pnode_blocks_;
    std::map<u64, Pointer> overlay_;  // pnode blocks that the log adds
    std::vector<Record> ring_;
    std::unordered_map<u64, Named> named_;   // address -> who its summary says it is
    std::unordered_map<u64, int> state_of_;  // address -> 1 live, 2 garbage, 3 both
    std::set<u64> dead_trees_;
    std::set<u64> tree_entries_;
    std::map<u64, Pnode> pnode_;
    std::map<u64, std::map<u64, Pointer>> directories_;
    std::map<u64, u32> links_;
    std::map<u64, u64> parent_;
    std::map<u64, bool> units_;  // by name: sound
    u64 unit_there_ = ~u64{0};   // name of the one in unit_data_
    std::vector<u8> unit_data_;
    std::set<u64> on_shelf_;  // pnodes with data there
};

bool Run::superblocks() {
    bool any = false;
    u64 seen[disks] = {};
    for (int pass = 0; pass < 2; ++pass) {
        for (u32 at = 0; at < disks; ++at) {
            for (u64 block : {superblock_head, blocks_ - 1}) {
                Superblock s;
                if (!read_(at, block, reinterpret_cast<u8*>(&s))) continue;
                u32 const crc = s.crc;
                s.crc = 0;
                if (s.magic != superblock_magic || s.version != format_version ||
                    s.block != block || s.disk_index >= disks || checksum(&s, sizeof s) != crc) {
                    continue;
                }
                if (pass == 0) {
                    if (!any || s.generation > super_.generation) super_ = s;
                    any = true;
                } else if (std::memcmp(s.uuid, super_.uuid, 16) == 0 &&
                           s.generation >= seen[s.disk_index]) {
                    seen[s.disk_index] = s.generation;
                    position_[s.disk_index] = at;
                }
            }
        }
        if (!any) {
            problem("no superblock");
            return false;
        }
    }
    for (u32 d = 0; d < disks; ++d) {
        state_[d] = super_.disk_state[d];
        if (seen[d] + 1 < super_.generation) state_[d] = DiskState::Dead;
    }
    report_.segments = super_.segments;
    if (segments_start + super_.segments * rows_per_segment >= blocks_) {
        problem("more segments than the disks can hold");
        return false;
    }
    return true;
}

bool Run::checkpoint() {
    bool any = false;
    for (u32 d = 0; d < disks; ++d) {
        if (state_[d] == DiskState::Dead) continue;
        for (u64 slot : checkpoint_slot) {
            Checkpoint c;
            if (!read_(position_[d], slot, reinterpret_cast<u8*>(&c))) continue;
            u32 const crc = c.crc;
            c.crc = 0;
            if (c.magic != checkpoint_magic || c.block != slot ||
                std::memcmp(c.uuid, super_.uuid, 16) != 0 || checksum(&c, sizeof c) != crc) {
                continue;
            }
            if (!any || c.sequence > check_.sequence) check_ = c;
            any = true;
        }
    }
    if (!any) problem("no checkpoint");
    return any;
}

/// The five blocks of a row; has[d]: it could be read.
bool Run::read_row(u64 segment, u32 row, std::array<Block, disks>& out, bool* has) {
    u32 count = 0;
    for (u32 d = 0; d < disks; ++d) {
        u64 const n = segments_start + segment * rows_per_segment + row;
        has[d] = present(d, segment) && read_(position_[d], n, out[d].data());
        count += has[d] ? 1 : 0;
    }
    return count >= columns;
}

void combine(std::array<Block, disks> const& row, u32 without, Block& out) {
    out.fill(0);
    for (u32 d = 0; d < disks; ++d) {
        if (d == without) continue;
        for (u32 i = 0; i < block_bytes; ++i) out[i] ^= row[d][i];
    }
}

/// Reads the unit and notes what its summary names. False: it is not what was written.
bool Run::unit(UnitName name) {
    auto const known = units_.find(name.value);
    if (known != units_.end() && (!known->second || unit_there_ == name.value)) {
        return known->second;
    }
    bool const first = known == units_.end();
    unit_there_ = name.value;
    unit_data_.assign(std::size_t{unit_blocks_max + 1} * block_bytes, 0);
    bool const in_range = name.blocks() <= unit_blocks_max;
    bool const had = in_range && read_unit_(name.number(), name.blocks(), unit_data_.data());
    Summary s;
    std::memcpy(&s, unit_data_.data(), sizeof s);
    u32 const crc = s.crc;
    s.crc = 0;
    bool const sound = had && s.magic == summary_magic && s.version == format_version &&
                       checksum(&s, sizeof s) == crc && s.head == head_tertiary &&
                       s.address == Address::of_unit(name.value, 0).value &&
                       s.sequence == name.number() && s.entries == name.blocks() &&
                       s.records == 0 && std::memcmp(&s.store, super_.uuid, 8) == 0;
    units_[name.value] = sound;
    if (!first) return sound;
    if (!sound) {
        problem("unit " + std::to_string(name.number()) + " of the tertiary volume " +
                (had ? "is not what was written" : "cannot be had"));
        return false;
    }
    ++report_.units;
    for (u32 i = 0; i < s.entries; ++i) {
        SummaryEntry const x{s.slot[i][0], s.slot[i][1]};
        named_[Address::of_unit(name.value, i + 1).value] = {x.owner(), x.index(), x.level(),
                                                             x.kind()};
    }
    report_.written += s.entries;
    return true;
}

bool Run::read_shelved(Pointer p, Block& out) {
    Address const a = p.address;
    UnitName const name{a.segment()};
    if (a.block() == 0 || a.block() > name.blocks() || !unit(name)) return false;
    std::memcpy(out.data(), unit_data_.data() + std::size_t{a.block()} * block_bytes, block_bytes);
    return checksum(out.data(), block_bytes) == p.crc;
}

bool Run::read_data(Pointer p, Block& out) {
    Address const a = p.address;
    if (a.volume() == tertiary_volume) return read_unit_ && read_shelved(p, out);
    if (a.volume() != 0 || a.segment() >= super_.segments || a.block() >= segment_blocks)
        return false;
    u64 const n = segments_start + a.segment() * rows_per_segment + a.row();
    if (present(a.column(), a.segment()) && read_(position_[a.column()], n, out.data()) &&
        checksum(out.data(), block_bytes) == p.crc) {
        return true;
    }
    static thread_local std::array<Block, disks> row;
    bool has[disks];
    read_row(a.segment(), a.row(), row, has);
    for (u32 d = 0; d < disks; ++d) {
        if (d != a.column() && !has[d]) return false;
    }
    combine(row, a.column(), out);
    ++report_.reconstructed;
    return checksum(out.data(), block_bytes) == p.crc;
}

bool Run::summary_at(u64 segment, u32 row, Summary& s) {
    auto const good = [&] {
        u32 const crc = s.crc;
        s.crc = 0;
        bool const ok = s.magic == summary_magic && s.version == format_version &&
                        s.address == Address::of(segment, row * columns).value &&
                        std::memcmp(&s.store, super_.uuid, 8) == 0 && checksum(&s, sizeof s) == crc;
        s.crc = crc;
        return ok && u32{s.entries} + s.records <= summary_slots && s.rows > 0 &&
               row + s.rows <= rows_per_segment && (s.entries + columns) / columns == s.rows;
    };
    u64 const n = segments_start + segment * rows_per_segment + row;
    if (present(0, segment) && read_(position_[0], n, reinterpret_cast<u8*>(&s)) && good())
        return true;
    static thread_local std::array<Block, disks> blocks;
    bool has[disks];
    read_row(segment, row, blocks, has);
    for (u32 d = 1; d < disks; ++d) {
        if (!has[d]) return false;
    }
    Block out;
    combine(blocks, 0, out);
    std::memcpy(&s, out.data(), sizeof s);
    return good();
}

bool Run::partial_sound(Summary const& s, u64 segment, u32 row) {
    static thread_local std::array<Block, disks> blocks;
    for (u32 r = 0; r < s.rows; ++r) {
        bool has[disks];
        if (!read_row(segment, row + r, blocks, has)) return false;
        u32 bad = disks;
        u32 count = 0;
        auto const right = [&](u32 d) {
            u32 const n = r * columns + d;
            if (n == 0) return std::memcmp(blocks[0].data(), &s, block_bytes) == 0;
            if (n > s.entries) {
                return std::all_of(blocks[d].begin(), blocks[d].end(), [](u8 b) { return b == 0; });
            }
            return checksum(blocks[d].data(), block_bytes) ==
                   SummaryEntry{s.slot[n - 1][0], s.slot[n - 1][1]}.crc();
        };
        for (u32 d = 0; d < columns; ++d) {
            if (!has[d] || !right(d)) {
                bad = d;
                ++count;
            }
        }
        if (count > 1) return false;
        if (count == 1) {
            if (!has[parity_disk]) return false;
            combine(blocks, bad, blocks[bad]);
            if (!right(bad)) return false;
            ++report_.mended_by_row;
        }
    }
    return true;
}

void Run::segment_table() {
    segments_.assign(super_.segments, 0);
    std::map<u64, Pointer> leaves;
    walk(segment_file, check_.root[segment_file], &leaves);
    for (auto const& [index, p] : leaves) {
        Block b;
        if (!read_data(p, b)) continue;
        for (u32 i = 0; i < segments_per_block; ++i) {
            u64 const s = index * segments_per_block + i;
            if (s < segments_.size()) std::memcpy(&segments_[s], b.data() + i * 8, 8);
        }
    }
}

void Run::apply(std::vector<Summary> const& group) {
    u64 const number = group.front().group;
    bool const foreign = group.front().checkpoint && number != check_.group;
    for (Summary const& s : group) {
        Address const at{s.address};
        SegmentEntry const old{at.row() == 0 ? 0 : segments_[at.segment()]};
        segments_[at.segment()] =
            SegmentEntry::of(s.head == head_cold ? SegmentUse::Cold : SegmentUse::Log,
                             at.row() + s.rows, old.blocks() + s.entries,
                             at.row() == 0 ? number : old.birth())
                .value;
        for (u32 i = 0; i < s.entries; ++i) {
            SummaryEntry const e{s.slot[i][0], s.slot[i][1]};
            Address const a = Address::of(at.segment(), at.row() * columns + i + 1);
            if (foreign) {
                ring_.push_back(Record::of(RecordType::Garbage, a.value, 1, number + 1));
            } else if (e.owner() == pnode_file && e.level() == 0) {
                overlay_[e.index()] = {a, e.crc(), static_cast<u32>(number)};
            }
        }
        for (u32 i = s.entries; i < u32{s.entries} + s.records; ++i) {
            Record const r{s.slot[i][0], s.slot[i][1]};
            if (r.type() == RecordType::GarbageFile) {
                check_.root[old_garbage_file] = TreeRoot{};
                check_.clean_cursor = 0;
            }
            if (r.type() == RecordType::StreamSegment) {
                u64 const segment = Address{r.value}.segment();
                if (segment < segments_.size()) {
                    segments_[segment] =
                        SegmentEntry::of(SegmentUse::Stream, Address{r.value}.row(), r.length(),
                                         r.group())
                            .value;
                }
            } else if (r.type() != RecordType::Client && r.type() != RecordType::None && !foreign) {
                ring_.push_back(r);
            } else if (r.type() == RecordType::Client) {
                ++i;
            }
        }
        pnode_count_ = s.pnode_count;
        free_pnode_ = s.free_pnode;
    }
    ++report_.groups_rolled;
}

void Run::roll_forward() {
    pnode_count_ = check_.pnode_count;
    free_pnode_ = check_.free_pnode;
    for (u32 h = 0; h < heads; ++h) head_[h] = check_.head[h];
    LogHead cursor[heads] = {head_[0], head_[1]};
    u64 sequence = check_.log_sequence;
    u32 previous = check_.previous_crc;
    std::vector<Summary> group;
    bool own = check_.pnode_count == first_pnode;
    durable_ = check_.group;
    for (;;) {
        bool found = false;
        Summary s;
        for (u32 h = 0; h < heads && !found; ++h) {
            bool const full = cursor[h].row == rows_per_segment;
            u64 const segment = full ? cursor[h].next_segment : cursor[h].segment;
            u32 const row = full ? 0 : cursor[h].row;
            if (segment >= super_.segments || !summary_at(segment, row, s)) continue;
            if (s.sequence != sequence || s.mount_count != check_.mount_count ||
                s.previous_crc != previous || s.head != h) {
                continue;
            }
            if (!group.empty() && group.front().group != s.group) continue;
            if (!partial_sound(s, segment, row)) continue;
            cursor[h] = {segment, s.next_segment, row + s.rows, 0};
            found = true;
        }
        if (!found) break;
        ++sequence;
        previous = s.crc;
        group.push_back(s);
        if (s.last) {
            if (s.group == check_.group) own = true;
            durable_ = std::max(durable_, s.durable_group);
            apply(group);
            group.clear();
        }
    }
    if (!own) problem("the checkpoint's own group is not in the log");
}

void Run::reach(u64 owner, BlockKind kind, u32 level, u64 index, Pointer p, bool live) {
    if (p.address.volume() == tertiary_volume) {
        if (level > 0 || kind != BlockKind::Data || owner < first_pnode) {
            problem("pnode " + std::to_string(owner) + " has more than data on the shelf");
            return;
        }
        if (live) {
            on_shelf_.insert(owner);
            ++report_.shelved;
            report_.shelved_unread += read_unit_ ? 0 : 1;
        }
        if (!read_unit_ || !unit(UnitName{p.address.segment()})) return;
    }
    auto const it = named_.find(p.address.value);
    if (it == named_.end()) {
        problem("pnode " + std::to_string(owner) + " refers to " + where(p.address.value) +
                ", which no summary names");
        return;
    }
    if (!(it->second == Named{owner, index, level, kind}) && live) {
        // The tree of an old garbage file keeps the names it was written with.
        Named const n = it->second;
        if (!(n.owner == garbage_file && owner == old_garbage_file && n.index == index &&
              n.level == level)) {
            problem(where(p.address.value) + " is reached as pnode " + std::to_string(owner) +
                    " level " + std::to_string(level) + " index " + std::to_string(index) +
                    " but named as " + std::to_string(n.owner) + " level " +
                    std::to_string(n.level) + " index " + std::to_string(n.index));
        }
    }
    state_of_[p.address.value] |= live ? 1 : 2;
}

bool Run::walk_node(u64 owner, u32 level, u64 index, Pointer p, std::map<u64, Pointer>* leaves,
                    bool live) {
    if (p.hole()) return true;
    // The segment table is read before the summaries, so its tree is only followed then.
    if (!named_.empty()) reach(owner, BlockKind::Data, level, index, p, live);
    if (level == 0) {
        if (leaves) (*leaves)[index] = p;
        Block b;
        bool const unread = p.address.volume() == tertiary_volume && !read_unit_;
        if (!live || unread || read_data(p, b)) return true;
        problem("pnode " + std::to_string(owner) + " block " + std::to_string(index) + " at " +
                where(p.address.value) + " is damaged");
        return false;
    }
    Block b;
    if (!read_data(p, b)) {
        problem("pnode " + std::to_string(owner) + " node " + std::to_string(level) + "/" +
                std::to_string(index) + " is damaged");
        return false;
    }
    for (u32 i = 0; i < node_pointers; ++i) {
        Pointer child;
        std::memcpy(&child, b.data() + i * sizeof child, sizeof child);
        walk_node(owner, level - 1, index * node_pointers + i, child, leaves, live);
    }
    return true;
}

bool Run::walk(u64 owner, TreeRoot const& root, std::map<u64, Pointer>* leaves, bool live) {
    if (root.height > height_max) {
        problem("pnode " + std::to_string(owner) + ": tree too high");
        return false;
    }
    for (u32 i = 0; i < root_pointers; ++i) {
        walk_node(owner, root.height, i, root.pointer[i], leaves, live);
    }
    return true;
}

void Run::summaries() {
    static thread_local std::array<Block, disks> blocks;
    for (u64 s = 0; s < segments_.size(); ++s) {
        SegmentEntry const e{segments_[s]};
        if (e.use() == SegmentUse::Free) continue;
        ++report_.segments_in_use;
        u32 named = 0;
        u32 row = 0;
        while (row < e.rows()) {
            Summary summary;
            if (!summary_at(s, row, summary) || summary.group < e.birth()) {
                problem("segment " + std::to_string(s) + " row " + std::to_string(row) +
                        ": no summary");
                break;
            }
            for (u32 i = 0; i < summary.entries; ++i) {
                SummaryEntry const x{summary.slot[i][0], summary.slot[i][1]};
                named_[Address::of(s, row * columns + i + 1).value] = {x.owner(), x.index(),
                                                                       x.level(), x.kind()};
                ++named;
            }
            for (u32 r = row; r < row + summary.rows; ++r) {
                bool has[disks];
                read_row(s, r, blocks, has);
                if (!std::all_of(has, has + disks, [](bool b) { return b; })) continue;
                Block parity;
                combine(blocks, parity_disk, parity);
                if (parity == blocks[parity_disk]) continue;
                // A group that was being written when the store stopped may lack its parity: the
                // next mount mends it.
                if (summary.group > durable_) {
                    ++report_.parity_to_mend;
                } else {
                    problem("segment " + std::to_string(s) + " row " + std::to_string(r) +
                            ": parity is wrong");
                }
            }
            row += summary.rows;
        }
        if (row != e.rows() || named != e.blocks()) {
            problem("segment " + std::to_string(s) + ": table says " + std::to_string(e.rows()) +
                    " rows, " + std::to_string(e.blocks()) + " blocks; summaries say " +
                    std::to_string(row) + ", " + std::to_string(named));
        }
        report_.written += named;
    }
}

/// The index: in order, inside of the data, each frame's address the block of its first byte.
void Run::stream(u64 number, Pnode const& p, std::map<u64, Pointer> const& leaves) {
    std::string const name = "stream " + std::to_string(number);
    u64 const blocks = (p.tree.size + block_bytes - 1) / block_bytes;
    u64 const index = (p.entries + index_records_per_block - 1) / index_records_per_block;
    for (auto const& [at, pointer] : leaves) {
        bool const data = at < blocks;
        if (!data && (at < stream_index_block || at >= stream_index_block + index)) {
            problem(name + " has block " + std::to_string(at) + " beyond its size");
            return;
        }
        if (data && pointer.address.volume() == tertiary_volume) continue;
        u64 const segment = pointer.address.segment();
        bool const own = segment < segments_.size() &&
                         SegmentEntry{segments_[segment]}.use() == SegmentUse::Stream;
        if (data != own) problem(name + " block " + std::to_string(at) + " is in a wrong segment");
    }
    i64 time = INT64_MIN;
    u64 end = 0;
    Block b;
    for (u64 n = 0; n < p.entries; ++n) {
        if (n % index_records_per_block == 0) {
            auto const it = leaves.find(stream_index_block + n / index_records_per_block);
            if (it == leaves.end() || !read_data(it->second, b)) {
                problem(name + " has no sound index");
                return;
            }
        }
        IndexRecord r;
        std::memcpy(&r, b.data() + n % index_records_per_block * sizeof r, sizeof r);
        auto const first = leaves.find(r.offset / block_bytes);
        bool const sound = r.time_ns > time && r.offset == end && r.bytes > 0 &&
                           r.offset + r.bytes <= p.tree.size && first != leaves.end() &&
                           (first->second.address == r.address ||
                            first->second.address.volume() == tertiary_volume);
        if (!sound) {
            problem(name + " frame " + std::to_string(n) + " is wrong in the index");
            return;
        }
        time = r.time_ns;
        end = r.offset + r.bytes;
    }
}

void Run::pnodes() {
    walk(pnode_file, check_.root[pnode_file], &pnode_blocks_);
    // What the log says of pnode blocks replaces what the checkpoint's tree says.
    for (auto const& [index, p] : overlay_) {
        auto const it = pnode_blocks_.find(index);
        if (it != pnode_blocks_.end() && it->second.address != p.address) {
            state_of_[it->second.address.value] &= ~1;
        }
        pnode_blocks_[index] = p;
        reach(pnode_file, BlockKind::Data, 0, index, p, true);
    }
    for (u32 f : {segment_file, garbage_file, old_garbage_file}) {
        walk(f, check_.root[f], nullptr);
    }
    for (auto const& [index, pointer] : pnode_blocks_) {
        Block b;
        if (!read_data(pointer, b)) {
            problem("pnode block " + std::to_string(index) + " is damaged");
            continue;
        }
        for (u32 i = 0; i < pnodes_per_block; ++i) {
            Pnode p;
            std::memcpy(&p, b.data() + i * sizeof p, sizeof p);
            u64 const number = index * pnodes_per_block + i;
            if (number < first_pnode || number >= pnode_count_) continue;
            if (p.number != number) {
                problem("pnode " + std::to_string(number) + " has another number");
                continue;
            }
            if (p.type == PnodeType::Free) {
                pnode_[number] = p;
                continue;
            }
            ++report_.pnodes;
            pnode_[number] = p;
            bool const live = p.type != PnodeType::Dead;
            if (!live) dead_trees_.insert(number);
            std::map<u64, Pointer> leaves;
            walk(number, p.tree, &leaves, live);
            if (on_shelf_.contains(number) && p.rdev != shelved) {
                problem("pnode " + std::to_string(number) + " has data on the shelf unmarked");
            }
            if (p.type == PnodeType::Stream) {
                stream(number, p, leaves);
            } else if (!leaves.empty() && live && p.type != PnodeType::Directory &&
                       leaves.rbegin()->first * block_bytes >= p.tree.size) {
                problem("pnode " + std::to_string(number) + " has blocks beyond its size");
            }
            if (!p.xattr.hole()) {
                reach(number, BlockKind::Xattr, 0, 0, p.xattr, live);
                if (!read_data(p.xattr, b)) problem("attributes are damaged");
                if (!read_data(pointer, b)) continue;
            }
            if (p.type == PnodeType::Directory) directories_[number] = leaves;
        }
    }
    // The list of free pnodes ends, and holds every free one.
    std::set<u64> free;
    for (u64 n = free_pnode_; n != 0;) {
        auto const it = pnode_.find(n);
        if (it == pnode_.end() || it->second.type != PnodeType::Free || !free.insert(n).second) {
            problem("the list of free pnodes is broken at " + std::to_string(n));
            break;
        }
        n = it->second.parent;
    }
    for (auto const& [n, p] : pnode_) {
        if (p.type == PnodeType::Free && !free.contains(n)) {
            problem("free pnode " + std::to_string(n) + " is not on the list");
        }
    }
}

bool Run::directory_block(u64 number, u64 block, u64 low, u64 high, int level,
                          std::map<u64, Pointer> const& leaves, std::set<u64>& used, u64* last) {
    std::string const name =
        "directory " + std::to_string(number) + " block " + std::to_string(block);
    auto const it = leaves.find(block);
    if (it == leaves.end()) {
        if (block == 0) return true;
        problem(name + " is missing");
        return false;
    }
    if (!used.insert(block).second) {
        problem(name + " is used twice");
        return false;
    }
    Block raw;
    if (!read_data(it->second, raw)) return false;
    DirectoryBlock b;
    std::memcpy(&b, raw.data(), sizeof b);
    if (b.magic == 0 && b.used == 0 && block == 0) return true;
    if (b.magic != directory_magic || b.used > directory_data_bytes ||
        (level >= 0 && b.level != level)) {
        problem(name + " is malformed");
        return false;
    }
    if (b.level > 0) {
        for (u32 i = 0; i < b.count; ++i) {
            DirectoryBranch x;
            std::memcpy(&x, b.data + i * sizeof x, sizeof x);
            u64 const from = i == 0 ? low : x.key;
            u64 to = high;
            if (i + 1u < b.count) std::memcpy(&to, b.data + (i + 1) * sizeof x, 8);
            if (from < low || to > high || from >= to) problem(name + ": keys out of order");
            directory_block(number, x.block, from, to, b.level - 1, leaves, used, last);
        }
        return true;
    }
    u32 at = 0;
    for (u32 i = 0; i < b.count; ++i) {
        u64 key, pnode_type;
        if (at + directory_entry_bytes > b.used) {
            problem(name + " is malformed");
            return false;
        }
        std::memcpy(&key, b.data + at, 8);
        std::memcpy(&pnode_type, b.data + at + 8, 8);
        u64 const child = pnode_type & 0xFFFF'FFFF'FFFF;
        if (key < low || key >= high || key <= *last) problem(name + ": entries out of order");
        *last = key;
        auto const p = pnode_.find(child);
        if (p == pnode_.end() || p->second.type == PnodeType::Free ||
            p->second.type == PnodeType::Dead) {
            problem(name + ": an entry leads to pnode " + std::to_string(child) +
                    ", which is none");
        } else if (p->second.type != static_cast<PnodeType>(pnode_type >> 56)) {
            problem(name + ": an entry has the wrong type");
        }
        if (number != orphan_directory) ++links_[child];
        if (number == orphan_directory) links_.emplace(child, 0);
        if (p != pnode_.end() && p->second.type == PnodeType::Directory) {
            if (p->second.parent != number && number != orphan_directory) {
                problem("directory " + std::to_string(child) + " has the wrong parent");
            }
            parent_[child] = number;
        }
        at += directory_entry_bytes + b.data[at + 16];
    }
    return true;
}

void Run::directory(u64 number, Pnode const& p, std::map<u64, Pointer> const& leaves) {
    ++report_.directories;
    std::set<u64> used;
    u64 last = 0;
    directory_block(number, 0, 0, ~u64{0}, -1, leaves, used, &last);
    u64 free = p.directory_free;
    while (free != 0) {
        if (!used.insert(free).second || !leaves.contains(free)) {
            problem("directory " + std::to_string(number) + ": list of free blocks is broken");
            return;
        }
        Block raw;
        if (!read_data(leaves.at(free), raw)) return;
        DirectoryBlock b;
        std::memcpy(&b, raw.data(), sizeof b);
        free = b.next_free;
    }
    for (auto const& [index, pointer] : leaves) {
        if (!used.contains(index)) {
            problem("directory " + std::to_string(number) + ": block " + std::to_string(index) +
                    " is in no list");
        }
    }
}

void Run::add_garbage(Record const& r) {
    u64 const segment = Address{r.value}.segment();
    switch (r.type()) {
        case RecordType::Garbage: {
            if (Address{r.value}.volume() != 0) {
                // A unit that nobody refers to may be erased already.
                for (u32 i = 0; i < r.length(); ++i) {
                    if (named_.contains(r.value + i)) state_of_[r.value + i] |= 2;
                }
                return;
            }
            if (segment >= segments_.size()) {
                problem("a garbage entry names no segment");
                return;
            }
            SegmentEntry const e{segments_[segment]};
            if (e.use() == SegmentUse::Free || r.group() <= e.birth()) return;
            for (u32 i = 0; i < r.length(); ++i) {
                Address const a{r.value + i};
                if (a.row() >= e.rows()) continue;  // rows that a crash kept from being written
                if (named_.contains(a.value)) state_of_[a.value] |= 2;
            }
            return;
        }
        case RecordType::GarbageTree:
        case RecordType::GarbageFile:
            tree_entries_.insert(r.value);
            return;
        default:
            return;
    }
}

void Run::garbage() {
    for (u32 f : {garbage_file, old_garbage_file}) {
        std::map<u64, Pointer> leaves;
        TreeRoot const& root = check_.root[f];
        for (u32 i = 0; i < root_pointers; ++i) {
            walk_node(f, root.height, i, root.pointer[i], &leaves, true);
        }
        u64 const from = f == old_garbage_file ? check_.clean_cursor : 0;
        for (auto const& [index, p] : leaves) {
            Block b;
            if (!read_data(p, b)) continue;
            for (u32 i = 0; i < records_per_block; ++i) {
                u64 const n = index * records_per_block + i;
                if (n < from || n >= root.size / sizeof(Record)) continue;
                Record r;
                std::memcpy(&r, b.data() + i * sizeof r, sizeof r);
                add_garbage(r);
            }
        }
    }
    for (Record const& r : ring_) add_garbage(r);
    for (u64 n : dead_trees_) {
        if (!tree_entries_.contains(n)) {
            problem("dead pnode " + std::to_string(n) + " has no garbage entry");
        }
    }
}

void Run::proof() {
    std::map<u64, std::array<u64, 4>> per_segment;  // named, live, garbage, neither
    for (auto const& [address, who] : named_) {
        auto const it = state_of_.find(address);
        int const state = it == state_of_.end() ? 0 : it->second;
        auto& n = per_segment[address >> 16];
        ++n[0];
        if (state & 1) ++n[1];
        if (state & 2) ++n[2];
        if (state == 0) ++n[3];
        if (state == 3) {
            problem(where(address) + " (pnode " + std::to_string(who.owner) + " level " +
                    std::to_string(who.level) + " index " + std::to_string(who.index) +
                    ") is live and garbage");
        }
        if (state == 0) {
            problem(where(address) + " (pnode " + std::to_string(who.owner) + " level " +
                    std::to_string(who.level) + " index " + std::to_string(who.index) +
                    ") is neither live nor garbage");
        }
        report_.live += state & 1;
        report_.garbage += state >> 1 & 1;
    }
    for (auto const& [segment, n] : per_segment) {
        if (n[0] != n[1] + n[2] || n[3] != 0) {
            problem(where(segment << 16) + ": written " + std::to_string(n[0]) + ", live " +
                    std::to_string(n[1]) + ", garbage " + std::to_string(n[2]));
        }
    }
}

Report Run::go() {
    if (!superblocks() || !checkpoint()) return report_;
    rebuild_cursor_ = check_.group >= super_.rebuild_birth ? check_.rebuild_cursor : 0;
    segment_table();
    roll_forward();
    summaries();
    pnodes();
    garbage();
    for (auto const& [number, leaves] : directories_) directory(number, pnode_[number], leaves);
    for (auto const& [number, p] : pnode_) {
        if (p.type == PnodeType::Free || p.type == PnodeType::Dead) continue;
        if (number == root_directory || number == orphan_directory) continue;
        auto const it = links_.find(number);
        if (it == links_.end()) {
            problem("pnode " + std::to_string(number) + " is in no directory");
        } else if (p.type == PnodeType::Directory ? it->second > 1 : it->second != p.nlink) {
            problem("pnode " + std::to_string(number) + " has " + std::to_string(it->second) +
                    " names and a link count of " + std::to_string(p.nlink));
        }
    }
    std::map<u64, u32> below;
    for (auto const& [child, parent] : parent_) ++below[parent];
    for (auto const& [number, leaves] : directories_) {
        if (number == orphan_directory) continue;
        if (pnode_[number].nlink != 2 + below[number] && links_.contains(number) &&
            links_[number] > 0) {
            problem("directory " + std::to_string(number) + " has the wrong link count");
        }
    }
    proof();
    report_.clean = report_.problems.empty();
    return report_;
}

}  // namespace

Report run(ReadBlock const& read, u64 blocks_per_disk, ReadUnit const& units) {
    return Run(read, blocks_per_disk, units).go();
}

}  // namespace nemesis::fs::check
