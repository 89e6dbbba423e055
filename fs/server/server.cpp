// The server: sessions, the table of what is touched, and operations step by step.

#include "fs/server/server.h"

#include <cstring>
#include <new>

#include "fs/core/mutant.h"

namespace nemesis::fs {
namespace {

/// Keys that an operation has before anything is looked up, of those that look up.
constexpr u32 names_of(Op op) { return op == Op::Rename ? 5 : 2; }

constexpr u32 lane_bytes = 2 * name_max + message_data_max;

u64 dirty_blocks_max(ServerOptions const& o) {
    if (!o.ups) return ~u64{0};
    // Half of what the hold-up time suffices for: the other half is for what was begun before.
    u64 const ms = static_cast<u64>(o.hold_up.ns()) / 1'000'000;
    return ms * o.degraded_bytes_per_s / 1000 / 2 / block_bytes;
}

}  // namespace

std::size_t Server::memory_needed(ServerOptions const& o) {
    return o.sessions * (sizeof(Session) + 2 * lane_bytes) + o.touched * sizeof(Touched) +
           o.holdings * sizeof(Holding) + message_bytes_max +
           ServerMedia::memory_needed(o.media, o.sessions) + 256;
}

Server::Server(Arena& arena, Store& store, ServerPort& port, ServerOptions options)
    : store_(store),
      port_(port),
      options_(options),
      dirty_max_(dirty_blocks_max(options)),
      media_(arena, store, *this, options.media, options.sessions) {
    sessions_ = arena.carve<Session>(options.sessions);
    touched_ = arena.carve<Touched>(options.touched);
    holdings_ = arena.carve<Holding>(options.holdings);
    out_ = arena.carve<u8>(message_bytes_max);
    u8* lanes = arena.carve<u8>(std::size_t{options.sessions} * 2 * lane_bytes);
    ASSERT(!arena.exhausted());
    ASSERT(options.sessions <= 64);
    ASSERT(options.holdings >= ways);
    for (u32 i = 0; i < options.sessions; ++i) {
        Session& s = *new (&sessions_[i]) Session();
        s.change.bytes = lanes + std::size_t{i} * 2 * lane_bytes;
        s.read.bytes = s.change.bytes + lane_bytes;
        s.change.server = s.read.server = this;
    }
    for (u32 i = 0; i < options.touched; ++i) touched_[i] = Touched{};
    for (u32 i = 0; i < options.holdings; ++i) holdings_[i] = Holding{};
}

void Server::start(Instant now) {
    now_ = started_ = now;
    // Whoever has a mark may hold operations that are not in it.
    members_ = store_.marks();
    for (u32 i = 0; i < members_; ++i) member_[i] = store_.mark(i);
    grace_ = members_ > 0;
}

bool Server::Key::meets(Key const& o) const {
    bool const lives = generation == 0 || o.generation == 0 ||
                       (!mutated(Mutant::KeyLife) && generation == o.generation);
    bool const all = (name == all_names && o.name != 0) || (o.name == all_names && name != 0);
    return pnode == o.pnode && lives && (name == o.name || all);
}

u64 Server::hash_of(Name name) {
    u64 h = 0xCBF2'9CE4'8422'2325;
    for (u32 i = 0; i < name.length; ++i) {
        h = (h ^ static_cast<u8>(name.text[i])) * 0x100'0000'01B3;
    }
    return h == 0 || h == all_names ? 1 : h;
}

// --- sessions ------------------------------------------------------------------------------------

Server::Session* Server::session_of(u64 agent) {
    for (u32 i = 0; i < options_.sessions; ++i) {
        if (sessions_[i].used && sessions_[i].agent == agent) return &sessions_[i];
    }
    return nullptr;
}

void Server::hello(Message const& m) {
    if (m.agent == 0 || m.incarnation == 0 || m.incarnation >= u64{1} << 24) return;
    u64 mark = 0;
    MadeFile made{};
    bool known = false;
    for (u32 i = 0; i < store_.marks(); ++i) {
        if (store_.mark(i).client != m.agent) continue;
        mark = store_.mark(i).sequence;
        made = store_.made(i);
        known = true;
    }
    if (known && !mutated(Mutant::HelloOlder) && incarnation_of(mark) > m.incarnation) return;
    if (known && !mutated(Mutant::HelloHanded) && incarnation_of(mark) < m.incarnation &&
        !handed_back(m.agent, m.incarnation)) {
        return;
    }
    if (!known && store_.marks() == clients_max) return;
    Session* s = session_of(m.agent);
    if (s && (mutated(Mutant::HelloSame) || s->incarnation == m.incarnation)) {
        if (s->deputed) return;  // it was given up, and its operations are done without it
        if (s->joining == Joining::No) welcome(*s);
        return;
    }
    if (s) {
        bool const busy =
            s->change.step != Step::Idle || s->read.step != Step::Idle || s->joining != Joining::No;
        if (!mutated(Mutant::HelloBusy) && s->incarnation > m.incarnation) return;
        if (!mutated(Mutant::HelloIdle) && busy) return;  // it asks again
    } else {
        s = free_session();
        if (!s) return;
    }
    begin_session(*s, m.agent, m.incarnation);
    bool const member =
        known && (mutated(Mutant::HelloMember) || incarnation_of(mark) == m.incarnation);
    s->applied = s->durable = member ? mark : incarnation_start(m.incarnation);
    s->made = member ? made : MadeFile{};
    s->joining = member ? Joining::No : Joining::Mark;
    if (member) welcome(*s);
}

Server::Session* Server::free_session() {
    for (u32 i = 0; i < options_.sessions; ++i) {
        if (!sessions_[i].used) return &sessions_[i];
    }
    return nullptr;
}

void Server::begin_session(Session& s, u64 agent, u64 incarnation) {
    end_lease(s);  // the incarnation before is dead, and its copies and sets with it
    media_.begin_session(static_cast<u32>(&s - sessions_));
    s.serial = 0;
    s.used = true;
    s.agent = agent;
    s.incarnation = incarnation;
    s.id = u64{store_.mount_count()} << 32 | ++sessions_made_;
    s.heard = now_;
    s.flushed_since = s.replay_ended = s.has_answer = s.deputed = false;
    s.pending_count = 0;
}

/// A new incarnation is in the log, and all that the one before left, before it is welcome.
void Server::join(Session& s) {
    Request& r = s.join;
    if (s.joining == Joining::Mark && r.context != &s) {
        r = Request{};
        r.op = Op::Mark;
        r.client = s.agent;
        r.sequence = s.applied;
        r.context = &s;
        store_.submit(r);
        return;
    }
    if (!r.done) return;
    if (s.joining == Joining::Mark && r.error == Error::None && !mutated(Mutant::JoinFlush)) {
        s.joining = Joining::Flush;
        r = Request{};
        r.op = Op::Fsync;
        r.context = &s;
        store_.submit(r);
        return;
    }
    bool const good = r.error == Error::None;
    r = Request{};
    s.joining = Joining::No;
    if (good) {
        welcome(s);
    } else {
        s.used = false;
    }
}

void Server::welcome(Session& s) {
    Message m;
    m.kind = MessageKind::Welcome;
    m.lease_ns = options_.lease.ns();
    m.result = {s.made.pnode(), s.made.generation(), 0};
    send(s, m);
}

bool Server::may_speak() const {
    Duration const right = options_.lease - options_.lease / lease_margin_part;
    return !store_.shared() ||
           (!store_.fenced() && (mutated(Mutant::SpeaksLong) || now_ - store_.renewed() < right));
}

void Server::send(Session const& s, Message m, u8 const* data, u32 length) {
    if (!may_speak()) return;
    m.agent = s.agent;
    m.incarnation = s.incarnation;
    m.session = s.id;
    m.durable = s.durable;
    if (m.kind != MessageKind::Content) {
        m.applied = s.applied;
        m.serial = s.serial;
    }
    if (!options_.ups) m.flags |= message_volatile;
    port_.send(s.agent, out_, build_message(out_, m, {}, {}, data, length));
}

void Server::send_unknown(Message const& to) {
    if (!may_speak()) return;
    Message m;
    m.kind = MessageKind::Unknown;
    m.agent = to.agent;
    m.incarnation = to.incarnation;
    m.session = to.session;
    port_.send(to.agent, out_, build_message(out_, m));
}

// --- receiving -----------------------------------------------------------------------------------

void Server::receive(u8 const* bytes, u32 length) {
    Received r;
    if (halting_ || !may_speak() || !read_message(bytes, length, &r)) return;
    Message const& m = r.header;
    if (m.kind == MessageKind::Hello || m.kind == MessageKind::HandBack ||
        m.kind == MessageKind::AllHanded) {
        if (m.kind == MessageKind::Hello) hello(m);
        if (m.kind == MessageKind::HandBack) take_back(r);
        if (m.kind == MessageKind::AllHanded) all_handed(m);
        run();
        return;
    }
    Session* const s = session_of(m.agent);
    if (!s || (!mutated(Mutant::SessionIncarnation) && s->incarnation != m.incarnation) ||
        (!mutated(Mutant::SessionNumber) && s->id != m.session) ||
        (!mutated(Mutant::SessionJoined) && s->joining != Joining::No)) {
        send_unknown(m);
        return;
    }
    if (m.kind == MessageKind::Recalled) recalled(*s, m.number);
    if (!mutated(Mutant::DeafHeard) && refused(*s)) return;
    s->heard = now_;
    s->flushed_since = false;
    Message reply;
    switch (m.kind) {
        case MessageKind::Ping:
            reply.kind = MessageKind::Pong;
            reply.number = m.number;
            send(*s, reply);
            break;
        case MessageKind::Replayed:
            s->replay_ended = true;
            reply.kind = MessageKind::Pong;
            reply.number = m.number;
            send(*s, reply);
            break;
        case MessageKind::New:
        case MessageKind::Replay:
            take_change(*s, r);
            break;
        case MessageKind::Read:
            take_read(*s, r);
            break;
        case MessageKind::Sync:
            if (!mutated(Mutant::SyncDone) && s->durable < s->applied) {
                want_flush();
            } else {
                reply.kind = MessageKind::Durable;
                send(*s, reply);
            }
            break;
        default:
            // Like what is NEW: not before the replay has ended, and that of the others.
            if (m.kind >= MessageKind::Open &&
                ((s->replay_ended && !grace_) || mutated(Mutant::MediaInGrace))) {
                media_.receive(static_cast<u32>(s - sessions_), r);
            }
            break;
    }
    run();
}

void Server::send_media(u32 session, Message m, u8 const* data, u32 length) {
    send(sessions_[session], m, data, length);
}

bool Server::settled(u32 session, FileRef file) {
    Key const key{file.pnode, 0, file.generation, false};
    for (u32 i = 0; i < touched_end_; ++i) {
        Touched const& t = touched_[i];
        if (t.group == 0 || t.agent == sessions_[session].agent || !t.key.writes) continue;
        if (!t.key.meets(key)) continue;
        if (t.group != in_progress) want_flush();
        return false;
    }
    return true;
}

void Server::fill(Lane& lane, Received const& r) {
    lane.message = r.header;
    u32 const names = u32{r.header.name_length} + r.header.name2_length;
    std::memcpy(lane.bytes, r.name.text, names + r.header.data_length);
    char const* const text = reinterpret_cast<char const*>(lane.bytes);
    lane.name = {text, r.header.name_length};
    lane.name2 = {text + r.header.name_length, r.header.name2_length};
    lane.data = lane.bytes + names;
    lane.keys = 0;
    lane.found[0] = lane.found[1] = FileRef{};
    lane.found_type = PnodeType::Free;
    lane.granted = false;
    lane.asked = false;
    lane.step = Step::Acquire;
    keys_of(lane);
}

void Server::take_change(Session& s, Received const& r) {
    Message const& m = r.header;
    bool const replay = m.kind == MessageKind::Replay;
    if ((mutated(Mutant::AnswerAgain) || m.number == s.applied) && s.has_answer) {
        send(s, s.answer);
    }
    if ((!mutated(Mutant::AppliedAgain) && m.number <= s.applied) ||
        (!mutated(Mutant::NumberIncarnation) && incarnation_of(m.number) != s.incarnation)) {
        return;
    }
    // A new operation may overtake the end of the replay: it waits for that, and for the others.
    bool const early = (!s.replay_ended && !mutated(Mutant::NewInReplay)) ||
                       (grace_ && !mutated(Mutant::NewInGrace));
    if (replay ? s.replay_ended : early) return;
    if (s.change.step == Step::Idle && sound_change(m)) fill(s.change, r);
}

void Server::take_read(Session& s, Received const& r) {
    // Before its replay has ended an agent may ask only for what it has made itself.
    bool const resolves = !s.replay_ended && r.header.op == Op::Lookup;
    bool const early = (grace_ && !mutated(Mutant::ReadInGrace)) ||
                       (!s.replay_ended && !mutated(Mutant::ReadInReplay));
    if ((!resolves && early) || s.read.step != Step::Idle) return;
    if (!may_be_read(r.header.op) || r.header.count > message_data_max) return;
    if (r.header.data_length == 0) fill(s.read, r);
}

// --- what is touched -----------------------------------------------------------------------------

void Server::add(Lane& lane, FileRef file, u64 name, bool writes) {
    ASSERT(lane.keys < keys_max);
    lane.key[lane.keys++] = {file.pnode, name, file.generation, writes};
}

/// What is known to be touched before anything is looked up.
void Server::keys_of(Lane& lane) {
    Message const& m = lane.message;
    FileRef const directory = m.file;
    switch (m.op) {
        case Op::Link:
            add(lane, m.file2, 0, true);
            [[fallthrough]];
        case Op::Create:
        case Op::Symlink:
        case Op::Unlink:
        case Op::Rmdir:
            add(lane, directory, 0, false);
            add(lane, directory, hash_of(lane.name), true);
            break;
        case Op::Rename:
            add(lane, directory, 0, false);
            add(lane, m.file2, 0, false);
            add(lane, directory, hash_of(lane.name), true);
            add(lane, m.file2, hash_of(lane.name2), true);
            // One after the other: each may want the directory that the other moves into.
            add(lane, tree, renaming, true);
            break;
        case Op::Lookup:
            add(lane, directory, 0, false);
            add(lane, directory, hash_of(lane.name), false);
            break;
        case Op::ReadDirectory:
            add(lane, directory, 0, false);
            add(lane, directory, all_names, false);
            break;
        default:
            add(lane, directory, 0, !may_be_read(m.op));
            break;
    }
}

/// Takes the lane's keys from number `from` on, all or none. False: another agent's operation has
/// one of them, or has changed it and is not on disk yet; then a flush is asked for.
bool Server::acquire(Session const& s, Lane& lane, u32 from) {
    for (u32 i = 0; i < touched_end_; ++i) {
        Touched const& t = touched_[i];
        if (t.group == 0 || t.agent == s.agent) continue;
        for (u32 k = from; k < lane.keys; ++k) {
            Key const& key = lane.key[k];
            if (!t.key.meets(key) || (!t.key.writes && !key.writes)) continue;
            if (t.group != in_progress && mutated(Mutant::BuildsOnUndurable)) continue;
            if (t.group == in_progress && mutated(Mutant::TouchesTouched)) continue;
            if (t.group != in_progress) want_flush();
            return false;
        }
    }
    u32 free = options_.touched - touched_end_;
    for (u32 i = 0; i < touched_end_; ++i) free += touched_[i].group == 0 ? 1 : 0;
    // Room for what a creation adds at its end, too.
    if (free < lane.keys - from + 1 + options_.sessions) {
        want_flush();
        return false;
    }
    u32 at = 0;
    for (u32 k = from; k < lane.keys; ++k) {
        while (touched_[at].group != 0) ++at;
        touched_[at] = {lane.key[k], s.agent, in_progress, &lane};
        if (at >= touched_end_) touched_end_ = at + 1;
    }
    return true;
}

/// `keep`: what the lane's operation has changed stays in the table until it is on disk.
void Server::release(Session const& s, Lane& lane, bool keep) {
    for (u32 i = 0; i < touched_end_; ++i) {
        Touched& t = touched_[i];
        if (t.group != in_progress || t.lane != &lane) continue;
        bool const lock = t.key.pnode == tree.pnode && t.key.name == renaming;
        t.group = keep && t.key.writes && !lock ? lane.group : 0;
        t.lane = nullptr;
    }
    Attributes const& made = lane.request.attributes;
    if (keep && makes_file(lane.message.op)) {
        u32 at = 0;
        while (touched_[at].group != 0) ++at;
        touched_[at] = {{made.pnode, 0, made.generation, true}, s.agent, lane.group, nullptr};
        if (at >= touched_end_) touched_end_ = at + 1;
    }
}

// --- operations ----------------------------------------------------------------------------------

/// Looks up what the names mean: an operation also changes the files behind them. True: all is
/// known, and the keys are in the lane.
bool Server::find_victims(Lane& lane) {
    Message const& m = lane.message;
    bool const second = lane.step == Step::FindSecond;
    if (!lane.asked) {
        Request& r = lane.request;
        r = Request{};
        r.op = Op::Lookup;
        r.pnode = second ? m.file2.pnode : m.file.pnode;
        r.generation = second ? m.file2.generation : m.file.generation;
        r.name = second ? lane.name2 : lane.name;
        lane.asked = true;
        store_.submit(r);
        return false;
    }
    if (!lane.request.done) return false;
    lane.asked = false;
    if (lane.request.error == Error::None) {
        Attributes const& a = lane.request.attributes;
        bool const directory = a.type == PnodeType::Directory;
        lane.found[second ? 1 : 0] = {a.pnode, a.generation, 0};
        if (!second) lane.found_type = a.type;
        FileRef const file{a.pnode, a.generation, 0};
        add(lane, file, 0, true);
        if (directory && (second || m.op == Op::Rmdir)) add(lane, file, all_names, true);
        if (directory && m.op == Op::Rename) add(lane, tree, 0, true);
    }
    if (m.op == Op::Rename && !second) {
        lane.step = Step::FindSecond;
        return false;
    }
    return true;
}

/// One step of the lane, if it can be made. True: it was.
bool Server::progress(Session& s, Lane& lane, bool change) {
    Step const before = lane.step;
    Op const op = lane.message.op;
    switch (lane.step) {
        case Step::Idle:
            return false;
        case Step::Acquire: {
            if (change && !mutated(Mutant::DirtyUnbounded) && store_.dirty_blocks() >= dirty_max_) {
                want_flush();
                return false;
            }
            if (!acquire(s, lane, 0)) return false;
            bool const victims = op == Op::Unlink || op == Op::Rmdir || op == Op::Rename;
            lane.step = victims ? Step::Find : change ? Step::Recall : Step::Execute;
            break;
        }
        case Step::Find:
        case Step::FindSecond: {
            u32 const keys = names_of(op);
            bool const asked = lane.asked;
            if (find_victims(lane)) {
                lane.step = lane.keys > keys ? Step::AcquireFound : Step::Recall;
            } else {
                return before != lane.step || asked != lane.asked;
            }
            break;
        }
        case Step::AcquireFound:
            if (!acquire(s, lane, names_of(op))) return false;
            lane.step = Step::Recall;
            break;
        case Step::Recall:
            // No new copies are granted meanwhile: the keys are this lane's.
            if (!all_recalled(s, lane) && !mutated(Mutant::RecallAwaited)) return false;
            lane.step = Step::Execute;
            break;
        case Step::Execute:
            execute(s, lane, change);
            lane.step = Step::Executing;
            break;
        case Step::Executing:
            if (!lane.request.done) return false;
            lane.step = Step::Idle;
            if (change) {
                finish_change(s, lane);
            } else {
                finish_read(s, lane);
            }
            break;
    }
    return true;
}

void Server::execute(Session& s, Lane& lane, bool change) {
    Message const& m = lane.message;
    Request& r = lane.request;
    r = Request{};
    r.op = m.op;
    r.type = m.type;
    r.mode = m.mode;
    r.flags = m.flags & ~message_volatile;
    r.pnode = m.file.pnode;
    r.generation = m.file.generation;
    r.pnode2 = m.file2.pnode;
    r.generation2 = m.file2.generation;
    r.name = lane.name;
    r.name2 = lane.name2;
    r.offset = m.offset;
    r.length = m.count;
    r.buffer = change ? lane.data : lane.bytes + lane.name.length;
    if (brings_data(m.op) && m.op != Op::Write) {
        r.name2 = {reinterpret_cast<char const*>(lane.data), m.data_length};
    }
    if (m.op == Op::SetAttributes) {
        r.attributes.mode = m.mode;
        r.attributes.uid = static_cast<u32>(m.count);
        r.attributes.gid = static_cast<u32>(m.count >> 32);
        r.attributes.atime_ns = static_cast<i64>(m.offset);
        r.attributes.mtime_ns = static_cast<i64>(m.size);
    }
    if (change) {
        r.client = s.agent;
        r.sequence = m.number;
        r.context = &lane;
        // The next group to be written has it, and it is asked for before that begins.
        r.completed = [](Request& done) {
            Lane& l = *static_cast<Lane*>(done.context);
            l.group = l.server->store_.group() + 1;
        };
    } else {
        // What the agent is told of the read's age holds from here on, whatever is done until the
        // answer is sent.
        lane.granted = may_be_kept(m.op) && grant(s, lane);
        lane.applied = s.applied;
        lane.serial = s.serial;
    }
    store_.submit(r);
}

void Server::note_pending(Session& s, u64 group) {
    bool const same = s.pending_count > 0 && (mutated(Mutant::PendingGroup) ||
                                              s.pending[s.pending_count - 1].group == group ||
                                              s.pending_count == pending_max);
    if (!same) ++s.pending_count;
    s.pending[s.pending_count - 1] = {s.applied, group - (mutated(Mutant::PendingOlder) ? 1 : 0)};
}

/// What the agent has to know for its copies.
void Server::tell_meaning(Message& m, Lane const& lane) {
    Attributes const& a = lane.request.attributes;
    switch (m.op) {
        case Op::Create:
        case Op::Symlink:
            m.result = {a.pnode, a.generation, 0};
            m.offset = lane.request.count;
            break;
        case Op::Link:
            m.offset = lane.request.count;
            [[fallthrough]];
        case Op::Write:
        case Op::SetAttributes:
            m.type = a.type;
            m.mode = a.mode;
            m.links = a.nlink;
            break;
        case Op::Unlink:
        case Op::Rmdir:
            m.result = lane.found[0];
            break;
        case Op::Rename:
            m.result = lane.found[0];
            m.file2 = lane.found[1];
            m.type = lane.found_type;
            m.offset = lane.request.count;
            break;
        default:
            break;
    }
}

void Server::finish_change(Session& s, Lane& lane) {
    Request const& r = lane.request;
    bool const good = r.error == Error::None;
    s.applied = lane.message.number;
    release(s, lane, good);
    if (mutated(Mutant::SaysDurable)) s.durable = s.applied;
    if (good) {
        note_pending(s, lane.group);
    } else if (s.pending_count == 0) {
        s.durable = s.applied;
    }
    Message m;
    m.kind = MessageKind::Answer;
    m.op = lane.message.op;
    m.number = lane.message.number;
    m.error = static_cast<u32>(r.error);
    m.count = r.count;
    m.size = r.attributes.size;
    if (good) tell_meaning(m, lane);
    s.answer = m;
    s.has_answer = true;
    if (s.deputed) {
        Message reply;
        reply.error = m.error;
        reply.result = m.result;
        m.agent = s.agent;
        m.incarnation = s.incarnation;
        m.session = life();
        send_handed(m, reply);
    } else {
        send(s, m);
    }
}

void Server::finish_read(Session& s, Lane& lane) {
    Request const& r = lane.request;
    release(s, lane, false);
    Message m;
    m.kind = MessageKind::Content;
    m.op = lane.message.op;
    m.number = lane.message.number;
    m.error = static_cast<u32>(r.error);
    bool const good = r.error == Error::None;
    // With a length of 0 only the count is told.
    bool const data = good && yields_data(m.op) && r.length > 0;
    if (good && m.op == Op::ReadDirectory) {
        m.flags = r.flags & message_end;
    } else if (good && may_be_kept(m.op)) {
        m.result = {r.attributes.pnode, r.attributes.generation, 0};
        m.type = r.attributes.type;
        m.mode = r.attributes.mode;
        m.links = r.attributes.nlink;
        m.size = r.attributes.size;
    }
    if (m.op == Op::Lookup) {
        m.offset = r.count;
    } else {
        m.count = r.count;
    }
    m.applied = lane.applied;
    m.serial = lane.serial;
    m.lease_ns = lane.granted ? options_.lease.ns() : 0;
    send(s, m, r.buffer, data ? static_cast<u32>(r.count) : 0);
}

// --- the alternative server ----------------------------------------------------------------------

u32 Server::member_of(u64 agent) const {
    u32 k = 0;
    while (k < members_ && member_[k].client != agent) ++k;
    return k;
}

/// Whether a later incarnation of the agent may join: what the one before has left at the
/// alternative server comes first. That is asked for, if it was not.
bool Server::handed_back(u64 agent, u64 incarnation) {
    u32 const k = member_of(agent);
    if (!options_.alternative || k == members_) return true;
    if (!mutated(Mutant::HandedIncarnation) && incarnation_of(member_[k].sequence) >= incarnation) {
        return true;
    }
    // Who has replayed himself has left nothing.
    Session const* const s = session_of(agent);
    if (s && s->replay_ended) handing_[k] = Handing::Done;
    ask_back(k);
    // Later it can only be named as lost.
    return handing_[k] == Handing::Done || !grace_;
}

void Server::ask_back(u32 k) {
    bool const again =
        handing_[k] == Handing::Asked && now_ - asked_back_[k] < options_.recall_again;
    if (handing_[k] == Handing::Done || again || !may_speak()) return;
    handing_[k] = Handing::Asked;
    asked_back_[k] = now_;
    Message m;
    m.kind = MessageKind::Returned;
    m.session = life();
    m.agent = member_[k].client;
    m.incarnation = incarnation_of(member_[k].sequence);
    m.number = member_[k].sequence;
    port_.send_to_alternative(out_, build_message(out_, m));
}

void Server::send_handed(Message const& to, Message m) {
    if (!may_speak()) return;
    m.kind = MessageKind::Handed;
    m.agent = to.agent;
    m.incarnation = to.incarnation;
    m.session = to.session;
    m.number = to.number;
    port_.send_to_alternative(out_, build_message(out_, m));
}

/// An operation of an agent that is gone. It is executed as a replayed one, once.
void Server::take_back(Received const& r) {
    Message const& m = r.header;
    u32 const k = member_of(m.agent);
    if (k == members_ || handing_[k] != Handing::Asked) return;
    if (!mutated(Mutant::BackLife) && m.session != life()) return;
    if (!mutated(Mutant::BackNumber) && incarnation_of(m.number) != m.incarnation) return;
    if (!sound_change(m)) return;
    if (!mutated(Mutant::BackIncarnation) && m.incarnation != incarnation_of(member_[k].sequence)) {
        return;
    }
    Session* s = session_of(m.agent);
    Message reply;
    if (!mutated(Mutant::BackDurable) && m.number <= member_[k].sequence) {
        send_handed(m, reply);
        return;
    }
    if (s && !mutated(Mutant::BackLate) && s->incarnation > m.incarnation) {
        // It came too late: the next incarnation has begun without it.
        reply.error = static_cast<u32>(Error::Stale);
        send_handed(m, reply);
        return;
    }
    if (!s) {
        s = free_session();
        if (!s) return;
        begin_session(*s, m.agent, m.incarnation);
        s->joining = Joining::No;
        s->applied = s->durable = member_[k].sequence;
        s->made = MadeFile{};
    }
    if (!mutated(Mutant::BackSession) && s->incarnation != m.incarnation) return;
    if (s->joining != Joining::No) return;
    s->deputed = true;
    if (!mutated(Mutant::BackAgain) && m.number <= s->applied) {
        if ((mutated(Mutant::BackAnswer) || m.number == s->applied) && s->has_answer) {
            reply.error = s->answer.error;
            reply.result = s->answer.result;
        }
        send_handed(m, reply);
        return;
    }
    if (s->change.step == Step::Idle) fill(s->change, r);
}

/// The alternative server has no more of that incarnation. It is told what of it is on disk here.
void Server::all_handed(Message const& m) {
    u32 const k = member_of(m.agent);
    if (k == members_) return;
    if (!mutated(Mutant::HandedLater) && m.incarnation > incarnation_of(member_[k].sequence))
        return;
    bool const asked =
        handing_[k] == Handing::Asked && (mutated(Mutant::HandedLife) || m.session == life());
    bool const its =
        mutated(Mutant::HandedOther) || m.incarnation == incarnation_of(member_[k].sequence);
    if (asked && its) handing_[k] = Handing::Done;
    Message reply;
    reply.durable = member_[k].sequence;
    // A later incarnation is welcome when all of the one before is on disk.
    Session const* const s = session_of(m.agent);
    if (s && s->joining == Joining::No) {
        if (mutated(Mutant::HandedSession) || s->incarnation == m.incarnation) {
            reply.durable = s->durable;
        }
        if (!mutated(Mutant::HandedOver) && s->incarnation > m.incarnation) {
            reply.durable = incarnation_start(s->incarnation);
        }
    }
    send_handed(m, reply);
}

// --- who has copies ------------------------------------------------------------------------------

/// The file's entry; `insert`: or a free one, and if there is none, one whose copies are recalled
/// so that there will be.
Server::Holding* Server::holding(u64 pnode, bool insert) {
    u64 const sets = options_.holdings / ways;
    Holding* const set = holdings_ + pnode * 0x9E37'79B9'7F4A'7C15 % sets * ways;
    Holding* free = nullptr;
    for (u32 i = 0; i < ways; ++i) {
        if (set[i].sessions == 0) {
            free = &set[i];
        } else if (set[i].pnode == pnode) {
            return &set[i];
        }
    }
    if (!insert) return nullptr;
    if (free) {
        free->pnode = pnode;
        return free;
    }
    Holding const& old = set[hand_++ % ways];
    for (u32 i = 0; i < options_.sessions; ++i) {
        if (old.sessions >> i & 1) recall(sessions_[i], old.pnode);
    }
    return nullptr;
}

/// Whether the session may keep what the lane is about to read. It is a holder from now on.
bool Server::grant(Session& s, Lane const& lane) {
    u64 const pnode = lane.message.file.pnode;
    if ((grace_ && !mutated(Mutant::GrantInGrace)) || !s.replay_ended || refused(s)) return false;
    // Its answer to the recall would be taken for the end of what it is given now.
    for (u32 i = 0; i < s.recall_count; ++i) {
        if (s.recall[i].pnode == pnode && !mutated(Mutant::GrantRecalling)) return false;
    }
    for (u32 i = 0; i < touched_end_; ++i) {
        Touched const& t = touched_[i];
        bool const changes = t.group == in_progress && t.agent != s.agent && t.key.writes;
        if (changes && t.key.pnode == pnode && !mutated(Mutant::GrantChanging)) return false;
    }
    Holding* const h = holding(pnode, true);
    if (!h) return false;
    if (!mutated(Mutant::HolderForgotten)) h->sessions |= u64{1} << (&s - sessions_);
    s.holds = true;
    return true;
}

void Server::recall(Session& s, u64 pnode) {
    for (u32 i = 0; i < s.recall_count; ++i) {
        if (s.recall[i].pnode == pnode) return;
    }
    if (s.recall_count == recalls_max) return;  // asked for again when one is answered
    Recall& r = s.recall[s.recall_count++];
    r = {pnode, ++s.serial, now_, now_};
    ++recalls_made_;
    send_recall(s, r);
}

void Server::send_recall(Session& s, Recall& r) {
    r.sent = now_;
    Message m;
    m.kind = MessageKind::Recall;
    m.number = r.serial;
    m.file.pnode = r.pnode;
    send(s, m);
}

/// Whether nobody else has a copy of what the lane changes; those who have are asked for it.
bool Server::all_recalled(Session const& s, Lane const& lane) {
    u64 const own = u64{1} << (&s - sessions_);
    bool all = true;
    for (u32 k = 0; k < lane.keys; ++k) {
        Key const& key = lane.key[k];
        Holding const* const h =
            key.writes && key.pnode != tree.pnode ? holding(key.pnode, false) : nullptr;
        if (!h || (h->sessions & ~own) == 0) continue;
        all = false;
        for (u32 i = 0; i < options_.sessions; ++i) {
            if (h->sessions & ~own & u64{1} << i) recall(sessions_[i], key.pnode);
        }
    }
    return all;
}

void Server::recalled(Session& s, u64 serial) {
    for (u32 i = 0; i < s.recall_count; ++i) {
        if (!mutated(Mutant::RecalledSerial) && s.recall[i].serial != serial) continue;
        if (Holding* const h = holding(s.recall[i].pnode, false)) {
            h->sessions &= ~(u64{1} << (&s - sessions_));
        }
        for (u32 k = i + 1; k < s.recall_count; ++k) s.recall[k - 1] = s.recall[k];
        --s.recall_count;
        return;
    }
}

/// Nothing of the session's copies is used any more.
void Server::end_lease(Session& s) {
    u64 const own = u64{1} << (&s - sessions_);
    for (u32 i = 0; s.holds && i < options_.holdings; ++i) holdings_[i].sessions &= ~own;
    s.holds = false;
    s.recall_count = 0;
}

// --- what is durable -----------------------------------------------------------------------------

void Server::tell_durable() {
    u64 const group = store_.durable_group();
    for (u32 i = 0; i < touched_end_; ++i) {
        Touched& t = touched_[i];
        if (t.group != in_progress && (mutated(Mutant::TouchedDurable) || t.group <= group))
            t.group = 0;
    }
    while (touched_end_ > 0 && touched_[touched_end_ - 1].group == 0) --touched_end_;
    for (u32 i = 0; i < options_.sessions; ++i) {
        Session& s = sessions_[i];
        if (!s.used || s.pending_count == 0) continue;
        u32 done = 0;
        while (done < s.pending_count &&
               (mutated(Mutant::PendingDurable) || s.pending[done].group <= group)) {
            ++done;
        }
        if (done == 0) continue;
        s.durable = s.pending[done - 1].number;
        for (u32 k = done; k < s.pending_count; ++k) s.pending[k - done] = s.pending[k];
        s.pending_count -= done;
        if (s.pending_count == 0) s.durable = s.applied;
        Message m;
        m.kind = MessageKind::Durable;
        send(s, m);
    }
}

void Server::end_grace() {
    // Who has replayed has begun a session of this life, and so has none of the copies of the one
    // before. Those of the others end with their leases.
    // A server that had these disks before may speak as long as this.
    if (!mutated(Mutant::GraceShared) && store_.shared() && now_ - started_ < options_.lease)
        return;
    bool all = true;
    for (u32 i = 0; i < members_; ++i) {
        Session const* s = session_of(member_[i].client);
        all = all && s && s->replay_ended;
    }
    if (!all && !mutated(Mutant::GraceTime) && now_ - started_ < grace_max()) return;
    // What agents that did not come have left at the alternative server; for as long again.
    bool comes = false;
    for (u32 k = 0; k < members_ && options_.alternative && !all; ++k) {
        if (session_of(member_[k].client) && handing_[k] != Handing::Asked) continue;
        ask_back(k);
        comes = comes || handing_[k] == Handing::Asked;
    }
    if (!comes || mutated(Mutant::GraceHanded) || now_ - started_ >= grace_max() * 2)
        grace_ = false;
}

// --- time ----------------------------------------------------------------------------------------

void Server::run() {
    if (running_) return;
    running_ = true;
    for (bool again = true; again && !halting_;) {
        again = false;
        store_.run();
        tell_durable();
        if (grace_) end_grace();
        for (u32 i = 0; i < options_.sessions; ++i) {
            Session& s = sessions_[i];
            if (!s.used) continue;
            if (s.joining != Joining::No) {
                Joining const before = s.joining;
                bool const fresh = s.join.context != &s;
                join(s);
                again = again || fresh || before != s.joining;
                continue;
            }
            again = progress(s, s.change, true) || again;
            again = progress(s, s.read, false) || again;
        }
        again = media_.progress() || again;
        if (flushing_ && flush_.done) flushing_ = false;
        if (flush_wanted_ && (!flushing_ || mutated(Mutant::FlushInFlight))) {
            flush_wanted_ = false;
            flushing_ = again = true;
            flush_ = Request{};
            flush_.op = Op::Fsync;
            flush_.done = mutated(Mutant::FlushUnasked);
            if (!flush_.done) store_.submit(flush_);
        }
    }
    store_.run();
    running_ = false;
}

void Server::advance(Instant now) {
    now_ = now;
    if (store_.fenced()) halting_ = true;
    if (store_.shared() && !halting_ && now_ - renewed_ >= options_.lease / 8) {
        renewed_ = now_;
        store_.renew();
    }
    for (u32 k = 0; k < members_; ++k) {
        if (handing_[k] == Handing::Asked) ask_back(k);
    }
    for (u32 i = 0; i < options_.sessions; ++i) {
        Session& s = sessions_[i];
        if (!s.used) continue;
        Duration const lease = mutated(Mutant::LeaseShort) ? options_.lease / 2 : options_.lease;
        if (now_ - s.heard >= lease) {
            if (s.holds) end_lease(s);
            if (!mutated(Mutant::SetsOutliveLease)) media_.drop(i);
            // Its agent may be gone, and this the only copy.
            if (!s.flushed_since && s.pending_count > 0 && !mutated(Mutant::SilentUnflushed))
                want_flush();
            s.flushed_since = true;
        }
        for (u32 k = 0; k < s.recall_count; ++k) {
            if (now_ - s.recall[k].sent >= options_.recall_again) send_recall(s, s.recall[k]);
        }
    }
    run();
}

Instant Server::next_deadline() const {
    Instant t = grace_ ? started_ + grace_max() : Instant::never();
    if (grace_ && store_.shared() && now_ - started_ < options_.lease) {
        t = started_ + options_.lease;
    }
    for (u32 k = 0; k < members_; ++k) {
        if (handing_[k] == Handing::Asked && asked_back_[k] + options_.recall_again < t) {
            t = asked_back_[k] + options_.recall_again;
        }
    }
    if (store_.shared() && !halting_ && renewed_ + options_.lease / 8 < t) {
        t = renewed_ + options_.lease / 8;
    }
    for (u32 i = 0; i < options_.sessions; ++i) {
        Session const& s = sessions_[i];
        if (!s.used) continue;
        if ((!s.flushed_since || s.holds || media_.serves(i)) && s.heard + options_.lease < t) {
            t = s.heard + options_.lease;
        }
        for (u32 k = 0; k < s.recall_count; ++k) {
            if (s.recall[k].sent + options_.recall_again < t) {
                t = s.recall[k].sent + options_.recall_again;
            }
        }
    }
    return t;
}

void Server::power_failing() {
    Message m;
    m.kind = MessageKind::Halting;
    for (u32 i = 0; i < options_.sessions; ++i) {
        if (sessions_[i].used) send(sessions_[i], m);
    }
    halting_ = true;
    store_.unmount();
    store_.run();
}

}  // namespace nemesis::fs
