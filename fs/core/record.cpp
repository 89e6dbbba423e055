// Recording streams: continuous data in segments of its own, with its pnodes and index in the log.
//
// A set of streams is recorded by one session. What clients hand over is laid out at once in a
// segment buffer of its stream: a piece is a summary and the whole blocks after it, as in the log,
// and parity is made when the piece is sealed. Rounds make recordings durable: at the end of one,
// the pieces of all streams of the set are sealed and written, the disks are flushed, and then one
// step in memory adds blocks, segments and index to all streams of the set. A flush of the log
// carries that step as part of one group. So all streams of a set end at one time after a crash,
// and no pointer ever leads to stream data that is not on the disks; what a crash can lose is the
// round being filled and the one being written.
//
// The index is built from the control records: a frame is added when all its bytes are part of the
// state and every stream of the set has come past its time.

#include <cstring>
#include <new>

#include "fs/core/mutant.h"
#include "fs/core/store.h"

namespace nemesis::fs {
namespace {

constexpr u64 reserved_flag = u64{1} << 4;  // in memory only: taken, nothing refers to it yet
constexpr u64 stream_bytes_max = stream_index_block * block_bytes;
constexpr std::size_t buffer_bytes = std::size_t{disks} * rows_per_segment * block_bytes;

}  // namespace

std::size_t Store::media_memory(Options const& o) {
    std::size_t const n = o.media_streams;
    if (n == 0) return 0;
    std::size_t const each =
        sizeof(MediaStream) + sizeof(MediaSession) + sealed_max * sizeof(Pointer) +
        marks_max * sizeof(StreamMark) + frames_max * (sizeof(IndexRecord) + sizeof(SegmentRange)) +
        block_bytes +
        buffers_per_stream(o) * (sizeof(Load*) + buffer_bytes + sizeof(SegmentBuffer) +
                                 sizeof(Load) + segment_blocks * sizeof(Pointer));
    return n * each + stream_marks_max * sizeof(StreamMark) + 4 * block_bytes;
}

bool Store::carve_media() {
    u32 const n = options_.media_streams;
    if (n == 0) return true;
    sessions_ = arena_.carve<MediaSession>(n);
    media_ = arena_.carve<MediaStream>(n);
    buffer_count_ = n * buffers_per_stream(options_);
    buffers_ = arena_.carve<SegmentBuffer>(buffer_count_);
    stream_marks_ = arena_.carve<StreamMark>(stream_marks_max);
    load_count_ = buffer_count_;
    loads_ = arena_.carve<Load>(load_count_);
    Pointer* pointers = arena_.carve<Pointer>(std::size_t{load_count_} * segment_blocks);
    Pointer* sealed = arena_.carve<Pointer>(std::size_t{n} * sealed_max);
    StreamMark* marks = arena_.carve<StreamMark>(std::size_t{n} * marks_max);
    IndexRecord* frames = arena_.carve<IndexRecord>(std::size_t{n} * frames_max);
    SegmentRange* needed = arena_.carve<SegmentRange>(std::size_t{n} * frames_max);
    Load** own = arena_.carve<Load*>(load_count_);
    u8* tails = arena_.carve<u8>(std::size_t{n} * block_bytes, block_bytes);
    u8* data = arena_.carve<u8>(buffer_count_ * buffer_bytes, block_bytes);
    if (arena_.exhausted()) return false;
    for (u32 i = 0; i < n; ++i) {
        new (&sessions_[i]) MediaSession;
        media_[i] = MediaStream{};
        media_[i].sealed = sealed + std::size_t{i} * sealed_max;
        media_[i].marks = marks + std::size_t{i} * marks_max;
        media_[i].frames = frames + std::size_t{i} * frames_max;
        media_[i].needed = needed + std::size_t{i} * frames_max;
        media_[i].own = own + std::size_t{i} * buffers_per_stream(options_);
        media_[i].tail = tails + std::size_t{i} * block_bytes;
    }
    for (u32 i = 0; i < buffer_count_; ++i) {
        SegmentBuffer* b = new (&buffers_[i]) SegmentBuffer;
        b->data = data + i * buffer_bytes;
        Load* l = new (&loads_[i]) Load;
        l->data = b->data;
        l->pointers = pointers + std::size_t{i} * segment_blocks;
    }
    return true;
}

Store::MediaSession* Store::session_of(Request& r) {
    if (r.pnode2 == 0 || r.pnode2 > options_.media_streams || !sessions_[r.pnode2 - 1].used ||
        sessions_[r.pnode2 - 1].recall) {
        r.error = Error::Invalid;
        return nullptr;
    }
    return &sessions_[r.pnode2 - 1];
}

/// Begins to record empty streams, or to play, as a set; r.count becomes the session.
/// errors: Exists, a stream has been recorded; TooManyOpen, no place for so many streams;
/// NotSupported, a rate without a disk model; NoBandwidth, with the largest rate in r.count;
/// OnShelf, to be played later: its recall has begun and takes about r.count ms
bool Store::op_open_streams(Request& r) {
    bool const record = !(r.flags & stream_play);
    if (record && health_ == Health::ReadOnly) return finish(r, Error::ReadOnly);
    if (r.speed == 0) return finish(r, Error::Invalid);
    if (r.streams_count == 0 || r.streams_count > stream_set_max) return finish(r, Error::Invalid);
    Duration recall;  // of those that are on the tertiary volume
    u32 generation[stream_set_max];
    u64 frames[stream_set_max];
    u64 size[stream_set_max];
    StreamShape shape[stream_set_max];
    for (u32 i = 0; i < r.streams_count; ++i) {
        Pnode* p = live_pnode(r, r.streams[i].pnode);
        if (!p) return false;
        if (p->type != PnodeType::Stream) return finish(r, Error::Invalid);
        if (!may(r, *p, record ? 2 : 4)) return finish(r, Error::AccessDenied);
        if (record && (p->entries > 0 || p->tree.size > 0)) return finish(r, Error::Exists);
        frames[i] = p->entries;
        size[i] = p->tree.size;
        if (frames[i] > stream_index_block * index_records_per_block ||
            size[i] > stream_bytes_max) {
            return finish(r, Error::Damaged);
        }
        if (!record && moving_out(p->number)) return finish(r, Error::Busy);
        if (!record && p->rdev == shelved) {
            if (!tertiary_) return finish(r, Error::NoVolume);
            recall += recall_time(*p);
        }
        generation[i] = p->generation;
        // Aligned runs hold aligned shorter ones of any length that divides theirs.
        u32 run = p->stream_run > 0 && p->stream_run <= stream_run_max ? p->stream_run : 1;
        while (run > options_.media_run || p->stream_run % run != 0) --run;
        shape[i] = {record, run > 0 ? run : 1, frames[i] > 0 ? size[i] / frames[i] : 0};
        for (u32 k = 0; k < i; ++k) {
            if (r.streams[k].pnode == r.streams[i].pnode) return finish(r, Error::Invalid);
        }
        for (u32 k = 0; k < options_.media_streams; ++k) {
            if (record && media_[k].pnode == r.streams[i].pnode) return finish(r, Error::Busy);
        }
    }
    u32 free = 0;
    for (u32 i = 0; i < options_.media_streams; ++i) free += media_[i].pnode == 0;
    if (free < r.streams_count) return finish(r, Error::TooManyOpen);
    RoundLoad load{};
    if (!admit(r, shape, &load)) return true;
    if (recall > Duration{}) {
        // It would be played; it is when all of it is on the disks again.
        for (u32 i = 0; i < r.streams_count; ++i) {
            Pnode const* const p = live_pnode(r, r.streams[i].pnode);
            if (!p) return false;
            if (p->rdev == shelved) ask_recall(p->number, BlockKind::Data, 0);
            if (fault_ != Error::None) return false;
        }
        r.count = static_cast<u64>(recall.ns() / 1'000'000);
        return finish(r, Error::OnShelf);
    }
    u32 id = 0;
    while (sessions_[id].used) ++id;
    MediaSession& s = sessions_[id];
    s = MediaSession{};
    s.used = true;
    s.round_end = now_ + options_.media_round;
    for (u32 i = 0; i < options_.media_streams && s.count < r.streams_count; ++i) {
        MediaStream& m = media_[i];
        if (m.pnode != 0) continue;
        MediaStream fresh{};
        fresh.sealed = m.sealed;
        fresh.marks = m.marks;
        fresh.frames = m.frames;
        fresh.tail = m.tail;
        fresh.needed = m.needed;
        fresh.own = m.own;
        std::memset(fresh.own, 0, buffers_per_stream(options_) * sizeof(Load*));
        fresh.pnode = r.streams[s.count].pnode;
        fresh.generation = generation[s.count];
        fresh.rate = r.streams[s.count].rate;
        fresh.frames_all = frames[s.count];
        fresh.size = size[s.count];
        fresh.slot_end = INT64_MIN;
        fresh.poke = true;
        fresh.run = shape[s.count].run;
        fresh.run_least = options_.media_run;
        RoundLoad const share = load_of(fresh.rate, options_.media_round, shape[s.count]);
        fresh.budget = fresh.rate ? static_cast<u32>(share.segments) : buffers_per_stream(options_);
        fresh.budget_requests = fresh.rate ? static_cast<u32>(share.requests) : fresh.budget;
        fresh.spent = fresh.rate ? fresh.budget : 0;  // its first round is the next one
        fresh.last_time = INT64_MIN;
        m = fresh;
        s.stream[s.count++] = &m;
    }
    r.count = id + 1;
    s.playing = !record;
    s.speed = r.speed;
    s.time_ns = r.time_ns;
    s.load = load;
    s.guaranteed = load.segments > 0;
    recount_guarantees();
    if (record) record_task(s).detach();
    if ((s.playing || s.guaranteed) && !play_task_runs_) play_task().detach();
    wake();
    return finish(r, Error::None);
}

void Store::drop_buffer(SegmentBuffer& b) {
    if (!b.building && b.in_flight == 0) b.used = false;
}

/// A table is full: the round ends early. Woken once only, for its end waits for the disks.
void Store::hurry(MediaSession& s) {
    if (!s.hurry) wake();
    s.hurry = true;
}

/// The stream's next segment: of its run, of a new run, or a single one where no run is free.
u64 Store::next_segment(MediaSession const& s, MediaStream& m) {
    if (m.run_next == m.run_end) {
        u32 const run = options_.media_run;
        bool const room = run > 1 && space_to_record(run, s.guaranteed);
        m.run_next = room ? allocate_run(run) : no_segment;
        if (m.run_next == no_segment) {
            m.run_next = allocate_segment();
            m.run_end = m.run_next + 1;
            m.run_least = 1;
        } else {
            m.run_end = m.run_next + run;
        }
    }
    return m.run_next++;
}

/// Lays one whole block out in the stream's segment. False: there is no room now, or s.error.
bool Store::place_block(MediaSession& s, MediaStream& m, u8 const* data) {
    if (m.sealed_count + summary_slots > sealed_max || m.mark_count + 4 > marks_max) {
        hurry(s);
        return false;
    }
    bool const full =
        m.buffer && (m.blocks == summary_slots || m.row * columns + 1 + m.blocks == segment_blocks);
    if (full) {
        if (s.frozen || hold_streams_) return false;
        seal_piece(s, m, false);
    }
    if (!m.buffer) {
        SegmentBuffer* b = nullptr;
        for (u32 i = 0; i < buffer_count_ && !b; ++i) {
            bool const free = !buffers_[i].used && !loads_[i].used && loads_[i].in_flight == 0;
            if (free) b = &buffers_[i];
        }
        if (!b) return false;
        if (!space_to_record(1, s.guaranteed)) {
            if (!space_may_come()) s.error = Error::NoSpace;
            return false;
        }
        b->used = b->building = true;
        m.buffer = b;
        m.segment = next_segment(s, m);
        m.birth = group_ + 1;
        m.row = m.blocks = m.named = m.pieces = 0;
    }
    std::memcpy(m.buffer->block(m.row * columns + 1 + m.blocks), data, block_bytes);
    ++m.blocks;
    return true;
}

/// Takes what there is room for; whole blocks go to the segment, the rest to the tail.
bool Store::take_bytes(MediaSession& s, MediaStream& m, u8 const* data, u64 bytes, u64* taken) {
    while (*taken < bytes) {
        u64 const rest = bytes - *taken;
        if (m.tail_bytes == block_bytes) {
            if (!place_block(s, m, m.tail)) return false;
            m.tail_bytes = 0;
        } else if (m.tail_bytes == 0 && rest >= block_bytes) {
            if (!place_block(s, m, data + *taken)) return false;
            *taken += block_bytes;
        } else {
            u64 const room = block_bytes - m.tail_bytes;
            u32 const n = static_cast<u32>(rest < room ? rest : room);
            std::memcpy(m.tail + m.tail_bytes, data + *taken, n);
            m.tail_bytes += n;
            *taken += n;
        }
    }
    return true;
}

/// Whole frames of one stream, in order; done when they are in the server's memory.
/// errors: Invalid, the control records do not fit the bytes or go back in time; Busy, the stream
/// is too far ahead of the others of its set; NoSpace
bool Store::op_record(Request& r) {
    MediaSession* s = session_of(r);
    if (!s) return true;
    if (r.offset >= s->count || s->closing || s->playing) return finish(r, Error::Invalid);
    if (s->error != Error::None) return finish(r, s->error);
    MediaStream& m = *s->stream[r.offset];
    if (r.target_group == 0) {
        u64 sum = 0;
        i64 time = m.last_time;
        if (r.control_count == 0 || r.control_count > frames_max) return finish(r, Error::Invalid);
        for (u32 i = 0; i < r.control_count; ++i) {
            if (r.control[i].time_ns <= time || r.control[i].bytes == 0) {
                return finish(r, Error::Invalid);
            }
            time = r.control[i].time_ns;
            sum += r.control[i].bytes;
        }
        if (sum != r.length) return finish(r, Error::Invalid);
        if (m.bytes + sum > stream_bytes_max) return finish(r, Error::TooBig);
        if (m.frame_count + r.control_count > frames_max) {
            for (u32 i = 0; i < s->count; ++i) {
                if (s->stream[i]->last_time < m.frames[0].time_ns) return finish(r, Error::Busy);
            }
            hurry(*s);
            return false;
        }
        for (u32 i = 0; i < r.control_count; ++i) {
            ControlRecord const& c = r.control[i];
            m.frames[m.frame_count++] = {c.time_ns, m.bytes, Address{0}, c.bytes, c.flags};
            m.bytes += c.bytes;
        }
        m.last_time = time;
        r.target_group = 1;  // the records are taken
    }
    if (!take_bytes(*s, m, r.buffer, r.length, &r.progress)) {
        return s->error != Error::None ? finish(r, s->error) : false;
    }
    r.count = r.length;
    return finish(r, Error::None);
}

/// Ends the session; done when all that was recorded is on the disks.
bool Store::op_close_streams(Request& r) {
    MediaSession* s = session_of(r);
    if (!s) return true;
    if (!s->closing) {
        s->closing = true;
        s->cut = (r.flags & stream_cut) != 0;
        wake();
    }
    if (s->playing && !s->ended) {
        // What was asked for before ends first: the session's number may be another's soon.
        for (Request const* q = queue_; q != &r; q = q->next) {
            if (q->op == Op::PlayFrame && q->pnode2 == r.pnode2) return false;
        }
        close_play(*s);
        s->ended = true;
    }
    if (!s->ended) return false;
    s->used = false;
    recount_guarantees();
    return finish(r, s->error);
}

u64 Store::frames_on_disk(u64 session, u32 stream) const {
    if (session == 0 || session > options_.media_streams) return 0;
    MediaSession const& s = sessions_[session - 1];
    if (!s.used || s.playing || stream >= s.count) return 0;
    bool const all = durable_group_ >= s.commit_group || mutated(Mutant::RecordedEarly);
    return all ? s.stream[stream]->frames_committed : s.stream[stream]->frames_before;
}

/// Frames [r.offset, …) of a recorded stream's index, as many as the buffer holds.
bool Store::op_read_index(Request& r) {
    Pnode* p = live_pnode(r, r.pnode);
    if (!p) return false;
    if (p->type != PnodeType::Stream) return finish(r, Error::Invalid);
    if (!may(r, *p, 4)) return finish(r, Error::AccessDenied);
    u64 const size = p->tree.size;
    u64 const frames = p->entries;
    if (frames > stream_index_block * index_records_per_block || size > stream_bytes_max) {
        return finish(r, Error::Damaged);
    }
    u64 n = r.length / sizeof(IndexRecord);
    if (r.offset >= frames) n = 0;
    if (n > frames - r.offset) n = frames - r.offset;
    while (r.progress < n) {
        ++run_;
        u64 const at = r.offset + r.progress;
        u64 const in_block = at % index_records_per_block;
        Frame* f =
            get(r.pnode, BlockKind::Data, 0, stream_index_block + at / index_records_per_block);
        if (!f) return false;
        u64 part = index_records_per_block - in_block;
        if (part > n - r.progress) part = n - r.progress;
        IndexRecord const* in = reinterpret_cast<IndexRecord const*>(f->data) + in_block;
        for (u64 i = 0; i < part; ++i) {
            if (in[i].bytes == 0 || in[i].offset > size || in[i].bytes > size - in[i].offset) {
                return finish(r, Error::Damaged);
            }
        }
        std::memcpy(r.buffer + r.progress * sizeof(IndexRecord), in, part * sizeof(IndexRecord));
        r.progress += part;
    }
    r.count = r.progress * sizeof(IndexRecord);
    return finish(r, Error::None);
}

/// Ends the piece being filled and starts to write it. `final`: with the tail, filled with zeros.
void Store::seal_piece(MediaSession& s, MediaStream& m, bool final) {
    if (final && m.tail_bytes > 0) {
        std::memset(m.tail + m.tail_bytes, 0, block_bytes - m.tail_bytes);
        if (!place_block(s, m, m.tail)) return;
        m.tail_bytes = 0;
    }
    if (m.blocks == 0) return;
    SegmentBuffer& b = *m.buffer;
    u32 const rows = (m.blocks + columns) / columns;
    u32 const first = m.row * columns;
    Summary& sum = *reinterpret_cast<Summary*>(b.block(first));
    std::memset(&sum, 0, sizeof sum);
    sum.magic = summary_magic;
    sum.version = format_version;
    sum.address = Address::of(m.segment, first).value;
    sum.sequence = m.pieces++;
    std::memcpy(&sum.store, superblock_.uuid, 8);
    sum.group = group_ + 1;
    sum.time_ns = now_.ns() + wall_offset_ns_;
    sum.mount_count = superblock_.mount_count;
    sum.entries = static_cast<u16>(m.blocks);
    sum.head = head_stream;
    sum.rows = static_cast<u8>(rows);
    sum.last = 1;
    u64 const index = m.blocks_committed + m.sealed_count;
    for (u32 i = 0; i < m.blocks; ++i) {
        u32 const crc = crc32c_block(b.block(first + 1 + i));
        SummaryEntry const e = SummaryEntry::of(crc, m.pnode, BlockKind::Data, 0, index + i);
        sum.slot[i][0] = e.crc_index;
        sum.slot[i][1] = e.owner_level;
        m.sealed[m.sealed_count + i] = {Address::of(m.segment, first + 1 + i), crc,
                                        static_cast<u32>(group_ + 1)};
    }
    for (u32 i = m.frame_count; i-- > 0 && m.frames[i].offset >= index * block_bytes;) {
        u64 const block = m.frames[i].offset / block_bytes - index;
        if (block < m.blocks) m.frames[i].address = m.sealed[m.sealed_count + block].address;
    }
    sum.crc = crc32c_block(reinterpret_cast<u8*>(&sum));
    for (u32 i = m.blocks + 1; i < rows * columns; ++i)
        std::memset(b.block(first + i), 0, block_bytes);
    for (u32 r = m.row; r < m.row + rows - (mutated(Mutant::StreamParityShort) ? 1 : 0); ++r) {
        u8 const* const row[columns] = {b.at(0, r), b.at(1, r), b.at(2, r), b.at(3, r)};
        parity_of(b.at(parity_disk, r), row);
    }
    m.sealed_count += m.blocks;
    m.named += m.blocks;
    statistics_.stream_blocks += m.blocks;
    statistics_.blocks_written += rows * columns;
    m.marks[m.mark_count++] = {m.segment, m.birth, m.row + rows, m.named};
    ++b.in_flight;
    ++s.pieces;
    ++uncommitted_pieces_;
    u32 const row = m.row;
    m.row += rows;
    m.blocks = 0;
    if (m.row == rows_per_segment) {
        b.building = false;
        m.buffer = nullptr;
    }
    write_piece(s, b, Address{sum.address}.segment(), row, rows).detach();
}

Task Store::write_piece(MediaSession& s, SegmentBuffer& b, u64 segment, u32 row, u32 rows) {
    Batch batch;
    for (u32 d = 0; d < disks; ++d) {
        if (!live(d) || failing_[d]) continue;
        Io* io = nullptr;
        while (!(io = begin_io(DiskOperation::Write, d, disk_block(segment, row)))) {
            co_await changed();
        }
        for (u32 r = row; r < row + rows; ++r) io->data[io->count++] = b.at(d, r);
        start_io(*io, batch, nullptr, s.guaranteed ? Urgency::Guaranteed : Urgency::Log);
    }
    co_await batch;
    --b.in_flight;
    --s.pieces;
    drop_buffer(b);
    wake();
}

bool Store::may_commit() const {
    return (mutated(Mutant::CommitWhileSealing) || !changes_blocked_) &&
           dirty_user_ <= options_.frames / 4 && dirty_system_ <= options_.frames / 4 &&
           stream_mark_count_ + stream_set_max * marks_max < stream_marks_max &&
           ring_end_ - ring_begin_ + options_.frames + 1024 < options_.garbage_ring;
}

/// The time that every stream of the set has come past: each has all its frames before it.
i64 Store::common_end(MediaSession const& s, bool final) const {
    i64 end = INT64_MAX;
    for (u32 i = 0; i < s.count && !final; ++i) {
        MediaStream const& m = *s.stream[i];
        u64 const bytes = (m.blocks_committed + m.sealed_ready) * block_bytes;
        i64 past = m.last_time == INT64_MIN ? INT64_MIN : m.last_time + 1;
        for (u32 k = 0; k < m.frame_count; ++k) {
            if (m.frames[k].offset + m.frames[k].bytes <= bytes) continue;
            past = m.frames[k].time_ns;
            break;
        }
        if (past < end && (i == 0 || !mutated(Mutant::StreamEndsApart))) end = past;
    }
    return end;
}

/// How many of the frames that wait lie before `end` and in the first `bytes` bytes.
u32 Store::frames_until(MediaStream const& m, i64 end, u64 bytes) const {
    u32 n = 0;
    while (n < m.frame_count && m.frames[n].time_ns < end &&
           m.frames[n].offset + m.frames[n].bytes <= bytes) {
        ++n;
    }
    return n;
}

/// Gets (`change` false) or changes the blocks that one stream's part of a round takes.
bool Store::commit_frames(MediaStream& m, u32 frames, bool change) {
    Pnode* p = pnode_for_write(m.pnode);
    if (!p) return false;
    if (p->type != PnodeType::Stream ||
        (!mutated(Mutant::CommitLife) && p->generation != m.generation)) {
        fault_ = Error::Stale;
        return false;
    }
    if (!grow(m.pnode, capacity(stream_height))) return false;
    bool all = true;
    for (u32 i = 0; i < m.sealed_ready;) {
        u64 const block = m.blocks_committed + i;
        Frame* node = get_for_write(m.pnode, BlockKind::Data, 1, block / node_pointers);
        u32 const in_node = static_cast<u32>(block % node_pointers);
        u32 n = node_pointers - in_node;
        if (n > m.sealed_ready - i) n = m.sealed_ready - i;
        if (!node) all = false;
        if (node && change) {
            for (u32 k = in_node; k < in_node + n; ++k) {
                if (!node->pointers()[k].hole() && !mutated(Mutant::RecalledGarbage)) {
                    retire(node->pointers()[k]);
                }
            }
            std::memcpy(node->pointers() + in_node, m.sealed + i, n * sizeof(Pointer));
            mark_dirty(*node);
        }
        i += n;
    }
    for (u32 i = 0; i < frames;) {
        u64 const at = m.frames_committed + i;
        u32 const in_block = static_cast<u32>(at % index_records_per_block);
        Frame* f = get_for_write(m.pnode, BlockKind::Data, 0,
                                 stream_index_block + at / index_records_per_block);
        u32 n = index_records_per_block - in_block;
        if (n > frames - i) n = frames - i;
        if (!f) all = false;
        if (f && change) {
            std::memcpy(f->data + in_block * sizeof(IndexRecord), m.frames + i,
                        n * sizeof(IndexRecord));
            mark_dirty(*f);
        }
        i += n;
    }
    return all && pnode_for_write(m.pnode) != nullptr;
}

/// Makes what is on the disks part of the state, of all streams in one step. False: it waits, and
/// nothing has changed. errors: s.error
bool Store::commit_round(MediaSession& s, bool final) {
    if (!may_commit()) {
        ask_room();
        if (!changes_blocked_ && !may_commit()) want_flush();
        return false;
    }
    ++run_;
    fault_ = Error::None;
    missing_first_ = missing_last_ = nullptr;
    i64 const end = common_end(s, final);
    bool all = true;
    u32 frames[stream_set_max] = {};
    for (u32 i = 0; i < s.count; ++i) {
        MediaStream& m = *s.stream[i];
        u64 const blocks = m.blocks_committed + m.sealed_ready;
        u64 const bytes = m.bytes < blocks * block_bytes ? m.bytes : blocks * block_bytes;
        frames[i] = frames_until(m, end, bytes);
        // A frame of a recall is in the index already: it changes place with its first block.
        while (s.recall && frames[i] < m.frame_count && m.frames[frames[i]].offset < bytes) {
            ++frames[i];
        }
        all = commit_frames(m, frames[i], false) && all;
    }
    if (missing_first_) read_blocks(missing_first_).detach();
    missing_first_ = missing_last_ = nullptr;
    if (fault_ != Error::None) {
        s.error = fault_;
        fault_ = Error::None;
        return true;
    }
    if (!all) return false;
    bool const before = durable_group_ >= s.commit_group || mutated(Mutant::RecordedBefore);
    s.commit_group = group_ + 1;
    for (u32 i = 0; i < s.count; ++i) {
        MediaStream& m = *s.stream[i];
        if (before) m.frames_before = m.frames_committed;
        bool const done = commit_frames(m, frames[i], true);
        ASSERT(done);
        m.blocks_committed += m.sealed_ready;
        m.frames_committed += frames[i];
        Pnode& p = *pnode_for_write(m.pnode);
        p.stream_run = static_cast<u8>(m.run_least);
        if (s.recall) {
            mark_dirty(*find(pnode_file, BlockKind::Data, 0, m.pnode / pnodes_per_block));
        } else {
            p.tree.size = m.blocks_committed * block_bytes;
            if (p.tree.size > m.bytes) p.tree.size = m.bytes;
            p.entries = m.frames_committed;
            p.stream_set = s.stream[0]->pnode;
            p.directory_free = m.rate;
            stamp(p, true);
        }
        for (u32 k = 0; k < m.marks_ready; ++k) {
            StreamMark const& mark = m.marks[k];
            set_segment(mark.segment,
                        SegmentEntry::of(SegmentUse::Stream, mark.rows, mark.blocks, mark.birth));
            StreamMark* last =
                stream_mark_count_ ? &stream_marks_[stream_mark_count_ - 1] : nullptr;
            if (last && last->segment == mark.segment) {
                *last = mark;
            } else {
                stream_marks_[stream_mark_count_++] = mark;
            }
        }
        uncommitted_pieces_ -= m.marks_ready;
        m.sealed_count -= m.sealed_ready;
        m.mark_count -= m.marks_ready;
        m.frame_count -= frames[i];
        std::memmove(m.sealed, m.sealed + m.sealed_ready, m.sealed_count * sizeof(Pointer));
        std::memmove(m.marks, m.marks + m.marks_ready, m.mark_count * sizeof(StreamMark));
        std::memmove(m.frames, m.frames + frames[i], m.frame_count * sizeof(IndexRecord));
        m.sealed_ready = m.marks_ready = 0;
    }
    ++statistics_.stream_rounds;
    return true;
}

/// Gives back what the session has; segments that nothing refers to are free again.
void Store::end_session(MediaSession& s) {
    for (u32 i = 0; i < s.count; ++i) {
        MediaStream& m = *s.stream[i];
        uncommitted_pieces_ -= m.mark_count;
        // Sealed pieces that did not become part of the state lie in segments that may be taken.
        for (u32 k = 0; k < m.mark_count; ++k) {
            if (segments_[m.marks[k].segment] != reserved_flag) continue;
            segment_is_free(m.marks[k].segment);
        }
        if (m.buffer) {
            if (segments_[m.segment] == reserved_flag) segment_is_free(m.segment);
            m.buffer->building = false;
            drop_buffer(*m.buffer);
        }
        for (; m.run_next < m.run_end; ++m.run_next) segment_is_free(m.run_next);
        m.buffer = nullptr;
        m.pnode = 0;
    }
    s.ended = true;
    wake();
}

/// Whether the session's task has to end a round now.
bool Store::round_due(MediaSession const& s) const {
    if (health_ != Health::Mounted || unmount_wanted_) return true;
    if (hold_streams_) {
        // Only what is on its way already becomes part of the state.
        for (u32 i = 0; i < s.count; ++i) {
            if (s.stream[i]->mark_count > 0) return true;
        }
        return false;
    }
    return s.closing || s.hurry || s.error != Error::None || now_ >= s.round_end;
}

/// Ends the rounds of a session, one after the other.
Task Store::record_task(MediaSession& s) {
    for (;;) {
        while (!round_due(s)) co_await changed();
        bool last = !hold_streams_ && (s.closing || s.error != Error::None);
        while (s.round_end <= now_) s.round_end += options_.media_round;
        s.hurry = false;
        for (u32 i = 0; i < s.count && !hold_streams_; ++i) {
            MediaStream& m = *s.stream[i];
            while (last && m.tail_bytes > 0 && s.error == Error::None) {
                // The tail may need a new segment, and that a buffer.
                seal_piece(s, m, true);
                if (m.tail_bytes > 0 && s.error == Error::None) co_await changed();
            }
            seal_piece(s, m, false);
        }
        s.frozen = true;
        while (s.pieces > 0 && !mutated(Mutant::RoundWrites)) co_await changed();
        for (u32 i = 0; i < s.count; ++i) {
            MediaStream& m = *s.stream[i];
            m.sealed_ready = m.sealed_count;
            m.marks_ready = m.mark_count;
        }
        s.frozen = false;
        wake();
        if (!mutated(Mutant::RoundFlush)) co_await flush_disks();
        bool committed = false;
        while (!committed) {
            if (health_ != Health::Mounted || unmount_wanted_) {
                s.error = health_ == Health::ReadOnly ? Error::ReadOnly : Error::Busy;
                break;
            }
            Error const before = s.error;
            bool const whole = last && before == Error::None && !s.cut;
            if (commit_round(s, whole)) {
                if (s.error != before) break;
                committed = true;
            } else {
                co_await changed();
            }
        }
        u64 const group = group_ + 1;
        want_flush();
        if (committed && !last) continue;
        while (committed && !mutated(Mutant::CloseGroup) && durable_group_ < group &&
               health_ == Health::Mounted && !unmount_wanted_) {
            co_await changed();
        }
        while (s.pieces > 0 && !mutated(Mutant::ClosePieces)) co_await changed();
        end_session(s);
        co_return;
    }
}

}  // namespace nemesis::fs
