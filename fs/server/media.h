#pragma once
// ServerMedia: sets of streams that agents record and play through the server. Messages and rules:
// docs/formats/fs_agent.md, "Streams".
//
// Protocol of use: the server hands over messages about streams of its sessions (receive), and says
// when a session is gone (drop) or begins (begin_session); after each run of the store it calls
// progress() until nothing is left to do. What admission is and when frames are on disk is the
// core's business (fs/core/play.cpp, record.cpp): this keeps a window of batches for each stream,
// puts those together that are recorded and takes those apart that are played.
//
// Bounds: media_sets_max sets a session, `streams` streams of all together, each with `ahead`
// batches and one more. Who asks for more is refused with TooManyOpen.
//
// Invariants: batches of a stream reach the store in order, each once and whole; a frame that has
// left the store is kept until the agent says that it has it; a set whose session is gone is
// closed, and its session in the store is not used for anything else before that is done.

#include "fs/agent/message.h"
#include "fs/core/arena.h"
#include "fs/core/store.h"

namespace nemesis::fs {

/// How much agents may record and play at once. 0 streams: nothing.
struct MediaServing {
    u32 streams = 0;
    u32 ahead = 4;  // batches; 16 at most
    u32 batch_bytes = 256 * 1024;
};

/// What the sets need of their server.
class MediaOut {
public:
    virtual void send_media(u32 session, Message m, u8 const* data, u32 length) = 0;
    /// Nothing of the file can be lost that another agent has changed; else it is being seen to.
    virtual bool settled(u32 session, FileRef file) = 0;

protected:
    ~MediaOut() = default;
};

class ServerMedia {
public:
    ServerMedia(Arena& arena, Store& store, MediaOut& out, MediaServing sizes, u32 sessions);
    ServerMedia(ServerMedia const&) = delete;
    static std::size_t memory_needed(MediaServing const& sizes, u32 sessions);

    /// requires: the message is of that session, which may ask for something new
    void receive(u32 session, Received const& received);
    /// True: something was done, and there may be more.
    bool progress();
    /// Closes the session's sets.
    void drop(u32 session);
    /// drop(), and numbers of sets begin again.
    void begin_session(u32 session);
    bool serves(u32 session) const;
    /// Streams of sets that are open or being closed.
    u32 streams_used() const;

private:
    enum class State : u8 { Free, Waiting, Opening, Open, Closing };
    struct Set;
    struct Slot {
        u64 came = 0;   // parts
        u32 bytes = 0;  // of a batch being filled: of its frames only
        u32 frames = 0;
        u32 flags = 0;
        Error error = Error::None;
        bool known = false;
        u8* data = nullptr;
    };
    struct Stream {
        Set* set = nullptr;
        u32 index = 0;  // in the set
        Request request;
        bool asked = false;  // `request` is the store's
        u64 first = 0;       // recorded: not taken yet; played: not come to the agent yet
        Slot* slots = nullptr;
        // Recording.
        bool ahead = false;  // of the others of its set: when they have gone on it is tried again
        u64 ahead_at = 0;
        // Playing.
        u64 sealed = 0;  // batches [first, sealed) are whole; `sealed` is being filled
        bool landed = false;
        u32 landed_seek = 0;
        bool ended = false;
        u8* landing = nullptr;
        Slot& slot(u64 batch, u32 count) { return slots[batch % count]; }
    };
    struct Set {
        State state = State::Free;
        bool orphan = false;
        bool close_wanted = false;
        bool cut = false;  // not by its agent
        u32 session = 0;
        u64 number = 0;
        bool playing = false;
        u32 count = 0;
        u32 ahead = 0;
        u32 batch_bytes = 0;
        u64 id = 0;  // in the store
        u32 seek = 0;
        u32 seek_asked = 0;
        Error error = Error::None;
        u64 recorded = 0;  // batches, of all streams
        FileRef file[stream_set_max] = {};
        StreamAsk ask[stream_set_max] = {};
        Request request;
        bool asked = false;
        Stream* stream[stream_set_max] = {};
    };
    struct Past {  // the last set of a place that is no more
        u64 number = 0;
        Error error = Error::None;
        bool refused = false;  // it was never open
        u64 count = 0;         // told with the refusal
    };

    static constexpr u32 control_bytes = batch_frames_max * sizeof(ControlRecord);
    static std::size_t stream_bytes(MediaServing const& sizes);
    static void clear(Slot& slot);
    static void clear_slots(Stream& t, u32 count);
    Set* set_of(u32 session, u64 place);
    void open(u32 session, Received const& r);
    bool ask_open(Set& s);
    void opened(Set& s);
    void refuse(Set& s, Error error, u64 count);
    void send_refused(u32 session, Past const& past);
    Past& past_of(u32 session, u64 number) {
        return past_[session * media_sets_max + number % media_sets_max];
    }
    void send_opened(Set const& s);
    void batch(Set& s, Received const& r);
    void send_taken(Set& s, Stream& t, BatchName of, u64 offset);
    bool record(Set& s, Stream& t);
    bool play(Set& s, Stream& t);
    bool put(Set& s, Stream& t);
    void seal(Set& s, Stream& t);
    void send_parts(Set& s, Stream& t, u64 batch, u64 parts);
    void fetch(Set& s, Message const& m);
    void seek(Set& s, Message const& m);
    void send_sought(Set& s);
    bool close(Set& s);
    void send_closed(u32 session, u64 number, Error error);
    void free(Set& s);
    bool step(Set& s);

    Store& store_;
    MediaOut& out_;
    MediaServing const sizes_;
    u32 const sets_max_;
    Set* sets_ = nullptr;
    Past* past_ = nullptr;  // by session and place
    Stream* streams_ = nullptr;
};

}  // namespace nemesis::fs
