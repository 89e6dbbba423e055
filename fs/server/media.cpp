// Sets of streams, the server's side.

#include "fs/server/media.h"

#include <cstring>
#include <new>

#include "fs/core/mutant.h"

namespace nemesis::fs {
namespace {

u32 smaller(u64 a, u64 b) { return static_cast<u32>(a < b ? a : b); }

constexpr u32 record_bytes = sizeof(ControlRecord);

}  // namespace

std::size_t ServerMedia::stream_bytes(MediaServing const& z) {
    return z.ahead * (std::size_t{z.batch_bytes} + control_bytes) + z.batch_bytes;
}

std::size_t ServerMedia::memory_needed(MediaServing const& z, u32 sessions) {
    return std::size_t{sessions} * media_sets_max * (sizeof(Set) + sizeof(Past)) +
           z.streams * (sizeof(Stream) + z.ahead * sizeof(Slot) + stream_bytes(z)) + 256;
}

ServerMedia::ServerMedia(Arena& arena, Store& store, MediaOut& out, MediaServing sizes,
                         u32 sessions)
    : store_(store), out_(out), sizes_(sizes), sets_max_(sessions * media_sets_max) {
    ASSERT(sizes.ahead > 0 && sizes.ahead <= batches_ahead_max);
    ASSERT(sizes.batch_bytes <= batch_bytes_max && sizes.batch_bytes > 2 * control_bytes);
    ASSERT(sizes.batch_bytes % alignof(ControlRecord) == 0);
    sets_ = arena.carve<Set>(sets_max_);
    past_ = arena.carve<Past>(sets_max_);
    streams_ = arena.carve<Stream>(sizes.streams);
    Slot* const slots = arena.carve<Slot>(std::size_t{sizes.streams} * sizes.ahead);
    u8* data = arena.carve<u8>(sizes.streams * stream_bytes(sizes), alignof(ControlRecord));
    ASSERT(!arena.exhausted());
    for (u32 i = 0; i < sets_max_; ++i) {
        new (&sets_[i]) Set;
        new (&past_[i]) Past;
    }
    for (u32 i = 0; i < sizes.streams; ++i) {
        Stream& t = *new (&streams_[i]) Stream;
        t.slots = slots + std::size_t{i} * sizes.ahead;
        for (u32 k = 0; k < sizes.ahead; ++k) {
            Slot* const slot = new (&t.slots[k]) Slot;
            slot->data = data;
            data += sizes.batch_bytes + control_bytes;
        }
        t.landing = data;
        data += sizes.batch_bytes;
    }
}

/// The session's set in that place of its table.
ServerMedia::Set* ServerMedia::set_of(u32 session, u64 place) {
    for (u32 i = 0; i < sets_max_; ++i) {
        Set& s = sets_[i];
        bool const its = s.state != State::Free && !s.orphan &&
                         (s.session == session || mutated(Mutant::MediaSession));
        if (its && s.number % media_sets_max == place % media_sets_max) return &s;
    }
    return nullptr;
}

void ServerMedia::clear_slots(Stream& t, u32 count) {
    for (u32 k = 0; k < count; ++k) clear(t.slots[k]);
}

void ServerMedia::clear(Slot& slot) {
    Slot fresh;
    fresh.data = slot.data;
    slot = fresh;
}

bool ServerMedia::serves(u32 session) const {
    bool any = false;
    for (u32 i = 0; i < sets_max_; ++i) {
        Set const& s = sets_[i];
        any = any || (s.state != State::Free && !s.orphan && s.session == session);
    }
    return any;
}

u32 ServerMedia::streams_used() const {
    u32 n = 0;
    for (u32 i = 0; i < sizes_.streams; ++i) n += streams_[i].set ? 1 : 0;
    return n;
}

void ServerMedia::receive(u32 session, Received const& r) {
    Message const& m = r.header;
    if (!sound_media(m) || m.number < media_sets_max) return;
    if (m.kind == MessageKind::Open) {
        open(session, r);
        return;
    }
    Set* const s = set_of(session, m.number);
    bool const its = s && (s->number == m.number || mutated(Mutant::MediaSet));
    if (!its) {
        Past const& past = past_of(session, m.number);
        bool const known = past.number == m.number && !mutated(Mutant::PastForgotten);
        send_closed(session, m.number, known ? past.error : Error::SetLost);
        return;
    }
    if (m.kind == MessageKind::Close) {
        s->close_wanted = true;
        return;
    }
    if (s->state != State::Open || s->close_wanted) return;
    if (m.kind == MessageKind::Batch && !s->playing) batch(*s, r);
    if (m.kind == MessageKind::Fetch && s->playing) fetch(*s, m);
    if (m.kind == MessageKind::Seek && s->playing) seek(*s, m);
}

// --- opening and closing -------------------------------------------------------------------------

void ServerMedia::open(u32 session, Received const& r) {
    Message const& m = r.header;
    if (Set* const old = set_of(session, m.number)) {
        if (old->number == m.number || mutated(Mutant::OpenSame)) {
            if (old->state == State::Open) send_opened(*old);
        } else if (m.number > old->number || mutated(Mutant::OpenOlder)) {
            old->cut = old->close_wanted = true;  // its agent knows it no more, and asks again
        }
        return;
    }
    Past const& past = past_of(session, m.number);
    if (m.number <= past.number && !mutated(Mutant::OpenPast)) {
        if (m.number < past.number && !mutated(Mutant::PastOlder)) return;
        if (past.refused) send_refused(session, past);
        if (!past.refused) send_closed(session, m.number, past.error);
        return;
    }
    Set* s = nullptr;
    for (u32 i = 0; i < sets_max_ && !s; ++i) {
        if (sets_[i].state == State::Free) s = &sets_[i];
    }
    if (!s) return;  // sets of sessions that are gone are being closed: it asks again
    s->session = session;
    s->number = m.number;
    s->playing = (m.flags & stream_play) != 0;
    s->count = static_cast<u32>(m.count);
    s->ahead = m.mode == 0 ? 1 : smaller(m.mode, sizes_.ahead);
    s->batch_bytes = smaller(m.size, sizes_.batch_bytes);
    u32 free_streams = 0;
    for (u32 i = 0; i < sizes_.streams; ++i) free_streams += streams_[i].set ? 0 : 1;
    bool const sound = s->batch_bytes >= 2 * control_bytes && m.links != 0;
    if (!sound || free_streams < s->count) {
        s->count = 0;
        refuse(*s, sound ? Error::TooManyOpen : Error::Invalid, 0);
        return;
    }
    for (u32 i = 0; i < s->count; ++i) {
        StreamRef ref;
        std::memcpy(&ref, r.data + i * sizeof ref, sizeof ref);
        s->file[i] = ref.file;
        s->ask[i] = {ref.file.pnode, ref.rate};
    }
    u32 have = 0;
    for (u32 i = 0; i < sizes_.streams && have < s->count; ++i) {
        Stream& t = streams_[i];
        if (t.set) continue;
        Stream fresh;
        fresh.set = s;
        fresh.index = have;
        fresh.slots = t.slots;
        fresh.landing = t.landing;
        t = fresh;
        clear_slots(t, sizes_.ahead);
        s->stream[have++] = &t;
    }
    s->state = State::Waiting;
    s->request.flags = m.flags & stream_play;
    s->request.time_ns = static_cast<i64>(m.offset);
    s->request.speed = static_cast<i32>(m.links);
}

/// To the store, when nothing of the streams can be lost any more that others have changed.
bool ServerMedia::ask_open(Set& s) {
    for (u32 i = 0; i < s.count; ++i) {
        if (!out_.settled(s.session, s.file[i]) && !mutated(Mutant::OpenUnsettled)) return false;
    }
    Request fresh;
    fresh.op = Op::OpenStreams;
    fresh.flags = s.request.flags;
    fresh.time_ns = s.request.time_ns;
    fresh.speed = s.request.speed;
    fresh.streams = s.ask;
    fresh.streams_count = s.count;
    s.request = fresh;
    s.asked = true;
    s.state = State::Opening;
    store_.submit(s.request);
    return true;
}

void ServerMedia::send_opened(Set const& s) {
    if (s.orphan) return;
    Message m;
    m.kind = MessageKind::Opened;
    m.number = s.number;
    m.size = s.batch_bytes;
    m.mode = static_cast<u16>(s.ahead);
    out_.send_media(s.session, m, nullptr, 0);
}

void ServerMedia::send_refused(u32 session, Past const& past) {
    Message m;
    m.kind = MessageKind::Opened;
    m.number = past.number;
    m.error = static_cast<u32>(past.error);
    m.count = past.count;
    out_.send_media(session, m, nullptr, 0);
}

/// The set is not opened; who asks once more is told the same.
void ServerMedia::refuse(Set& s, Error error, u64 count) {
    if (!s.orphan) {
        Past& past = past_of(s.session, s.number);
        past = {s.number, error, true, count};
        send_refused(s.session, past);
    }
    free(s);
}

void ServerMedia::opened(Set& s) {
    Error const error = s.request.error;
    u64 const count = s.request.count;
    if (error != Error::None) {
        refuse(s, error, count);
        return;
    }
    s.id = count;
    s.state = State::Open;
    send_opened(s);
}

void ServerMedia::send_closed(u32 session, u64 number, Error error) {
    Message m;
    m.kind = MessageKind::Closed;
    m.number = number;
    m.error = static_cast<u32>(error);
    out_.send_media(session, m, nullptr, 0);
}

void ServerMedia::free(Set& s) {
    for (u32 i = 0; i < s.count; ++i) s.stream[i]->set = nullptr;
    s = Set{};
}

void ServerMedia::drop(u32 session) {
    for (u32 i = 0; i < sets_max_; ++i) {
        Set& s = sets_[i];
        if (s.state == State::Free || s.orphan) continue;
        if (s.session != session && !mutated(Mutant::DropsOthers)) continue;
        past_of(session, s.number) = {s.number, Error::SetLost, false, 0};
        s.orphan = s.cut = s.close_wanted = true;
    }
}

void ServerMedia::begin_session(u32 session) {
    drop(session);
    for (u32 i = 0; i < media_sets_max; ++i) past_[session * media_sets_max + i] = Past{};
}

/// One step towards the end of a set. True: it was made.
bool ServerMedia::close(Set& s) {
    if (s.state == State::Waiting) {
        refuse(s, Error::SetLost, 0);
        return true;
    }
    if (s.state == State::Open && !s.asked) {
        s.request = Request{};
        s.request.op = Op::CloseStreams;
        s.request.flags = s.cut ? stream_cut : 0;
        s.request.pnode2 = s.id;
        s.asked = true;
        s.state = State::Closing;
        store_.submit(s.request);
        return true;
    }
    if (s.state != State::Closing || !s.request.done) return false;
    for (u32 i = 0; i < s.count; ++i) {
        if (s.stream[i]->asked && !s.stream[i]->request.done) return false;
    }
    Error const error = s.error != Error::None && !s.playing ? s.error : s.request.error;
    if (!s.orphan) {
        past_of(s.session, s.number) = {s.number, error, false, 0};
        send_closed(s.session, s.number, error);
    }
    free(s);
    return true;
}

// --- recording -----------------------------------------------------------------------------------

void ServerMedia::send_taken(Set& s, Stream& t, BatchName of, u64 offset) {
    if (s.orphan) return;
    Message m;
    m.kind = MessageKind::Taken;
    m.number = s.number;
    name_batch(m, of);
    m.offset = offset;
    m.count = t.first;
    m.size = store_.frames_on_disk(s.id, t.index);
    m.error = static_cast<u32>(s.error);
    out_.send_media(s.session, m, nullptr, 0);
}

void ServerMedia::batch(Set& s, Received const& r) {
    Message const& m = r.header;
    BatchName const n = batch_of(m);
    if (n.stream >= s.count || m.count > s.batch_bytes || m.links == 0) return;
    Stream& t = *s.stream[n.stream];
    if (n.batch >= t.first && n.batch - t.first >= s.ahead) return;
    if (n.batch >= t.first && s.error == Error::None) {
        Slot& slot = t.slot(n.batch, s.ahead);
        // What the store has already may not change under it.
        bool const in_store = t.asked && n.batch == t.first;
        if (!slot.known) {
            slot.known = true;
            slot.bytes = static_cast<u32>(m.count);
            slot.frames = m.links;
        }
        if (slot.bytes != m.count || slot.frames != m.links) return;
        if (!in_store) {
            std::memcpy(slot.data + m.offset, r.data, m.data_length);
            slot.came |= u64{1} << m.offset / message_data_max;
        }
    }
    if (mutated(Mutant::TakenEarly) && n.batch == t.first) ++t.first;
    send_taken(s, t, n, m.offset);
}

/// The stream's next batch to the store, when it is whole. True: something was done.
bool ServerMedia::record(Set& s, Stream& t) {
    Slot& slot = t.slot(t.first, s.ahead);
    Request& r = t.request;
    if (t.asked) {
        if (!r.done) return false;
        t.asked = false;
        if (r.error == Error::Busy) {
            t.ahead = true;
            t.ahead_at = s.recorded;
            return true;
        }
        if (r.error == Error::None) {
            clear(slot);
            ++t.first;
            ++s.recorded;
        } else {
            s.error = r.error;
        }
        send_taken(s, t, {t.first - 1, t.index, 0}, u64{batch_parts_max} * message_data_max);
        return true;
    }
    bool const whole = slot.known && slot.came == all_parts(slot.bytes);
    if (!(whole || (slot.known && mutated(Mutant::RecordsParts))) || s.error != Error::None) {
        return false;
    }
    if (t.ahead && t.ahead_at == s.recorded) return false;
    t.ahead = false;
    u32 const head = slot.frames * record_bytes;
    r = Request{};
    r.op = Op::Record;
    r.pnode2 = s.id;
    r.offset = t.index;
    r.control = reinterpret_cast<ControlRecord const*>(slot.data);
    r.control_count = slot.frames;
    r.buffer = slot.data + head;
    r.length = slot.bytes - head;
    t.asked = true;
    store_.submit(r);
    return true;
}

// --- playing -------------------------------------------------------------------------------------

/// The batch being filled is whole: its control records move up to its frames, and it goes.
void ServerMedia::seal(Set& s, Stream& t) {
    Slot& slot = t.slot(t.sealed, s.ahead);
    u32 const head = slot.frames * record_bytes;
    std::memmove(slot.data + control_bytes - head, slot.data, head);
    slot.bytes += head;
    slot.known = true;
    ++t.sealed;
    send_parts(s, t, t.sealed - 1, ~u64{0});
}

void ServerMedia::send_parts(Set& s, Stream& t, u64 batch, u64 parts) {
    if (s.orphan) return;
    Slot& slot = t.slot(batch, s.ahead);
    u8 const* const image = slot.data + control_bytes - slot.frames * record_bytes;
    Message m;
    m.kind = MessageKind::Batch;
    m.number = s.number;
    name_batch(m, {batch, t.index, s.seek});
    m.count = slot.bytes;
    m.links = slot.frames;
    m.flags = slot.flags;
    m.error = static_cast<u32>(slot.error);
    for (u32 i = 0; i < parts_of(slot.bytes); ++i) {
        if (!(parts >> i & 1)) continue;
        m.offset = u64{i} * message_data_max;
        out_.send_media(s.session, m, image + m.offset,
                        smaller(slot.bytes - m.offset, message_data_max));
    }
}

/// Puts what the store has given into a batch. False: there is no room in the window.
bool ServerMedia::put(Set& s, Stream& t) {
    Request const& r = t.request;
    bool const frame = r.error == Error::None && r.count > 0;
    for (;;) {
        if (t.sealed - t.first == s.ahead) return false;
        Slot& slot = t.slot(t.sealed, s.ahead);
        u64 const after = slot.bytes + r.count + (slot.frames + 1) * record_bytes;
        bool const fits = frame && slot.frames < batch_frames_max && after <= s.batch_bytes;
        if (slot.frames > 0 && !fits) {
            seal(s, t);
            continue;
        }
        if (frame) {
            ControlRecord const c{r.time_ns, static_cast<u32>(r.count), 0};
            std::memcpy(slot.data + slot.frames * record_bytes, &c, sizeof c);
            std::memcpy(slot.data + control_bytes + slot.bytes, t.landing, r.count);
            slot.bytes += static_cast<u32>(r.count);
            ++slot.frames;
        } else {
            // A damaged frame is passed over; one that is too big, or none, is the end.
            bool const large = r.error == Error::Invalid;
            slot.error = large ? Error::TooBig : r.error;
            slot.flags = large || r.error == Error::None ? message_end : 0;
            t.ended = slot.flags != 0;
            seal(s, t);
        }
        return true;
    }
}

/// True: something was done.
bool ServerMedia::play(Set& s, Stream& t) {
    Request& r = t.request;
    if (t.asked && r.done) {
        t.asked = false;
        // A frame of before the seek is nobody's.
        t.landed = t.landed_seek == s.seek || mutated(Mutant::LandedSeek);
        return true;
    }
    if (t.landed) {
        if (!put(s, t)) return false;
        t.landed = false;
        return true;
    }
    if (t.asked) {
        // No more frames come at once: what there is goes, if nothing is on its way.
        bool const some = t.sealed == t.first && t.slot(t.sealed, s.ahead).frames > 0;
        if (some) seal(s, t);
        return some;
    }
    if (t.ended || t.sealed - t.first == s.ahead) return false;
    r = Request{};
    r.op = Op::PlayFrame;
    r.pnode2 = s.id;
    r.offset = t.index;
    r.buffer = t.landing;
    r.length = s.batch_bytes - record_bytes;
    r.context = &t;
    r.completed = [](Request& done) {
        Stream& stream = *static_cast<Stream*>(done.context);
        stream.landed_seek = stream.set ? stream.set->seek : 0;
    };
    t.asked = true;
    store_.submit(r);
    return true;
}

/// What has come to the agent is given up; what it misses is sent again.
void ServerMedia::fetch(Set& s, Message const& m) {
    BatchName const n = batch_of(m);
    if (n.stream >= s.count || (n.seek != s.seek && !mutated(Mutant::FetchSeek))) return;
    Stream& t = *s.stream[n.stream];
    if (n.batch > t.sealed) return;
    for (; t.first < n.batch; ++t.first) {
        clear(t.slot(t.first, s.ahead));
    }
    bool const here = m.offset >= t.first && m.offset < t.sealed;
    if ((m.flags & message_again) && here) send_parts(s, t, m.offset, ~m.count);
}

void ServerMedia::send_sought(Set& s) {
    if (s.orphan) return;
    Message m;
    m.kind = MessageKind::Sought;
    m.number = s.number;
    name_batch(m, {0, 0, s.seek});
    m.error = static_cast<u32>(s.error);
    out_.send_media(s.session, m, nullptr, 0);
}

void ServerMedia::seek(Set& s, Message const& m) {
    u32 const wanted = batch_of(m).seek;
    if (s.asked) return;  // it asks again
    if (wanted <= s.seek && !mutated(Mutant::SeekOlder)) {
        if (wanted == s.seek || mutated(Mutant::SoughtOlder)) send_sought(s);
        return;
    }
    s.seek_asked = wanted;
    s.request = Request{};
    s.request.op = Op::Seek;
    s.request.pnode2 = s.id;
    s.request.time_ns = static_cast<i64>(m.offset);
    s.request.speed = static_cast<i32>(m.links);
    s.request.context = &s;
    // Frames that the store gives from here on are of the new place.
    s.request.completed = [](Request& done) {
        Set& set = *static_cast<Set*>(done.context);
        set.seek = set.seek_asked;
        for (u32 i = 0; i < set.count; ++i) {
            Stream& t = *set.stream[i];
            clear_slots(t, set.ahead);
            t.first = t.sealed = 0;
            t.landed = t.ended = false;
        }
    };
    s.asked = true;
    store_.submit(s.request);
}

// --- steps ---------------------------------------------------------------------------------------

bool ServerMedia::step(Set& s) {
    if (s.state == State::Opening) {
        if (!s.request.done) return false;
        s.asked = false;
        opened(s);
        return true;
    }
    if (s.state == State::Open && s.asked && s.request.done) {
        s.asked = false;
        s.error = s.request.error;
        send_sought(s);
        return true;
    }
    if (s.close_wanted) return close(s);
    if (s.state == State::Waiting) return ask_open(s);
    bool any = false;
    for (u32 i = 0; s.state == State::Open && i < s.count; ++i) {
        Stream& t = *s.stream[i];
        any = (s.playing ? play(s, t) : record(s, t)) || any;
    }
    return any;
}

bool ServerMedia::progress() {
    bool any = false;
    for (u32 i = 0; i < sets_max_; ++i) {
        if (sets_[i].state != State::Free) any = step(sets_[i]) || any;
    }
    return any;
}

}  // namespace nemesis::fs
