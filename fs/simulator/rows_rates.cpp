// Row 7: guaranteed rates. A store on disks with a clock is filled with films; as many streams as
// are admitted play them or are recorded, each client taking its frames at their times and
// comparing them; one more is refused. Beside them clients write, read and shorten files without a
// pause, so that the store is full and cleaned again and again; a film that nobody plays goes to
// the tertiary volume and comes back. Then a disk fails, is rebuilt, and another one becomes fifty
// times slower. Nothing that was promised may be late, at the server or at a client.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "fs/simulator/rows.h"

namespace nemesis::fs::simulator {
namespace {

constexpr u32 frame_bytes = 20'000;  // 25 a second: 0.5 MB/s
constexpr i64 frame_ns = 40'000'000;
constexpr u64 rate = 500'000;
constexpr u32 films = 4;
constexpr u32 film_frames = 40 * 25;
constexpr u64 disk_segments = 640;
constexpr u32 reserve_percent = 10;  // of each round, for files, cleaning and rebuilding
constexpr u32 file_clients = 24;
constexpr u32 recording_frames = 20 * 25;  // then it is deleted, and the next one begins

struct Drive {
    char const* name;
    DiskModel real;
    u32 run;         // segments side by side
    Duration round;  // in which a stream of 0.5 MB/s takes as many
    u64 streams_least;
    u32 percent_least;  // of brute force
    u32 recorders;
};

/// What a client knows of the picture.
void paint(u64 film, u64 n, u8* out) {
    std::memset(out, static_cast<int>('a' + (film * 7 + n) % 26), frame_bytes);
    std::memcpy(out, &film, 8);
    std::memcpy(out + 8, &n, 8);
}

/// A client that plays one film over and over, from a place of its own.
struct Player {
    Request request;
    std::vector<u8> frame = std::vector<u8>(frame_bytes);
    u64 session = 0;
    u64 film = 0;
    u64 next = 0;   // frame it expects
    Instant start;  // when frame number `base` is due
    u64 base = 0;
    bool asking = false;
    bool seeking = false;
    Machine* machine = nullptr;
    Instant done;   // when its request was done
    Instant again;  // when it asks for the next frame
};

/// A client that records films at the promised rate, one after the other into one name.
struct Recorder {
    enum class Step : u8 { Create, Open, Record, Close, Delete };
    Request request;
    Step step = Step::Create;
    std::string name;
    std::vector<u8> frame = std::vector<u8>(frame_bytes);
    ControlRecord control{};
    StreamAsk ask{};
    u64 session = 0;
    u64 next = 0;
    Instant start;
    bool asking = false;
    Instant asked;
    Instant again;
};

/// A client of files.
struct FileClient {
    Request request;
    std::vector<u8> data = std::vector<u8>(200'000, 'f');
    u64 step = 0;
    bool asking = false;
};

/// Who puts a film on the shelf and takes it back, for ever.
struct Librarian {
    Request request;
    u64 film = 0;
    bool out = false;
    bool asking = false;
    u64 moves = 0;
};

class Rates {
public:
    Rates(Drive const& drive, u64 seed, Duration length)
        : drive_(drive), length_(length), random_(seed), image_(blocks_for(disk_segments)) {}
    std::string run();
    std::string report;
    u64 frames = 0;
    u64 admitted = 0;

private:
    static Options options(Drive const& drive, u32 streams) {
        Options o;
        o.frames = 1024;
        o.garbage_ring = 16384;
        o.sort_entries = 65536;
        o.media_streams = streams;
        o.media_round = drive.round;
        o.media_run = drive.run;
        o.media_reserve_percent = reserve_percent;
        o.tertiary = true;
        o.disk_model = {drive.real.rotation, drive.real.seek_min, drive.real.seek_max,
                        drive.real.bytes_per_second};
        return o;
    }
    std::string make_films();
    std::string play(Duration length, char const* phase);
    void step_to(Instant limit);
    void players_ask();
    void files_ask();
    void file_ask(FileClient& client);
    void librarian_asks();
    void recorders_ask();
    void recorder_next(Recorder& r);
    u64 brute_force();

