#pragma once
// Agent: the client half of the file server, on a client's machine. It keeps a copy of what
// applications change until the server says that it is on disk, and replays it after the server's
// crash, and copies of what it has read as long as the server promises that they are right. Rules:
// docs/formats/fs_agent.md; model: tests/model/agent.pml.
//
// Protocol of use: construct, start(); then submit() requests, hand over what the network brings
// (receive) and time (advance, at next_deadline() at the latest). Each is told what time it is, by
// a clock of this machine that never goes back: a copy is used only while its lease lasts. Messages
// leave through the port. Nothing in here waits, reads a clock or allocates after construction.
//
// Invariants (check_invariants): the log holds, in order, what was acknowledged and is not known to
// be durable, or made a file whose number is not known since a restart, and at its end at most one
// operation that is not acknowledged; a message names files by what their handles mean when it is
// sent; nothing is cached without a lease. Streams are recorded and played beside all that
// (fs/agent/media.h).

#include "fs/agent/cache.h"
#include "fs/agent/media.h"
#include "fs/agent/message.h"
#include "fs/core/arena.h"
#include "libnemesis/base/units.h"

namespace nemesis::fs {

/// Sizes and delays; Agent::memory_needed says what they cost.
struct AgentOptions {
    Duration retry = Duration::ms(200);
    u32 log_operations = 256;
    u32 log_bytes = 4 << 20;  // names and data of the operations in the log
    u32 files = 1024;         // handles
    CacheSizes cache;
    MediaSizes media{};
    /// After so long without a word of the server, copies go to the alternative one; 0: there is
    /// none.
    Duration alternative_after{};
};

/// What was answered from copies and what the server was asked for. units: requests
struct AgentStatistics {
    u64 names = 0;
    u64 absences = 0;  // of names
    u64 attributes = 0;
    u64 data = 0;
    u64 listings = 0;
    u64 asked = 0;
    u64 recalls = 0;
    u64 voided = 0;  // leases that have ended with copies
    u64 hits() const { return names + absences + attributes + data + listings; }
};

inline constexpr FileHandle root_handle = 0;
inline constexpr FileHandle no_handle = ~0u;

/// One request of an application. Names and buffer stay valid until `done`.
struct AgentRequest {
    Op op = Op::Fsync;  // as may_be_new() and may_be_read() allow, or Fsync
    FileHandle file = root_handle;
    FileHandle file2 = no_handle;  // Rename: target directory; Link: the file
    Name name;
    Name name2;
    PnodeType type = PnodeType::File;  // Create; result of Lookup and GetAttributes
    u16 mode = 0644;                   // Create, SetAttributes; result of GetAttributes
    u32 flags = 0;                     // SetAttributes: SetMask
    u32 uid = 0;                       // SetAttributes, and so the next three
    u32 gid = 0;
    i64 atime_ns = 0;
    i64 mtime_ns = 0;
    u64 offset = 0;
    u64 length = 0;        // GetXattr, ListXattr: 0 asks only for `count`
    u8* buffer = nullptr;  // Symlink: the target; SetXattr: the value

    FileHandle result = no_handle;  // of Create and Lookup; given back by forget()
    u64 count = 0;
    u64 size = 0;
    u32 links = 0;
    bool end = false;  // ReadDirectory: there are no more entries
    Error error = Error::None;
    bool done = false;
    void (*completed)(AgentRequest&) = nullptr;
    void* context = nullptr;
    AgentRequest* next = nullptr;
};

/// What an agent needs of its machine.
class AgentPort {
public:
    /// To the server; it may get lost. The bytes are the agent's again after the return.
    virtual void send(u8 const* bytes, u32 length) = 0;
    /// An acknowledged operation had another outcome when it was replayed: it is lost.
    virtual void conflict(u64 number, Error error) = 0;
    /// To the alternative server, like send().
    virtual void send_to_alternative(u8 const* bytes, u32 length) {
        (void)bytes;
        (void)length;
    }

protected:
    ~AgentPort() = default;
};

class Agent final : private MediaHost {
public:
    /// `agent`: its number for ever, not 0; `incarnation`: greater than that of any start before.
    Agent(Arena& arena, AgentPort& port, AgentOptions options, u64 agent, u64 incarnation);
    Agent(Agent const&) = delete;
    static std::size_t memory_needed(AgentOptions const& options);

    void start(Instant now);
    void receive(u8 const* bytes, u32 length, Instant now);
    void advance(Instant now);
    Instant next_deadline() const;
    void submit(AgentRequest& request, Instant now);
    void submit(MediaRequest& request, Instant now);
    /// The application does not use the handle any more.
    void forget(FileHandle file);

