#pragma once
// Films that row 5's agents record and play, and the oracle over them.
//
// A film is two streams whose frames are known from their number alone. The oracle knows only what
// was handed to agents and what they said: frames sent, acknowledged, told to be on disk, and
// whether the end was; and in which order the server said that sets are open, since an agent may
// hear of its own late, when another one records already. What is found of a film must be whole
// frames 0, 1, ... of each stream, none that was not sent, at least those told to be on disk and
// those that all streams had acknowledged two rounds before the server was lost; its streams end at
// one time; and once a server is gone it stays as it is.

#include <array>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "fs/agent/agent.h"
#include "fs/simulator/machine.h"

namespace nemesis::fs::simulator {

inline constexpr u32 agent_films = 8;  // of a schedule
inline constexpr u32 agent_film_streams = 2;

/// What has been done with films. units: films, frames
struct FilmCounts {
    u64 recorded = 0;  // to their end
    u64 cut = 0;
    u64 opened = 0;  // to be played
    u64 played = 0;
    u64 lost = 0;  // sets of players
};

/// What messages allow of the films of a schedule; see above.
class FilmOracle {
public:
    /// Makes the films' streams, empty, in the root.
    static bool make(Machine& machine);
    static std::string name(u32 film, u32 stream);
    /// Whether the name is that of a film's stream.
    static bool is_film(std::string const& name) { return name.starts_with('f'); }

    /// The server that all sets were in is no more. `sure`: neither its disks nor it itself had
    /// been slow before.
    void server_lost(Instant now, bool sure);
    /// The server that has the disks says that the set of an agent's session is open; the first
    /// time counts.
    void said_open(u64 session, u64 set);
    /// Looks at all films in the store of a server that has just begun, or has ended. An error
    /// text, or nothing.
    std::string judge(Machine& machine);

private:
    friend class FilmActor;
    struct Film {
        bool begun = false;
        bool ended = false;    // all of it was told to be on disk
        bool closing = false;  // its recorder has asked for the end, with all acknowledged
        bool fixed = false;    // its server is gone
        bool judged = false;
        bool sure = false;
        u64 opening = 0;  // of who records it: the last one, because nothing of it was there before
        Instant lost{};
        std::array<u64, agent_film_streams> sent{};
        std::array<u64, agent_film_streams> on_disk{};
        std::array<u64, agent_film_streams> found{};
        /// When how many frames of the stream had been acknowledged.
        std::array<std::vector<std::pair<Instant, u64>>, agent_film_streams> acknowledged;
    };
    std::string judge(Client& client, u32 film);
    std::array<Film, agent_films> film_;
    std::map<std::pair<u64, u64>, u64> opening_;  // by session and set: which one it was, from 1
};

/// What one agent does with films, one at a time.
class FilmActor {
public:
    /// The agent is gone, or begins.
    void reset(Instant now);
    /// Its agent has just received that message.
    void heard(u8 const* bytes, u32 length, FilmOracle const& oracle);
    /// Goes on as far as can be now; the agent must be active. An error text, or nothing.
    std::string poke(Agent& agent, Instant clock, Instant now, Random& random, FilmOracle& oracle);
    /// It begins nothing new, and ends what it has begun; idle() when it has.
    void stop() { stopping_ = true; }
    bool idle() const { return state_ == State::Idle; }
    /// When it does something by itself.
    Instant next() const { return asked() ? Instant::never() : next_; }
    FilmCounts counts;

private:
    enum class State : u8 { Idle, Find, Open, Record, Play, Close };
    struct Batch {
        std::vector<ControlRecord> control;
        std::string data;
        MediaRequest request;
        u64 end = 0;  // frames of the stream with it
    };
    bool asked() const;
    void find(Agent& agent, Instant clock, std::string const& name);
    void open(Agent& agent, Instant clock, Random& random, FilmOracle const& oracle);
    std::string opened(FilmOracle& oracle, Random& random, Instant now);
    std::string record(Agent& agent, Instant clock, Instant now, Random& random,
                       FilmOracle& oracle);
    std::string play(Agent& agent, Instant clock, Random& random, FilmOracle& oracle);
    std::string frame(FilmOracle& oracle);
    void close(Agent& agent, Instant clock);
    std::string where(char const* what, Error e) const;

    State state_ = State::Idle;
    bool stopping_ = false;
    Instant next_{};
    u32 film_ = 0;
    bool records_ = false;
    std::array<std::array<FileHandle, agent_film_streams>, agent_films> file_{};
    u32 finding_ = 0;
    std::string name_;
    AgentRequest lookup_;
    MediaAsk ask_[agent_film_streams];
    MediaRequest request_;  // to open, to seek, to close
    MediaRequest frame_;
    u64 set_ = 0;
    // Recording.
    std::array<std::deque<Batch>, agent_film_streams> batches_;
    std::array<u64, agent_film_streams> sent_{};
    u64 opening_ = 0;  // the oracle's number of it; 0: of a server without disks, or not heard of
    u64 frames_wanted_ = 0;  // of the first stream
    // Playing.
    std::vector<u8> buffer_;
    u32 stream_ = 0;  // whose frame is asked for
    i64 from_ns_ = 0;
    i32 speed_ = 1000;
    std::array<i64, agent_film_streams> last_{};  // frame, -1: none since the place was set
    std::array<bool, agent_film_streams> past_end_{};
    std::array<u64, agent_film_streams> known_{};  // on disk before it was opened
    u32 frames_left_ = 0;
};

}  // namespace nemesis::fs::simulator
