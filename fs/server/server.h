#pragma once
// Server: the server half of the agent protocol, over one store. It executes what agents ask,
// acknowledges from memory, tells what is durable, recalls what agents have cached before it
// changes, and after a restart lets the agents replay. Rules: docs/formats/fs_agent.md; model:
// tests/model/agent.pml.
//
// Protocol of use: mount the store, construct, start(); then hand over what the network brings
// (receive) and time (advance); after each completion of the store's disks call run(). The server
// submits requests to the store and calls its run() itself; it never waits, reads a clock or
// allocates after construction. The caller drives the store's disks and clock.
//
// Invariants: an agent's operations are executed one at a time, in order, each once; a key in the
// table of what is touched belongs to one agent if any entry of it writes; nothing is said to be
// durable whose group is not on all live disks; nothing is changed while another agent may have a
// copy of it and a lease. Streams are recorded and played beside all that (fs/server/media.h).

#include "fs/agent/message.h"
#include "fs/core/store.h"
#include "fs/server/media.h"

namespace nemesis::fs {

/// Sizes, delays and the power supply.
struct ServerOptions {
    u32 sessions = 32;
    u32 touched = 4096;   // keys of operations that are not durable
    u32 holdings = 4096;  // files of which agents have copies; a multiple of 8
    Duration recall_again = Duration::ms(200);
    Duration lease = Duration::s(10);
    Duration absent_max = Duration::s(60);  // how long a restarted server waits for an agent
    bool alternative = false;  // there is one, which may have operations of agents that are gone
    MediaServing media{};
    bool ups = false;
    Duration hold_up{};            // of the UPS
    u64 degraded_bytes_per_s = 0;  // written with one disk missing
};

/// What a server needs of its machine: a way to an agent, which may lose the message.
class ServerPort {
public:
    virtual void send(u64 agent, u8 const* bytes, u32 length) = 0;
    /// To the alternative server, like send().
    virtual void send_to_alternative(u8 const* bytes, u32 length) {
        (void)bytes;
        (void)length;
    }

protected:
    ~ServerPort() = default;
};

class Server final : private MediaOut {
public:
    /// requires: the store is mounted for writing
    Server(Arena& arena, Store& store, ServerPort& port, ServerOptions options);
    Server(Server const&) = delete;
    static std::size_t memory_needed(ServerOptions const& options);

    void start(Instant now);
    void receive(u8 const* bytes, u32 length);
    void advance(Instant now);
    void run();
    Instant next_deadline() const;
    /// Power fails and the UPS holds: nothing is taken any more; flush, clean checkpoint, halt.
    void power_failing();
    bool halted() const { return halting_ && store_.health() == Health::Stopped; }
    /// Still waiting for agents to replay.
    bool grace() const { return grace_; }
    /// Another server has the disks now; this one says nothing any more.
    bool fenced() const { return store_.fenced(); }
    /// Recalls that have been sent, once each.
    u64 recalls() const { return recalls_made_; }
    ServerMedia const& media() const { return media_; }

private:
    static constexpr u64 all_names = ~u64{0};
    struct Key {  // of what an operation touches
        u64 pnode = 0;
        u64 name = 0;        // 0: the file itself; all_names: every entry of the directory
        u32 generation = 0;  // of the pnode: another life of it is another file; 0: any
        bool writes = false;
        /// Whether both are about the same thing.
        bool meets(Key const& o) const;
    };
    static constexpr FileRef tree{~u64{0}, 0, 0};  // as a file: where directories are
    static constexpr u64 renaming = 1;             // of `tree`: while a rename is on its way
    static constexpr u32 keys_max = 12;
    enum class Step : u8 {
        Idle,
        Acquire,
        Find,
        FindSecond,
        AcquireFound,
        Recall,
        Execute,
        Executing,
    };
    /// One operation, or one read, of a session on its way.
    struct Lane {
        Step step = Step::Idle;
        Message message;
        Name name;
        Name name2;
        u8* bytes = nullptr;  // names and data; what is read
        u8* data = nullptr;
        Key key[keys_max];
        u32 keys = 0;
        FileRef found[2];  // what the names stand for
        PnodeType found_type = PnodeType::Free;
        bool asked = false;  // `request` is the store's
        // Of a read, when it was handed to the store: how far its session was.
        bool granted = false;
        u64 applied = 0;
        u64 serial = 0;
        Request request;
        Server* server = nullptr;
        u64 group = 0;  // that will hold the operation
    };
    enum class Joining : u8 { No, Mark, Flush };
    static constexpr u32 pending_max = 8;
    static constexpr u32 recalls_max = 16;
    static constexpr u32 ways = 8;
    /// A file or directory, and the sessions that may have copies of it.
    struct Holding {
        u64 pnode = 0;
        u64 sessions = 0;  // bits; 0: free
    };
    struct Recall {  // that has no answer
        u64 pnode = 0;
        u64 serial = 0;
        Instant made;
        Instant sent;
    };
    struct Session {
        bool used = false;
        u64 agent = 0;
        u64 incarnation = 0;
        u64 id = 0;
        Joining joining = Joining::No;
        Request join;
        Instant heard;
        bool flushed_since = false;  // it is silent, and what it has is on its way to disk
        bool replay_ended = false;
        bool deputed = false;  // the alternative server has replayed for it
        u64 applied = 0;
        u64 durable = 0;
        MadeFile made{};  // by the operation `applied` of an earlier life of the server
        bool has_answer = false;
        Message answer;
        struct {
            u64 number;
            u64 group;
        } pending[pending_max];  // operations up to `number` are in groups up to `group`
        u32 pending_count = 0;
        bool holds = false;  // it may have copies
        u64 serial = 0;      // recalls sent
        Recall recall[recalls_max];
        u32 recall_count = 0;
        Lane change;
        Lane read;
    };
    struct Touched {
        Key key;
        u64 agent = 0;
        u64 group = 0;  // 0: free; in_progress
        Lane* lane = nullptr;
    };
    static constexpr u64 in_progress = ~u64{0};