    /// Operations up to this are on disk.
    u64 durable() const { return durable_; }
    u64 acknowledged() const { return acknowledged_; }
    /// What is acknowledged and not known to be on disk is at the alternative server, all of it.
    bool all_deposited() const { return !next_deposit(); }
    /// There is no UPS: what is not durable does not survive a power failure.
    bool is_volatile() const { return volatile_; }
    bool active() const { return state_ == State::Active; }
    FileRef ref(FileHandle file) const { return files_[file].ref; }
    AgentStatistics const& statistics() const { return statistics_; }
    AgentCache const& cache() const { return cache_; }
    AgentMedia const& media() const { return media_; }
    void check_invariants() const;

private:
    enum class State : u8 { Greeting, Resolving, Replaying, Ending, Active };
    struct File {
        FileRef ref;
        u32 pins = 0;  // of the application, and of the log
    };
    struct Entry {  // of the log
        Message message;
        FileHandle file = no_handle;
        FileHandle file2 = no_handle;
        FileHandle result = no_handle;
        u32 at = 0;  // of name, name 2 and data in bytes_
        u32 length = 0;
        bool acknowledged = false;
        bool answered = false;  // in the session that executed it: `result` is right
        bool lost = false;      // in a conflict
    };

    Entry& entry(u32 n) { return log_[(log_first_ + n) % options_.log_operations]; }
    Entry const& entry(u32 n) const { return log_[(log_first_ + n) % options_.log_operations]; }
    FileHandle take_file(FileRef ref);
    void unpin(FileHandle file);
    bool room_for(u32 bytes, u32* at) const;
    void drop_first();
    void drop_last();
    void durable_up_to(u64 number);
    void greet();
    void send(MessageKind kind, u64 number);
    void send_entry(Entry& e, MessageKind kind);
    void send_read();
    void send_outstanding();
    void go();
    bool sound(AgentRequest const& r) const;
    bool begin_change(AgentRequest& r, bool* waits);
    void finish_change(Error error, u64 count, u64 size, FileRef result);
    void finish(AgentRequest& r, Error error);
    void welcome(Message const& m);
    void resolve();
    void resolved(FileRef made);
    void drop_durable();
    void replay();
    void answer(Message const& m);
    void content(Received const& r);
    Entry const* next_deposit() const;
    bool may_deposit() const;
    void deposit();
    void look_at(Instant now);
    void void_cache();
    bool lease_lasts() const;
    bool answer_from_cache(AgentRequest& r);
    bool may_keep(Message const& m) const;
    void keep(AgentRequest const& r, Received const& received);
    void apply_to_cache(Entry const& e, Message const& m);
    static u64 asked_offset(AgentRequest const& r);
    static u64 asked_count(AgentRequest const& r);
    void send_media(Message m, u8 const* head, u32 head_bytes, u8 const* data, u32 length) override;
    FileRef media_file(FileHandle file) const override;
    bool media_active() const override { return state_ == State::Active; }

    AgentPort& port_;
    AgentOptions const options_;
    u64 const agent_;
    u64 const incarnation_;
    State state_ = State::Greeting;
    Instant now_;
    Instant retry_at_;
    Instant ping_at_;
    Duration lease_ = Duration::s(10);
    Instant heard_;       // the server, in this session
    Instant deposit_at_;  // when the next copy may be sent, or the same one again
    u64 deposited_ = 0;   // operations up to this are at the alternative server, as of this session
    Instant lease_until_;  // what is cached may be used before this
    Instant ping_sent_;    // of the last one
    u64 ping_number_ = 0;
    u64 session_ = 0;
    u64 durable_ = 0;
    u64 acknowledged_ = 0;
    u64 number_ = 0;  // of the newest operation
    u64 read_number_ = 0;
    u64 replayed_ = 0;  // operations of the log that this replay is through with
    bool volatile_ = true;
    bool sync_ = false;  // SYNC is to be sent until the log is short or durable enough

    AgentRequest* changes_ = nullptr;
    AgentRequest** changes_end_ = &changes_;
    bool changing_ = false;  // the first change's operation is the last entry of the log
    AgentRequest* reads_ = nullptr;
    AgentRequest** reads_end_ = &reads_;
    bool reading_ = false;
    bool read_in_lease_ = false;  // the lease has lasted since it was sent
    u64 effective_ = 0;  // the last own operation that was acknowledged and changed something
    u64 recalled_ = 0;   // the newest recall's serial
    AgentCache cache_;
    AgentMedia media_;
    AgentStatistics statistics_;

    File* files_ = nullptr;
    Entry* log_ = nullptr;
    u32 log_first_ = 0;
    u32 log_count_ = 0;
    u8* bytes_ = nullptr;
    u8* out_ = nullptr;
};

}  // namespace nemesis::fs