    Drive const& drive_;
    Duration length_;
    Random random_;
    Image image_;
    BlockPool pool_;
    Memory memory_;
    std::optional<Machine> m_;
    std::optional<Client> c_;
    std::vector<u64> number_;
    std::vector<std::unique_ptr<Player>> players_;
    std::vector<std::unique_ptr<Recorder>> recorders_;
    u64 recorded_ = 0;  // frames
    std::vector<FileClient> file_clients_ = std::vector<FileClient>(file_clients);
    std::vector<u64> files_;
    Librarian librarian_;
    Shelf shelf_;
    u64 file_operations_ = 0;
    std::string problem_;
    u64 late_clients_ = 0;
    Duration worst_wait_;
};

std::string Rates::make_films() {
    format(image_, pool_);
    m_.emplace(image_, pool_, memory_, options(drive_, 8), &shelf_);
    if (!m_->mount()) return "mount";
    c_.emplace(*m_);
    for (u64 f = 0; f <= films; ++f) {  // the last one is the librarian's
        std::string const name = "film" + std::to_string(f);
        if (c_->create(name, PnodeType::Stream) != Error::None) return "create";
        if (c_->open_streams({name}) != Error::None) return "open";
        std::string data(frame_bytes, 0);
        for (u64 n = 0; n < film_frames; ++n) {
            paint(f, n, reinterpret_cast<u8*>(data.data()));
            ControlRecord const r{static_cast<i64>(n) * frame_ns, frame_bytes,
                                  n % 12 == 0 ? frame_key : 0u};
            if (c_->record(0, {r}, data) != Error::None) return "record";
            if (n % 47 == 46) m_->later(drive_.round);
        }
        if (c_->close_streams() != Error::None) return "close";
    }
    for (u32 i = 0; i < 60; ++i) {
        if (c_->create("f" + std::to_string(i)) != Error::None) return "create";
    }
    if (!m_->unmount()) return "unmount";
    return "";
}

void Rates::players_ask() {
    for (auto& player : players_) {
        Player& p = *player;
        if (p.asking && p.request.done) {
            p.asking = false;
            if (p.request.error != Error::None) {
                problem_ = "player: error " + std::to_string(static_cast<int>(p.request.error));
                return;
            }
            if (p.seeking) {
                p.seeking = false;
                p.again = m_->now;
            } else if (p.request.count == 0) {
                p.request = Request{};
                p.request.op = Op::Seek;
                p.request.pnode2 = p.session;
                p.seeking = p.asking = true;
                p.next = 0;
                p.base = 0;
                p.start = Instant::never();
                m_->store().submit(p.request);
                continue;
            } else {
                static thread_local std::vector<u8> want(frame_bytes);
                paint(p.film, p.next, want.data());
                if (p.request.count != frame_bytes ||
                    p.request.time_ns != static_cast<i64>(p.next) * frame_ns ||
                    std::memcmp(want.data(), p.frame.data(), frame_bytes) != 0) {
                    problem_ = "a player has a wrong frame";
                    return;
                }
                ++frames;
                if (p.start == Instant::never()) {
                    // The first segment may hold one frame only: the next one is there a round
                    // later.
                    p.start = p.done + drive_.round * 2;
                    p.base = p.next;
                }
                Instant const due =
                    p.start + Duration::ns(static_cast<i64>(p.next - p.base) * frame_ns);
                if (p.done > due) {
                    ++late_clients_;
                    worst_wait_ = std::max(worst_wait_, p.done - due);
                }
                ++p.next;
                p.again = due;  // it shows a frame, and asks for the one after it
            }
        }
        if (!p.asking && m_->now >= p.again) {
            p.request = Request{};
            p.request.op = Op::PlayFrame;
            p.request.pnode2 = p.session;
            p.request.buffer = p.frame.data();
            p.request.length = frame_bytes;
            p.request.context = &p;
            p.request.completed = [](Request& r) {
                Player& player_done = *static_cast<Player*>(r.context);
                player_done.done = player_done.machine->now;
            };
            p.machine = &*m_;
            p.asking = true;
            m_->store().submit(p.request);
        }
    }
}

/// What the recorder asks for next, after what was asked for is done.
void Rates::recorder_next(Recorder& r) {
    using Step = Recorder::Step;
    r.request = Request{};
    Request& q = r.request;
    switch (r.step) {
        case Step::Create:
        case Step::Delete:
            q.op = r.step == Step::Create ? Op::Create : Op::Unlink;
            q.type = PnodeType::Stream;
            q.pnode = root_directory;
            q.name = {r.name.data(), static_cast<u32>(r.name.size())};
            break;
        case Step::Open:
            q.op = Op::OpenStreams;
            q.streams = &r.ask;
            q.streams_count = 1;
            break;
        case Step::Record:
            q.op = Op::Record;
            q.pnode2 = r.session;
            paint(1000, r.next, r.frame.data());
            r.control = {static_cast<i64>(r.next) * frame_ns, frame_bytes, 0};
            q.buffer = r.frame.data();
            q.length = frame_bytes;
            q.control = &r.control;
            q.control_count = 1;
            break;
        case Step::Close:
            q.op = Op::CloseStreams;
            q.pnode2 = r.session;
            break;
    }
    r.asking = true;
    r.asked = m_->now;
    m_->store().submit(q);
}

void Rates::recorders_ask() {
    using Step = Recorder::Step;
    for (auto& recorder : recorders_) {
        Recorder& r = *recorder;
        if (r.asking && r.request.done) {
            r.asking = false;
            if (r.request.error != Error::None) {
                problem_ = "recorder: error " + std::to_string(static_cast<int>(r.request.error)) +
                           " at step " + std::to_string(static_cast<int>(r.step));
                return;
            }
            r.again = m_->now;
            switch (r.step) {
                case Step::Create:
                    r.ask = {r.request.attributes.pnode, rate};
                    r.step = Step::Open;
                    break;
                case Step::Open:
                    r.session = r.request.count;
                    r.next = 0;
                    r.start = m_->now;
                    r.step = Step::Record;
                    break;
                case Step::Record:
                    // A camera has memory for two rounds: as long as a disk may be late before it
                    // goes, less what the store's own buffers hold.
                    if (m_->now - r.asked > drive_.round * 2) {
                        ++late_clients_;
                        worst_wait_ = std::max(worst_wait_, m_->now - r.asked);
                    }
                    ++recorded_;
                    ++r.next;
                    r.again = r.start + Duration::ns(static_cast<i64>(r.next) * frame_ns);
                    if (r.next == recording_frames) r.step = Step::Close;
                    break;
                case Step::Close:
                    r.step = Step::Delete;
                    break;
                case Step::Delete:
                    r.step = Step::Create;
                    break;
            }
        }
        if (!r.asking && m_->now >= r.again) recorder_next(r);
    }
}

/// Every client of files writes, reads and shortens one after the other, one always on its way.
void Rates::files_ask() {
    for (FileClient& client : file_clients_) file_ask(client);
}

void Rates::file_ask(FileClient& f) {
    if (f.asking && !f.request.done) return;
    if (f.asking) {
        ++file_operations_;
        if (f.request.error != Error::None && f.request.error != Error::NoSpace) {
            problem_ = "files: error " + std::to_string(static_cast<int>(f.request.error));
        }
    }
    f.request = Request{};
    Request& q = f.request;
    q.pnode = files_[random_.below(files_.size())];
    q.buffer = f.data.data();
    switch (++f.step % 4) {
        case 0:
            q.op = Op::Truncate;
            q.client = 1;
            q.sequence = ++c_->sequence;
            break;
        case 1:
            q.op = Op::Read;
            q.length = f.data.size();
            break;
        case 2:
            q.op = f.step % 64 == 2 ? Op::Fsync : Op::GetAttributes;
            break;
        default:
            q.op = Op::Write;
            q.client = 1;
            q.sequence = ++c_->sequence;
            q.length = 1 + random_.below(f.data.size());
            break;
    }
    f.asking = true;
    m_->store().submit(q);
}

void Rates::librarian_asks() {
    Librarian& l = librarian_;
    if (l.asking && !l.request.done) return;
    if (l.asking) {
        ++l.moves;
        // A store that is full has no room for a film; it is tried again.
        if (l.request.error != Error::None && l.request.error != Error::NoSpace) {
            problem_ = "librarian: error " + std::to_string(static_cast<int>(l.request.error));
        }
    }
    if (!l.asking || l.request.error == Error::None) l.out = !l.out;
    l.request = Request{};
    l.request.op = l.out ? Op::Migrate : Op::Recall;
    l.request.pnode = l.film;
    l.asking = true;
    m_->store().submit(l.request);
}

void Rates::step_to(Instant limit) {
    while (m_->now < limit && problem_.empty()) {
        Instant next = m_->store().next_deadline();
        // A deadline that is past already waits for the disks.
        if (next <= m_->now) next = Instant::never();
        for (auto const& p : players_) {
            if (!p->asking && p->again < next) next = p->again;
        }
        for (auto const& r : recorders_) {
            if (!r->asking && r->again < next) next = r->again;
        }
        if (limit < next) next = limit;
        bool const robot = m_->jukebox.busy() && m_->jukebox.due() <= next;
        Instant const before = robot ? m_->jukebox.due() : next;
        if (m_->disks.busy() && m_->disks.next_completion() <= before) {
            m_->disks.step();
            if (m_->disks.now() > m_->now) m_->now = m_->disks.now();
        } else {
            if (before > m_->now) m_->now = before;
            m_->disks.set_now(m_->now);
            if (robot) m_->jukebox.step();
        }
        m_->jukebox.set_now(m_->now);
        m_->store().advance(m_->now);
        m_->store().run();
        players_ask();
        recorders_ask();
        files_ask();
        librarian_asks();
        m_->store().run();
    }
}

std::string Rates::play(Duration length, char const* phase) {
    u64 const late = m_->store().statistics().stream_late;
    u64 const late_clients = late_clients_;
    u64 const operations = file_operations_;
    u64 const cleaned = m_->store().statistics().segments_cleaned;
    step_to(m_->now + length);
    Statistics const t = m_->store().statistics();
    char text[200];
    std::snprintf(
        text, sizeof text,
        "\n  %-9s %5.0f s: %llu late segments, %llu late frames, %.1f file operations/s, "
        "%llu segments cleaned",
        phase, static_cast<double>(length.ns()) / 1e9,
        static_cast<unsigned long long>(t.stream_late - late),
        static_cast<unsigned long long>(late_clients_ - late_clients),
        static_cast<double>(file_operations_ - operations) * 1e9 / static_cast<double>(length.ns()),
        static_cast<unsigned long long>(t.segments_cleaned - cleaned));
    report += text;
    if (!problem_.empty()) return std::string(phase) + ": " + problem_;
    if (t.stream_late != late) return std::string(phase) + ": segments are late";
    if (late_clients_ != late_clients) {
        return std::string(phase) + ": frames are late, by " +
               std::to_string(worst_wait_.ns() / 1'000'000) + " ms";
    }
    if (m_->store().damage_count() > 0) return std::string(phase) + ": damage";
    return "";
}

/// Streams that the same disk sustains when nothing else is asked of it: rounds of one column for
/// each stream at places by chance, in the order of the arm, none late in a thousand rounds.
u64 Rates::brute_force() {
    u64 best = 0;
    for (u64 n = 1; n < 2000; ++n) {
        u64 head = 0;
        for (u32 r = 0; r < 200; ++r) {
            std::vector<u64> places;
            for (u64 i = 0; i < n; ++i) places.push_back(random_.below(image_.blocks_per_disk));
            std::sort(places.begin(), places.end());
            if (r % 2) std::reverse(places.begin(), places.end());
            Duration t;
            for (u64 p : places) {
                t += Disks::transfer_time(drive_.real, image_.blocks_per_disk, head, p,
                                          rows_per_segment * drive_.run,
                                          static_cast<u32>(random_.below(1000)));
                head = p + rows_per_segment * drive_.run;
            }
            if (t > drive_.round) return best;
        }
        best = n;
    }
    return best;
}

std::string Rates::run() {
    std::string problem = make_films();
    if (!problem.empty()) return problem;
    m_.emplace(image_, pool_, memory_, options(drive_, 400), &shelf_);
    if (!m_->mount()) return "mount";
    m_->disks.model = drive_.real;
    m_->disks.in_place = true;
    m_->disks.model.timed = true;
    c_.emplace(*m_);
    for (u32 i = 0; i < 60; ++i) {
        Attributes a;
        if (c_->lookup("f" + std::to_string(i), &a) != Error::None) return "lookup";
        files_.push_back(a.pnode);
    }
    Attributes shelved_film;
    if (c_->lookup("film" + std::to_string(films), &shelved_film) != Error::None) return "lookup";
    librarian_.film = shelved_film.pnode;
    for (u32 i = 0; i < drive_.recorders; ++i) {
        auto r = std::make_unique<Recorder>();
        r->name = "recording" + std::to_string(i);
        recorders_.push_back(std::move(r));
    }
    // Their sessions are admitted first; between two films others cannot take their place, since
    // no more players come then.
    step_to(m_->now + drive_.round);
    u64 fitting = 0;
    for (;;) {
        auto p = std::make_unique<Player>();
        p->film = players_.size() % films;
        p->next = random_.below(film_frames);
        Error const e = c_->open_streams({"film" + std::to_string(p->film)}, stream_play, rate,
                                         static_cast<i64>(p->next) * frame_ns, 1000, &fitting);
        if (e == Error::NoBandwidth) break;
        if (e != Error::None) return "open: " + std::to_string(static_cast<int>(e));
        p->session = c_->session;
        p->start = Instant::never();
        p->again = m_->now;
        players_.push_back(std::move(p));
    }
    admitted = players_.size() + recorders_.size();
    u64 const sustained = brute_force();
    char text[400];
    std::snprintf(
        text, sizeof text,
        "\n %s: %llu streams of 0.5 MB/s admitted (%u of them recorded), one more refused "
        "(%llu bytes/s fit), %llu by brute force (%.0f %%); rounds of %.1f s, shown after "
        "4 rounds (%.1f s) at most, buffers of %llu MiB, %u %% of a round kept for others",
        drive_.name, static_cast<unsigned long long>(admitted), drive_.recorders,
        static_cast<unsigned long long>(fitting), static_cast<unsigned long long>(sustained),
        100.0 * static_cast<double>(admitted) / static_cast<double>(sustained),
        static_cast<double>(drive_.round.ns()) / 1e9, static_cast<double>(drive_.round.ns()) * 4e-9,
        static_cast<unsigned long long>(admitted * (2 * drive_.run + 1) * 5 / 4), reserve_percent);
    report += text;
    if (admitted < drive_.streams_least || admitted * 100 < sustained * drive_.percent_least) {
        return "too few streams are admitted";
    }
    if (fitting >= rate) return "a refusal names a rate that should have been admitted";
    // The first rounds fill the buffers.
    step_to(m_->now + drive_.round * 4);
    late_clients_ = 0;
    Duration const part = length_ / 5;
    problem = play(part, "healthy");
    if (!problem.empty()) return problem;
    m_->store().fail_disk(1);
    problem = play(part, "degraded");
    if (!problem.empty()) return problem;
    for (u64 n = 0; n < image_.blocks_per_disk; ++n) image_.at(1, n) = nullptr;
    if (!m_->store().replace_disk(1, 1)) return "replace";
    Instant const rebuild = m_->now;
    while (m_->store().rebuilding() && problem.empty() && m_->now < rebuild + length_ * 4) {
        problem = play(Duration::s(60), "rebuild");
    }
    if (!problem.empty()) return problem;
    if (m_->store().rebuilding()) return "the rebuild does not end";
    problem = play(part, "rebuilt");
    if (!problem.empty()) return problem;
    m_->disks.faults.slower[3] = 50;
    problem = play(part, "slow disk");
    char end[160];
    std::snprintf(end, sizeof end,
                  "\n  %llu frames recorded; a film of 20 MB moved %llu times to the shelf or back",
                  static_cast<unsigned long long>(recorded_),
                  static_cast<unsigned long long>(librarian_.moves));
    report += end;
    return problem;
}

}  // namespace

RowResult row_rates(RowOptions const& o) {
    auto const start = std::chrono::steady_clock::now();
    static Drive const drives[] = {
        {"1994: 5400 rpm, 5 MB/s",
         {true, Duration::us(11111), Duration::ms(2), Duration::ms(18), 5'000'000},
         1,
         Duration::ms(1900),
         10,
         60,
         2},
        {"7200 rpm, 150 MB/s",
         {true, Duration::us(8333), Duration::ms(1), Duration::ms(16), 150'000'000},
         2,
         Duration::ms(3800),
         200,
         60,
         10},
    };
    RowResult result;
    result.passed = true;
    result.text = "row 7, guaranteed rates:";
    u64 const seconds = o.count ? o.count : 600;
    for (Drive const& drive : drives) {
        // The fast disk moves ten times the data in a second of the simulation.
        Rates rates(drive, o.seed,
                    Duration::s(static_cast<i64>(&drive == drives ? seconds : seconds / 5)));
        std::string const problem = rates.run();
        result.text += rates.report;
        result.count += rates.frames;
        if (!problem.empty()) {
            result.text += "\nfirst violation: " + problem;
            result.passed = false;
        }
    }
    result.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    char text[100];
    std::snprintf(text, sizeof text, "\n  %llu frames compared, %.1f s",
                  static_cast<unsigned long long>(result.count), result.seconds);
    result.text += text;
    return result;
}

}  // namespace nemesis::fs::simulator
