// Goal: what is recorded through an agent is what is played, byte for byte, or its user is told why
// not; whoever is lost takes nobody's bandwidth with him. Method: a server on simulated disks and
// two agents, joined by a network that loses, doubles, delays and spoils messages when told to;
// time goes on step by step. Films are those of films.h.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "fs/agent/agent.h"
#include "fs/server/server.h"
#include "fs/simulator/films.h"
#include "fs/simulator/machine.h"

namespace nemesis::fs::simulator {
namespace {

constexpr u32 agents = 2;
constexpr u32 batch = 128 * 1024;

/// A server and two agents on one clock.
class AgentMediaTest : public testing::Test, public ServerPort {
protected:
    struct Client final : AgentPort {
        AgentMediaTest* test = nullptr;
        u32 index = 0;
        u64 incarnation = 0;
        std::vector<u8> memory;
        std::optional<Agent> agent;
        bool cut = false;  // nothing gets through, either way
        void send(u8 const* bytes, u32 length) override {
            if (!cut) test->carry(index, true, bytes, length);
        }
        void conflict(u64, Error) override { FAIL(); }
    };
    struct Carried {
        Instant at;
        u32 agent;
        bool to_server;
        std::vector<u8> bytes;
    };
    struct Frames {  // of one Record
        std::vector<ControlRecord> control;
        std::string data;
        i64 end_ns;
    };

