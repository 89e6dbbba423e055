// The alternative server: one thing at a time, step by step over its store.

#include "fs/server/alternate.h"

#include <cstring>

#include "fs/core/mutant.h"

namespace nemesis::fs {
namespace {

constexpr u64 rounded(u64 bytes) { return (bytes + 7) / 8 * 8; }

}  // namespace

std::size_t Alternate::memory_needed(AlternateOptions const& o) {
    return o.agents * sizeof(Slot) + o.made * sizeof(Made) + 2 * message_bytes_max + 256;
}

Alternate::Alternate(Arena& arena, Store& store, AlternatePort& port, AlternateOptions options)
    : store_(store), port_(port), options_(options) {
    slots_ = arena.carve<Slot>(options.agents);
    made_ = arena.carve<Made>(options.made);
    in_ = arena.carve<u8>(message_bytes_max);
    out_ = arena.carve<u8>(message_bytes_max);
    ASSERT(!arena.exhausted());
    ASSERT(options.agents > 0);
    ASSERT(options.agents <= 100);  // their files have names of two digits
    for (u32 i = 0; i < options.agents; ++i) slots_[i] = Slot{};
}

void Alternate::start(Instant now) {
    now_ = now;
    at_ = 0;
    step_ = Step::Find;
    submit(Op::Lookup, slots_[0]);
    run();
}

u64 Alternate::kept() const {
    u64 bytes = 0;
    for (u32 i = 0; i < options_.agents; ++i) bytes += slots_[i].end;
    return bytes;
}

u64 Alternate::newest(u64 agent) const {
    for (u32 i = 0; i < options_.agents; ++i) {
        if (slots_[i].agent == agent && slots_[i].end > 0) return slots_[i].last;
    }
    return 0;
}

/// The agent's slot, or a free one for it. null: all are in use.
Alternate::Slot* Alternate::slot_of(u64 agent) {
    Slot* free = nullptr;
    for (u32 i = 0; i < options_.agents; ++i) {
        if (slots_[i].agent == agent) return &slots_[i];
        if (!free && slots_[i].end == 0) free = &slots_[i];
    }
    if (free) {
        u64 const pnode = free->pnode;
        *free = Slot{};
        free->agent = agent;
        free->pnode = pnode;
    }
    return free;
}

/// Asks the store about the slot's file.
void Alternate::submit(Op op, Slot const& s) {
    request_ = Request{};
    request_.op = op;
    request_.pnode = s.pnode;
    if (op == Op::Lookup || op == Op::Create) {
        u32 const n = static_cast<u32>(&s - slots_);
        std::memcpy(name_, "agent-00", 8);
        name_[6] = static_cast<char>('0' + n / 10 % 10);
        name_[7] = static_cast<char>('0' + n % 10);
        request_.pnode = root_directory;
        request_.name = {name_, 8};
        request_.mode = 0600;
    }
    if (op == Op::Read || op == Op::Write) {
        request_.buffer = in_;
        request_.offset = op == Op::Read ? offset_ : s.end;
        request_.length = op == Op::Read ? message_bytes_max : in_length_;
    }
    store_.submit(request_);
}

// --- at the start --------------------------------------------------------------------------------

/// One message of a file that the life before has left; what was not ended there counts for
/// nothing.
void Alternate::scanned() {
    Slot& s = slots_[at_];
    Message header;
    Received r;
    u64 length = 0;
    if (request_.error == Error::None && request_.count >= sizeof header) {
        std::memcpy(&header, in_, sizeof header);
        length = sizeof header + header.name_length + header.name2_length + header.data_length;
    }
    bool const whole = length > 0 && length <= request_.count &&
                       read_message(in_, static_cast<u32>(length), &r) &&
                       r.header.kind == MessageKind::Deposit &&
                       (mutated(Mutant::ScanNumber) || r.header.number > s.last);
    if (whole) {
        s.agent = r.header.agent;
        s.incarnation = r.header.incarnation;
        s.session = r.header.session;
        s.last = r.header.number;
        s.end = offset_ = offset_ + rounded(length);
        submit(Op::Read, s);
        return;
    }
    if (++at_ < options_.agents) {
        step_ = Step::Find;
        submit(Op::Lookup, slots_[at_]);
    } else {
        step_ = Step::Idle;
        started_ = true;
    }
}

// --- deposits ------------------------------------------------------------------------------------

void Alternate::take_deposit(Received const& r) {
    Message const& m = r.header;
    if (m.agent == 0 || !may_be_new(m.op)) return;
    if (!mutated(Mutant::DepositIncarnation) && incarnation_of(m.number) != m.incarnation) return;
    if (m.op == Op::Write && (m.count != m.data_length || m.count == 0)) return;
    Slot* const s = slot_of(m.agent);
    if (!s || (!mutated(Mutant::DepositSession) && m.session < s->session)) return;
    bool const later = !mutated(Mutant::DepositLater) && m.session > s->session;
    if (!later && !mutated(Mutant::DepositNumber) && m.number <= s->last) {
        // It is there; all that is said to be is.
        tell(*s, MessageKind::Deposited, s->last);
        return;
    }
    // What was left in an earlier session is not needed: an agent that lives has all of it, and the
    // first server has asked for it before it has welcomed a later incarnation. Nor is what the
    // agent knows to be on its disks.
    bool const obsolete = later || mutated(Mutant::DepositObsolete) || s->last <= m.durable;
    bool const empty = s->end > 0 && obsolete;
    if (!empty && s->end + message_bytes_max > options_.bytes_max) return;
    at_ = static_cast<u32>(s - slots_);
    s->incarnation = m.incarnation;
    s->session = m.session;
    s->given = false;
    if (giving_ == s) giving_ = nullptr;
    in_length_ = build_message(in_, m, r.name, r.name2, r.data, m.data_length);
    number_ = m.number;
    step_ = s->pnode == 0 ? Step::Create : empty ? Step::Empty : Step::Append;
    submit(step_ == Step::Create  ? Op::Create
           : step_ == Step::Empty ? Op::Truncate
                                  : Op::Write,
           *s);
}

/// It is on all live disks.
void Alternate::deposited() {
    Slot& s = slots_[at_];
    s.end += rounded(in_length_);
    s.last = number_;
    tell(s, MessageKind::Deposited, number_);
}

void Alternate::tell(Slot const& s, MessageKind kind, u64 number) {
    Message m;
    m.kind = kind;
    m.agent = s.agent;
    m.incarnation = s.incarnation;
    m.session = kind == MessageKind::Deposited ? s.session : s.life;
    m.number = number;
    u32 const length = build_message(out_, m);
    if (kind == MessageKind::Deposited) {
        port_.send_to_agent(s.agent, out_, length);
    } else {
        port_.send_to_server(out_, length);
    }
}

// --- handing back --------------------------------------------------------------------------------

/// The first server asks for what the incarnation had beyond `number`, which is on its disks.
void Alternate::returned(Message const& m) {
    Slot* s = nullptr;
    for (u32 i = 0; i < options_.agents; ++i) {
        if (slots_[i].agent == m.agent && slots_[i].end > 0) s = &slots_[i];
    }
    // What was brought in a session of this life is in that server's memory.
    bool const some = s &&
                      (mutated(Mutant::ReturnedIncarnation) || s->incarnation == m.incarnation) &&
                      (mutated(Mutant::ReturnedNumber) || s->last > m.number) &&
                      (mutated(Mutant::ReturnedSession) || s->session < m.session);
    bool const given = s && s->given && (mutated(Mutant::ReturnedLife) || s->life == m.session);
    if (!some || given) {
        Slot none;
        none.agent = m.agent;
        none.incarnation = m.incarnation;
        none.life = m.session;
        tell(none, MessageKind::AllHanded, some ? s->last : m.number);
        return;
    }
    // A server that has died meanwhile has forgotten what it was given: from the beginning.
    bool const again = step_ == Step::Hand && s == &slots_[at_] &&
                       (mutated(Mutant::AgainLife) || s->life < m.session);
    bool const other = giving_ && giving_ != s && !giving_->given &&
                       (mutated(Mutant::OtherLife) || giving_->life == m.session);
    bool const old = !mutated(Mutant::OldLife) && m.session < s->life;
    if (old || other || (step_ != Step::Idle && !again)) return;
    if (giving_ != s || (!mutated(Mutant::HandGoesOn) && s->life != m.session)) {
        offset_ = 0;
        made_count_ = 0;
    }
    giving_ = s;
    s->life = m.session;
    s->given = false;
    at_ = static_cast<u32>(s - slots_);
    mark_ = m.number;
    step_ = Step::Read;
    submit(Op::Read, *s);
}

/// What the file that the agent knew is now. False: nobody knows.
bool Alternate::translate(FileRef* ref) const {
    for (u32 i = made_count_; i-- > 0;) {
        if (!(made_[i].was == *ref)) continue;
        *ref = made_[i].is;
        return made_[i].known;
    }
    return true;
}

/// The operation in `in_` goes to the first server, once more or for the first time.
void Alternate::hand_back() {
    Slot& s = slots_[at_];
    Message header;
    std::memcpy(&header, in_, sizeof header);
    u64 const length =
        sizeof header + header.name_length + header.name2_length + header.data_length;
    Received r;
    bool const there = request_.error == Error::None && request_.count >= sizeof header &&
                       length <= request_.count && offset_ < s.end &&
                       read_message(in_, static_cast<u32>(length), &r);
    if (!there) {
        // The end; or damage, which the store has named.
        s.given = true;
        s.asked = now_;
        step_ = Step::Idle;
        tell(s, MessageKind::AllHanded, s.last);
        return;
    }
    in_length_ = static_cast<u32>(length);
    if (step_ != Step::Hand) first_sent_ = now_;
    number_ = header.number;
    if (!mutated(Mutant::HandMark) && number_ <= mark_) {
        next_record();
        return;
    }
    Message m = r.header;
    bool const known = translate(&m.file) && translate(&m.file2);
    if (!known) {
        port_.conflict(s.agent, number_, Error::Stale);
        if (makes_file(m.op) && made_count_ < options_.made) {
            made_[made_count_++] = {m.result, {}, false};
        }
        next_record();
        return;
    }
    m.kind = MessageKind::HandBack;
    m.session = s.life;
    step_ = Step::Hand;
    sent_ = now_;
    port_.send_to_server(out_,
                         build_message(out_, m, r.name, r.name2, r.data, r.header.data_length));
}

void Alternate::next_record() {
    offset_ += rounded(in_length_);
    step_ = Step::Read;
    submit(Op::Read, slots_[at_]);
}

void Alternate::handed(Message const& m) {
    for (u32 i = 0; i < options_.agents; ++i) {
        Slot& s = slots_[i];
        bool const its = s.given && s.agent == m.agent &&
                         (mutated(Mutant::HandedTo) || s.incarnation == m.incarnation);
        if (!its || step_ != Step::Idle) continue;
        if (!mutated(Mutant::HandedDurable) && m.durable < s.last) continue;
        // The first server has all of it on disk.
        at_ = i;
        in_length_ = 0;
        step_ = Step::Empty;
        submit(Op::Truncate, s);
        return;
    }
    Slot const& s = slots_[at_];
    bool const due = step_ == Step::Hand && m.agent == s.agent &&
                     (mutated(Mutant::DueSession) || m.session == s.life) &&
                     (mutated(Mutant::DueIncarnation) || m.incarnation == s.incarnation) &&
                     (mutated(Mutant::DueNumber) || m.number == number_);
    if (!due) return;
    Error const error = static_cast<Error>(m.error);
    if (error != Error::None) {
        port_.conflict(s.agent, number_, error);
    } else {
        ++handed_back_;
    }
    Message header;
    std::memcpy(&header, in_, sizeof header);
    if (makes_file(header.op) && made_count_ < options_.made) {
        bool const known = error == Error::None && m.result.pnode != 0;
        made_[made_count_++] = {header.result, m.result, known};
    }
    next_record();
}

// --- time ----------------------------------------------------------------------------------------

/// What the store has done leads to the next step.
void Alternate::progress() {
    Slot& s = slots_[at_];
    bool const good = request_.error == Error::None;
    switch (step_) {
        case Step::Find:
            s.pnode = good ? request_.attributes.pnode : 0;
            offset_ = 0;
            step_ = Step::Scan;
            if (good) {
                submit(Op::Read, s);
            } else {
                scanned();
            }
            break;
        case Step::Scan:
            scanned();
            break;
        case Step::Create:
            step_ = good ? Step::Append : Step::Idle;
            if (!good) break;
            s.pnode = request_.attributes.pnode;
            submit(Op::Write, s);
            break;
        case Step::Empty:
            step_ = Step::Idle;
            if (!good) break;
            s.end = s.last = 0;
            s.given = false;
            if (in_length_ == 0) break;
            step_ = Step::Append;
            submit(Op::Write, s);
            break;
        case Step::Append:
            step_ = good && request_.count == in_length_ ? Step::Sync : Step::Idle;
            if (step_ == Step::Sync && mutated(Mutant::DepositFlush)) {
                step_ = Step::Idle;
                deposited();
            }
            if (step_ == Step::Sync) submit(Op::Fsync, s);
            break;
        case Step::Sync:
            step_ = Step::Idle;
            if (good) deposited();
            break;
        case Step::Read:
            hand_back();
            break;
        case Step::Idle:
        case Step::Hand:
            break;
    }
}

void Alternate::run() {
    if (running_) return;
    running_ = true;
    store_.run();
    while (step_ != Step::Idle && step_ != Step::Hand && request_.done) {
        progress();
        store_.run();
    }
    running_ = false;
}

void Alternate::receive(u8 const* bytes, u32 length) {
    Received r;
    if (!read_message(bytes, length, &r) || !started_) return;
    Message const& m = r.header;
    switch (m.kind) {
        case MessageKind::Deposit:
            // The first server is gone again; it will ask.
            if (step_ == Step::Hand && now_ - first_sent_ >= options_.again * 5) step_ = Step::Idle;
            if (step_ == Step::Idle) take_deposit(r);
            break;
        case MessageKind::Returned:
            returned(m);
            break;
        case MessageKind::Handed:
            handed(m);
            break;
        default:
            break;
    }
    run();
}

void Alternate::advance(Instant now) {
    now_ = now;
    if (step_ == Step::Hand && now_ - sent_ >= options_.again) hand_back();
    for (u32 i = 0; i < options_.agents; ++i) {
        Slot& s = slots_[i];
        if (!s.given || now_ - s.asked < options_.again) continue;
        s.asked = now_;
        tell(s, MessageKind::AllHanded, s.last);
    }
    run();
}

Instant Alternate::next_deadline() const {
    Instant t = step_ == Step::Hand ? sent_ + options_.again : Instant::never();
    for (u32 i = 0; i < options_.agents; ++i) {
        if (slots_[i].given && slots_[i].asked + options_.again < t) {
            t = slots_[i].asked + options_.again;
        }
    }
    return t;
}

}  // namespace nemesis::fs
