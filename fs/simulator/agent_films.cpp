#include "fs/simulator/agent_films.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "fs/agent/message.h"

namespace nemesis::fs::simulator {
namespace {

constexpr i64 period_ns[agent_film_streams] = {40'000'000, 25'000'000};
constexpr u32 frame_bytes_max = 80'000;
constexpr u64 batch_frames[agent_film_streams] = {5, 8};  // the same time of both

ControlRecord control_of(u32 stream, u64 n) {
    // One in 25 pictures takes two parts of a batch.
    u32 const picture = n % 25 == 3 ? 70'000 : 300 + static_cast<u32>(n * 7919 % 900);
    return {static_cast<i64>(n) * period_ns[stream], stream == 0 ? picture : 160,
            n % 12 == 0 ? frame_key : 0u};
}

/// Of a film; no two films have a frame in common.
std::string bytes_of_frame(u32 film, u32 stream, u64 n) {
    std::string data(control_of(stream, n).bytes, 0);
    u32 const start = film * 89 + stream * 101 + static_cast<u32>(n) * 31;
    for (u32 i = 0; i < data.size(); ++i) data[i] = static_cast<char>(start + i * 7 + i / 256);
    return data;
}

/// The last frame that is not after that time.
u64 frame_at(u32 stream, i64 time_ns) { return static_cast<u64>(time_ns / period_ns[stream]); }

/// The time before which all of so many frames lie in whole blocks, which is what goes to the
/// disks.
i64 end_of_blocks(u32 stream, u64 frames) {
    u64 bytes = 0;
    for (u64 n = 0; n < frames; ++n) bytes += control_of(stream, n).bytes;
    u64 const whole = bytes / block_bytes * block_bytes;
    u64 n = frames;
    while (n > 0 && bytes > whole) bytes -= control_of(stream, --n).bytes;
    return n < frames    ? control_of(stream, n).time_ns
           : frames == 0 ? 0
                         : control_of(stream, n - 1).time_ns + 1;
}

constexpr Duration two_rounds = Duration::ms(400);
constexpr Duration to_write = Duration::ms(800);  // a round, by disks of which none is slow

}  // namespace

// --- the oracle ----------------------------------------------------------------------------------

std::string FilmOracle::name(u32 film, u32 stream) {
    return "f" + std::to_string(film) + (stream == 0 ? "p" : "s");
}

bool FilmOracle::make(Machine& machine) {
    bool const checks = std::exchange(machine.checks, false);
    Client c(machine, 0);
    bool good = true;
    for (u32 f = 0; good && f < agent_films; ++f) {
        for (u32 i = 0; good && i < agent_film_streams; ++i) {
            good = c.create(name(f, i), PnodeType::Stream) == Error::None;
        }
    }
    machine.checks = checks;
    return good && c.fsync() == Error::None;
}

void FilmOracle::server_lost(Instant now, bool sure) {
    for (Film& f : film_) {
        if (!f.begun || f.fixed) continue;
        f.fixed = true;
        f.lost = now;
        f.sure = sure;
    }
}

void FilmOracle::said_open(u64 session, u64 set) {
    opening_.try_emplace({session, set}, opening_.size() + 1);
}

std::string FilmOracle::judge(Machine& machine) {
    // The invariants once, not at each request, which would cost more than all the rest.
    bool const checks = std::exchange(machine.checks, false);
    Client client(machine, 0);
    std::string problem;
    for (u32 n = 0; n < agent_films && problem.empty(); ++n) {
        if (film_[n].begun) problem = judge(client, n);
    }
    machine.checks = checks;
    machine.store().check_invariants();
    return problem;
}

std::string FilmOracle::judge(Client& client, u32 number) {
    Film& f = film_[number];
    std::array<u64, agent_film_streams> found{};
    for (u32 i = 0; i < agent_film_streams; ++i) {
        std::string const path = name(number, i);
        std::string const what = "film " + path + ": ";
        std::vector<IndexRecord> index;
        Error const e = client.read_index(path, &index);
        if (e != Error::None) return what + "index error " + std::to_string(static_cast<int>(e));
        found[i] = index.size();
        if (f.judged && found[i] != f.found[i]) {
            return what + "had " + std::to_string(f.found[i]) + " frames, has " +
                   std::to_string(found[i]);
        }
        if (found[i] > f.sent[i]) return what + "frames from nowhere";
        u64 const least = f.ended ? f.sent[i] : f.on_disk[i];
        if (found[i] < least) {
            return what + std::to_string(found[i]) + " frames, on disk by what was told " +
                   std::to_string(least);
        }
        if (f.judged || index.empty()) continue;
        u64 offset = 0;
        std::string data;
        u64 const bytes = index.back().offset + index.back().bytes;
        Error const read = client.read(path, 0, bytes, &data);
        if (read != Error::None || data.size() != bytes) return what + "cannot be read";
        for (u64 n = 0; n < index.size(); ++n) {
            ControlRecord const want = control_of(i, n);
            IndexRecord const& r = index[n];
            bool const right = r.time_ns == want.time_ns && r.bytes == want.bytes &&
                               r.flags == want.flags && r.offset == offset &&
                               data.compare(offset, want.bytes, bytes_of_frame(number, i, n)) == 0;
            if (!right) return what + "frame " + std::to_string(n) + " is wrong";
            offset += want.bytes;
        }
    }
    // Whether the end was reached, its agent may not have been told.
    bool const whole = f.ended || (f.closing && found == f.sent);
    if (!whole) {
        for (u32 i = 0; i < agent_film_streams; ++i) {
            for (u32 k = 0; k < agent_film_streams; ++k) {
                if (found[i] == 0) continue;
                if (control_of(i, found[i] - 1).time_ns >= control_of(k, found[k]).time_ns) {
                    return "film " + name(number, i) + " ends after " + name(number, k) + ": " +
                           std::to_string(found[i]) + " and " + std::to_string(found[k]) +
                           " frames";
                }
            }
        }
    }
    // What all streams had acknowledged two rounds before, as far as it fills blocks.
    i64 end = INT64_MAX;
    for (u32 i = 0; i < agent_film_streams; ++i) {
        u64 frames = 0;
        for (auto const& [when, count] : f.acknowledged[i]) {
            if (when + two_rounds + to_write < f.lost) frames = std::max(frames, count);
        }
        end = std::min(end, end_of_blocks(i, frames));
    }
    for (u32 i = 0; i < agent_film_streams && f.fixed && f.sure && !f.judged; ++i) {
        u64 const least = static_cast<u64>((end + period_ns[i] - 1) / period_ns[i]);
        if (found[i] < least) {
            return "film " + name(number, i) + ": " + std::to_string(found[i]) +
                   " frames, acknowledged two rounds before the end " + std::to_string(least);
        }
    }
    if (f.fixed) {
        f.found = found;
        f.judged = true;
    }
    return "";
}

// --- an agent's films ----------------------------------------------------------------------------

void FilmActor::reset(Instant now) {
    if (state_ == State::Record) ++counts.cut;
    state_ = State::Idle;
    next_ = now;
    for (auto& f : file_) f.fill(no_handle);
    for (auto& b : batches_) b.clear();
    lookup_.done = request_.done = frame_.done = true;
}

void FilmActor::heard(u8 const* bytes, u32 length, FilmOracle const& oracle) {
    bool const now_open = state_ == State::Open && request_.done && request_.error == Error::None;
    Received r;
    if (!now_open || opening_ != 0 || !read_message(bytes, length, &r)) return;
    bool const says_so = r.header.kind == MessageKind::Opened && r.header.number == request_.set;
    auto const it = oracle.opening_.find({r.header.session, r.header.number});
    if (says_so && it != oracle.opening_.end()) opening_ = it->second;
}

bool FilmActor::asked() const {
    switch (state_) {
        case State::Find:
            return !lookup_.done;
        case State::Open:
        case State::Close:
            return !request_.done;
        case State::Play:
            return true;
        case State::Record:
            return batches_[0].size() + batches_[1].size() > 4 ||
                   (sent_[0] >= frames_wanted_ && sent_[1] >= frames_wanted_);
        default:
            return false;
    }
}

std::string FilmActor::where(char const* what, Error e) const {
    return std::string("film ") + std::to_string(film_) + ", " + what + ": error " +
           std::to_string(static_cast<int>(e));
}

void FilmActor::find(Agent& agent, Instant clock, std::string const& name) {
    name_ = name;
    lookup_ = AgentRequest{};
    lookup_.op = Op::Lookup;
    lookup_.name = {name_.data(), static_cast<u32>(name_.size())};
    agent.submit(lookup_, clock);
}

void FilmActor::open(Agent& agent, Instant clock, Random& random, FilmOracle const& oracle) {
    for (u32 i = 0; i < agent_film_streams; ++i) ask_[i] = {file_[film_][i], 0};
    request_ = MediaRequest{};
    request_.op = Op::OpenStreams;
    request_.flags = records_ ? stream_record : stream_play;
    request_.streams = ask_;
    request_.streams_count = agent_film_streams;
    from_ns_ = random.chance(2) ? 0 : static_cast<i64>(random.below(2'000'000'000));
    static constexpr i32 speeds[] = {1000, 1000, 1000, -1000, 2000, -3000};
    speed_ = records_ ? 1000 : speeds[random.below(std::size(speeds))];
    request_.time_ns = from_ns_;
    request_.speed = speed_;
    FilmOracle::Film const& f = oracle.film_[film_];
    known_ = f.ended ? f.sent : f.on_disk;
    state_ = State::Open;
    opening_ = 0;
    agent.submit(request_, clock);
}

void FilmActor::close(Agent& agent, Instant clock) {
    for (auto& b : batches_) b.clear();
    request_ = MediaRequest{};
    request_.op = Op::CloseStreams;
    request_.set = set_;
    state_ = State::Close;
    agent.submit(request_, clock);
}

/// The answer to OPEN.
std::string FilmActor::opened(FilmOracle& oracle, Random& random, Instant now) {
    FilmOracle::Film& f = oracle.film_[film_];
    state_ = State::Idle;
    next_ = now + Duration::ms(static_cast<i64>(500 + random.below(4000)));
    switch (request_.error) {
        case Error::None:
            break;
        case Error::SetLost:
        case Error::Busy:
        case Error::TooManyOpen:
            return "";
        case Error::Exists:
            if (records_ && f.begun) return "";
            [[fallthrough]];
        default:
            return where("opening", request_.error);
    }
    set_ = request_.set;
    next_ = now;
    if (records_) {
        // Else the set was closed, with nothing in it, before the one that records now was opened.
        if (opening_ > f.opening) {
            u64 const least = f.on_disk[0] + f.on_disk[1] + (f.ended ? f.sent[0] + f.sent[1] : 0);
            bool const empty = least == 0 && (!f.judged || f.found[0] + f.found[1] == 0);
            if (!empty) return where("a film is recorded over", Error::None);
            f = FilmOracle::Film{};
            f.begun = true;
            f.opening = opening_;
        }
        sent_.fill(0);
        frames_wanted_ = 10 + random.below(50);
        state_ = State::Record;
    } else {
        state_ = State::Play;
        buffer_.resize(frame_bytes_max);
        last_.fill(-1);
        past_end_.fill(false);
        frames_left_ = 5 + static_cast<u32>(random.below(60));
        ++counts.opened;
    }
    return "";
}

std::string FilmActor::record(Agent& agent, Instant clock, Instant now, Random& random,
                              FilmOracle& oracle) {
    FilmOracle::Film& f = oracle.film_[film_];
    bool const mine = opening_ != 0 && f.opening == opening_;
    bool lost = false;
    u64 waiting = 0;
    for (u32 i = 0; i < agent_film_streams; ++i) {
        while (!batches_[i].empty() && batches_[i].front().request.done) {
            Batch const& b = batches_[i].front();
            Error const e = b.request.error;
            if (e == Error::None && mine) f.acknowledged[i].emplace_back(now, b.end);
            if (e != Error::None && e != Error::SetLost) return where("recording", e);
            lost = lost || e == Error::SetLost;
            batches_[i].pop_front();
        }
        waiting += batches_[i].size();
        u64 const on_disk = agent.media().frames_on_disk(set_, i);
        if (mine) f.on_disk[i] = std::max(f.on_disk[i], on_disk);
        if (!mine && on_disk > 0) return where("two sets have recorded it", Error::None);
    }
    if (lost) {
        close(agent, clock);
        return "";
    }
    if (stopping_) frames_wanted_ = std::min(sent_[0], sent_[1]);
    if (sent_[0] >= frames_wanted_ && sent_[1] >= frames_wanted_ && waiting == 0) {
        if (mine) f.closing = true;
        close(agent, clock);
        return "";
    }
    if (now < next_ || waiting > 4) return "";
    next_ = now + Duration::ms(static_cast<i64>(20 + random.below(150)));
    u32 const i = sent_[0] * batch_frames[1] <= sent_[1] * batch_frames[0] ? 0 : 1;
    batches_[i].emplace_back();
    Batch& b = batches_[i].back();
    for (u64 n = sent_[i]; n < sent_[i] + batch_frames[i]; ++n) {
        b.control.push_back(control_of(i, n));
        b.data += bytes_of_frame(film_, i, n);
    }
    b.end = sent_[i] += batch_frames[i];
    if (mine) f.sent[i] = sent_[i];
    MediaRequest& r = b.request;
    r.op = Op::Record;
    r.set = set_;
    r.stream = i;
    r.control = b.control.data();
    r.control_count = static_cast<u32>(b.control.size());
    r.buffer = reinterpret_cast<u8*>(b.data.data());
    r.length = b.data.size();
    agent.submit(r, clock);
    return "";
}

/// A frame that was played, or the end: it is the next one, and right byte for byte.
std::string FilmActor::frame(FilmOracle& oracle) {
    FilmOracle::Film const& f = oracle.film_[film_];
    u32 const i = stream_;
    if (frame_.count == 0) {
        past_end_[i] = true;
        u64 const seen = static_cast<u64>(last_[i] + 1);
        bool const whole = speed_ == 1000 && seen < known_[i];
        if (whole) return where("the end comes too early", Error::None);
        return "";
    }
    u64 const n = static_cast<u64>(frame_.time_ns / period_ns[i]);
    std::string const at = "film " + FilmOracle::name(film_, i) + ", frame " + std::to_string(n);
    bool const right = frame_.time_ns == control_of(i, n).time_ns && n < f.sent[i] &&
                       bytes_of_frame(film_, i, n) ==
                           std::string(reinterpret_cast<char const*>(buffer_.data()), frame_.count);
    if (!right) return at + " is played wrong";
    i64 const step = static_cast<i64>(n) - last_[i];
    u64 const first = frame_at(i, from_ns_);
    if (past_end_[i]) return at + " comes after the end";
    if (last_[i] < 0) {
        // Behind the end it is the last frame.
        if (n > first || (n < first && n + 1 < known_[i])) return at + " is not the one sought";
    } else if (speed_ == 1000 || speed_ == -1000 ? step != speed_ / 1000
                                                 : (step > 0) != (speed_ > 0)) {
        return at + " comes after frame " + std::to_string(last_[i]);
    }
    last_[i] = static_cast<i64>(n);
    ++counts.played;
    return "";
}

std::string FilmActor::play(Agent& agent, Instant clock, Random& random, FilmOracle& oracle) {
    for (;;) {
        if (!frame_.done || !request_.done) return "";
        if (request_.error != Error::None && request_.error != Error::SetLost) {
            return where("seeking", request_.error);
        }
        if (frame_.set == set_) {
            if (frame_.error == Error::SetLost || request_.error == Error::SetLost) {
                ++counts.lost;
                close(agent, clock);
                return "";
            }
            if (frame_.error != Error::None) return where("playing", frame_.error);
            if (std::string const p = frame(oracle); !p.empty()) return p;
            frame_.set = 0;
        }
        if (stopping_) frames_left_ = 0;
        bool const over = past_end_[0] && past_end_[1];
        if (over || frames_left_ == 0) {
            if (frames_left_ == 0 || random.chance(2)) {
                close(agent, clock);
                return "";
            }
            --frames_left_;
        } else {
            --frames_left_;
        }
        if (over || random.chance(20)) {
            from_ns_ = static_cast<i64>(random.below(2'500'000'000));
            speed_ = random.chance(3) ? -1000 : 1000;
            last_.fill(-1);
            past_end_.fill(false);
            request_ = MediaRequest{};
            request_.op = Op::Seek;
            request_.set = set_;
            request_.time_ns = from_ns_;
            request_.speed = speed_;
            agent.submit(request_, clock);
        }
        stream_ = past_end_[0] ? 1 : past_end_[1] ? 0 : static_cast<u32>(random.below(2));
        frame_ = MediaRequest{};
        frame_.op = Op::PlayFrame;
        frame_.set = set_;
        frame_.stream = stream_;
        frame_.buffer = buffer_.data();
        frame_.length = buffer_.size();
        agent.submit(frame_, clock);
    }
}

std::string FilmActor::poke(Agent& agent, Instant clock, Instant now, Random& random,
                            FilmOracle& oracle) {
    switch (state_) {
        case State::Idle: {
            if (now < next_ || stopping_) return "";
            film_ = static_cast<u32>(random.below(agent_films));
            records_ = !oracle.film_[film_].begun || random.chance(8);
            finding_ = 0;
            state_ = State::Find;
            lookup_ = AgentRequest{};
            lookup_.done = true;
            return poke(agent, clock, now, random, oracle);
        }
        case State::Find:
            if (!lookup_.done) return "";
            if (lookup_.error != Error::None) return where("finding", lookup_.error);
            if (lookup_.result != no_handle) file_[film_][finding_] = lookup_.result;
            lookup_.result = no_handle;
            finding_ = 0;
            while (finding_ < agent_film_streams && file_[film_][finding_] != no_handle) {
                ++finding_;
            }
            if (finding_ < agent_film_streams) {
                find(agent, clock, FilmOracle::name(film_, finding_));
                if (lookup_.done) return poke(agent, clock, now, random, oracle);
                return "";
            }
            open(agent, clock, random, oracle);
            frame_ = MediaRequest{};
            frame_.done = true;
            [[fallthrough]];
        case State::Open:
            if (!request_.done) return "";
            if (std::string const p = opened(oracle, random, now); !p.empty()) return p;
            if (state_ == State::Idle) return "";
            return poke(agent, clock, now, random, oracle);
        case State::Record:
            return record(agent, clock, now, random, oracle);
        case State::Play:
            return play(agent, clock, random, oracle);
        case State::Close: {
            if (!request_.done) return "";
            FilmOracle::Film& f = oracle.film_[film_];
            bool const good = request_.error == Error::None;
            if (!good && request_.error != Error::SetLost) {
                return where("closing", request_.error);
            }
            bool const mine = opening_ != 0 && f.opening == opening_;
            if (records_ && good && mine) f.ended = true;
            if (records_ && good && !mine && sent_[0] + sent_[1] > 0) {
                return where("two sets have recorded it to the end", Error::None);
            }
            if (records_) ++(good ? counts.recorded : counts.cut);
            state_ = State::Idle;
            next_ = now + Duration::ms(static_cast<i64>(2000 + random.below(6000)));
            return "";
        }
    }
    return "";
}

}  // namespace nemesis::fs::simulator