    static Options store_options() {
        Options o = small_options();
        o.media_streams = 6;
        return o;
    }
    void begin(Options store = store_options(), u64 segments = 96, ServerOptions options = {}) {
        options.sessions = agents;
        options.lease = Duration::s(4);
        options.media = {.streams = 6, .ahead = 4, .batch_bytes = batch};
        server_options_ = options;
        store_options_ = store;
        image_ = Image(blocks_for(segments));
        format(image_, pool_);
        start_server();
        for (u32 i = 0; i < agents; ++i) {
            client_[i].test = this;
            client_[i].index = i;
            start_agent(i);
        }
        pass(Duration::ms(100));
        for (Client& c : client_) ASSERT_TRUE(c.agent->active());
    }
    void start_server() {
        server_.reset();
        machine_.emplace(image_, pool_, memory_, store_options_);
        machine_->checks = false;
        machine_->now = now_;
        machine_->disks.set_now(now_);
        ASSERT_TRUE(machine_->mount());
        server_memory_.resize(Server::memory_needed(server_options_));
        Arena arena(server_memory_.data(), server_memory_.size());
        server_.emplace(arena, machine_->store(), *this, server_options_);
        server_->start(now_);
    }
    /// What its disks have been given is there; what was in its memory is not.
    void stop_server() {
        server_.reset();
        machine_.reset();
    }
    void start_agent(u32 i) {
        Client& c = client_[i];
        c.memory.resize(Agent::memory_needed(agent_options));
        Arena arena(c.memory.data(), c.memory.size());
        c.agent.emplace(arena, c, agent_options, i + 1, ++c.incarnation);
        c.agent->start(now_);
    }
    void send(u64 agent, u8 const* bytes, u32 length) override {
        u32 const i = static_cast<u32>(agent - 1);
        if (!client_[i].cut) carry(i, false, bytes, length);
    }
    void carry(u32 agent, bool to_server, u8 const* bytes, u32 length) {
        Received r;
        ASSERT_TRUE(read_message(bytes, length, &r));
        ++sent_[static_cast<u32>(r.header.kind)];
        if (drop_ && drop_(r.header)) return;
        for (u32 copies = bad_ && random_.chance(10) ? 2 : 1; copies > 0; --copies) {
            if (bad_ && random_.chance(10)) continue;
            std::vector<u8> m(bytes, bytes + length);
            if (bad_ && random_.chance(20)) m[random_.below(length)] ^= 1;
            Duration const late =
                Duration::ms(bad_ ? static_cast<i64>(random_.below(80)) : 0) + delay_;
            carried_.push_back({now_ + late, agent, to_server, std::move(m)});
        }
    }
    /// All that can be done now.
    void settle() {
        for (bool quiet = false; !quiet;) {
            quiet = true;
            if (server_) {
                machine_->pump();
                server_->run();
            }
            for (std::size_t i = 0; i < carried_.size(); ++i) {
                if (carried_[i].at > now_) continue;
                Carried const c = std::move(carried_[i]);
                carried_.erase(carried_.begin() + static_cast<std::ptrdiff_t>(i--));
                quiet = false;
                u32 const length = static_cast<u32>(c.bytes.size());
                if (c.to_server && server_) server_->receive(c.bytes.data(), length);
                Client& k = client_[c.agent];
                if (!c.to_server && k.agent) k.agent->receive(c.bytes.data(), length, now_);
            }
        }
        for (Client& c : client_) {
            if (c.agent) c.agent->check_invariants();
        }
    }
    void pass(Duration d) {
        Instant const end = now_ + d;
        while (now_ < end) {
            now_ = now_ + Duration::ms(20) < end ? now_ + Duration::ms(20) : end;
            if (server_) {
                machine_->now = now_;
                machine_->disks.set_now(now_);
                machine_->store().advance(now_);
                server_->advance(now_);
            }
            for (Client& c : client_) {
                if (c.agent) c.agent->advance(now_);
            }
            settle();
        }
    }
    /// Until it is done, or two minutes have passed.
    template <typename R>
    R& until_done(R& r) {
        for (u32 i = 0; i < 6000 && !r.done; ++i) pass(Duration::ms(20));
        EXPECT_TRUE(r.done);
        return r;
    }
    AgentRequest& ask(u32 who, Op op, std::string const& name, PnodeType type = PnodeType::File) {
        names_.push_back(name);
        AgentRequest r;
        r.op = op;
        r.type = type;
        r.name = {names_.back().data(), static_cast<u32>(name.size())};
        requests_.push_back(r);
        client_[who].agent->submit(requests_.back(), now_);
        settle();
        return requests_.back();
    }
    FileHandle make(u32 who, std::string const& name) {
        return until_done(ask(who, Op::Create, name, PnodeType::Stream)).result;
    }
    FileHandle find(u32 who, std::string const& name) {
        return until_done(ask(who, Op::Lookup, name)).result;
    }
    MediaRequest& submit(u32 who, MediaRequest const& r) {
        media_.push_back(r);
        client_[who].agent->submit(media_.back(), now_);
        settle();
        return media_.back();
    }
    MediaRequest& open(u32 who, std::vector<FileHandle> const& files, u32 flags = stream_record,
                       u64 rate = 0, i64 time_ns = 0, i32 speed = 1000) {
        asks_.emplace_back();
        for (FileHandle f : files) asks_.back().push_back({f, rate});
        MediaRequest r;
        r.op = Op::OpenStreams;
        r.streams = asks_.back().data();
        r.streams_count = static_cast<u32>(files.size());
        r.flags = flags;
        r.time_ns = time_ns;
        r.speed = speed;
        return submit(who, r);
    }
    MediaRequest& close(u32 who, u64 set) {
        MediaRequest r;
        r.op = Op::CloseStreams;
        r.set = set;
        return submit(who, r);
    }
    MediaRequest& seek(u32 who, u64 set, i64 time_ns, i32 speed = 1000) {
        MediaRequest r;
        r.op = Op::Seek;
        r.set = set;
        r.time_ns = time_ns;
        r.speed = speed;
        return submit(who, r);
    }
    /// Frames [from, to) of the film's stream.
    MediaRequest& record(u32 who, u64 set, u32 stream, u64 from, u64 to) {
        frames_.emplace_back();
        Frames& f = frames_.back();
        for (u64 n = from; n < to; ++n) {
            f.control.push_back(film_control(stream, n));
            f.data += film_bytes(stream, n);
        }
        MediaRequest r;
        r.op = Op::Record;
        r.set = set;
        r.stream = stream;
        r.control = f.control.data();
        r.control_count = static_cast<u32>(f.control.size());
        r.buffer = reinterpret_cast<u8*>(f.data.data());
        r.length = f.data.size();
        return submit(who, r);
    }
    /// Rounds [from, to) of the film, as fast as they are taken.
    void record_rounds(u32 who, u64 set, u64 from, u64 to) {
        for (u64 n = from; n < to; ++n) {
            i64 const t = static_cast<i64>(n) * film_round_ns;
            std::vector<MediaRequest*> all;
            for (u32 i = 0; i < film_streams; ++i) {
                all.push_back(&record(who, set, i, film_frames_before(i, t),
                                      film_frames_before(i, t + film_round_ns)));
            }
            for (MediaRequest* r : all) ASSERT_EQ(until_done(*r).error, Error::None);
        }
    }
    MediaRequest& play(u32 who, u64 set, u32 stream) {
        MediaRequest r;
        r.op = Op::PlayFrame;
        r.set = set;
        r.stream = stream;
        buffers_.push_back(std::string(batch, 0));
        r.buffer = reinterpret_cast<u8*>(buffers_.back().data());
        r.length = batch;
        return submit(who, r);
    }
    /// The next frame's number; it is right byte for byte. -1: there is none. `kind`: the film's
    /// stream that it is.
    i64 next_frame(u32 who, u64 set, u32 stream, u32 kind = ~0u) {
        MediaRequest const& r = until_done(play(who, set, stream));
        EXPECT_EQ(r.error, Error::None);
        if (r.error != Error::None || r.count == 0) return -1;
        if (kind == ~0u) kind = stream;
        u64 n = 0;
        while (film_control(kind, n).time_ns < r.time_ns) ++n;
        EXPECT_EQ(film_control(kind, n).time_ns, r.time_ns);
        EXPECT_TRUE(film_bytes(kind, n) == std::string(reinterpret_cast<char*>(r.buffer), r.count));
        return static_cast<i64>(n);
    }
    /// All frames from the present place on, forwards.
    u64 play_all(u32 who, u64 set, u32 stream, i64 from = 0) {
        u64 count = 0;
        for (i64 n = from;; ++n, ++count) {
            i64 const got = next_frame(who, set, stream);
            if (got < 0) return count;
            EXPECT_EQ(got, n);
            if (got != n || testing::Test::HasFailure()) return count;
        }
    }
    /// A recorded film of so many rounds, whole; its handles at agent 0.
    std::vector<FileHandle> film(u64 rounds, std::string const& name = "film") {
        std::vector<FileHandle> const files{make(0, name + "0"), make(0, name + "1")};
        u64 const set = until_done(open(0, files)).set;
        record_rounds(0, set, 0, rounds);
        EXPECT_EQ(until_done(close(0, set)).error, Error::None);
        return files;
    }
    static u64 frames(u32 stream, u64 rounds) {
        return film_frames_before(stream, static_cast<i64>(rounds) * film_round_ns);
    }

