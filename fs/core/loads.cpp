// Segments that are played: read whole, with one command to every disk.
//
// A request reads a segment, or several that lie side by side (a chain of loads), from every disk
// at once. A segment is ready as soon as four of the five columns have come: the summaries of its
// pieces say which blocks of the stream it holds, and with which checksums; a wrong or missing
// block is made from the others of its row. So one dead, slow or wrong disk costs no time, and no
// tree has to be read. A summary is believed if its own checksum and address are right and its
// group belongs to the segment's present life; rows are written once in a life, so there is no
// older content that it could be.

#include <cstring>

#include "fs/core/mutant.h"
#include "fs/core/store.h"

namespace nemesis::fs {

/// Whether a frame in that range of segments may have bytes in `segment`: from its first to its
/// last in one run, else to the end of the first run and from the start of the last.
bool Store::needs(MediaStream const& m, SegmentRange range, u64 segment) {
    if (!range.any) return false;
    u64 const run = segment / m.run;
    u64 const run_first = range.first / m.run;
    u64 const run_last = range.last / m.run;
    if (run_first == run_last) return segment >= range.first && segment <= range.last;
    return (run == run_first && segment >= range.first) ||
           (run == run_last && segment <= range.last);
}

Store::Load* Store::load_of_segment(MediaStream const& m, u64 segment) {
    for (u32 i = 0; i < buffers_per_stream(options_); ++i) {
        if (m.own[i] && m.own[i]->segment == segment) return m.own[i];
    }
    return nullptr;
}

/// The segment that is there and holds that block of the stream.
Store::Load* Store::load_of_block(MediaStream const& m, u64 block) {
    for (u32 i = 0; i < buffers_per_stream(options_); ++i) {
        Load* const l = m.own[i];
        if (l && l->ready && block >= l->first && block - l->first < l->blocks) return l;
    }
    return nullptr;
}

/// Whether frames that wait, or the one being asked for, need the load.
bool Store::pinned(MediaStream const& m, Load const& l) const {
    for (u32 i = 0; i < m.frame_count; ++i) {
        if (needs(m, m.needed[i], l.segment)) return true;
    }
    return needs(m, m.asking, l.segment);
}

/// Nobody needs the load any more; its memory is free once no disk writes to it. Commands that have
/// not begun are taken back when nobody needs any load of theirs.
void Store::drop_load(Load& l) {
    l.used = false;
    take_back(l);
}

void Store::take_back(Load& l) {
    for (u32 d = 0; d < disks; ++d) {
        for (Io* io = waiting_io_[d]; io;) {
            Io* const next = io->next;
            bool of_it = false;
            bool wanted = false;
            for (Load* c = io->load; c; c = c->next) {
                of_it = of_it || c == &l;
                wanted = wanted || (c->used && !c->ready && !c->failed);
            }
            if (of_it && !wanted) {
                withdraw(*io);
                for (Load* c = io->load; c; c = c->next) --c->in_flight;
                io->used = false;
                io->next = free_ios_;
                free_ios_ = io;
            }
            io = next;
        }
    }
}

/// Memory for one more load of the stream; null: all of its own are needed.
Store::Load* Store::free_load(MediaStream& m) {
    u32 const places = buffers_per_stream(options_);
    u32 place = 0;
    while (place < places && m.own[place]) ++place;
    if (place == places) {
        for (u32 i = 0; i < places; ++i) {
            Load const& l = *m.own[i];
            if ((!l.ready && !l.failed) || pinned(m, l)) continue;
            if (place == places || l.newest < m.own[place]->newest) place = i;
        }
        if (place == places) return nullptr;
        Load& old = *m.own[place];
        drop_load(old);
        m.own[place] = nullptr;
        if (old.in_flight == 0) return m.own[place] = &old;
    }
    for (u32 i = 0; i < load_count_; ++i) {
        Load& l = loads_[(load_scan_ + i) % load_count_];
        if (l.used || l.in_flight > 0 || buffers_[&l - loads_].used) continue;
        load_scan_ = static_cast<u32>(&l - loads_) + 1;
        return m.own[place] = &l;
    }
    return nullptr;
}

/// Asks the disks for the segment, and for those beside it that are the stream's share of a round;
/// `single`: for this one only. No: there is no memory.
Store::Found Store::plan_load(MediaSession& s, MediaStream& m, u64 segment, bool single) {
    u32 const share = s.guaranteed && m.run % m.budget == 0 ? m.budget : m.run;
    u64 const begin = segment - segment % share;
    u32 most = single ? 1 : share;
    if (s.guaranteed && most > m.budget - m.spent) most = m.budget - m.spent;
    Load* chain = nullptr;
    Load* last = nullptr;
    u32 count = 0;
    for (u64 n = segment; count < most && n >= begin && n < begin + share;
         n += s.speed > 0 ? 1 : u64{0} - 1) {
        SegmentEntry const e{n < superblock_.segments ? segments_[n] : 0};
        u32 const rows = e.rows() < rows_per_segment ? e.rows() : rows_per_segment;
        if (e.use() != SegmentUse::Stream || rows == 0) break;
        // One command reads them all: none but the last may have a gap behind it.
        if (count > 0 && (s.speed > 0 ? last->rows : rows) < rows_per_segment) break;
        if (count > 0 && load_of_segment(m, n)) break;
        Load* const l = free_load(m);
        if (!l) break;
        u8* const data = l->data;
        Pointer* const pointers = l->pointers;
        *l = Load{};
        l->data = data;
        l->pointers = pointers;
        l->used = true;
        l->pnode = m.pnode;
        l->guaranteed = s.guaranteed;
        l->round = media_round_;
        l->segment = n;
        l->rows = rows;
        l->newest = ++load_use_;
        if (s.speed > 0) {
            (last ? last->next : chain) = l;
            last = l;
        } else {
            l->next = chain;
            chain = l;
            if (!last) last = l;
        }
        ++count;
        ++statistics_.stream_loads;
    }
    if (!chain) return Found::No;
    if (s.guaranteed) {
        m.spent += count;
        ++m.spent_requests;
    }
    for (u32 d = 0; d < disks; ++d) {
        bool there = true;
        for (Load const* l = chain; l; l = l->next) there = there && present(d, l->segment);
        if (!there) continue;
        Io* io = begin_io(DiskOperation::Read, d, disk_block(chain->segment, 0));
        if (!io) continue;
        for (Load* l = chain; l; l = l->next) {
            for (u32 r = 0; r < l->rows; ++r) io->data[io->count++] = l->at(d, r);
            ++l->in_flight;
        }
        io->load = chain;
        io->urgency = s.guaranteed ? Urgency::Guaranteed : Urgency::Other;
        send_io(*io);
    }
    for (Load* l = chain; l; l = l->next) l->failed = l->in_flight == 0;
    return Found::Yes;
}

void Store::column_done(Load& chain, u32 disk, DiskStatus status) {
    for (Load* l = &chain; l; l = l->next) --l->in_flight;
    for (Load* l = &chain; l; l = l->next) {
        if (!l->used || l->failed) continue;
        if (l->ready) {
            check_column(*l, disk);  // whatever the disk says: it may have written something
            continue;
        }
        if (status == DiskStatus::Good) l->arrived |= static_cast<u8>(1u << disk);
        u32 count = 0;
        for (u32 d = 0; d < disks; ++d) count += l->arrived >> d & 1;
        if (count >= columns) check_load(*l);
        // What the other disks cannot make good, op_play_frame reads block by block.
        if (!l->ready && l->in_flight == 0) l->failed = true;
    }
    // Four are enough: the fifth, if it has not begun, is not read.
    take_back(chain);
}

/// Makes a block from the others of its row. False: another one is not there.
bool Store::mend_block(Load& l, u32 column, u32 row, u32 absent) {
    if (absent != disks && absent != column) return false;
    u8 const* others[columns];
    u32 n = 0;
    for (u32 d = 0; d < disks; ++d) {
        if (d != column) others[n++] = l.at(d, row);
    }
    parity_of(l.at(column, row), others);
    return true;
}

/// Reads the summaries: which blocks of the stream the load holds. False: one cannot be read yet,
/// or (l.failed) the segment is another stream's.
bool Store::read_names(Load& l, u32 absent, bool* mended) {
    u64 const birth = SegmentEntry{segments_[l.segment]}.birth();
    auto const sound = [&](Summary& s, u32 row) {
        bool const right =
            s.magic == summary_magic && s.version == format_version &&
            (mutated(Mutant::LoadPlace) ||
             s.address == Address::of(l.segment, row * columns).value) &&
            (mutated(Mutant::LoadStore) || std::memcmp(&s.store, superblock_.uuid, 8) == 0) &&
            s.head == head_stream && (mutated(Mutant::LoadLife) || s.group >= birth) &&
            s.rows > 0 && row + s.rows <= rows_per_segment && s.entries < s.rows * columns &&
            s.entries <= summary_slots;
        if (!right) return false;
        u32 const crc = s.crc;
        s.crc = 0;
        bool const same =
            mutated(Mutant::LoadSum) || crc32c_block(reinterpret_cast<u8*>(&s)) == crc;
        s.crc = crc;
        return same;
    };
    l.blocks = 0;
    for (u32 row = 0; row < l.rows;) {
        Summary& s = *reinterpret_cast<Summary*>(l.at(0, row));
        if (absent == 0 || !sound(s, row)) {
            if (!mend_block(l, 0, row, absent) || !sound(s, row)) return false;
            *mended = true;
        }
        for (u32 i = 0; i < s.entries; ++i) {
            SummaryEntry const e{s.slot[i][0], s.slot[i][1]};
            if (l.blocks == 0) l.first = e.index();
            bool const its = (mutated(Mutant::LoadOwner) || e.owner() == l.pnode) &&
                             e.kind() == BlockKind::Data && e.level() == 0 &&
                             (mutated(Mutant::LoadIndex) || e.index() == l.first + l.blocks);
            if (!its) {
                l.failed = true;
                return false;
            }
            l.pointers[l.blocks++] = {Address::of(l.segment, row * columns + 1 + i), e.crc(), 0};
        }
        row += s.rows;
    }
    return true;
}

/// Compares every block with its checksum, and makes one wrong block of a row from the others.
void Store::check_load(Load& l) {
    u32 absent = disks;
    for (u32 d = 0; d < disks; ++d) {
        if (!(l.arrived >> d & 1)) absent = d;
    }
    bool mended = false;
    if (!read_names(l, absent, &mended)) return;
    for (u32 i = 0; i < l.blocks; ++i) {
        Pointer const& p = l.pointers[i];
        u32 const column = p.address.column();
        u8* const block = l.at(column, p.address.row());
        if (column != absent && (mutated(Mutant::LoadBlockSum) || crc32c_block(block) == p.crc)) {
            continue;
        }
        if (!mend_block(l, column, p.address.row(), absent)) return;
        if (!mutated(Mutant::LoadMendedSum) && crc32c_block(block) != p.crc) return;
        mended = true;
    }
    if (mended) ++statistics_.stream_mended;
    l.ready = true;
}

/// A column that came after the segment was ready lies where mended blocks were: each is looked at
/// again.
void Store::check_column(Load& l, u32 disk) {
    for (u32 i = 0; i < l.blocks; ++i) {
        Pointer const& p = l.pointers[i];
        if (p.address.column() != disk) continue;
        if (!mutated(Mutant::LateColumnSum) && crc32c_block(l.at(disk, p.address.row())) != p.crc) {
            mend_block(l, disk, p.address.row(), disk);
        }
    }
}

}  // namespace nemesis::fs
