#pragma once
// AgentMedia: sets of streams that an agent's applications record and play. Messages and rules:
// docs/formats/fs_agent.md, "Streams".
//
// Protocol of use: the agent hands over requests (submit), messages about streams (receive), the
// beginning of another session (begin_session) and time (advance). A request to open yields the
// set's number; Record and PlayFrame may be submitted several at a time and are done in their
// stream's order; CloseStreams waits for what is recorded before it, and has to be asked for of
// every set that was opened. Nothing of it goes through the agent's log or cache.
//
// Memory: what is recorded stays in the requests' buffers until the server has it; what is played
// ahead takes `ahead` batches of `batch_bytes` for each stream.
//
// Invariants (check_invariants): of a stream at most `ahead` batches are on their way; what an
// application gets are whole batches, in order, of the set's present session and seek.

#include "fs/agent/message.h"
#include "fs/core/arena.h"
#include "libnemesis/base/units.h"

namespace nemesis::fs {

/// How much an agent may record and play at once. 0 streams: nothing.
struct MediaSizes {
    u32 streams = 0;
    u32 ahead = 4;  // batches; 16 at most
    u32 batch_bytes = 256 * 1024;
};

/// A file as an application names it; what it means to the server may change in a replay.
using FileHandle = u32;

/// OpenStreams: one stream of a set.
struct MediaAsk {
    FileHandle file = 0;
    u64 rate = 0;  // bytes/s, guaranteed; 0: no guarantee
};

/// One request of an application about a set of streams. What it points to stays valid until
/// `done`.
/// errors: those of the core's operation; SetLost, the server has closed the set or is another one
/// now: close it and open it again; TooBig, more than a batch holds; Busy, a Seek is under way
struct MediaRequest {
    Op op = Op::OpenStreams;  // or Record, PlayFrame, Seek, CloseStreams
    u64 set = 0;              // result of OpenStreams
    u32 flags = stream_record;
    MediaAsk const* streams = nullptr;  // OpenStreams
    u32 streams_count = 0;
    u32 stream = 0;  // of the set
    ControlRecord const* control = nullptr;
    u32 control_count = 0;  // Record: 64 at most; all of them and the bytes fit in a batch
    u8* buffer = nullptr;
    u64 length = 0;
    i64 time_ns = 0;  // OpenStreams to play, Seek; result of PlayFrame
    i32 speed = 1000;

    // Bytes of a frame, 0: there is none; of an OpenStreams that fails: the largest rate that
    // would fit (NoBandwidth), or about how many ms it takes (OnShelf).
    u64 count = 0;
    Error error = Error::None;
    bool done = false;
    void (*completed)(MediaRequest&) = nullptr;
    void* context = nullptr;

    // The agent's, while it has the request.
    MediaRequest* next = nullptr;
    u64 came = 0;  // parts that the server has
};

/// What the sets need of their agent.
class MediaHost {
public:
    /// Adds who it is from and sends it.
    virtual void send_media(Message m, u8 const* head, u32 head_bytes, u8 const* data,
                            u32 length) = 0;
    /// What the handle means now; pnode 0: nothing.
    virtual FileRef media_file(FileHandle file) const = 0;
    /// New requests may be sent.
    virtual bool media_active() const = 0;

protected:
    ~MediaHost() = default;
};

class AgentMedia {
public:
    AgentMedia(Arena& arena, MediaHost& host, MediaSizes sizes, Duration retry);
    AgentMedia(AgentMedia const&) = delete;
    static std::size_t memory_needed(MediaSizes const& sizes);

    void submit(MediaRequest& request, Instant now);
    /// requires: the message is of this session
    void receive(Received const& received, Instant now);
    /// What the server knew of sets is gone; those that are being opened are asked for again.
    void begin_session();
    void advance(Instant now);
    Instant next_deadline() const;
    /// Frames of a stream being recorded that no crash takes back any more.
    u64 frames_on_disk(u64 set, u32 stream) const;
    void check_invariants() const;

private:
    enum class State : u8 { Free, Opening, Open, Closing };
    struct Slot {  // of a batch that is to be played
        u64 came = 0;
        u32 bytes = 0;
        u32 frames = 0;
        u32 flags = 0;
        u32 error = 0;
        bool known = false;  // something of it has come
        u8* data = nullptr;
    };
    struct Stream {
        bool used = false;
        MediaRequest* first = nullptr;  // in order: Record, or PlayFrame
        MediaRequest* last = nullptr;
        // Recording.
        u64 taken = 0;  // batches that the server has
        u64 begun = 0;  // those that have been sent, too
        u64 on_disk = 0;
        i64 last_time = INT64_MIN;
        // Playing.
        u64 batch = 0;  // whose frames are next
        u32 frame = 0;  // in it
        u32 at = 0;
        Slot* slots = nullptr;
    };
    struct Set {
        State state = State::Free;
        u64 number = 0;
        bool playing = false;
        u32 count = 0;
        u32 seek = 0;
        u32 ahead = 0;
        u32 batch_bytes = 0;
        Error error = Error::None;
        Instant retry_at;
        MediaRequest* opening = nullptr;
        MediaRequest* seeking = nullptr;
        MediaRequest* closing = nullptr;
        Stream* stream[stream_set_max] = {};
    };

    static constexpr u64 no_set = 0;
    Set* set_of(u64 number);
    void finish(MediaRequest& r, Error error);
    void fail_all(Set& s, Error error);
    void open(MediaRequest& r);
    void record(Set& s, MediaRequest& r);
    void push(Stream& t, MediaRequest& r);
    void pop(Stream& t, Error error);
    void go_on(Set& s);
    void send_open(Set& s);
    void send_seek(Set& s);
    void send_batch(Set& s, u32 stream, u64 batch, MediaRequest const& r, u64 parts);
    void send_fetch(Set& s, u32 stream, u64 again, bool repeat);
    void send_again(Set& s);
    void opened(Set& s, Message const& m);
    void taken(Set& s, Message const& m);
    void batch(Set& s, Received const& r);
    void deliver(Set& s, u32 stream);
    bool deliver_one(Set& s, u32 stream);
    void closed(Set& s, Error error);
    void free(Set& s);
    bool waits(Set const& s) const;
    void clear_slots(Set& s);
    Slot& slot(Set const& s, Stream& t, u64 batch) const { return t.slots[batch % s.ahead]; }

    MediaHost& host_;
    MediaSizes const sizes_;
    Duration const retry_;
    Instant now_;
    u64 opened_[media_sets_max] = {};  // sets that were opened in each place
    Set sets_[media_sets_max];
    Stream* streams_ = nullptr;
};

}  // namespace nemesis::fs
