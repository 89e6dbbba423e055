// Playing streams at a guaranteed rate.
//
// A playing stream has up to three loads: segments, or what a segment holds of it, each read with
// one command to every disk. A load is ready as soon as four of the five columns have come and the
// checksums of its blocks are right, so one dead, slow or wrong disk costs no time. Rounds: at the
// start of one, each guaranteed stream asks for as many loads as were admitted for it, if frames
// that wait for the client leave it the memory; they have to be ready when the round ends. Blocks
// of the index and of the tree are read a round ahead. Nothing of a stream's data goes through the
// cache.
//
// A frame is asked for in the order of play: forwards, backwards, every nth one when the speed is
// above 1. Then, too, a stream reads no more loads in a round: it shows frames of the segment at
// the beginning of each slot of time and skips to the next slot.

#include <cstring>

#include "fs/core/store.h"

namespace nemesis::fs {

/// The session's load beside what is admitted already. errors: see op_open_streams
bool Store::admit(Request& r, bool record, RoundLoad* load) {
    *load = RoundLoad{};
    bool any = false;
    for (u32 i = 0; i < r.streams_count; ++i) {
        if (r.streams[i].rate == 0) continue;
        any = true;
        RoundLoad const one = load_of(r.streams[i].rate, options_.media_round, record);
        load->segments += one.segments;
        load->blocks += one.blocks;
        if (one.segments > buffers_per_stream - 2 && !record) {
            r.count = r.streams[i].rate / one.segments * (buffers_per_stream - 2);
            r.error = Error::NoBandwidth;  // more than its memory holds
            return false;
        }
    }
    if (!any) return true;
    if (!options_.disk_model.known()) {
        r.error = Error::NotSupported;
        return false;
    }
    RoundLoad const all{admitted_.segments + load->segments, admitted_.blocks + load->blocks};
    if (fits(options_.disk_model, all, options_.media_round, options_.media_reserve_percent)) {
        return true;
    }
    r.count = largest_rate(options_.disk_model, admitted_, options_.media_round,
                           options_.media_reserve_percent, record);
    r.error = Error::NoBandwidth;
    return false;
}

void Store::recount_guarantees() {
    guaranteed_ = 0;
    admitted_ = RoundLoad{};
    for (u32 i = 0; i < options_.media_streams; ++i) {
        MediaSession const& s = sessions_[i];
        if (!s.used || !s.guaranteed) continue;
        ++guaranteed_;
        admitted_.segments += s.load.segments;
        admitted_.blocks += s.load.blocks;
    }
    for (u32 d = 0; d < disks; ++d) next_io(d);
}

/// Goes to the frame that is shown at r.time_ns, and on from it at r.speed.
bool Store::op_seek(Request& r) {
    MediaSession* s = session_of(r);
    if (!s) return true;
    if (!s->playing || r.speed == 0) return finish(r, Error::Invalid);
    s->speed = r.speed;
    s->time_ns = r.time_ns;
    for (u32 i = 0; i < s->count; ++i) {
        MediaStream& m = *s->stream[i];
        m.frame_count = 0;
        m.sought = m.issue_ended = false;
        m.poke = true;
        m.asking_bytes = 0;
        if (s->guaranteed) m.spent = m.budget;  // its share of this round would come too late
        m.slot_end = INT64_MIN;
    }
    wake();
    return finish(r, Error::None);
}

/// The next frame of stream r.offset of the set, in the order of play; r.count 0: there is none.
/// errors: Invalid, the buffer is too small for it (r.count tells); Damaged, beyond redundancy
bool Store::op_play_frame(Request& r) {
    MediaSession* s = session_of(r);
    if (!s) return true;
    if (!s->playing || r.offset >= s->count) return finish(r, Error::Invalid);
    MediaStream& m = *s->stream[r.offset];
    if (m.frame_count == 0) {
        if (s->error != Error::None) return finish(r, s->error);
        if (!m.issue_ended) return false;
        r.count = 0;
        return finish(r, Error::None);
    }
    IndexRecord const f = m.frames[0];
    r.count = f.bytes;
    if (f.bytes > r.length) return finish(r, Error::Invalid);
    u64 const first = f.offset / block_bytes;
    u64 const last = (f.offset + f.bytes - 1) / block_bytes;
    bool failed = false;
    for (u64 b = first; b <= last; ++b) {
        Load* load = load_of_block(m, b);
        ASSERT(load);
        failed = failed || load->failed;
        if (!load->ready && !load->failed) return false;
    }
    u64 done = 0;
    for (u64 b = first; b <= last && !failed; ++b) {
        Load const& load = *load_of_block(m, b);
        u32 const at = load.pointers[b - load.first].address.block();
        u64 const from = b == first ? f.offset % block_bytes : 0;
        u64 const rest = f.bytes - done;
        u64 const n = block_bytes - from < rest ? block_bytes - from : rest;
        std::memcpy(r.buffer + done, load.at(at % columns, at / columns) + from, n);
        done += n;
    }
    r.time_ns = f.time_ns;
    --m.frame_count;
    std::memmove(m.frames, m.frames + 1, m.frame_count * sizeof(IndexRecord));
    if (!s->guaranteed) m.poke = true;
    wake();
    return finish(r, failed ? Error::Damaged : Error::None);
}

Store::Found Store::index_record(MediaStream const& m, u64 n, IndexRecord* out) {
    Frame* f = get(m.pnode, BlockKind::Data, 0, stream_index_block + n / index_records_per_block);
    if (!f) return fault_ == Error::None ? Found::Pending : Found::No;
    *out = reinterpret_cast<IndexRecord const*>(f->data)[n % index_records_per_block];
    // What does not lie in the stream is damage.
    if (out->bytes == 0 || out->offset >= m.size || out->bytes > m.size - out->offset) {
        fault_ = Error::Damaged;
        return Found::No;
    }
    return Found::Yes;
}

/// The frame that is shown at that time: the last one not after it, or the first.
Store::Found Store::find_time(MediaStream const& m, i64 time, u64* n) {
    u64 low = 0;
    u64 high = m.frames_all;
    while (high - low > 1) {
        u64 const middle = low + (high - low) / 2;
        IndexRecord f;
        Found const found = index_record(m, middle, &f);
        if (found != Found::Yes) return found;
        (f.time_ns <= time ? low : high) = middle;
    }
    *n = low;
    return Found::Yes;
}

Store::Found Store::next_frame(MediaSession const& s, MediaStream const& m, u64 from, u64* n) {
    u64 const speed = static_cast<u64>(s.speed < 0 ? -i64{s.speed} : i64{s.speed});
    u64 const stride = speed < 2000 ? 1 : speed / 1000;
    if (s.speed > 0 ? m.frames_all - from <= stride : from < stride) return Found::No;
    *n = s.speed > 0 ? from + stride : from - stride;
    return Found::Yes;
}

Store::Load* Store::load_of_block(MediaStream const& m, u64 block) {
    for (Load* l : m.own) {
        if (l && block >= l->first && block - l->first < l->blocks) return l;
    }
    return nullptr;
}

/// Whether frames that wait, or the one being asked for, need the load.
bool Store::pinned(MediaStream const& m, Load const& l) const {
    auto const overlaps = [&](u64 offset, u64 bytes) {
        return bytes > 0 && offset / block_bytes < l.first + l.blocks &&
               (offset + bytes - 1) / block_bytes >= l.first;
    };
    for (u32 i = 0; i < m.frame_count; ++i) {
        if (overlaps(m.frames[i].offset, m.frames[i].bytes)) return true;
    }
    return overlaps(m.asking_offset, m.asking_bytes);
}

/// Gives the load's memory back once no disk writes to it.
void Store::drop_load(Load& l) {
    for (u32 d = 0; d < disks; ++d) {
        for (Io* io = waiting_io_[d]; io;) {
            Io* const next = io->next;
            if (io->load == &l) {
                withdraw(*io);
                io->used = false;
                io->next = free_ios_;
                free_ios_ = io;
                --l.in_flight;
            }
            io = next;
        }
    }
}

/// Memory for one more load of the stream; null: all of its own are needed.
Store::Load* Store::free_load(MediaStream& m) {
    u32 place = 0;
    while (place < buffers_per_stream && m.own[place]) ++place;
    if (place == buffers_per_stream) {
        for (u32 i = 0; i < buffers_per_stream; ++i) {
            if (pinned(m, *m.own[i])) continue;
            if (place == buffers_per_stream || m.own[i]->newest < m.own[place]->newest) place = i;
        }
        if (place == buffers_per_stream) return nullptr;
        Load& old = *m.own[place];
        drop_load(old);
        old.used = false;
        m.own[place] = nullptr;
        if (old.in_flight == 0) return m.own[place] = &old;
    }
    for (u32 i = 0; i < load_count_; ++i) {
        Load& l = loads_[i];
        if (!l.used && l.in_flight == 0 && !buffers_[i].used) return m.own[place] = &l;
    }
    return nullptr;
}

/// Asks the disks for what the block's segment holds of the stream. No: there is no memory, or
/// fault_ says what is wrong.
Store::Found Store::plan_load(MediaSession& s, MediaStream& m, u64 block) {
    u64 const blocks = (m.size + block_bytes - 1) / block_bytes;
    auto const pointer_of = [&](u64 b, Pointer* out) {
        if (!lookup_pointer(m.pnode, BlockKind::Data, 0, b, out)) {
            return fault_ == Error::None ? Found::Pending : Found::No;
        }
        return Found::Yes;
    };
    Pointer at;
    Found found = pointer_of(block, &at);
    if (found != Found::Yes) return found;
    u64 const segment = at.address.segment();
    if (at.hole() || segment >= superblock_.segments || at.address.block() >= segment_blocks) {
        fault_ = Error::Damaged;
        return Found::No;
    }
    // The blocks before and after it in the same segment, in order.
    u64 first = block;
    Pointer edge = at;
    for (Pointer p; first > 0; --first, edge = p) {
        found = pointer_of(first - 1, &p);
        if (found != Found::Yes) return found;
        if (p.address.segment() != segment || p.address.block() >= edge.address.block()) break;
    }
    u32 const row = edge.address.row();
    u64 end = block + 1;
    edge = at;
    for (Pointer p; end < blocks; ++end, edge = p) {
        found = pointer_of(end, &p);
        if (found != Found::Yes) return found;
        bool const after = p.address.segment() == segment &&
                           p.address.block() > edge.address.block() &&
                           p.address.block() < segment_blocks;
        if (!after) break;
    }
    Load* const l = free_load(m);
    if (!l) return Found::No;
    u8* const data = l->data;
    Pointer* const pointers = l->pointers;
    *l = Load{};
    l->data = data;
    l->pointers = pointers;
    l->used = true;
    l->pnode = m.pnode;
    l->stream = &m;
    l->guaranteed = s.guaranteed;
    l->round = media_round_;
    l->segment = segment;
    l->first = first;
    l->blocks = static_cast<u32>(end - first);
    l->row = row;
    l->rows = edge.address.row() - row + 1;
    l->newest = ++load_use_;
    for (u64 b = first; b < end; ++b) {
        found = pointer_of(b, &l->pointers[b - first]);
        ASSERT(found == Found::Yes);
    }
    ++statistics_.stream_loads;
    for (u32 d = 0; d < disks; ++d) {
        if (!present(d, segment)) continue;
        Io* io = begin_io(DiskOperation::Read, d, disk_block(segment, row));
        if (!io) continue;
        for (u32 r = row; r < row + l->rows; ++r) io->data[io->count++] = l->at(d, r);
        io->load = l;
        io->urgency = s.guaranteed ? Urgency::Guaranteed : Urgency::Other;
        ++l->in_flight;
        send_io(*io);
    }
    if (l->in_flight == 0) l->failed = true;
    return Found::Yes;
}

void Store::column_done(Load& l, u32 disk, DiskStatus status) {
    --l.in_flight;
    if (!l.used || l.ready) return;
    if (status == DiskStatus::Good) l.arrived |= static_cast<u8>(1u << disk);
    u32 count = 0;
    for (u32 d = 0; d < disks; ++d) count += l.arrived >> d & 1;
    if (count >= columns) check_load(l);
    if (!l.ready && l.in_flight == 0) {
        l.failed = true;
        ++statistics_.damaged;
        note_damage(l.pnode, l.first, 0);
    }
    // Four are enough: the fifth, if it has not begun, is not read.
    if (l.ready) drop_load(l);
}

/// Compares every block with its checksum, and makes one wrong block of a row from the others.
void Store::check_load(Load& l) {
    u32 absent = disks;
    for (u32 d = 0; d < disks; ++d) {
        if (!(l.arrived >> d & 1)) absent = d;
    }
    bool mended = false;
    for (u32 i = 0; i < l.blocks; ++i) {
        Pointer const& p = l.pointers[i];
        u32 const column = p.address.column();
        u32 const row = p.address.row();
        u8* const block = l.at(column, row);
        if (column != absent && crc32c_block(block) == p.crc) continue;
        if (absent != disks && absent != column) return;
        u8 const* others[columns];
        u32 n = 0;
        for (u32 d = 0; d < disks; ++d) {
            if (d != column) others[n++] = l.at(d, row);
        }
        parity_of(block, others);
        if (crc32c_block(block) != p.crc) return;
        mended = true;
    }
    if (mended) ++statistics_.stream_mended;
    l.ready = true;
}

/// One step towards the next frame; true: there may be more to do at once.
bool Store::ask_frame(MediaSession& s, MediaStream& m) {
    if (m.issue_ended || m.frames_all == 0) {
        m.issue_ended = true;
        m.poke = false;
        return false;
    }
    m.poke = true;  // unless it goes on or ends otherwise, it waits for index or tree
    if (!m.sought) {
        if (find_time(m, s.time_ns, &m.issue) != Found::Yes) return false;
        m.sought = true;
    }
    if (m.frame_count == frames_max) {
        m.poke = false;
        return false;
    }
    IndexRecord f;
    if (index_record(m, m.issue, &f) != Found::Yes) return false;
    m.asking_offset = f.offset;
    m.asking_bytes = f.bytes;
    u64 const last = (f.offset + f.bytes - 1) / block_bytes;
    for (u64 b = f.offset / block_bytes; b <= last; ++b) {
        Load* have = load_of_block(m, b);
        if (have) {
            have->newest = ++load_use_;
            continue;
        }
        bool const fast = s.speed >= 2000 || s.speed <= -2000;
        bool const skip = fast && m.slot_end != INT64_MIN && b == f.offset / block_bytes &&
                          (s.speed > 0 ? f.time_ns < m.slot_end : f.time_ns > m.slot_end);
        if (skip) {
            u64 n = 0;
            if (find_time(m, m.slot_end, &n) != Found::Yes) return false;
            if (n != m.issue && (s.speed > 0) == (n > m.issue)) {
                m.issue = n;
                return true;
            }
        }
        if (m.spent >= m.budget) {
            // The round's share is used up; what the next one needs of tree and index may come.
            Pointer ahead;
            lookup_pointer(m.pnode, BlockKind::Data, 0, b, &ahead);
            u64 const far = (s.speed > 0 ? b + segment_blocks : b - segment_blocks);
            if (far < m.size / block_bytes) {
                lookup_pointer(m.pnode, BlockKind::Data, 0, far, &ahead);
            }
            m.poke = false;
            return false;
        }
        Found const found = plan_load(s, m, b);
        if (found == Found::No && fault_ == Error::None) {
            if (s.guaranteed) m.spent = m.budget;
            m.poke = false;
        }
        if (found != Found::Yes) return false;
        if (s.guaranteed) ++m.spent;
        if (fast) {
            i64 const slot = options_.media_round.ns() / m.budget / 1000 * s.speed;
            m.slot_end = f.time_ns + slot;
        }
    }
    m.frames[m.frame_count++] = f;
    if (next_frame(s, m, m.issue, &m.issue) != Found::Yes) m.issue_ended = true;
    m.asking_bytes = 0;
    return true;
}

/// Asks for as much as the stream may have now.
void Store::top_up(MediaSession& s, MediaStream& m) {
    for (bool more = true; more;) {
        ++run_;
        fault_ = Error::None;
        missing_first_ = missing_last_ = nullptr;
        more = ask_frame(s, m);
        if (missing_first_) {
            Urgency const urgency = s.guaranteed ? Urgency::Guaranteed : Urgency::Other;
            read_blocks(missing_first_, urgency).detach();
        }
        missing_first_ = missing_last_ = nullptr;
        if (fault_ != Error::None) {
            s.error = fault_;
            fault_ = Error::None;
            return;
        }
    }
}

/// What had to be ready by now and is not, is late; each stream has its share again.
void Store::end_round() {
    for (u32 i = 0; i < load_count_; ++i) {
        Load const& l = loads_[i];
        bool const due = l.used && l.guaranteed && !l.ready && l.round <= media_round_;
        if (due) ++statistics_.stream_late;
    }
    for (u32 i = 0; i < io_count(options_); ++i) {
        // A disk that cannot keep up with what is recorded would hold up all that is made durable.
        Io const& io = ios_[i];
        bool const behind = io.used && io.operation == DiskOperation::Write &&
                            io.urgency == Urgency::Guaranteed &&
                            now_ - io.asked > options_.media_round * 2;
        if (behind) disk_failed(io.disk);
    }
    ++media_round_;
    while (media_round_end_ <= now_) media_round_end_ += options_.media_round;
    for (u32 i = 0; i < options_.media_streams; ++i) {
        media_[i].spent = 0;
        media_[i].poke = true;
    }
}

void Store::close_play(MediaSession& s) {
    for (u32 i = 0; i < s.count; ++i) {
        MediaStream& m = *s.stream[i];
        for (Load*& l : m.own) {
            if (!l) continue;
            drop_load(*l);
            l->used = false;
            l = nullptr;
        }
        m.pnode = 0;
        m.frame_count = 0;
    }
}

/// The rounds of all that plays.
Task Store::play_task() {
    play_task_runs_ = true;
    media_round_end_ = now_ + options_.media_round;
    media_look_ = now_ + options_.media_round / 8;
    for (;;) {
        if (now_ >= media_round_end_) end_round();
        if (now_ >= media_look_) {
            pass_by_slow_disks();
            media_look_ = now_ + options_.media_round / 8;
        }
        bool any = false;
        for (u32 i = 0; i < options_.media_streams; ++i) {
            MediaSession& s = sessions_[i];
            if (!s.used || !s.playing || s.ended) continue;
            any = true;
            for (u32 k = 0; k < s.count && s.error == Error::None; ++k) {
                if (s.stream[k]->poke) top_up(s, *s.stream[k]);
            }
        }
        if (!any || health_ == Health::Stopped || unmount_wanted_) break;
        co_await changed();
    }
    media_round_end_ = media_look_ = Instant::never();
    play_task_runs_ = false;
}

}  // namespace nemesis::fs
