// Playing streams at a guaranteed rate: sessions, frames and rounds.
//
// The index says in which segments a frame lies; these are read whole (loads.cpp), as a run where
// they lie side by side. Rounds: at the start of one, each guaranteed stream asks for as many
// segments, with as many requests, as were admitted for it, if frames that wait for the client
// leave it the memory; they have to be ready when the round ends. Blocks of the index are read a
// round ahead. Nothing of a stream's data goes through the cache, but for what is not where the
// index says.
//
// A frame is asked for in the order of play: forwards, backwards, every nth one when the speed is
// above 1. Then, too, a stream makes no more requests in a round: it shows frames of the segment at
// the beginning of each slot of time and skips to the next slot.

#include <cstring>

#include "fs/core/store.h"

namespace nemesis::fs {

/// The session's load beside what is admitted already. errors: see op_open_streams
bool Store::admit(Request& r, StreamShape const* shape, RoundLoad* load) {
    *load = RoundLoad{};
    bool any = false;
    Duration const round = options_.media_round;
    for (u32 i = 0; i < r.streams_count; ++i) {
        if (r.streams[i].rate == 0) continue;
        any = true;
        *load = *load + load_of(r.streams[i].rate, round, shape[i]);
        u64 const segments = segments_of(r.streams[i].rate, round);
        if (segments > options_.media_run && !shape[i].record) {
            r.count = r.streams[i].rate / segments * options_.media_run;
            r.error = Error::NoBandwidth;  // more than its memory holds
            return false;
        }
    }
    if (!any) return true;
    if (!options_.disk_model.known()) {
        r.error = Error::NotSupported;
        return false;
    }
    if (fits(options_.disk_model, admitted_ + *load, round, options_.media_reserve_percent)) {
        return true;
    }
    r.count = largest_rate(options_.disk_model, admitted_, round, options_.media_reserve_percent,
                           shape[0]);
    r.error = Error::NoBandwidth;
    return false;
}

void Store::recount_guarantees() {
    guaranteed_ = 0;
    recorded_ahead_ = 0;
    admitted_ = RoundLoad{};
    for (u32 i = 0; i < options_.media_streams; ++i) {
        MediaSession const& s = sessions_[i];
        if (!s.used || !s.guaranteed) continue;
        ++guaranteed_;
        admitted_ = admitted_ + s.load;
        if (!s.playing) recorded_ahead_ += s.load.segments * recorded_rounds;
    }
    u64 const most = superblock_.segments / 8;
    if (recorded_ahead_ > most) recorded_ahead_ = most;
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
        ++m.seeks;
        m.sought = m.issue_ended = false;
        m.poke = true;
        m.asking = SegmentRange{};
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
    if (!s->playing || s->closing || r.offset >= s->count) return finish(r, Error::Invalid);
    MediaStream& m = *s->stream[r.offset];
    if (r.scratch != m.seeks) r.progress = 0;  // another frame is the next one
    r.scratch = m.seeks;
    if (m.frame_count == 0) {
        if (s->error != Error::None) return finish(r, s->error);
        if (!m.issue_ended) return false;
        r.count = 0;
        return finish(r, Error::None);
    }
    IndexRecord const f = m.frames[0];
    r.count = f.bytes;
    if (f.bytes > r.length) return finish(r, Error::Invalid);
    for (u32 i = 0; i < buffers_per_stream(options_); ++i) {
        Load const* l = m.own[i];
        if (l && !l->ready && !l->failed && needs(m, m.needed[0], l->segment)) return false;
    }
    bool failed = false;
    while (r.progress < f.bytes && !failed) {
        u64 const at = f.offset + r.progress;
        u64 const from = at % block_bytes;
        u64 const rest = f.bytes - r.progress;
        u64 const n = block_bytes - from < rest ? block_bytes - from : rest;
        Load const* l = load_of_block(m, at / block_bytes);
        u8 const* block = nullptr;
        if (l) {
            Address const a = l->pointers[at / block_bytes - l->first].address;
            block = l->at(a.column(), a.row());
        } else {
            // Moved by the cleaner, or beyond what the segment's other disks can make good.
            ++run_;
            Frame const* frame = get(m.pnode, BlockKind::Data, 0, at / block_bytes);
            if (!frame && fault_ == Error::None) return false;
            failed = !frame;
            block = frame ? frame->data : nullptr;
        }
        if (block) std::memcpy(r.buffer + r.progress, block + from, n);
        r.progress += n;
    }
    fault_ = Error::None;
    r.time_ns = f.time_ns;
    --m.frame_count;
    std::memmove(m.frames, m.frames + 1, m.frame_count * sizeof(IndexRecord));
    std::memmove(m.needed, m.needed + 1, m.frame_count * sizeof(SegmentRange));
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
    SegmentRange range{f.address.segment(), f.address.segment(), true};
    if (m.issue + 1 < m.frames_all) {
        IndexRecord after;
        if (index_record(m, m.issue + 1, &after) != Found::Yes) return false;
        range.last = after.address.segment();
    }
    // Not in a stream's segment: moved, so op_play_frame follows the tree.
    auto const streams = [&](u64 n) {
        return n < superblock_.segments && SegmentEntry{segments_[n]}.use() == SegmentUse::Stream;
    };
    range.any = streams(range.first) && streams(range.last);
    bool const one_run = range.first / m.run == range.last / m.run;
    if (one_run && range.last < range.first) range.any = false;
    m.asking = range;
    for (u64 n = range.first; range.any;) {
        if (!ask_segment(s, m, n, f.time_ns)) return m.issue_moved;
        if (n == range.last) break;
        bool const run_ends = n / m.run != range.last / m.run && n % m.run + 1 == m.run;
        n = run_ends ? range.last - range.last % m.run : n + 1;
    }
    m.needed[m.frame_count] = range;
    m.frames[m.frame_count++] = f;
    if (next_frame(s, m, m.issue, &m.issue) != Found::Yes) m.issue_ended = true;
    m.asking = SegmentRange{};
    return true;
}

/// Sees to it that a segment of the frame at `time_ns` is there or on its way. False: it waits, or
/// (m.issue_moved) another frame is next.
bool Store::ask_segment(MediaSession& s, MediaStream& m, u64 segment, i64 time_ns) {
    m.issue_moved = false;
    if (Load* have = load_of_segment(m, segment)) {
        have->newest = ++load_use_;
        return true;
    }
    bool const fast = s.speed >= 2000 || s.speed <= -2000;
    bool const skip = fast && m.slot_end != INT64_MIN && segment == m.asking.first &&
                      (s.speed > 0 ? time_ns < m.slot_end : time_ns > m.slot_end);
    if (skip) {
        u64 n = 0;
        if (find_time(m, m.slot_end, &n) != Found::Yes) return false;
        if (n != m.issue && (s.speed > 0) == (n > m.issue)) {
            m.issue = n;
            m.issue_moved = true;
            return false;
        }
    }
    if (m.spent >= m.budget || m.spent_requests >= m.budget_requests) {
        // The round's share is used up; what the next one needs of the index may come.
        u64 const far =
            s.speed > 0 ? m.issue + index_records_per_block : m.issue - index_records_per_block;
        IndexRecord ahead;
        if (far < m.frames_all) index_record(m, far, &ahead);
        m.poke = false;
        return false;
    }
    Found const found = plan_load(s, m, segment, fast);
    if (found == Found::No) {
        if (s.guaranteed) m.spent = m.budget;
        m.poke = false;
    }
    if (found != Found::Yes) return false;
    if (fast) {
        i64 const slot = options_.media_round.ns() / m.budget_requests / 1000 * s.speed;
        m.slot_end = time_ns + slot;
    }
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
    ++media_round_;
    while (media_round_end_ <= now_) media_round_end_ += options_.media_round;
    for (u32 i = 0; i < options_.media_streams; ++i) {
        media_[i].spent = media_[i].spent_requests = 0;
        media_[i].poke = true;
    }
}

void Store::close_play(MediaSession& s) {
    for (u32 i = 0; i < s.count; ++i) {
        MediaStream& m = *s.stream[i];
        for (u32 k = 0; k < buffers_per_stream(options_); ++k) {
            Load* const l = m.own[k];
            if (!l) continue;
            m.own[k] = nullptr;
            drop_load(*l);
        }
        m.pnode = 0;
        m.frame_count = 0;
    }
}

/// A disk that cannot keep up with what is recorded would hold up all that is made durable, and
/// then the recorder: what is asked for in one round is done at the end of the next, or the disk
/// goes.
void Store::leave_late_disks() {
    for (u32 i = 0; i < io_count(options_); ++i) {
        Io const& io = ios_[i];
        bool const behind = io.used && io.operation == DiskOperation::Write &&
                            io.urgency == Urgency::Guaranteed &&
                            now_ - io.asked > options_.media_round * 2;
        if (behind && live(io.disk) && !failing_[io.disk]) give_up(io.disk);
    }
}

/// The rounds of all that plays or is recorded at a guaranteed rate.
Task Store::play_task() {
    play_task_runs_ = true;
    media_round_end_ = now_ + options_.media_round;
    media_look_ = now_ + options_.media_round / 8;
    for (;;) {
        if (now_ >= media_round_end_) end_round();
        if (now_ >= media_look_) {
            pass_by_slow_disks();
            leave_late_disks();
            media_look_ = now_ + options_.media_round / 8;
        }
        bool any = false;
        for (u32 i = 0; i < options_.media_streams; ++i) {
            MediaSession& s = sessions_[i];
            if (!s.used || s.ended || (!s.playing && !s.guaranteed)) continue;
            any = true;
            if (!s.playing) continue;
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
