// The agent: one operation on its way at a time, a log of those that may have to be sent again, the
// replay of that log after a restart of the server, and when what was read may be used again.

#include "fs/agent/agent.h"

#include <algorithm>
#include <cstring>

#include "fs/core/mutant.h"

namespace nemesis::fs {
namespace {

constexpr u64 end_of_replay = ~u64{0};  // number of REPLAYED and of its PONG

}  // namespace

std::size_t Agent::memory_needed(AgentOptions const& o) {
    return o.files * sizeof(File) + o.log_operations * sizeof(Entry) + o.log_bytes +
           message_bytes_max + AgentCache::memory_needed(o.cache) +
           AgentMedia::memory_needed(o.media) + 256;
}

Agent::Agent(Arena& arena, AgentPort& port, AgentOptions options, u64 agent, u64 incarnation)
    : port_(port),
      options_(options),
      agent_(agent),
      incarnation_(incarnation),
      cache_(arena, options.cache),
      media_(arena, *this, options.media, options.retry) {
    files_ = arena.carve<File>(options.files);
    log_ = arena.carve<Entry>(options.log_operations);
    bytes_ = arena.carve<u8>(options.log_bytes);
    out_ = arena.carve<u8>(message_bytes_max);
    ASSERT(!arena.exhausted());
    for (u32 i = 0; i < options.files; ++i) files_[i] = File{};
    for (u32 i = 0; i < options.log_operations; ++i) log_[i] = Entry{};
    files_[root_handle] = {{root_directory, 0, 0}, 1};
    number_ = acknowledged_ = durable_ = incarnation_start(incarnation);
}

void Agent::start(Instant now) {
    now_ = heard_ = now;
    greet();
}

// --- handles -------------------------------------------------------------------------------------

/// The handle of that file, or a free one for it; pinned. no_handle: all are in use.
FileHandle Agent::take_file(FileRef ref) {
    FileHandle free = no_handle;
    for (FileHandle h = 0; h < options_.files; ++h) {
        if (files_[h].pins == 0) {
            if (free == no_handle) free = h;
        } else if (ref.pnode != 0 && files_[h].ref == ref) {
            ++files_[h].pins;
            return h;
        }
    }
    if (free != no_handle) files_[free] = {ref, 1};
    return free;
}

void Agent::unpin(FileHandle file) {
    if (file == no_handle) return;
    ASSERT(files_[file].pins > 0);
    --files_[file].pins;
}

void Agent::forget(FileHandle file) {
    if (file != root_handle) unpin(file);
}

// --- the log -------------------------------------------------------------------------------------

/// Whether an operation of so many bytes has room behind those in the log; where.
bool Agent::room_for(u32 bytes, u32* at) const {
    if (log_count_ == options_.log_operations || bytes > options_.log_bytes) return false;
    if (log_count_ == 0) {
        *at = 0;
        return true;
    }
    u32 const first = entry(0).at;
    Entry const& last = entry(log_count_ - 1);
    u32 const end = last.at + last.length;
    if (last.at >= first) {  // not wrapped
        if (options_.log_bytes - end >= bytes) {
            *at = end;
            return true;
        }
        *at = 0;
        return bytes < first;
    }
    *at = end;
    return first - end > bytes;
}

void Agent::drop_first() {
    Entry& e = entry(0);
    unpin(e.file);
    unpin(e.file2);
    unpin(e.result);
    log_first_ = (log_first_ + 1) % options_.log_operations;
    --log_count_;
}

void Agent::drop_last() {
    Entry& e = entry(log_count_ - 1);
    unpin(e.file);
    unpin(e.file2);
    unpin(e.result);
    --log_count_;
}

/// What was executed without its answer having come stays, for the number of what it made.
void Agent::drop_durable() {
    while (log_count_ > 0 &&
           (mutated(Mutant::DropsUndurable) || entry(0).message.number <= durable_) &&
           (mutated(Mutant::DropsUnacknowledged) || entry(0).acknowledged) &&
           (mutated(Mutant::DropsUnanswered) || entry(0).answered)) {
        drop_first();
        if (replayed_ > 0) --replayed_;
    }
}

void Agent::durable_up_to(u64 number) {
    if ((!mutated(Mutant::DurableNumber) && number <= durable_) ||
        (!mutated(Mutant::DurableAhead) && number > number_)) {
        return;
    }
    durable_ = number;
    drop_durable();
}

// --- sending -------------------------------------------------------------------------------------

void Agent::greet() {
    state_ = State::Greeting;
    send(MessageKind::Hello, 0);
    retry_at_ = now_ + options_.retry;
}

void Agent::send(MessageKind kind, u64 number) {
    Message m;
    m.kind = kind;
    m.agent = agent_;
    m.incarnation = incarnation_;
    m.session = session_;
    m.number = number;
    port_.send(out_, build_message(out_, m));
}

void Agent::send_entry(Entry& e, MessageKind kind) {
    Message m = e.message;
    m.kind = kind;
    m.agent = agent_;
    m.incarnation = incarnation_;
    m.session = session_;
    m.file = files_[e.file].ref;
    if (e.file2 != no_handle) m.file2 = files_[e.file2].ref;
    u8 const* const p = bytes_ + e.at;
    Name const name{reinterpret_cast<char const*>(p), m.name_length};
    Name const name2{name.text + m.name_length, m.name2_length};
    port_.send(out_,
               build_message(out_, m, name, name2, p + name.length + name2.length, m.data_length));
}

void Agent::send_read() {
    AgentRequest const& r = *reads_;
    Message m;
    m.kind = MessageKind::Read;
    m.op = r.op;
    m.agent = agent_;
    m.incarnation = incarnation_;
    m.session = session_;
    m.number = read_number_;
    m.file = files_[r.file].ref;
    m.offset = asked_offset(r);
    m.count = asked_count(r);
    port_.send(out_, build_message(out_, m, r.name));
}

/// All that waits for an answer, once more: any of it may have got lost.
void Agent::send_outstanding() {
    retry_at_ = now_ + options_.retry;
    switch (state_) {
        case State::Greeting:
            send(MessageKind::Hello, 0);
            return;
        case State::Resolving:
            resolve();
            return;
        case State::Replaying:
            send_entry(entry(static_cast<u32>(replayed_)), MessageKind::Replay);
            return;
        case State::Ending:
            send(MessageKind::Replayed, end_of_replay);
            return;
        case State::Active:
            break;
    }
    if (changing_) send_entry(entry(log_count_ - 1), MessageKind::New);
    if (reading_) send_read();
    if (sync_) send(MessageKind::Sync, acknowledged_);
}

// --- requests ------------------------------------------------------------------------------------

void Agent::submit(AgentRequest& r, Instant now) {
    look_at(now);
    r.done = false;
    r.error = Error::None;
    r.count = 0;
    r.next = nullptr;
    if (may_be_read(r.op) && !sound(r)) {
        finish(r, Error::Invalid);
        return;
    }
    AgentRequest**& end = may_be_read(r.op) ? reads_end_ : changes_end_;
    *end = &r;
    end = &r.next;
    go();
}

void Agent::submit(MediaRequest& r, Instant now) {
    look_at(now);
    media_.submit(r, now_);
}

/// Not before the agent has its session: what is not sent now is sent again.
void Agent::send_media(Message m, u8 const* head, u32 head_bytes, u8 const* data, u32 length) {
    if (state_ != State::Active) return;
    m.agent = agent_;
    m.incarnation = incarnation_;
    m.session = session_;
    u8* const at = out_ + sizeof m;
    if (head_bytes) std::memcpy(at, head, head_bytes);
    if (length) std::memcpy(at + head_bytes, data, length);
    port_.send(out_, build_message(out_, m, {}, {}, at, head_bytes + length));
}

FileRef Agent::media_file(FileHandle file) const {
    return file < options_.files && files_[file].pins > 0 ? files_[file].ref : FileRef{};
}

void Agent::finish(AgentRequest& r, Error error) {
    r.error = error;
    r.done = true;
    if (r.completed) r.completed(r);
}

void Agent::go() {
    // What is cached is right whatever the server does, as long as the lease lasts.
    while (!reading_ && reads_ && answer_from_cache(*reads_)) {
        AgentRequest& r = *reads_;
        reads_ = r.next;
        if (!reads_) reads_end_ = &reads_;
        finish(r, r.error);
    }
    if (state_ != State::Active) return;
    bool waits = false;
    while (changes_ && !changing_ && !waits) {
        AgentRequest& r = *changes_;
        bool finished = true;
        if (!sound(r)) {
            r.error = Error::Invalid;
        } else if (r.op == Op::Fsync) {
            waits = !mutated(Mutant::AgentFsync) && log_count_ > 0;
            finished = !waits;
        } else if (r.op != Op::Write || r.length > 0) {
            finished = !begin_change(r, &waits);
        }
        if (!finished || waits) break;
        changes_ = r.next;
        if (!changes_) changes_end_ = &changes_;
        finish(r, r.error);
    }
    bool const fresh = waits && !sync_;
    sync_ = waits;
    if (fresh) send_outstanding();
    if (!reading_ && reads_) {
        reading_ = true;
        read_in_lease_ = lease_lasts();
        ++read_number_;
        ++statistics_.asked;
        send_read();
    }
}

/// Whether an application's request can be asked for at all.
bool Agent::sound(AgentRequest const& r) const {
    auto const known = [&](FileHandle h) { return h < options_.files && files_[h].pins > 0; };
    if (!known(r.file) || (r.file2 != no_handle && !known(r.file2))) return false;
    if (r.name.length > name_max || r.name2.length > name_max) return false;
    bool const moves_data = brings_data(r.op) || yields_data(r.op);
    if (moves_data && r.length > 0 && !r.buffer) return false;
    if (brings_data(r.op) && r.op != Op::Write && r.length > message_data_max) return false;
    return r.op == Op::Fsync || may_be_new(r.op) || may_be_read(r.op);
}

/// The next operation of a request into the log and to the server. False: the request has failed,
/// or (`waits`) there is no room and the server has to flush first.
bool Agent::begin_change(AgentRequest& r, bool* waits) {
    u64 data = 0;
    if (r.op == Op::Write) {
        // A write is atomic in aligned pieces of 64 KiB: each is an operation.
        u64 const at = r.offset + r.count;
        data = message_data_max - at % message_data_max;
        if (data > r.length - r.count) data = r.length - r.count;
    } else if (brings_data(r.op)) {
        data = r.length;
    }
    u32 const bytes = r.name.length + r.name2.length + static_cast<u32>(data);
    u32 at = 0;
    if (!room_for(bytes, &at)) {
        *waits = true;
        return false;
    }
    FileHandle result = no_handle;
    if (makes_file(r.op)) {
        result = take_file({});
        if (result == no_handle) {
            r.error = Error::TooManyOpen;
            return false;
        }
        ++files_[result].pins;  // the application's and the log's
    }
    ++log_count_;
    Entry& e = entry(log_count_ - 1);
    e = Entry{};
    e.file = r.file;
    e.file2 = r.file2;
    e.result = r.result = result;
    ++files_[e.file].pins;
    if (e.file2 != no_handle) ++files_[e.file2].pins;
    e.at = at;
    e.length = bytes;
    Message& m = e.message;
    m.op = r.op;
    m.number = ++number_;
    m.offset = r.offset + (r.op == Op::Write ? r.count : 0);
    m.count = r.op == Op::Write ? data : r.length;
    m.flags = r.flags;
    m.mode = r.mode;
    m.type = r.type;
    if (r.op == Op::SetAttributes) {
        m.offset = static_cast<u64>(r.atime_ns);
        m.size = static_cast<u64>(r.mtime_ns);
        m.count = r.uid | u64{r.gid} << 32;
    }
    m.name_length = static_cast<u16>(r.name.length);
    m.name2_length = static_cast<u16>(r.name2.length);
    m.data_length = static_cast<u32>(data);
    u8* const p = bytes_ + at;
    if (r.name.length) std::memcpy(p, r.name.text, r.name.length);
    if (r.name2.length) std::memcpy(p + r.name.length, r.name2.text, r.name2.length);
    if (data) std::memcpy(p + r.name.length + r.name2.length, r.buffer + r.count, data);
    changing_ = true;
    retry_at_ = now_ + options_.retry;
    send_entry(e, MessageKind::New);
    return true;
}

/// The operation at the end of the log is acknowledged.
void Agent::finish_change(Error error, u64 count, u64 size, FileRef result) {
    AgentRequest& r = *changes_;
    Entry& e = entry(log_count_ - 1);
    changing_ = false;
    acknowledged_ = e.message.number;
    if (error == Error::None) {
        effective_ = acknowledged_;
        e.acknowledged = e.answered = true;
        if (e.result != no_handle) files_[e.result].ref = result;
        drop_durable();
        r.size = size;
        if (r.op == Op::Write) {
            r.count += count;
            if (r.count < r.length && count > 0) return;
        } else {
            r.count = count;
        }
    } else {
        // It has no effect, so nothing of it has to be kept.
        if (e.result != no_handle) {
            unpin(e.result);
            r.result = no_handle;
        }
        drop_last();
    }
    changes_ = r.next;
    if (!changes_) changes_end_ = &changes_;
    finish(r, error);
}

// --- receiving -----------------------------------------------------------------------------------

void Agent::receive(u8 const* bytes, u32 length, Instant now) {
    look_at(now);
    Received r;
    if (!read_message(bytes, length, &r)) return;
    Message const& m = r.header;
    if (!mutated(Mutant::AgentOther) && m.agent != agent_) return;
    if (!mutated(Mutant::AgentIncarnation) && m.incarnation != incarnation_) return;
    if (m.kind == MessageKind::Deposited) {
        if (!mutated(Mutant::DepositedSession) && m.session != session_) return;
        if (!mutated(Mutant::DepositedNumber) && m.number <= deposited_) return;
        if (!mutated(Mutant::DepositedAhead) && m.number > number_) return;
        deposited_ = m.number;
        deposit_at_ = now_;
        deposit();
        return;
    }
    if (m.kind == MessageKind::Welcome) {
        heard_ = now_;
        welcome(m);
        return;
    }
    if ((!mutated(Mutant::AgentSession) && m.session != session_) || session_ == 0) return;
    heard_ = now_;
    durable_up_to(m.durable);
    switch (m.kind) {
        case MessageKind::Unknown:
            void_cache();
            if (state_ != State::Greeting) greet();
            break;
        case MessageKind::Recall:
            ++statistics_.recalls;
            if (mutated(Mutant::RecalledNewest) || m.number > recalled_) recalled_ = m.number;
            if (!mutated(Mutant::RecallIgnored)) cache_.drop(m.file.pnode);
            send(MessageKind::Recalled, m.number);
            break;
        case MessageKind::Pong:
            // The lease runs from the sending: the server counts from the receipt.
            if ((mutated(Mutant::PongNumber) || m.number == ping_number_) && ping_number_ != 0) {
                Duration const margin =
                    mutated(Mutant::LeaseWhole) ? Duration{} : lease_ / lease_margin_part;
                Instant const until = ping_sent_ + (lease_ - margin);
                if (until > lease_until_ && until > now_) lease_until_ = until;
            }
            if ((mutated(Mutant::ReplayEnd) || m.number == end_of_replay) &&
                state_ == State::Ending) {
                state_ = State::Active;
                send_outstanding();
            }
            break;
        case MessageKind::Answer:
            answer(m);
            break;
        case MessageKind::Content:
            content(r);
            break;
        default:
            if (m.kind >= MessageKind::Open) media_.receive(r, now_);
            break;
    }
    go();
}

void Agent::welcome(Message const& m) {
    if (!mutated(Mutant::WelcomeSession) && m.session <= session_) {
        // The same session: the server was only slow.
        if ((mutated(Mutant::WelcomeSame) || m.session == session_) && state_ == State::Greeting) {
            replay();
        }
        return;
    }
    session_ = m.session;
    if (!mutated(Mutant::CopiesOverWelcome)) void_cache();
    recalled_ = 0;
    ping_number_ = 0;
    deposited_ = 0;
    media_.begin_session();
    volatile_ = (m.flags & message_volatile) != 0;
    lease_ = Duration::ns(std::clamp<i64>(m.lease_ns, 1'000'000, 3'600'000'000'000));
    ping_at_ = now_;
    reading_ = false;
    replayed_ = 0;
    // In the life before an operation may have failed whose answer got lost, and have been said to
    // be durable: there was nothing to write. It is executed once more, and may succeed.
    if (!mutated(Mutant::DurableOfBefore)) durable_ = incarnation_start(incarnation_);
    durable_up_to(m.durable);
    for (u32 i = 0; i < log_count_; ++i) {
        Entry& e = entry(i);
        if (!mutated(Mutant::WelcomeApplied) && e.message.number <= m.applied) {
            ++replayed_;
        } else {
            e.answered = false;
        }
    }
    // What `applied` covers was successful. The answer of the last of it may have got lost with the
    // server's memory; if it made a file, the server knows which. Its name may lead elsewhere: once
    // the file is durable, others may move it or put another in its place.
    Entry const* const last = replayed_ > 0 ? &entry(static_cast<u32>(replayed_) - 1) : nullptr;
    bool const made = last && !last->answered && makes_file(last->message.op);
    if (made && m.result.pnode == 0) {  // its number is too great for the store's mark
        state_ = State::Resolving;
        ++read_number_;
        send_outstanding();
    } else {
        resolved(m.result);
    }
}

/// Asks what the operation that may have made a file has made.
void Agent::resolve() {
    Entry const& e = entry(static_cast<u32>(replayed_) - 1);
    Message m;
    m.kind = MessageKind::Read;
    m.op = Op::Lookup;
    m.agent = agent_;
    m.incarnation = incarnation_;
    m.session = session_;
    m.number = read_number_;
    m.file = files_[e.file].ref;
    char const* const text = reinterpret_cast<char const*>(bytes_ + e.at);
    port_.send(out_, build_message(out_, m, {text, e.message.name_length}));
}

/// All that the server has executed is known; the replay begins.
void Agent::resolved(FileRef made) {
    if (replayed_ > 0 && !entry(static_cast<u32>(replayed_) - 1).answered) {
        Entry& e = entry(static_cast<u32>(replayed_) - 1);
        e.answered = true;
        if (e.result != no_handle) files_[e.result].ref = made;
        if (!e.acknowledged) finish_change(Error::None, e.message.data_length, 0, made);
    }
    drop_durable();
    replay();
}

/// Sends the next operation of the replay, or its end. What has its answer in this session is not
/// sent again when the server only greets again; DURABLE may take it out of the log at any time.
void Agent::replay() {
    u32 const end = log_count_ - (changing_ ? 1 : 0);
    while (replayed_ < end &&
           (entry(static_cast<u32>(replayed_)).lost ||
            (entry(static_cast<u32>(replayed_)).answered && !mutated(Mutant::ReplaysAnswered)))) {
        ++replayed_;
    }
    state_ =
        replayed_ < end && !mutated(Mutant::ReplayForgotten) ? State::Replaying : State::Ending;
    send_outstanding();
}

void Agent::answer(Message const& m) {
    Error const error = static_cast<Error>(m.error);
    if (state_ == State::Replaying) {
        Entry& e = entry(static_cast<u32>(replayed_));
        if (!mutated(Mutant::ReplayNumber) && m.number != e.message.number) return;
        if (error != Error::None) {
            e.lost = true;
            port_.conflict(m.number, error);
        } else if (e.result != no_handle) {
            files_[e.result].ref = m.result;
        }
        e.answered = true;
        effective_ = m.number;
        ++replayed_;
        drop_durable();
        replay();
    } else if (state_ == State::Active && changing_) {
        if (!mutated(Mutant::AnswerNumber) && m.number != entry(log_count_ - 1).message.number)
            return;
        if (error == Error::None) apply_to_cache(entry(log_count_ - 1), m);
        finish_change(error, m.count, m.size, m.result);
    }
}

void Agent::content(Received const& received) {
    Message const& m = received.header;
    if (!mutated(Mutant::ContentNumber) && m.number != read_number_) return;
    Error error = static_cast<Error>(m.error);
    if (state_ == State::Resolving) {
        resolved(error == Error::None ? m.result : FileRef{});
        return;
    }
    if (state_ != State::Active || !reading_) return;
    reading_ = false;
    AgentRequest& r = *reads_;
    reads_ = r.next;
    if (!reads_) reads_end_ = &reads_;
    if (may_keep(m)) keep(r, received);
    r.type = m.type;
    r.size = m.size;
    r.mode = m.mode;
    r.links = m.links;
    r.end = r.op == Op::ReadDirectory && (m.flags & message_end);
    if (error == Error::None && r.op == Op::Lookup) {
        r.result = take_file(m.result);
        if (r.result == no_handle) error = Error::TooManyOpen;
    }
    // More may have been asked for than the application wants: whole blocks.
    u64 const skip = r.offset - asked_offset(r);
    if (error == Error::None && m.data_length > skip) {
        r.count = m.data_length - skip < r.length ? m.data_length - skip : r.length;
        std::memcpy(r.buffer, received.data + skip, r.count);
    }
    bool const only_size = r.op == Op::GetXattr || r.op == Op::ListXattr;
    if (only_size && r.length == 0) r.count = m.count;
    finish(r, error);
}

// --- what is cached ------------------------------------------------------------------------------

/// Time goes on. A lease that has ended takes all copies with it, before anything else is done.
void Agent::look_at(Instant now) {
    if (now > now_) now_ = now;
    if (lease_until_ != Instant{} && !lease_lasts()) {
        ++statistics_.voided;
        void_cache();
    }
}

bool Agent::lease_lasts() const { return mutated(Mutant::LeaseEndless) || now_ < lease_until_; }

void Agent::void_cache() {
    lease_until_ = Instant{};
    read_in_lease_ = false;
    cache_.clear();
}

/// Reads ask for whole blocks, so that they can be kept.
u64 Agent::asked_offset(AgentRequest const& r) {
    return r.op == Op::Read ? r.offset / block_bytes * block_bytes : r.offset;
}

u64 Agent::asked_count(AgentRequest const& r) {
    u64 const most = message_data_max;
    u64 const wanted = (r.length < most ? r.length : most) + (r.offset - asked_offset(r));
    u64 const whole =
        r.op == Op::Read ? (wanted + block_bytes - 1) / block_bytes * block_bytes : wanted;
    return whole < most ? whole : most;
}

/// True: the answer is in `r`.
bool Agent::answer_from_cache(AgentRequest& r) {
    if (!lease_lasts() || !sound(r)) return false;
    FileRef const file = files_[r.file].ref;
    FileFacts facts;
    switch (r.op) {
        case Op::Lookup: {
            FileRef found;
            AgentCache::Found const f = cache_.lookup(file, r.name, &found, &r.type);
            if (f == AgentCache::Found::Unknown) return false;
            if (f == AgentCache::Found::Absent) {
                ++statistics_.absences;
                r.error = Error::NoEntry;
                return true;
            }
            ++statistics_.names;
            r.result = take_file(found);
            if (r.result == no_handle) r.error = Error::TooManyOpen;
            return true;
        }
        case Op::GetAttributes:
            if (!cache_.facts(file, &facts)) return false;
            ++statistics_.attributes;
            break;
        case Op::Read:
            if (!cache_.read(file, r.offset, r.length, r.buffer, &r.count, &facts)) return false;
            ++statistics_.data;
            break;
        case Op::ReadDirectory:
            if (!cache_.list(file, r.offset, r.buffer, r.length, &r.count, &r.end)) return false;
            ++statistics_.listings;
            return true;
        default:
            return false;
    }
    r.type = facts.type;
    r.size = facts.size;
    r.mode = facts.mode;
    r.links = facts.links;
    return true;
}

/// Whether what a CONTENT says will stay right until it is recalled.
bool Agent::may_keep(Message const& m) const {
    // A recall that was sent after it may have come before it; it may lack what this agent has
    // changed meanwhile, or have already what its next ANSWER would put into it once more, over
    // what others have done since; and the server has forgotten who has what, if the lease has
    // ended.
    bool const older = !mutated(Mutant::KeepOlder) && m.applied < effective_;
    bool const newer = !mutated(Mutant::KeepNewer) && changing_ && m.applied >= number_;
    bool const overtaken = !mutated(Mutant::KeepOvertaken) && m.serial < recalled_;
    return (m.lease_ns > 0 || mutated(Mutant::KeepUngranted)) && !overtaken && !older && !newer &&
           (read_in_lease_ || mutated(Mutant::KeepOverLease)) && lease_lasts();
}

void Agent::keep(AgentRequest const& r, Received const& received) {
    Message const& m = received.header;
    Error const error = static_cast<Error>(m.error);
    FileRef const file = files_[r.file].ref;
    FileFacts const facts{m.type, m.mode, m.links, m.size};
    switch (r.op) {
        case Op::Lookup:
            if (error == Error::NoEntry) cache_.keep_name(file, r.name, {}, PnodeType::Free, 0);
            if (error == Error::None && m.result.pnode != 0) {
                cache_.keep_name(file, r.name, m.result, m.type, m.offset);
            }
            break;
        case Op::GetAttributes:
            if (error == Error::None) cache_.keep_facts(file, facts);
            break;
        case Op::Read:
            if (error != Error::None) break;
            cache_.keep_data(file, facts, asked_offset(r), received.data, m.data_length);
            break;
        case Op::ReadDirectory:
            if (error != Error::None) break;
            cache_.keep_listing(file, r.offset, received.data, m.data_length,
                                (m.flags & message_end) != 0);
            break;
        default:
            break;
    }
}

/// An own operation that has succeeded changes the copies by what it means.
void Agent::apply_to_cache(Entry const& e, Message const& m) {
    u8 const* const p = bytes_ + e.at;
    Message const& asked = e.message;
    Name const name{reinterpret_cast<char const*>(p), asked.name_length};
    Name const name2{name.text + name.length, asked.name2_length};
    FileRef const file = files_[e.file].ref;
    FileRef const file2 = e.file2 == no_handle ? FileRef{} : files_[e.file2].ref;
    switch (asked.op) {
        case Op::Create:
            cache_.named(file, name, m.result, asked.type, m.offset);
            break;
        case Op::Symlink:
            cache_.named(file, name, m.result, PnodeType::Symlink, m.offset);
            break;
        case Op::SetAttributes:
            cache_.changed(file, {m.type, m.mode, m.links, m.size});
            break;
        case Op::Link:
            cache_.named(file, name, file2, m.type, m.offset);
            cache_.changed(file2, {m.type, m.mode, m.links, m.size});
            break;
        case Op::Unlink:
        case Op::Rmdir:
            cache_.unnamed(file, name);
            cache_.drop(m.result.pnode);
            break;
        case Op::Rename:
            cache_.drop(m.file2.pnode);
            cache_.drop(m.result.pnode);
            if (asked.flags & rename_exchange) {
                cache_.drop(file.pnode);
                cache_.drop(file2.pnode);
            } else if (m.offset != 0) {  // else both names stand for one file, and stay
                cache_.unnamed(file, name);
                cache_.named(file2, name2, m.result, m.type, m.offset);
            }
            break;
        case Op::Write:
            cache_.written(file, {m.type, m.mode, m.links, m.size}, asked.offset,
                           p + name.length + name2.length,
                           m.count < asked.data_length ? m.count : asked.data_length);
            break;
        case Op::Truncate:
            cache_.truncated(file, asked.offset);
            break;
        case Op::Punch:
            cache_.punched(file, asked.offset, asked.count);
            break;
        default:
            break;
    }
}

// --- time ----------------------------------------------------------------------------------------

/// What is only in this agent's log, and in a server that says nothing.
Agent::Entry const* Agent::next_deposit() const {
    for (u32 i = 0; i < log_count_; ++i) {
        Entry const& e = entry(i);
        bool const only = (mutated(Mutant::DepositDurable) || e.message.number > durable_) &&
                          (mutated(Mutant::DepositTwice) || e.message.number > deposited_);
        if (only && e.acknowledged && !e.lost) return &e;
    }
    return nullptr;
}

/// Before its replay has ended, files have the numbers of the session before, and what was brought
/// in that one is all that the alternative server can make anything of.
bool Agent::may_deposit() const {
    for (u32 i = 0; i < log_count_; ++i) {
        Entry const& e = entry(i);
        if (e.acknowledged && !e.answered && !mutated(Mutant::DepositUnanswered)) return false;
    }
    return true;
}

void Agent::deposit() {
    bool const silent =
        options_.alternative_after > Duration{} && now_ - heard_ >= options_.alternative_after;
    bool const due = silent && now_ >= deposit_at_ && may_deposit();
    Entry const* const e = due ? next_deposit() : nullptr;
    if (!e) return;
    deposit_at_ = now_ + options_.retry;
    Message m = e->message;
    m.kind = MessageKind::Deposit;
    m.agent = agent_;
    m.incarnation = incarnation_;
    m.session = session_;
    m.durable = durable_;
    m.file = files_[e->file].ref;
    if (e->file2 != no_handle) m.file2 = files_[e->file2].ref;
    if (e->result != no_handle) m.result = files_[e->result].ref;
    u8 const* const p = bytes_ + e->at;
    Name const name{reinterpret_cast<char const*>(p), m.name_length};
    Name const name2{name.text + m.name_length, m.name2_length};
    port_.send_to_alternative(
        out_, build_message(out_, m, name, name2, p + name.length + name2.length, m.data_length));
}

void Agent::advance(Instant now) {
    look_at(now);
    deposit();
    if (now_ >= retry_at_) send_outstanding();
    if (state_ != State::Greeting && now_ >= ping_at_) {
        ping_at_ = now_ + lease_ / 3;
        ping_sent_ = now_;
        send(MessageKind::Ping, ++ping_number_);
    }
    media_.advance(now_);
}

Instant Agent::next_deadline() const {
    bool const waits = state_ != State::Active || changing_ || reading_ || sync_;
    Instant t = waits ? retry_at_ : Instant::never();
    if (state_ != State::Greeting && ping_at_ < t) t = ping_at_;
    if (media_.next_deadline() < t) t = media_.next_deadline();
    bool const ends = lease_until_ != Instant{} && !mutated(Mutant::LeaseEndless);
    if (ends && lease_until_ < t) t = lease_until_;
    if (options_.alternative_after > Duration{} && next_deposit() && may_deposit()) {
        Instant const silent = heard_ + options_.alternative_after;
        Instant const due = deposit_at_ > silent ? deposit_at_ : silent;
        if (due < t) t = due;
    }
    return t;
}

void Agent::check_invariants() const {
    ASSERT(state_ != State::Replaying || replayed_ + (changing_ ? 1 : 0) < log_count_);
    u64 before = 0;
    for (u32 i = 0; i < log_count_; ++i) {
        Entry const& e = entry(i);
        ASSERT(e.message.number > before);
        ASSERT(e.acknowledged || (i + 1 == log_count_ && changing_));
        ASSERT(e.at + e.length <= options_.log_bytes);
        ASSERT(files_[e.file].pins > 0);
        before = e.message.number;
    }
    cache_.check_invariants();
    media_.check_invariants();
}

}  // namespace nemesis::fs