    static constexpr AgentOptions agent_options{
        .cache = {8, 32, 32},
        .media = {.streams = 4, .ahead = 4, .batch_bytes = batch},
        .alternative_after = {}};
    BlockPool pool_;
    Memory memory_;
    Image image_;
    Random random_{7};
    Options store_options_;
    ServerOptions server_options_;
    std::optional<Machine> machine_;
    std::vector<u8> server_memory_;
    std::optional<Server> server_;
    Client client_[agents];
    Instant now_ = Instant{} + Duration::s(1);
    bool bad_ = false;  // the network
    Duration delay_{};
    std::function<bool(Message const&)> drop_;
    std::vector<Carried> carried_;
    u64 sent_[40] = {};
    std::deque<AgentRequest> requests_;
    std::deque<MediaRequest> media_;
    std::deque<std::vector<MediaAsk>> asks_;
    std::deque<Frames> frames_;
    std::deque<std::string> names_;
    std::deque<std::string> buffers_;
};

TEST_F(AgentMediaTest, what_one_agent_records_another_plays_byte_for_byte) {
    begin();
    film(20);
    std::vector<FileHandle> const files{find(1, "film0"), find(1, "film1")};
    MediaRequest const& opened = until_done(open(1, files, stream_play));
    ASSERT_EQ(opened.error, Error::None);
    EXPECT_EQ(play_all(1, opened.set, 0), frames(0, 20));
    EXPECT_EQ(play_all(1, opened.set, 1), frames(1, 20));
    EXPECT_EQ(next_frame(1, opened.set, 0), -1);  // and there it stays
    EXPECT_EQ(until_done(close(1, opened.set)).error, Error::None);
    EXPECT_EQ(server_->media().streams_used(), 0u);
    EXPECT_EQ(until_done(play(1, opened.set, 0)).error, Error::Invalid);
}

TEST_F(AgentMediaTest, a_network_that_loses_doubles_delays_and_spoils_messages_changes_nothing) {
    begin();
    bad_ = true;
    film(12);
    std::vector<FileHandle> const files{find(1, "film0"), find(1, "film1")};
    MediaRequest const& opened = until_done(open(1, files, stream_play));
    ASSERT_EQ(opened.error, Error::None);
    EXPECT_EQ(play_all(1, opened.set, 0), frames(0, 12));
    for (u64 n : {7u, 30u, 2u, 11u}) {
        i64 const t = film_control(1, n).time_ns;
        EXPECT_EQ(until_done(seek(1, opened.set, t)).error, Error::None);
        EXPECT_EQ(next_frame(1, opened.set, 1), static_cast<i64>(n));
        EXPECT_EQ(next_frame(1, opened.set, 1), static_cast<i64>(n + 1));
    }
    EXPECT_EQ(play_all(1, opened.set, 1, 13), frames(1, 12) - 13);
    EXPECT_EQ(until_done(close(1, opened.set)).error, Error::None);
    EXPECT_EQ(server_->media().streams_used(), 0u);
}

TEST_F(AgentMediaTest, is_sought_to_the_frame_played_backwards_and_faster) {
    begin();
    film(25);
    u64 const set = until_done(open(0, {find(0, "film0")}, stream_play, 0, 2'000'000'000)).set;
    EXPECT_EQ(next_frame(0, set, 0), 50);
    // Between two frames: the one that is shown then.
    EXPECT_EQ(until_done(seek(0, set, 1'210'000'000, -1000)).error, Error::None);
    for (i64 n = 30; n >= 0; --n) EXPECT_EQ(next_frame(0, set, 0), n);
    EXPECT_EQ(next_frame(0, set, 0), -1);
    EXPECT_EQ(until_done(seek(0, set, 0, 4000)).error, Error::None);
    i64 before = -4;
    for (i64 n = next_frame(0, set, 0); n >= 0; n = next_frame(0, set, 0)) {
        EXPECT_EQ(n % 4, 0);
        EXPECT_GT(n, before);
        before = n;
    }
    EXPECT_GE(before, 100);
    // One is asked for and has not come when the place changes.
    MediaRequest& asked = play(0, set, 0);
    EXPECT_TRUE(asked.done);
    EXPECT_EQ(seek(0, set, 0, 0).error, Error::Invalid);
    MediaRequest& first = seek(0, set, 400'000'000);
    EXPECT_EQ(first.error, Error::None);
    EXPECT_EQ(next_frame(0, set, 0), 10);
}

TEST_F(AgentMediaTest, a_seek_leaves_nothing_of_the_place_before) {
    begin();
    film(25);
    u64 const set = until_done(open(0, {find(0, "film0")}, stream_play)).set;
    EXPECT_EQ(next_frame(0, set, 0), 0);
    for (u64 i = 0; i < 40; ++i) {
        // Batches of the old place are on their way, and a request waits for one of the new.
        delay_ = Duration::ms(static_cast<i64>(i % 3) * 40);
        u64 const n = i * 37 % 120;
        MediaRequest& sought = seek(0, set, film_control(0, n).time_ns);
        EXPECT_EQ(next_frame(0, set, 0), static_cast<i64>(n));
        EXPECT_EQ(until_done(sought).error, Error::None);
    }
}

TEST_F(AgentMediaTest, a_long_film_puts_no_block_out_of_any_cache) {
    begin(store_options(), 160);
    until_done(ask(0, Op::Create, "file"));
    FileHandle const file = requests_.back().result;
    std::string const text(20 * block_bytes, 'x');
    auto const move = [&](u32 who, Op op, FileHandle f, std::string& s) {
        AgentRequest r;
        r.op = op;
        r.file = f;
        r.length = s.size();
        r.buffer = reinterpret_cast<u8*>(s.data());
        requests_.push_back(r);
        client_[who].agent->submit(requests_.back(), now_);
        return until_done(requests_.back()).count;
    };
    std::string content = text;
    ASSERT_EQ(move(0, Op::Write, file, content), text.size());
    std::string seen(16 * block_bytes, 0);
    ASSERT_EQ(move(0, Op::Read, file, seen), seen.size());
    // Four hundred rounds of 37 KB and 6.4 KB: more than ten times the store's cache of 1 MiB.
    film(400);
    pass(Duration::s(3));
    u32 const held = client_[0].agent->cache().blocks_held();
    ASSERT_GE(held, 16u);
    Statistics const before = machine_->store().statistics();
    u64 const set = until_done(open(0, {find(0, "film0"), find(0, "film1")}, stream_play)).set;
    EXPECT_EQ(play_all(0, set, 0), frames(0, 400));
    EXPECT_EQ(play_all(0, set, 1), frames(1, 400));
    EXPECT_EQ(client_[0].agent->cache().blocks_held(), held);
    // What was played did not go through the cache: of the index a block for each 128 frames.
    Statistics const after = machine_->store().statistics();
    u64 const index = frames(0, 400) / 128 + frames(1, 400) / 128 + 2;
    EXPECT_GT(after.stream_loads, before.stream_loads);
    u64 const read_by_play = after.block_reads - before.block_reads;
    // Each load reads whole columns.
    EXPECT_LE(read_by_play,
              (after.stream_loads - before.stream_loads) * segment_blocks * 5 / 4 + index + 64);
    // And the file is where it was: the other agent's read takes no block from the disks.
    u64 const reads = machine_->store().statistics().block_reads;
    std::string again(16 * block_bytes, 0);
    ASSERT_EQ(move(1, Op::Read, find(1, "file"), again), again.size());
    EXPECT_EQ(again, std::string(16 * block_bytes, 'x'));
    EXPECT_EQ(machine_->store().statistics().block_reads, reads);
    u64 const asked = client_[0].agent->statistics().asked;
    ASSERT_EQ(move(0, Op::Read, file, seen), seen.size());
    EXPECT_EQ(client_[0].agent->statistics().asked, asked);
}

TEST_F(AgentMediaTest, a_round_trip_does_not_limit_the_rate) {
    begin();
    std::vector<FileHandle> const files{make(0, "a")};
    u64 const set = until_done(open(0, files)).set;
    delay_ = Duration::ms(100);  // each way
    std::vector<MediaRequest*> all;
    for (u64 n = 0; n < 320; n += 10) all.push_back(&record(0, set, 0, n, n + 10));
    Instant const start = now_;
    for (MediaRequest* r : all) ASSERT_EQ(until_done(*r).error, Error::None);
    // 32 batches, four on their way: eight round trips, and one for the steps of this test.
    EXPECT_LE((now_ - start).ns(), Duration::ms(9 * 220).ns());
    delay_ = {};
    ASSERT_EQ(until_done(close(0, set)).error, Error::None);
    u64 const playing = until_done(open(0, files, stream_play)).set;
    delay_ = Duration::ms(100);
    Instant const begin = now_;
    EXPECT_EQ(play_all(0, playing, 0), 320u);
    // 2.6 MB in batches of up to 128 KiB, four of them ahead.
    EXPECT_LE((now_ - begin).ns(), Duration::ms(9 * 220).ns());
}

TEST_F(AgentMediaTest, a_refusal_names_the_largest_rate_and_a_silent_agent_gives_its_own_back) {
    Options o = store_options();
    o.disk_model = {Duration::us(11'100), Duration::ms(2), Duration::ms(18), 3'000'000};
    o.media_round = Duration::s(1);
    begin(o);
    FileHandle const a = make(0, "a");
    FileHandle const b = make(1, "b");
    MediaRequest const& much = until_done(open(0, {a}, stream_record, 1'000'000'000));
    EXPECT_EQ(much.error, Error::NoBandwidth);
    u64 const most = much.count;
    ASSERT_GT(most, 100'000u);
    EXPECT_EQ(server_->media().streams_used(), 0u);
    u64 const set = until_done(open(0, {a}, stream_record, most)).set;
    ASSERT_NE(set, 0u);
    record(0, set, 0, 0, 10);
    MediaRequest const& second = until_done(open(1, {b}, stream_record, most));
    EXPECT_EQ(second.error, Error::NoBandwidth);
    EXPECT_LT(second.count, most);
    // Agent 0 says nothing any more: a lease and the end of its recording later it has nothing.
    client_[0].cut = true;
    pass(server_options_.lease + store_options_.media_round * 2);
    EXPECT_EQ(server_->media().streams_used(), 0u);
    EXPECT_EQ(until_done(open(1, {b}, stream_record, most)).error, Error::None);
    // When it is back it is told, and what it had recorded is there.
    client_[0].cut = false;
    EXPECT_EQ(until_done(record(0, set, 0, 10, 20)).error, Error::SetLost);
    EXPECT_EQ(until_done(close(0, set)).error, Error::SetLost);
    u64 const playing = until_done(open(0, {a}, stream_play)).set;
    EXPECT_EQ(play_all(0, playing, 0), 10u);
}

TEST_F(AgentMediaTest, a_recording_that_the_server_dies_in_plays_up_to_the_cut) {
    begin();
    std::vector<FileHandle> const files{make(0, "film0"), make(0, "film1")};
    std::vector<FileHandle> const other{make(0, "x0"), make(0, "x1")};
    u64 const set = until_done(open(0, files)).set;
    // In real time; rounds of the store are of a second, five of the film's.
    for (u64 n = 0; n < 30; ++n) {
        record_rounds(0, set, n, n + 1);
        pass(Duration::ns(film_round_ns));
    }
    u64 const on_disk = client_[0].agent->media().frames_on_disk(set, 0);
    EXPECT_GE(on_disk, frames(0, 20));
    EXPECT_LE(on_disk, frames(0, 30));
    stop_server();
    MediaRequest& cut = record(0, set, 0, frames(0, 30), frames(0, 31));
    MediaRequest& opening = open(0, other);
    pass(Duration::s(1));
    EXPECT_FALSE(cut.done);
    start_server();
    // What was being opened is opened; what was open is lost, and says so.
    EXPECT_EQ(until_done(cut).error, Error::SetLost);
    EXPECT_EQ(until_done(opening).error, Error::None);
    EXPECT_EQ(until_done(close(0, set)).error, Error::SetLost);
    u64 const again = until_done(open(0, files, stream_play)).set;
    u64 const count[] = {play_all(0, again, 0), play_all(0, again, 1)};
    EXPECT_GE(count[0], on_disk);
    // Two rounds are two seconds.
    EXPECT_GE(count[0], frames(0, 20));
    EXPECT_GE(count[1], frames(1, 20));
    // At one time: no stream has a frame that lies behind the end of the other one.
    i64 const last0 = film_control(0, count[0] - 1).time_ns;
    i64 const last1 = film_control(1, count[1] - 1).time_ns;
    EXPECT_LT(last0, film_control(1, count[1]).time_ns);
    EXPECT_LT(last1, film_control(0, count[0]).time_ns);
    // It cannot be recorded over.
    EXPECT_EQ(until_done(close(0, again)).error, Error::None);
    EXPECT_EQ(until_done(open(0, files)).error, Error::Exists);
}

TEST_F(AgentMediaTest, a_player_resumes_at_its_place_when_the_server_is_back) {
    begin();
    std::vector<FileHandle> const files = film(20);
    u64 const set = until_done(open(0, files, stream_play)).set;
    i64 place = 0;
    for (i64 n = 0; n < 40; ++n) EXPECT_EQ(place = next_frame(0, set, 0), n);
    stop_server();
    pass(Duration::s(1));
    start_server();
    pass(Duration::s(1));
    // What had come before it may still be played, and is right; then the user is told.
    for (;;) {
        MediaRequest const& r = until_done(play(0, set, 0));
        if (r.error == Error::SetLost) break;
        ASSERT_EQ(r.error, Error::None);
        ++place;
        ASSERT_EQ(r.time_ns, film_control(0, static_cast<u64>(place)).time_ns);
    }
    EXPECT_EQ(until_done(close(0, set)).error, Error::SetLost);
    u64 const t = static_cast<u64>(place + 1);
    u64 const again = until_done(open(0, files, stream_play, 0, film_control(0, t).time_ns)).set;
    EXPECT_EQ(play_all(0, again, 0, place + 1), frames(0, 20) - t);
}

TEST_F(AgentMediaTest, a_recording_whose_agent_dies_ends_and_is_whole_up_to_there) {
    begin();
    std::vector<FileHandle> const files{make(0, "film0"), make(0, "film1")};
    u64 const set = until_done(open(0, files)).set;
    record_rounds(0, set, 0, 10);
    start_agent(0);
    pass(Duration::s(3));
    EXPECT_EQ(server_->media().streams_used(), 0u);
    std::vector<FileHandle> const found{find(1, "film0"), find(1, "film1")};
    u64 const playing = until_done(open(1, found, stream_play)).set;
    EXPECT_EQ(play_all(1, playing, 0), frames(0, 10));
    // The last sound, at 1,975 ms, has no picture beside it: the set ends at one time.
    EXPECT_EQ(play_all(1, playing, 1), frames(1, 10) - 1);
}

TEST_F(AgentMediaTest, answers_that_got_lost_are_given_again_and_late_questions_do_nothing) {
    begin();
    FileHandle const a = make(0, "a");
    // The answers to OPEN and CLOSE get lost, three times each.
    u32 lost = 0;
    drop_ = [&](Message const& m) {
        bool const answer = m.kind == MessageKind::Opened || m.kind == MessageKind::Closed ||
                            m.kind == MessageKind::Taken;
        return answer && ++lost % 4 != 0;
    };
    u64 const set = until_done(open(0, {a})).set;
    ASSERT_EQ(until_done(record(0, set, 0, 0, 5)).error, Error::None);
    ASSERT_EQ(until_done(close(0, set)).error, Error::None);
    EXPECT_EQ(server_->media().streams_used(), 0u);
    drop_ = nullptr;
    // An OPEN that was refused comes once more, much later.
    Message m;
    drop_ = [&](Message const& sent) {
        if (sent.kind == MessageKind::Open) m = sent;
        return false;
    };
    EXPECT_EQ(until_done(open(0, {a})).error, Error::Exists);
    drop_ = nullptr;
    m.flags = stream_play;  // which would not be refused
    StreamRef const ref{client_[0].agent->ref(a), 0};
    std::vector<u8> out(message_bytes_max);
    u32 const length =
        build_message(out.data(), m, {}, {}, reinterpret_cast<u8 const*>(&ref), sizeof ref);
    server_->receive(out.data(), length);
    settle();
    EXPECT_EQ(server_->media().streams_used(), 0u);
}

TEST_F(AgentMediaTest, a_stream_that_another_agent_has_just_made_is_on_disk_before_it_is_opened) {
    begin();
    make(0, "film");
    FileHandle const at_1 = find(1, "film");
    AgentRequest r;
    r.op = Op::SetAttributes;
    r.file = find(0, "film");
    r.mode = 0600;
    r.flags = set_mode;
    requests_.push_back(r);
    client_[0].agent->submit(requests_.back(), now_);
    until_done(requests_.back());
    ASSERT_LT(client_[0].agent->durable(), client_[0].agent->acknowledged());
    // That it is on disk is said before it is opened.
    u64 const said = sent_[static_cast<u32>(MessageKind::Durable)];
    u64 before_opened = 0;
    drop_ = [&](Message const& m) {
        if (m.kind == MessageKind::Opened) {
            before_opened = sent_[static_cast<u32>(MessageKind::Durable)];
        }
        return false;
    };
    until_done(open(1, {at_1}, stream_play));
    EXPECT_GT(before_opened, said);
    EXPECT_EQ(client_[0].agent->durable(), client_[0].agent->acknowledged());
}

TEST_F(AgentMediaTest, a_stream_that_is_ahead_of_its_set_waits_for_the_others) {
    begin();
    u64 const set = until_done(open(0, {make(0, "film0"), make(0, "film1")})).set;
    std::vector<MediaRequest*> all;
    for (u64 n = 0; n < 1400; n += 50) all.push_back(&record(0, set, 1, n, n + 50));
    pass(Duration::s(5));
    EXPECT_TRUE(all.front()->done);
    EXPECT_FALSE(all.back()->done);
    for (u64 n = 0; n < 880; n += 10) {
        ASSERT_EQ(until_done(record(0, set, 0, n, n + 10)).error, Error::None);
    }
    for (MediaRequest* r : all) ASSERT_EQ(until_done(*r).error, Error::None);
    EXPECT_EQ(until_done(close(0, set)).error, Error::None);
}

TEST_F(AgentMediaTest, several_sets_of_one_agent_are_recorded_and_played_at_once) {
    begin();
    film(10);
    u64 const one = until_done(open(0, {make(0, "a")})).set;
    u64 const two = until_done(open(0, {make(0, "b")})).set;
    u64 const three = until_done(open(0, {find(0, "film1")}, stream_play)).set;
    ASSERT_NE(one, two);
    EXPECT_EQ(until_done(open(0, {find(0, "film0"), make(0, "c")})).error, Error::TooManyOpen);
    for (u64 n = 0; n < 20; ++n) {
        ASSERT_EQ(until_done(record(0, one, 0, n, n + 1)).error, Error::None);
        ASSERT_EQ(until_done(record(0, two, 0, n * 2, n * 2 + 2)).error, Error::None);
        EXPECT_EQ(next_frame(0, three, 0, 1), static_cast<i64>(n));
    }
    // A set that is closed ends what waits for it, and no other.
    for (u64 s : {one, two, three}) EXPECT_EQ(until_done(close(0, s)).error, Error::None);
    u64 const a = until_done(open(1, {find(1, "a")}, stream_play)).set;
    u64 const b = until_done(open(1, {find(1, "b")}, stream_play)).set;
    EXPECT_EQ(play_all(1, a, 0), 20u);
    EXPECT_EQ(play_all(1, b, 0), 40u);
}

TEST_F(AgentMediaTest, what_does_not_fit_or_makes_no_sense_is_refused_by_name) {
    begin();
    FileHandle const a = make(0, "a");
    EXPECT_EQ(open(0, {}).error, Error::Invalid);
    EXPECT_EQ(open(0, {99}).error, Error::Invalid);
    EXPECT_EQ(until_done(open(0, {root_handle})).error, Error::Invalid);
    EXPECT_EQ(until_done(open(0, {a, a})).error, Error::Invalid);
    EXPECT_EQ(until_done(open(0, {a}, stream_record, 1000)).error, Error::NotSupported);
    u64 const set = until_done(open(0, {a})).set;
    EXPECT_EQ(until_done(open(1, {find(1, "a")})).error, Error::Busy);
    EXPECT_EQ(record(0, set, 0, 0, 40).error, Error::TooBig);
    EXPECT_EQ(record(0, set, 1, 0, 1).error, Error::Invalid);
    EXPECT_EQ(seek(0, set, 0).error, Error::Invalid);
    EXPECT_EQ(play(0, set, 0).error, Error::Invalid);
    EXPECT_EQ(until_done(record(0, set, 0, 5, 6)).error, Error::None);
    EXPECT_EQ(record(0, set, 0, 4, 5).error, Error::Invalid);  // back in time
    EXPECT_EQ(until_done(record(0, set, 0, 6, 7)).error, Error::None);
    EXPECT_EQ(close(0, set + media_sets_max).error, Error::Invalid);
    EXPECT_EQ(until_done(close(0, set)).error, Error::None);
    EXPECT_EQ(until_done(open(0, {a})).error, Error::Exists);
}

}  // namespace
}  // namespace nemesis::fs::simulator