    /// Whether the alternative server has handed back what it has of an agent that is gone.
    enum class Handing : u8 { Unasked, Asked, Done };

    Session* session_of(u64 agent);
    Session* free_session();
    void begin_session(Session& s, u64 agent, u64 incarnation);
    u32 member_of(u64 agent) const;
    bool handed_back(u64 agent, u64 incarnation);
    u64 life() const { return u64{store_.mount_count()} << 32; }
    void ask_back(u32 member);
    void take_back(Received const& r);
    void all_handed(Message const& m);
    void send_handed(Message const& to, Message m);
    void hello(Message const& m);
    void join(Session& s);
    void welcome(Session& s);
    void take_change(Session& s, Received const& r);
    void take_read(Session& s, Received const& r);
    void fill(Lane& lane, Received const& r);
    bool progress(Session& s, Lane& lane, bool change);
    bool find_victims(Lane& lane);
    void add(Lane& lane, FileRef file, u64 name, bool writes);
    void keys_of(Lane& lane);
    bool acquire(Session const& s, Lane& lane, u32 from);
    void release(Session const& s, Lane& lane, bool keep);
    void execute(Session& s, Lane& lane, bool change);
    void finish_change(Session& s, Lane& lane);
    void finish_read(Session& s, Lane& lane);
    void note_pending(Session& s, u64 group);
    void tell_durable();
    void send(Session const& s, Message m, u8 const* data = nullptr, u32 length = 0);
    void send_unknown(Message const& to);
    void want_flush() { flush_wanted_ = true; }
    Holding* holding(u64 pnode, bool insert);
    bool grant(Session& s, Lane const& lane);
    void recall(Session& s, u64 pnode);
    void send_recall(Session& s, Recall& r);
    bool all_recalled(Session const& s, Lane const& lane);
    void recalled(Session& s, u64 serial);
    void end_lease(Session& s);
    /// It does not give back what it was asked for: its lease runs out.
    bool refused(Session const& s) const {
        return s.recall_count > 0 && now_ - s.recall[0].made >= options_.lease;
    }
    void end_grace();
    /// Of shared disks a server may speak only for a while after it has seen that they are its own:
    /// whoever has reserved them since waits for so long before it says anything new.
    bool may_speak() const;
    /// How long a restarted server waits for agents that say nothing: their leases end, too.
    Duration grace_max() const {
        return options_.absent_max > options_.lease ? options_.absent_max : options_.lease;
    }
    static void tell_meaning(Message& m, Lane const& lane);
    static u64 hash_of(Name name);
    void send_media(u32 session, Message m, u8 const* data, u32 length) override;
    bool settled(u32 session, FileRef file) override;

    Store& store_;
    ServerPort& port_;
    ServerOptions const options_;
    u64 const dirty_max_;  // blocks
    Instant now_;
    Instant started_;
    Instant renewed_;  // when the disks were last asked
    u64 sessions_made_ = 0;
    bool grace_ = true;
    bool halting_ = false;
    bool flush_wanted_ = false;
    bool flushing_ = false;
    bool running_ = false;
    Request flush_;
    ClientMark member_[clients_max] = {};  // whom the restarted server waits for
    Handing handing_[clients_max] = {};
    Instant asked_back_[clients_max];
    u32 members_ = 0;
    Session* sessions_ = nullptr;
    Touched* touched_ = nullptr;
    u32 touched_end_ = 0;  // all behind are free
    Holding* holdings_ = nullptr;
    u64 recalls_made_ = 0;
    ServerMedia media_;
    u32 hand_ = 0;  // which way of a full set has to go
    u8* out_ = nullptr;
};

}  // namespace nemesis::fs
