// Sets of streams, the agent's side: batches to the server and from it, a window ahead, and what
// becomes of them when messages get lost or the server is another one.

#include "fs/agent/media.h"

#include <cstring>
#include <new>

#include "fs/core/mutant.h"

namespace nemesis::fs {
namespace {

u32 smaller(u64 a, u64 b) { return static_cast<u32>(a < b ? a : b); }

/// Bytes of a recorded batch: control records, then frames.
u64 batch_bytes_of(MediaRequest const& r) {
    return r.control_count * sizeof(ControlRecord) + r.length;
}

}  // namespace

std::size_t AgentMedia::memory_needed(MediaSizes const& z) {
    return z.streams * (sizeof(Stream) + z.ahead * (sizeof(Slot) + std::size_t{z.batch_bytes})) +
           128;
}

AgentMedia::AgentMedia(Arena& arena, MediaHost& host, MediaSizes sizes, Duration retry)
    : host_(host), sizes_(sizes), retry_(retry) {
    ASSERT(sizes.ahead > 0 && sizes.ahead <= batches_ahead_max);
    ASSERT(sizes.batch_bytes <= batch_bytes_max);
    streams_ = arena.carve<Stream>(sizes.streams);
    Slot* const slots = arena.carve<Slot>(std::size_t{sizes.streams} * sizes.ahead);
    u8* const data = arena.carve<u8>(std::size_t{sizes.streams} * sizes.ahead * sizes.batch_bytes);
    ASSERT(!arena.exhausted());
    for (u32 i = 0; i < sizes.streams; ++i) {
        new (&streams_[i]) Stream;
        streams_[i].slots = slots + std::size_t{i} * sizes.ahead;
        for (u32 k = 0; k < sizes.ahead; ++k) {
            Slot* const slot = new (&streams_[i].slots[k]) Slot;
            slot->data = data + (std::size_t{i} * sizes.ahead + k) * sizes.batch_bytes;
        }
    }
}

AgentMedia::Set* AgentMedia::set_of(u64 number) {
    Set& s = sets_[number % media_sets_max];
    bool const its = s.number == number || mutated(Mutant::SetNumber);
    return its && s.state != State::Free ? &s : nullptr;
}

void AgentMedia::finish(MediaRequest& r, Error error) {
    r.error = error;
    r.done = true;
    r.next = nullptr;
    if (r.completed) r.completed(r);
}

void AgentMedia::push(Stream& t, MediaRequest& r) {
    (t.first ? t.last->next : t.first) = &r;
    t.last = &r;
}

/// The stream's first request is done.
void AgentMedia::pop(Stream& t, Error error) {
    MediaRequest& r = *t.first;
    t.first = r.next;
    if (!t.first) t.last = nullptr;
    finish(r, error);
}

/// All that waits for the set, but its end; whoever is told may close it or open another one.
void AgentMedia::fail_all(Set& s, Error error) {
    u64 const number = s.number;
    auto const there = [&] { return s.state != State::Free && s.number == number; };
    if (MediaRequest* const r = s.seeking) {
        s.seeking = nullptr;
        finish(*r, error);
    }
    for (u32 i = 0; there() && i < s.count; ++i) {
        while (there() && s.stream[i]->first) pop(*s.stream[i], error);
        if (there()) s.stream[i]->begun = s.stream[i]->taken;
    }
}

void AgentMedia::free(Set& s) {
    for (u32 i = 0; i < s.count; ++i) {
        if (s.stream[i]) s.stream[i]->used = false;
    }
    s = Set{};
}

void AgentMedia::clear_slots(Set& s) {
    for (u32 i = 0; i < s.count; ++i) {
        Stream& t = *s.stream[i];
        t.batch = 0;
        t.frame = t.at = 0;
        for (u32 k = 0; k < sizes_.ahead; ++k) t.slots[k] = Slot{.data = t.slots[k].data};
    }
}

// --- requests ------------------------------------------------------------------------------------

void AgentMedia::submit(MediaRequest& r, Instant now) {
    now_ = now;
    r.done = false;
    r.error = Error::None;
    r.count = 0;
    r.next = nullptr;
    r.came = 0;
    if (r.op == Op::OpenStreams) {
        open(r);
        return;
    }
    Set* const s = set_of(r.set);
    if (!s || s->state == State::Opening || s->closing) {
        finish(r, Error::Invalid);
        return;
    }
    if (r.op == Op::CloseStreams) {
        if (s->error == Error::SetLost) {
            free(*s);
            finish(r, Error::SetLost);
            return;
        }
        s->closing = &r;
        go_on(*s);
    } else if (s->error != Error::None) {
        finish(r, s->error);
    } else if (r.op == Op::Seek) {
        if (!s->playing || r.speed == 0) {
            finish(r, Error::Invalid);
        } else if (s->seeking) {
            finish(r, Error::Busy);
        } else {
            ++s->seek;
            s->seeking = &r;
            clear_slots(*s);
            send_seek(*s);
        }
    } else if (r.stream >= s->count || r.op != (s->playing ? Op::PlayFrame : Op::Record)) {
        finish(r, Error::Invalid);
    } else if (s->playing) {
        Stream& t = *s->stream[r.stream];
        if (!t.first) s->retry_at = now_ + retry_;
        push(t, r);
        deliver(*s, r.stream);
    } else {
        record(*s, r);
    }
}

void AgentMedia::open(MediaRequest& r) {
    Set* s = nullptr;
    u32 place = 0;
    for (u32 i = 0; i < media_sets_max && !s; ++i) {
        place = i;
        if (sets_[i].state == State::Free) s = &sets_[i];
    }
    u32 free_streams = 0;
    for (u32 i = 0; i < sizes_.streams; ++i) free_streams += streams_[i].used ? 0 : 1;
    bool sound = r.streams_count > 0 && r.streams_count <= stream_set_max && r.speed != 0;
    for (u32 i = 0; sound && i < r.streams_count; ++i) {
        sound = host_.media_file(r.streams[i].file).pnode != 0;
    }
    if (!sound || !s || free_streams < r.streams_count) {
        finish(r, sound ? Error::TooManyOpen : Error::Invalid);
        return;
    }
    *s = Set{};
    s->state = State::Opening;
    s->number = ++opened_[place] * media_sets_max + place;
    s->playing = (r.flags & stream_play) != 0;
    s->opening = &r;
    for (u32 i = 0; i < sizes_.streams && s->count < r.streams_count; ++i) {
        Stream& t = streams_[i];
        if (t.used) continue;
        t = Stream{.used = true, .slots = t.slots};
        s->stream[s->count++] = &t;
    }
    clear_slots(*s);
    send_open(*s);
}

/// What the core would refuse is refused here, without an end to the recording.
void AgentMedia::record(Set& s, MediaRequest& r) {
    Stream& t = *s.stream[r.stream];
    u64 sum = 0;
    i64 time = t.last_time;
    bool sound = r.control_count > 0 && r.control_count <= batch_frames_max;
    for (u32 i = 0; sound && i < r.control_count; ++i) {
        sound = r.control[i].time_ns > time && r.control[i].bytes > 0;
        time = r.control[i].time_ns;
        sum += r.control[i].bytes;
    }
    if (!sound || sum != r.length) {
        finish(r, Error::Invalid);
    } else if (batch_bytes_of(r) > s.batch_bytes) {
        r.count = s.batch_bytes;
        finish(r, Error::TooBig);
    } else {
        t.last_time = time;
        push(t, r);
        go_on(s);
    }
}

/// What the windows have room for; and the end, when all before it is done.
void AgentMedia::go_on(Set& s) {
    if (s.state != State::Open) return;
    bool recording = false;
    for (u32 i = 0; !s.playing && i < s.count; ++i) {
        Stream& t = *s.stream[i];
        u64 batch = t.taken;
        for (MediaRequest* r = t.first; r && batch < t.taken + s.ahead; r = r->next, ++batch) {
            if (batch < t.begun) continue;
            if (t.begun == t.taken) s.retry_at = now_ + retry_;
            ++t.begun;
            send_batch(s, i, batch, *r, all_parts(batch_bytes_of(*r)));
        }
        recording = recording || t.first;
    }
    if (!s.closing || recording) return;
    s.state = State::Closing;
    fail_all(s, Error::SetLost);
    send_again(s);
}

// --- sending -------------------------------------------------------------------------------------

void AgentMedia::send_open(Set& s) {
    MediaRequest const& r = *s.opening;
    StreamRef data[stream_set_max] = {};
    for (u32 i = 0; i < s.count; ++i) {
        data[i] = {host_.media_file(r.streams[i].file), r.streams[i].rate};
    }
    Message m;
    m.kind = MessageKind::Open;
    m.number = s.number;
    m.flags = r.flags & stream_play;
    m.offset = static_cast<u64>(r.time_ns);
    m.links = static_cast<u32>(r.speed);
    m.size = sizes_.batch_bytes;
    m.mode = static_cast<u16>(sizes_.ahead);
    m.count = s.count;
    s.retry_at = now_ + retry_;
    host_.send_media(m, nullptr, 0, reinterpret_cast<u8 const*>(data),
                     static_cast<u32>(s.count * sizeof(StreamRef)));
}

void AgentMedia::send_seek(Set& s) {
    Message m;
    m.kind = MessageKind::Seek;
    m.number = s.number;
    name_batch(m, {0, 0, s.seek});
    m.offset = static_cast<u64>(s.seeking->time_ns);
    m.links = static_cast<u32>(s.seeking->speed);
    s.retry_at = now_ + retry_;
    host_.send_media(m, nullptr, 0, nullptr, 0);
}

/// Those of its parts: control records and frames lie in two pieces of memory.
void AgentMedia::send_batch(Set& s, u32 stream, u64 batch, MediaRequest const& r, u64 parts) {
    u64 const head = r.control_count * sizeof(ControlRecord);
    u64 const bytes = batch_bytes_of(r);
    Message m;
    m.kind = MessageKind::Batch;
    m.number = s.number;
    name_batch(m, {batch, stream, 0});
    m.count = bytes;
    m.links = r.control_count;
    for (u32 i = 0; i < parts_of(bytes); ++i) {
        if (!(parts >> i & 1)) continue;
        m.offset = u64{i} * message_data_max;
        u32 const length = smaller(bytes - m.offset, message_data_max);
        // Control records are fewer than a part's bytes.
        u32 const of_head = i == 0 ? static_cast<u32>(head) : 0;
        u64 const from = i == 0 ? 0 : m.offset - head;
        host_.send_media(m, reinterpret_cast<u8 const*>(r.control), of_head, r.buffer + from,
                         length - of_head);
    }
}

/// Says which batch is wanted next; `repeat`: and that `again` has not come, or not all of it.
void AgentMedia::send_fetch(Set& s, u32 stream, u64 again, bool repeat) {
    Stream& t = *s.stream[stream];
    Message m;
    m.kind = MessageKind::Fetch;
    m.number = s.number;
    name_batch(m, {t.batch, stream, s.seek});
    m.offset = again;
    m.count = repeat ? slot(s, t, again).came : 0;
    m.flags = repeat ? message_again : 0;
    host_.send_media(m, nullptr, 0, nullptr, 0);
}

/// All that has no answer, once more.
void AgentMedia::send_again(Set& s) {
    s.retry_at = now_ + retry_;
    if (s.state == State::Opening) {
        send_open(s);
        return;
    }
    if (s.state == State::Closing) {
        Message m;
        m.kind = MessageKind::Close;
        m.number = s.number;
        host_.send_media(m, nullptr, 0, nullptr, 0);
        return;
    }
    if (s.seeking) send_seek(s);
    for (u32 i = 0; i < s.count; ++i) {
        Stream& t = *s.stream[i];
        u64 batch = t.taken;
        for (MediaRequest* r = t.first; !s.playing && r && batch < t.begun; r = r->next, ++batch) {
            u64 missing = all_parts(batch_bytes_of(*r)) & ~r->came;
            // All of it is there: whether it has been taken is asked with a part.
            if (missing == 0 && batch == t.taken) missing = 1;
            send_batch(s, i, batch, *r, missing);
        }
        for (u64 b = t.batch; s.playing && t.first && b < t.batch + s.ahead; ++b) {
            Slot const& slot = this->slot(s, t, b);
            if (!slot.known || slot.came != all_parts(slot.bytes)) send_fetch(s, i, b, true);
        }
    }
}

// --- receiving -----------------------------------------------------------------------------------

void AgentMedia::receive(Received const& received, Instant now) {
    now_ = now;
    Message const& m = received.header;
    Set* const s = set_of(m.number);
    if (!s || !sound_media(m)) return;
    switch (m.kind) {
        case MessageKind::Opened:
            if (s->state == State::Opening) opened(*s, m);
            break;
        case MessageKind::Taken:
            if (s->state == State::Open && !s->playing) taken(*s, m);
            break;
        case MessageKind::Batch:
            if (s->state == State::Open && s->playing) batch(*s, received);
            break;
        case MessageKind::Sought:
            if (s->seeking && (batch_of(m).seek == s->seek || mutated(Mutant::SoughtSeek))) {
                MediaRequest& r = *s->seeking;
                s->seeking = nullptr;
                s->error = static_cast<Error>(m.error);
                finish(r, s->error);
            }
            break;
        case MessageKind::Closed:
            closed(*s, static_cast<Error>(m.error));
            break;
        default:
            break;
    }
}

void AgentMedia::opened(Set& s, Message const& m) {
    MediaRequest& r = *s.opening;
    s.opening = nullptr;
    r.count = m.count;
    Error const error = static_cast<Error>(m.error);
    if (error != Error::None) {
        free(s);
        finish(r, error);
        return;
    }
    s.state = State::Open;
    s.ahead = m.mode == 0 ? 1 : smaller(m.mode, sizes_.ahead);
    s.batch_bytes = smaller(m.size, sizes_.batch_bytes);
    r.set = s.number;
    r.count = 0;
    finish(r, error);
}

void AgentMedia::taken(Set& s, Message const& m) {
    u64 const number = s.number;
    u32 const stream = batch_of(m).stream;
    if (stream >= s.count) return;
    Stream& t = *s.stream[stream];
    s.retry_at = now_ + retry_;
    if (m.error != 0) {
        s.error = static_cast<Error>(m.error);
        fail_all(s, s.error);
        if (s.number == number) go_on(s);
        return;
    }
    if (m.size > t.on_disk) t.on_disk = m.size;
    u64 const batch = batch_of(m).batch;
    if (batch >= t.taken && batch < t.begun) {
        MediaRequest* r = t.first;
        for (u64 b = t.taken; b < batch; ++b) r = r->next;
        if (m.offset / message_data_max < batch_parts_max) {
            r->came |= u64{1} << m.offset / message_data_max;
        }
    }
    while (s.state == State::Open && s.number == number && t.taken < m.count &&
           (t.taken < t.begun || mutated(Mutant::TakenAhead)) && t.first) {
        ++t.taken;
        pop(t, Error::None);
    }
    if (s.number == number) go_on(s);
}

void AgentMedia::batch(Set& s, Received const& received) {
    Message const& m = received.header;
    BatchName const n = batch_of(m);
    if (n.stream >= s.count || m.count > sizes_.batch_bytes) return;
    if (n.seek != s.seek && !mutated(Mutant::PartSeek)) return;
    Stream& t = *s.stream[n.stream];
    if (n.batch < t.batch || n.batch - t.batch >= s.ahead) return;
    Slot& slot = this->slot(s, t, n.batch);
    if (!slot.known) {
        slot.known = true;
        slot.bytes = static_cast<u32>(m.count);
        slot.frames = m.links;
        slot.flags = m.flags & message_end;
        slot.error = m.error;
    } else if (slot.bytes != m.count || slot.frames != m.links) {
        return;
    }
    std::memcpy(slot.data + m.offset, received.data, m.data_length);
    slot.came |= u64{1} << m.offset / message_data_max;
    s.retry_at = now_ + retry_;
    deliver(s, n.stream);
}

/// What has come to those who wait for it.
void AgentMedia::deliver(Set& s, u32 stream) {
    u64 const number = s.number;
    while (s.state == State::Open && s.number == number && deliver_one(s, stream)) {
    }
}

bool AgentMedia::deliver_one(Set& s, u32 stream) {
    Stream& t = *s.stream[stream];
    if (!t.first) return false;
    Slot& slot = this->slot(s, t, t.batch);
    bool const all = slot.came == all_parts(slot.bytes) || mutated(Mutant::PlaysParts);
    if (!slot.known || !all) return false;
    MediaRequest& r = *t.first;
    bool const ends = slot.flags != 0;
    Error error = static_cast<Error>(slot.error);
    bool const sound = sound_batch(slot.data, slot.bytes, slot.frames);
    if (!sound || (slot.frames == 0 && !ends && error == Error::None)) {
        s.error = Error::Damaged;  // no server of ours sends that
        fail_all(s, s.error);
        return false;
    }
    bool consumed = slot.frames == 0 && !ends;
    if (slot.frames > 0) {
        error = Error::None;
        ControlRecord c;
        std::memcpy(&c, slot.data + t.frame * sizeof c, sizeof c);
        r.count = c.bytes;
        r.time_ns = c.time_ns;
        if (c.bytes > r.length) {
            error = Error::Invalid;
        } else {
            std::memcpy(r.buffer, slot.data + slot.frames * sizeof c + t.at, c.bytes);
            t.at += c.bytes;
            consumed = ++t.frame == slot.frames;
        }
    }
    if (consumed) {
        slot = Slot{.data = slot.data};
        ++t.batch;
        t.frame = t.at = 0;
        send_fetch(s, stream, 0, false);
    }
    pop(t, error);
    return true;
}

/// The server has the set no more.
void AgentMedia::closed(Set& s, Error error) {
    if (s.state == State::Open) {
        s.error = Error::SetLost;
        u64 const number = s.number;
        fail_all(s, s.error);
        if (s.number != number || !s.closing) return;
        error = s.error;
    }
    MediaRequest& r = s.state == State::Opening ? *s.opening : *s.closing;
    bool const gone = s.state == State::Opening || !s.playing;
    if (s.state == State::Opening && error == Error::None) error = Error::SetLost;
    free(s);
    finish(r, gone || error != Error::SetLost ? error : Error::None);
}

void AgentMedia::begin_session() {
    for (Set& s : sets_) {
        if (s.state == State::Opening) s.retry_at = now_;
        if (s.state == State::Open || s.state == State::Closing) closed(s, Error::SetLost);
    }
}

// --- time ----------------------------------------------------------------------------------------

bool AgentMedia::waits(Set const& s) const {
    if (s.state == State::Opening || s.state == State::Closing || s.seeking) return true;
    bool any = false;
    for (u32 i = 0; s.state == State::Open && i < s.count; ++i) {
        any = any || s.stream[i]->first;
    }
    return any;
}

void AgentMedia::advance(Instant now) {
    now_ = now;
    if (!host_.media_active()) return;
    for (Set& s : sets_) {
        if (waits(s) && now_ >= s.retry_at) send_again(s);
    }
}

Instant AgentMedia::next_deadline() const {
    Instant t = Instant::never();
    if (!host_.media_active()) return t;
    for (Set const& s : sets_) {
        if (waits(s) && s.retry_at < t) t = s.retry_at;
    }
    return t;
}

u64 AgentMedia::frames_on_disk(u64 set, u32 stream) const {
    Set const& s = sets_[set % media_sets_max];
    if (s.state == State::Free || stream >= s.count) return 0;
    return s.number == set || mutated(Mutant::OnDiskOther) ? s.stream[stream]->on_disk : 0;
}

void AgentMedia::check_invariants() const {
    for (Set const& s : sets_) {
        if (s.state == State::Free) continue;
        ASSERT(s.state != State::Opening || s.opening);
        ASSERT(s.state != State::Closing || s.closing);
        for (u32 i = 0; s.state == State::Open && i < s.count; ++i) {
            Stream const& t = *s.stream[i];
            ASSERT(t.begun >= t.taken && t.begun - t.taken <= s.ahead);
            u64 waiting = 0;
            for (MediaRequest const* r = t.first; r; r = r->next) ++waiting;
            ASSERT(s.playing || waiting >= t.begun - t.taken);
        }
    }
}

}  // namespace nemesis::fs
