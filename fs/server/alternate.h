#pragma once
// Alternate: the second server, to which agents bring copies of what the first one has acknowledged
// and not yet put on disk, when that cannot be reached. It has an array of its own. When the first
// server has come back and an agent has not, it hands that agent's operations back, in their order,
// and names those that cannot be executed any more. Rules: docs/formats/fs_agent.md.
//
// Protocol of use: mount a store of its own, construct, start(); then hand over what the network
// brings (receive) and time (advance), and call run() after each completion of the store's disks.
// It never waits, reads a clock or allocates after construction.
//
// Invariants: DEPOSITED is said of what is on all live disks of this store; an agent's operations
// are handed back in their order, each once in a life of the first server; what is there is given
// up only when the first server has it on disk.

#include "fs/agent/message.h"
#include "fs/core/store.h"

namespace nemesis::fs {

/// Sizes and delays.
struct AlternateOptions {
    u32 agents = 32;
    u32 made = 256;             // files made by the operations of one agent
    u64 bytes_max = 64u << 20;  // of one agent's operations
    Duration again = Duration::ms(200);
};

/// What it needs of its machine: ways that may lose messages, and somebody to tell.
class AlternatePort {
public:
    virtual void send_to_agent(u64 agent, u8 const* bytes, u32 length) = 0;
    virtual void send_to_server(u8 const* bytes, u32 length) = 0;
    /// An acknowledged operation could not be executed again: it is lost.
    virtual void conflict(u64 agent, u64 number, Error error) = 0;

protected:
    ~AlternatePort() = default;
};

class Alternate {
public:
    /// requires: the store is mounted for writing, and nobody else uses it
    Alternate(Arena& arena, Store& store, AlternatePort& port, AlternateOptions options);
    Alternate(Alternate const&) = delete;
    static std::size_t memory_needed(AlternateOptions const& options);

    void start(Instant now);
    void receive(u8 const* bytes, u32 length);
    void advance(Instant now);
    void run();
    Instant next_deadline() const;
    /// It knows what it has; before that it takes nothing.
    bool ready() const { return started_; }
    /// Bytes of operations that it keeps.
    u64 kept() const;
    /// Number of the agent's newest operation that it keeps; 0: none.
    u64 newest(u64 agent) const;
    /// Operations that the first server has executed for agents that were gone.
    u64 handed_back() const { return handed_back_; }

private:
    struct Slot {  // one agent's file of operations: whole messages, each at a multiple of 8
        u64 agent = 0;
        u64 incarnation = 0;
        u64 session = 0;  // in which files have the numbers that are named
        u64 pnode = 0;
        u64 end = 0;
        u64 last = 0;        // number of the newest
        u64 life = 0;        // of the first server, that has asked for them
        bool given = false;  // all are executed there, or named as lost
        Instant asked;       // the first server, whether it has them on disk
    };
    struct Made {  // a file, as the agent and as the first server in its present life knows it
        FileRef was;
        FileRef is;
        bool known = false;
    };
    enum class Step : u8 {
        Idle,
        Find,    // at the start: the slot's file
        Scan,    // and what is in it
        Create,  // of a deposit: the file
        Empty,   // what is in it is obsolete
        Append,
        Sync,
        Read,  // of a hand-back: the next operation
        Hand,  // waits for the answer
    };

    Slot* slot_of(u64 agent);
    void submit(Op op, Slot const& s);
    void progress();
    void scanned();
    void take_deposit(Received const& r);
    void deposited();
    void returned(Message const& m);
    void hand_back();
    void handed(Message const& m);
    void next_record();
    void tell(Slot const& s, MessageKind kind, u64 number);
    bool translate(FileRef* ref) const;

    Store& store_;
    AlternatePort& port_;
    AlternateOptions const options_;
    Instant now_;
    Instant sent_;
    Step step_ = Step::Idle;
    bool started_ = false;
    u32 at_ = 0;              // the slot that is worked on
    u64 offset_ = 0;          // in the file that is read
    Slot* giving_ = nullptr;  // whose operations are handed back: offset_ and made_ are about them
    Instant first_sent_;      // the one that is handed back
    u64 number_ = 0;          // the operation that is handed back
    u64 mark_ = 0;            // operations up to this are on the first server's disks
    Request request_;
    char name_[16] = {};
    Slot* slots_ = nullptr;
    Made* made_ = nullptr;
    u32 made_count_ = 0;
    u8* in_ = nullptr;
    u8* out_ = nullptr;
    u32 in_length_ = 0;
    bool running_ = false;
    u64 handed_back_ = 0;
};

}  // namespace nemesis::fs
