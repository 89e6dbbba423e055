// Row 5: whole systems. Three agents, a network, a server on five disks, and faults of each by
// schedule; what the messages said is the oracle's business (agent_oracle.h). One failure at a
// time: while something acknowledged is in one place only, that place does not fail, too.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <optional>
#include <queue>
#include <set>

#include "fs/agent/agent.h"
#include "fs/check/check.h"
#include "fs/core/crc32c.h"
#include "fs/server/alternate.h"
#include "fs/server/server.h"
#include "fs/simulator/agent_films.h"
#include "fs/simulator/agent_oracle.h"
#include "fs/simulator/rows.h"

namespace nemesis::fs::simulator {
namespace {

constexpr u32 agents = oracle_agents;
constexpr u32 steps_each = 80;
constexpr u64 segments = 160;
constexpr u32 several = ~0u;    // a file of which it is not known which one
constexpr u32 faults_each = 3;  // of network, server, disks, power, pause

struct Faults {
    u32 network = 0;
    u32 server = 0;
    u32 disks = 0;
    u32 power = 0;
    u32 pause = 0;
    u32 agent = 0;
    u32 takeover = 0;
    u32 both = 0;       // an agent while the server is gone
    u32 alternate = 0;  // the alternative server
};

class System final : public ServerPort, public AlternatePort {
public:
    System(u64 seed, BlockPool& pool, Memory& memory);
    std::string run();
    u64 steps = 0;
    u64 never_written = 0;
    u64 recalls = 0;
    u64 handed_back = 0;
    AgentStatistics cached;
    FilmCounts films;
    Faults faults;
    Image image;

private:
    struct Node final : AgentPort {  // a client's machine
        System* system = nullptr;
        u32 index = 0;
        u64 incarnation = 0;
        std::unique_ptr<u8[]> memory;
        std::optional<Agent> agent;
        i64 clock_fast = 0;  // of 1000: how much faster its clock runs
        Duration clock_ahead{};
        Instant paused_until;
        Instant next_step;
        AgentRequest request;
        AgentStep step;
        bool asked = false;
        bool relies = false;    // its acknowledged operations may be at the alternative server only
        bool forgiven = false;  // its acknowledged operations may be in the server only
        std::string buffer;
        FilmActor film;
        u32 steps = 0;
        std::vector<u32> made;                      // files, by the oracle's number
        std::map<u32, FileHandle> handle;           // by the oracle's number
        std::vector<std::pair<u64, u64>> promised;  // operation, changes until then
        void send(u8 const* bytes, u32 length) override;
        void conflict(u64 number, Error error) override;
        void send_to_alternative(u8 const* bytes, u32 length) override;
        /// What its clock says; and when it will say that.
        Instant clock(Instant t) const {
            return Instant{} + clock_ahead + (t - Instant{}) / 1000 * (1000 + clock_fast);
        }
        Instant when(Instant clock_says) const {
            if (clock_says == Instant::never()) return clock_says;
            Duration const d = clock_says - Instant{} - clock_ahead;
            return Instant{} + (d / (1000 + clock_fast) + Duration::ns(1)) * 1000;
        }
    };

    void send(u64 agent, u8 const* bytes, u32 length) override;
    void send_to_alternative(u8 const* bytes, u32 length) override;
    void send_to_agent(u64 agent, u8 const* bytes, u32 length) override;
    void send_to_server(u8 const* bytes, u32 length) override;
    void conflict(u64 agent, u64 number, Error error) override;
    /// Through the network behind the servers, which is no better.
    void carry_to(std::function<void(std::vector<u8> const&)> const& whom, u8 const* bytes,
                  u32 length);
    void start_alternate();
    void stop_alternate();
    void lose_alternate();
    void lose_both();
    void poke_alternate();
    void lose_memory(Image& image, std::vector<simulator::Event>& trace);
    void carry(u32 agent, bool to_server, u8 const* bytes, u32 length);
    void deliver(u32 agent, bool to_server, std::vector<u8> bytes);
    void at(Instant t, std::function<void()> f) { events_.push({t, ++events_made_, std::move(f)}); }
    Duration some_ms(u64 least, u64 most) {
        return Duration::us(static_cast<i64>(least * 1000 + random_.below((most - least) * 1000)));
    }
    void advance();
    void poke_server();
    void poke_agent(Node& n, bool heard);
    void next_step(Node& n);
    void step_done(Node& n);
    void is_now(std::pair<u64, u32> pair, u32 number);
    u32 found_file(Node const& n, std::pair<u64, u32> pair);
    void start_agent(Node& n);
    void stop_agent(Node& n);
    void count_cached(Node const& n);
    bool start_server();
    void stop_server(bool power);
    void take_over();
    void drop_former();
    void poke_former();
    void to_former(std::vector<u8> const& bytes);
    void plan();
    void lose_server();
    void lose_agent();
    void lose_power();
    void hurt_disk();
    void end_slowness();
    void pause();
    bool vulnerable() const;
    bool judge(bool rolled_back, char const* when);
    bool judge_films();
    bool sure() const { return now_ - slowed_ > Duration::s(8); }
    void fail(std::string const& why) {
        if (problem_.empty()) problem_ = why + " at " + std::to_string(now_.ns() / 1000) + " us";
    }
    FileHandle handle_of(Node& n, u32 number) {
        auto const it = n.handle.find(number);
        return it == n.handle.end() ? no_handle : it->second;
    }

    struct Event {
        Instant t;
        u64 order;
        std::function<void()> f;
        bool operator<(Event const& o) const { return t != o.t ? o.t < t : o.order < order; }
    };

    Random random_;
    BlockPool& pool_;
    Memory& memory_;
    bool ups_;
    u32 bad_disk_;
    Instant now_;
    std::priority_queue<Event> events_;
    u64 events_made_ = 0;
    Node node_[agents];
    std::vector<simulator::Event> trace_;
    bool shared_;  // two servers can reach the disks
    std::unique_ptr<Machine> machine_;
    std::unique_ptr<u8[]> server_memory_;
    std::unique_ptr<Server> server_;
    Instant server_paused_;
    struct {  // the server that had the disks before, and does not know yet that it has them no
              // more
        std::unique_ptr<Machine> machine;
        std::unique_ptr<u8[]> memory;
        std::unique_ptr<Server> server;
        Instant paused;  // until then it does nothing, and its commands do not reach the disks
    } former_;
    Image second_image_;  // the alternative server's own array
    std::vector<simulator::Event> second_trace_;
    Memory third_memory_;
    std::unique_ptr<u8[]> alternate_memory_;
    std::unique_ptr<Machine> second_machine_;
    std::unique_ptr<Alternate> alternate_;
    Memory second_memory_;
    Memory* store_memory_ = &memory_;
    Memory* other_memory_ = &second_memory_;
    Instant last_deposit_;
    Instant unsettled_;  // when an agent last had something to replay
    bool halting_ = false;
    Duration loss_window_;
    bool former_slow_ = false;
    Instant disk_slow_until_;
    Instant slowed_;  // when a disk or the server was slow at last
    FilmOracle film_oracle_;
    bool const with_films_;  // their rounds make all else durable sooner: half go without
    bool films_made_ = false;
    Instant partition_until_[agents];
    AgentOracle oracle_;
    u32 files_made_ = 0;
    std::map<std::pair<u64, u32>, u32> number_;  // by pnode and generation
    std::string problem_;
};

Options store_options(bool shared) {
    Options o = small_options();
    o.shared = shared;
    o.frames = 1024;
    o.garbage_ring = 8192;
    o.write_delay = Duration::s(5);
    o.media_streams = 6;
    o.media_run = 1;
    o.media_round = Duration::ms(200);
    return o;
}

AgentOptions agent_options() {
    AgentOptions o;
    o.retry = Duration::ms(50);
    o.log_operations = 48;
    o.log_bytes = 128 * 1024;
    o.files = 256;
    o.media = {.streams = 2, .ahead = 2, .batch_bytes = 80 * 1024};
    o.alternative_after = Duration::ms(500);
    return o;
}

ServerOptions server_options(bool ups) {
    ServerOptions o;
    o.sessions = agents;
    o.touched = 512;
    o.lease = Duration::s(1);
    o.absent_max = Duration::s(60);
    o.alternative = true;
    o.media = {.streams = 6, .ahead = 3, .batch_bytes = 96 * 1024};
    o.ups = ups;
    o.hold_up = Duration::s(4);
    o.degraded_bytes_per_s = 2'000'000;
    return o;
}

AlternateOptions alternate_options() {
    AlternateOptions o;
    o.agents = agents;
    o.again = Duration::ms(50);
    return o;
}

System::System(u64 seed, BlockPool& pool, Memory& memory)
    : image(blocks_for(segments)),
      random_(seed),
      pool_(pool),
      memory_(memory),
      ups_(random_.chance(2)),
      bad_disk_(static_cast<u32>(random_.below(disks))),
      shared_(random_.chance(2)),
      second_image_(blocks_for(64)),
      with_films_(seed % 2 == 0) {
    format(image, pool_, {.seed = seed});
    format(second_image_, pool_, {.seed = seed + 1});
    alternate_memory_ =
        std::make_unique_for_overwrite<u8[]>(Alternate::memory_needed(alternate_options()));
    for (u32 i = 0; i < agents; ++i) {
        node_[i].system = this;
        node_[i].index = i;
        node_[i].clock_fast = static_cast<i64>(random_.below(41)) - 20;
        node_[i].clock_ahead = some_ms(0, 10'000);
        node_[i].memory =
            std::make_unique_for_overwrite<u8[]>(Agent::memory_needed(agent_options()));
    }
    server_memory_ =
        std::make_unique_for_overwrite<u8[]>(Server::memory_needed(server_options(ups_)));
}

// --- the network ---------------------------------------------------------------------------------

void System::Node::send(u8 const* bytes, u32 length) { system->carry(index, true, bytes, length); }

void System::Node::conflict(u64 number, Error error) {
    system->fail("agent " + std::to_string(index) + ": conflict of operation " +
                 std::to_string(number & 0xFFFFFF) + ", error " +
                 std::to_string(static_cast<int>(error)));
}

void System::send(u64 agent, u8 const* bytes, u32 length) {
    if (agent == 0 || agent > agents) return fail("a message to agent " + std::to_string(agent));
    Received r;
    bool const opened = with_films_ && read_message(bytes, length, &r) &&
                        r.header.kind == MessageKind::Opened && r.header.error == 0;
    // One that has lost the disks, and does not know it yet, has nothing to record on.
    if (opened && machine_ && r.header.session >> 32 == machine_->store().mount_count()) {
        film_oracle_.said_open(r.header.session, r.header.number);
    }
    carry(static_cast<u32>(agent - 1), false, bytes, length);
}

void System::carry(u32 agent, bool to_server, u8 const* bytes, u32 length) {
    if (now_ < partition_until_[agent] || random_.chance(20)) return;
    u32 const copies = random_.chance(20) ? 2 : 1;
    for (u32 i = 0; i < copies; ++i) {
        std::vector<u8> message(bytes, bytes + length);
        if (random_.chance(100)) {
            message[random_.below(length)] ^= static_cast<u8>(1 + random_.below(255));
        }
        Duration const d = random_.chance(30) ? some_ms(20, 2000) : some_ms(0, 2);
        at(now_ + d, [this, agent, to_server, message] { deliver(agent, to_server, message); });
    }
}

void System::carry_to(std::function<void(std::vector<u8> const&)> const& whom, u8 const* bytes,
                      u32 length) {
    if (random_.chance(20)) return;
    for (u32 copies = random_.chance(20) ? 2 : 1; copies > 0; --copies) {
        std::vector<u8> message(bytes, bytes + length);
        if (random_.chance(100)) {
            message[random_.below(length)] ^= static_cast<u8>(1 + random_.below(255));
        }
        Duration const d = random_.chance(30) ? some_ms(20, 2000) : some_ms(0, 2);
        // The network is without power, too.
        at(now_ + d, [this, whom, message, power = faults.power] {
            if (power == faults.power) whom(message);
        });
    }
}

void System::Node::send_to_alternative(u8 const* bytes, u32 length) {
    system->last_deposit_ = system->now_;
    system->send_to_alternative(bytes, length);
}

void System::send_to_alternative(u8 const* bytes, u32 length) {
    carry_to(
        [this](std::vector<u8> const& m) {
            if (!alternate_) return;
            poke_alternate();
            alternate_->receive(m.data(), static_cast<u32>(m.size()));
        },
        bytes, length);
}

void System::send_to_agent(u64 agent, u8 const* bytes, u32 length) {
    if (agent == 0 || agent > agents) return fail("a message to agent " + std::to_string(agent));
    carry_to(
        [this, agent](std::vector<u8> const& m) { deliver(static_cast<u32>(agent - 1), false, m); },
        bytes, length);
}

void System::send_to_server(u8 const* bytes, u32 length) {
    carry_to(
        [this](std::vector<u8> const& m) {
            to_former(m);
            if (!server_) return;
            if (now_ < server_paused_) return;
            poke_server();
            server_->receive(m.data(), static_cast<u32>(m.size()));
        },
        bytes, length);
}

void System::conflict(u64 agent, u64 number, Error error) {
    if (agent > 0 && agent <= agents) node_[agent - 1].conflict(number, error);
}

void System::deliver(u32 agent, bool to_server, std::vector<u8> bytes) {
    Node& n = node_[agent];
    Instant const paused = to_server ? server_paused_ : n.paused_until;
    if (now_ < paused) {
        at(paused, [this, agent, to_server, bytes] { deliver(agent, to_server, bytes); });
        return;
    }
    // Whoever receives knows the time first. A server that is no more is still sent to.
    if (to_server) to_former(bytes);
    if (to_server && server_) {
        machine_->store().advance(now_);
        server_->advance(now_);
        server_->receive(bytes.data(), static_cast<u32>(bytes.size()));
        poke_server();
    } else if (!to_server && n.agent) {
        n.agent->receive(bytes.data(), static_cast<u32>(bytes.size()), n.clock(now_));
        n.film.heard(bytes.data(), static_cast<u32>(bytes.size()), film_oracle_);
        poke_agent(n, true);
    }
}

// --- the agents ----------------------------------------------------------------------------------

void System::start_agent(Node& n) {
    Arena arena(n.memory.get(), Agent::memory_needed(agent_options()));
    n.agent.emplace(arena, n, agent_options(), n.index + 1, ++n.incarnation);
    n.asked = false;
    n.handle.clear();
    n.handle[0] = root_handle;
    n.promised.clear();
    n.next_step = now_;
    n.film.reset(now_);
    n.agent->start(n.clock(now_));
}

void System::stop_agent(Node& n) {
    count_cached(n);
    n.agent.reset();
    n.film.reset(now_);
    n.asked = false;
    n.forgiven = true;
}

void System::count_cached(Node const& n) {
    if (!n.agent) return;
    AgentStatistics const& a = n.agent->statistics();
    for (u64 AgentStatistics::* what :
         {&AgentStatistics::names, &AgentStatistics::absences, &AgentStatistics::attributes,
          &AgentStatistics::data, &AgentStatistics::listings, &AgentStatistics::asked,
          &AgentStatistics::recalls, &AgentStatistics::voided}) {
        cached.*what += a.*what;
    }
}

/// `heard`: a message has come to it.
void System::poke_agent(Node& n, bool heard) {
    if (n.asked && n.request.done) step_done(n);
    if (!n.agent) return;
    if (heard) n.agent->check_invariants();
    // What was made may have another number since a replay.
    for (auto const& [number, h] : n.handle) {
        if (!heard) break;
        FileRef const ref = n.agent->ref(h);
        if (ref.pnode != 0 && number != 0) is_now({ref.pnode, ref.generation}, number);
    }
    while (!n.promised.empty() && n.promised.front().first <= n.agent->durable()) {
        oracle_.durable(n.index, n.promised.front().second);
        n.promised.erase(n.promised.begin());
    }
    if (n.agent->active()) n.forgiven = n.relies = false;
    if (with_films_ && n.agent->active()) {
        std::string const p = n.film.poke(*n.agent, n.clock(now_), now_, random_, film_oracle_);
        if (!p.empty()) fail("agent " + std::to_string(n.index) + ": " + p);
    }
    if (!n.asked && n.agent->active() && n.steps < steps_each && now_ >= n.next_step) next_step(n);
}

void System::next_step(Node& n) {
    AgentStep s;
    std::vector<u32> directories;
    std::vector<u32> files;
    for (auto const& [number, h] : n.handle) {
        (number == 0 || oracle_.is_directory(number) ? directories : files).push_back(number);
    }
    auto const directory = [&] {
        return random_.chance(2) ? 0u : directories[random_.below(directories.size())];
    };
    auto const name = [&] {
        std::string const own(1, static_cast<char>('a' + n.index));
        return (random_.chance(3) ? "s" : own) + std::to_string(random_.below(5));
    };
    u64 const what = random_.below(160);
    s.fill = static_cast<u8>('a' + random_.below(26));
    s.file = directory();
    s.name = name();
    if (what < 22) {
        s.op = Op::Create;
    } else if (what < 26) {
        s.op = Op::Create;
        s.type = PnodeType::Directory;
        s.file = 0;
        s.name = "d" + std::to_string(random_.below(3));
    } else if (what < 38) {
        s.op = Op::Unlink;
    } else if (what < 41) {
        s.op = Op::Rmdir;
        s.file = 0;
        s.name = "d" + std::to_string(random_.below(3));
    } else if (what < 50) {
        s.op = Op::Rename;
        s.file2 = directory();
        s.name2 = name();
        if (random_.chance(5)) {
            s.file = s.file2 = 0;
            s.name = "d" + std::to_string(random_.below(3));
            s.name2 = "d" + std::to_string(random_.below(3));
        }
    } else if (what < 64) {
        s.op = Op::Lookup;
        if (random_.chance(3)) {
            s.file = 0;
            s.name = "d" + std::to_string(random_.below(3));
        }
    } else if (what < 68) {
        s.op = Op::Fsync;
    } else if (what < 152 && what >= 148) {
        s.op = Op::Symlink;
        s.length = 1 + random_.below(random_.chance(8) ? 4000 : 60);
    } else if (what >= 130 && !files.empty()) {
        // Names of attributes are few, so that they meet.
        s.file = random_.chance(6) ? directory() : files[random_.below(files.size())];
        s.op = what < 136   ? Op::SetAttributes
               : what < 142 ? Op::SetXattr
               : what < 145 ? Op::RemoveXattr
               : what < 148 ? Op::ListXattr
               : what < 156 ? Op::GetXattr
                            : Op::ReadLink;
        s.name.clear();
        if (s.op != Op::SetAttributes && s.op != Op::ListXattr && s.op != Op::ReadLink) {
            s.name = "user.x" + std::to_string(random_.below(2));
        }
        s.mode = static_cast<u16>(random_.below(01000));
        if (s.op == Op::SetXattr) s.length = random_.below(random_.chance(8) ? 1500 : 40);
        if (may_be_read(s.op)) s.length = random_.chance(8) ? 0 : 8192;
    } else if (!files.empty()) {
        u32 const file = files[random_.below(files.size())];
        if (what < 72) {
            s.op = Op::Link;
            s.file2 = file;
        } else {
            s.name.clear();
            s.file = file;
            if (what >= 100 && what < 110) s.op = Op::GetAttributes;
            if (what >= 110 && what < 120) s.op = Op::ReadDirectory;
            if (s.op == Op::ReadDirectory) s.file = directory();
            if (s.op == Op::Fsync)
                s.op = what < 78 ? Op::Truncate : what < 92 ? Op::Write : Op::Read;
            s.offset = random_.below(6000);
            s.length = 1 + random_.below(random_.chance(4) ? 12'000 : 900);
            if (s.op == Op::Read) s.offset = 0;
            if (s.op == Op::Read) s.length = 30'000;
        }
    } else {
        s.op = Op::Create;
    }
    // What is read is often read again.
    bool const reads = n.steps > 0 && may_be_read(n.step.op);
    if (reads && random_.chance(3) && n.handle.contains(n.step.file)) s = n.step;
    if (makes_file(s.op)) s.made = ++files_made_;
    n.step = s;
    if (s.op == Op::ReadDirectory) s.length = 4096;
    n.buffer = yields_data(s.op) ? std::string(s.length, 0) : bytes_of(s);
    AgentRequest& r = n.request;
    r = AgentRequest{};
    r.op = s.op;
    r.file = handle_of(n, s.file);
    if (s.op == Op::Rename || s.op == Op::Link) r.file2 = handle_of(n, s.file2);
    r.name = {n.step.name.data(), static_cast<u32>(n.step.name.size())};
    r.name2 = {n.step.name2.data(), static_cast<u32>(n.step.name2.size())};
    r.type = s.type;
    r.mode = s.type == PnodeType::Directory ? 0755 : 0644;
    if (s.op == Op::SetAttributes) r.mode = s.mode;
    if (s.op == Op::SetAttributes) r.flags = set_mode;
    r.offset = s.op == Op::ReadDirectory ? 0 : s.offset;
    r.length = s.length;
    r.buffer = reinterpret_cast<u8*>(n.buffer.data());
    if (s.op != Op::Fsync) oracle_.submit(n.index, s);
    n.asked = true;
    n.agent->submit(r, n.clock(now_));
    if (r.done) step_done(n);
}

/// A file that was made again by a replay is not behind its former pair, which another may get.
void System::is_now(std::pair<u64, u32> pair, u32 number) {
    std::erase_if(number_, [&](auto const& e) { return e.second == number && e.first != pair; });
    number_[pair] = number;
}

/// The oracle's number of what a Lookup has found. A pair that is not known belongs to a file whose
/// creation has no answer: on its way, or lost with its agent; and so does one that is known for a
/// file that is no more, in a state that a crash has taken back.
u32 System::found_file(Node const& n, std::pair<u64, u32> pair) {
    std::vector<u32> const could = oracle_.could_find(n.index);
    auto const known = number_.find(pair);
    if (known != number_.end()) {
        bool const plain = std::find(could.begin(), could.end(), known->second) != could.end();
        if (plain || oracle_.exists(known->second)) return known->second;
    }
    u32 found = 0;
    for (u32 number : could) {
        bool mapped = false;
        for (auto const& [p, other] : number_) mapped = mapped || other == number;
        if (mapped) continue;
        if (found != 0 && found != number) return several;
        found = number;
    }
    return found;
}

/// Names of a listing as the oracle writes them.
std::string listed(std::string const& page) {
    std::map<std::string, bool> names;
    for (u64 at = 0; at < page.size();) {
        DirectoryItem item;
        std::memcpy(&item, page.data() + at, sizeof item);
        std::string const name = page.substr(at + sizeof item, item.name_length);
        bool const own = name != "." && name != ".." && !FilmOracle::is_film(name);
        if (own) names[name] = item.type == PnodeType::Directory;
        at += (sizeof item + item.name_length + 7) / 8 * 8;
    }
    std::string text;
    for (auto const& [name, directory] : names) text += name + (directory ? "/ " : " ");
    return text;
}

/// Names of attributes, each with a zero byte behind it, in order.
std::string sorted_names(std::string const& text) {
    std::set<std::string> names;
    for (std::size_t at = 0; at < text.size();) {
        std::size_t const end = text.find('\0', at);
        names.insert(text.substr(at, end - at + 1));
        at = end == std::string::npos ? text.size() : end + 1;
    }
    std::string sorted;
    for (auto const& name : names) sorted += name;
    return sorted;
}

void System::step_done(Node& n) {
    AgentRequest const& r = n.request;
    n.asked = false;
    ++n.steps;
    ++steps;
    n.next_step = now_ + (random_.chance(10) ? some_ms(100, 3000) : some_ms(0, 20));
    if (n.step.op == Op::Fsync) {
        if (r.error != Error::None) fail("fsync fails");
        // The last of the promises; what the agent says meanwhile is taken at once.
        if (!n.promised.empty()) oracle_.durable(n.index, n.promised.back().second);
        n.promised.clear();
        return;
    }
    AgentOutcome o;
    o.good = r.error == Error::None;
    if (o.good && (makes_file(n.step.op) || n.step.op == Op::Lookup)) {
        FileRef const ref = n.agent->ref(r.result);
        std::pair<u64, u32> const key{ref.pnode, ref.generation};
        if (makes_file(n.step.op)) {
            is_now(key, n.step.made);
            n.made.push_back(n.step.made);
            o.found = n.step.made;
        } else {
            o.found = found_file(n, key);
            o.partial = o.found == several;
            if (!o.partial) is_now(key, o.found);
        }
        if (o.partial) {
            n.agent->forget(r.result);
        } else if (auto const it = n.handle.find(o.found); it != n.handle.end()) {
            n.agent->forget(r.result);
        } else {
            n.handle[o.found] = r.result;
        }
    }
    bool const yields = yields_data(n.step.op) && n.step.op != Op::ReadDirectory;
    if (o.good && yields) o.data = n.buffer.substr(0, r.count);
    if (o.good && n.step.op == Op::ListXattr) o.data = sorted_names(o.data);
    if (o.good && yields && n.step.length == 0) o.partial = true;  // only the size is told
    if (o.good && n.step.op == Op::GetAttributes) {
        o.data = facts_text(r.type, r.mode, r.links, r.size);
    }
    if (o.good && n.step.op == Op::ReadDirectory) {
        o.data = listed(n.buffer.substr(0, r.count));
        o.partial = !r.end;
    }
    if (!oracle_.done(n.index, o)) {
        fail("agent " + std::to_string(n.index) + ", " + to_text(n.step) + ": error " +
             std::to_string(static_cast<int>(r.error)) + ", found " + std::to_string(o.found) +
             " is not explained; expected for one:\n" + oracle_.one_state());
    }
    if (may_be_new(n.step.op)) {
        n.promised.emplace_back(n.agent->acknowledged(), oracle_.changes(n.index));
    }
    // Handles of files that may be gone are kept, but not all of them, once what they mean is
    // fixed.
    while (n.handle.size() > 12 && n.promised.empty()) {
        auto it = n.handle.begin();
        std::advance(it, 1 + random_.below(n.handle.size() - 1));
        n.agent->forget(it->second);
        n.handle.erase(it);
    }
}

// --- the server ----------------------------------------------------------------------------------

bool System::start_server() {
    machine_ = std::make_unique<Machine>(image, pool_, *store_memory_, store_options(shared_));
    machine_->now = now_;
    machine_->disks.record(&trace_);
    machine_->disks.model.timed = true;
    machine_->disks.set_now(now_);
    if (!machine_->mount() || machine_->store().health() != Health::Mounted) return false;
    if (with_films_ && !films_made_ && !FilmOracle::make(*machine_)) return false;
    films_made_ = true;
    now_ = std::max(now_, machine_->now);
    Arena arena(server_memory_.get(), Server::memory_needed(server_options(ups_)));
    server_ = std::make_unique<Server>(arena, machine_->store(), *this, server_options(ups_));
    server_->start(now_);
    unsettled_ = now_;
    halting_ = false;
    return true;
}

/// The server's memory is gone; of what its disks had not flushed, some is there and some is not.
void System::stop_server(bool) {
    never_written += machine_ ? machine_->store().statistics().never_written : 0;
    recalls += server_ ? server_->recalls() : 0;
    film_oracle_.server_lost(now_, sure());
    drop_former();
    server_.reset();
    machine_.reset();
    lose_memory(image, trace_);
}

void System::lose_memory(Image& on, std::vector<simulator::Event>& trace) {
    u64 covered[disks] = {};
    for (simulator::Event const& e : trace) {
        if (e.kind == EventKind::FlushDone) covered[e.disk] = std::max(covered[e.disk], e.number);
    }
    for (std::size_t i = trace.size(); i-- > 0;) {
        simulator::Event const& e = trace[i];
        if (e.kind == EventKind::Write) on.at(e.disk, e.block) = e.before;
    }
    u64 const keep = random_.below(4);
    for (std::size_t i = 0; i < trace.size(); ++i) {
        simulator::Event const& e = trace[i];
        if (e.kind != EventKind::Write) continue;
        bool const there = i < covered[e.disk] || keep == 0 || (keep > 1 && random_.chance(2));
        if (there) on.at(e.disk, e.block) = e.data;
    }
    trace.clear();
}

void System::start_alternate() {
    second_machine_ =
        std::make_unique<Machine>(second_image_, pool_, third_memory_, store_options(false));
    second_machine_->now = now_;
    second_machine_->disks.record(&second_trace_);
    second_machine_->disks.model.timed = true;
    second_machine_->disks.set_now(now_);
    if (!second_machine_->mount()) fail("the alternative server's store cannot be mounted");
    now_ = std::max(now_, second_machine_->now);
    AlternateOptions const o = alternate_options();
    Arena arena(alternate_memory_.get(), Alternate::memory_needed(o));
    alternate_ = std::make_unique<Alternate>(arena, second_machine_->store(), *this, o);
    alternate_->start(now_);
}

void System::stop_alternate() {
    handed_back += alternate_ ? alternate_->handed_back() : 0;
    alternate_.reset();
    second_machine_.reset();
    lose_memory(second_image_, second_trace_);
}

void System::poke_alternate() {
    if (!alternate_) return;
    Machine& m = *second_machine_;
    while (m.disks.busy() && m.disks.next_completion() <= now_) m.disks.step();
    m.disks.set_now(now_);
    m.now = now_;
    m.store().advance(now_);
    alternate_->advance(now_);
}

void System::poke_server() {
    if (!server_ || now_ < server_paused_) return;
    machine_->store().advance(now_);
    server_->advance(now_);
    if (machine_->store().health() == Health::ReadOnly) fail("the store is read-only");
}

/// Another server mounts the disks, and the one before goes on later as if nothing had happened:
/// with its commands on their way, its memory and its sessions.
void System::take_over() {
    if (!shared_) return;
    if (vulnerable() || former_.server || now_ < server_paused_) {
        at(now_ + some_ms(50, 500), [this] { take_over(); });
        return;
    }
    ++faults.takeover;
    film_oracle_.server_lost(now_, sure());
    former_slow_ = !sure();
    slowed_ = now_;  // the disks that are taken over have two masters for a while
    former_.machine = std::move(machine_);
    former_.server = std::move(server_);
    former_.memory = std::move(server_memory_);
    former_.paused = now_ + (random_.chance(4) ? Duration::ns(0) : some_ms(0, 4000));
    never_written += former_.machine->store().statistics().never_written;
    std::swap(store_memory_, other_memory_);
    server_memory_ =
        std::make_unique_for_overwrite<u8[]>(Server::memory_needed(server_options(ups_)));
    if (!start_server()) fail("the disks cannot be taken over");
    at(std::max(now_, former_.paused) + some_ms(100, 5000), [this] {
        // It asks the disks each eighth of a lease.
        poke_former();
        // Behind what it has asked of its disks before, which films make much; meanwhile it is
        // silent.
        bool const slow = former_.server && now_ - slowed_ < Duration::s(8) && former_slow_;
        if (former_.server && !slow && now_ - former_.paused > Duration::s(3) &&
            !former_.server->fenced()) {
            fail("a server does not notice that it has no disks any more");
        }
        drop_former();
    });
}

void System::drop_former() {
    recalls += former_.server ? former_.server->recalls() : 0;
    former_.server.reset();
    former_.machine.reset();
}

void System::poke_former() {
    if (!former_.server || now_ < former_.paused) return;
    Machine& m = *former_.machine;
    while (m.disks.busy() && m.disks.next_completion() <= now_) m.disks.step();
    m.disks.set_now(now_);
    m.now = now_;
    m.store().advance(now_);
    former_.server->advance(now_);
}

/// The network does not know which of the two is meant.
void System::to_former(std::vector<u8> const& bytes) {
    if (!former_.server) return;
    if (now_ < former_.paused) {
        at(former_.paused, [this, bytes] { to_former(bytes); });
        return;
    }
    poke_former();
    former_.server->receive(bytes.data(), static_cast<u32>(bytes.size()));
}

// --- faults --------------------------------------------------------------------------------------

/// Something acknowledged may be in one place only.
bool System::vulnerable() const {
    if (!server_ || halting_ || server_->grace()) return true;
    for (Node const& n : node_) {
        if (!n.agent || n.forgiven || !n.agent->active()) return true;
    }
    return false;
}

void System::lose_server() {
    if (vulnerable()) {
        at(now_ + some_ms(50, 500), [this] { lose_server(); });
        return;
    }
    ++faults.server;
    stop_server(false);
    if (alternate_ && random_.chance(2)) at(now_ + some_ms(400, 2000), [this] { lose_both(); });
    at(now_ + some_ms(10, random_.chance(2) ? 2500 : 6000), [this] {
        if (!start_server()) fail("the store cannot be mounted");
        if (problem_.empty()) judge_films();
    });
}

void System::lose_agent() {
    if (vulnerable()) {
        at(now_ + some_ms(50, 500), [this] { lose_agent(); });
        return;
    }
    ++faults.agent;
    Node& n = node_[random_.below(agents)];
    stop_agent(n);
    at(now_ + some_ms(10, 2500), [this, &n] { start_agent(n); });
}

/// While the server is gone, an agent whose operations are all at the alternative one.
void System::lose_both() {
    if (server_ || !alternate_) return;
    Node* found = nullptr;
    for (Node& n : node_) {
        if (!n.agent || n.forgiven) return;
        bool const only = n.agent->durable() < n.agent->acknowledged();
        if (only && n.agent->all_deposited()) found = &n;
    }
    if (!found) return;
    ++faults.both;
    Node& n = *found;
    stop_agent(n);
    n.relies = true;
    // What it has made may have other numbers when it is handed back, and nobody is told.
    std::erase_if(number_, [&](auto const& e) {
        return std::find(n.made.begin(), n.made.end(), e.second) != n.made.end();
    });
    at(now_ + some_ms(10, 2500), [this, &n] { start_agent(n); });
}

void System::lose_alternate() {
    bool needed = !alternate_;
    for (Node const& n : node_) needed = needed || n.relies;
    if (needed) {
        at(now_ + some_ms(50, 500), [this] { lose_alternate(); });
        return;
    }
    ++faults.alternate;
    stop_alternate();
    at(now_ + some_ms(10, 1500), [this] { start_alternate(); });
}

void System::lose_power() {
    // What was replayed may have been executed in another order than before: it has to be on disk.
    bool const replayed = !ups_ && now_ - unsettled_ < Duration::s(8);
    // What the alternative server has would come back after it, more than is promised and in an
    // order that is not the oracle's.
    bool const ready = alternate_ && alternate_->ready();
    bool comes_back = !ready || now_ - last_deposit_ < Duration::s(3);
    for (Node const& n : node_) {
        bool const there = ready && n.agent && alternate_->newest(n.index + 1) > n.agent->durable();
        comes_back = comes_back || there;
    }
    if (vulnerable() || replayed || comes_back) {
        at(now_ + some_ms(50, 500), [this] { lose_power(); });
        return;
    }
    ++faults.power;
    film_oracle_.server_lost(now_, sure());
    for (Node& n : node_) stop_agent(n);
    drop_former();
    if (alternate_) {
        stop_alternate();
        at(now_ + some_ms(10, 1500), [this] { start_alternate(); });
    }
    if (ups_) {
        server_paused_ = now_;
        server_->power_failing();
        halting_ = true;
        Instant const end = now_ + server_options(true).hold_up;
        while (!server_->halted() && now_ <= end) {
            if (!machine_->disks.busy()) break;
            machine_->disks.step();
            now_ = std::max(now_, machine_->disks.now());
            end_slowness();  // no other event is looked at meanwhile
            machine_->store().advance(now_);
            machine_->store().run();
        }
        if (!server_->halted()) fail("the UPS does not last");
    }
    stop_server(true);
    now_ = now_ + some_ms(10, 1000);
    if (!start_server()) {
        fail("the store cannot be mounted after a power failure");
        return;
    }
    if (!judge_films() || !judge(!ups_, "after a power failure")) return;
    // Nobody has a handle any more, and what was taken back may have given its numbers to others.
    number_.clear();
    Client c(*machine_, 0);
    for (auto const& [path, number] : oracle_.judged_paths()) {
        Attributes a;
        if (c.lookup(path, &a) != Error::None) fail("what was read cannot be found");
        if (number != 0) number_[{a.pnode, a.generation}] = number;
    }
    now_ = std::max(now_, machine_->now);
    for (Node& n : node_) {
        n.forgiven = false;
        start_agent(n);
    }
}

void System::hurt_disk() {
    if (!machine_ || halting_) {
        at(now_ + some_ms(50, 500), [this] { hurt_disk(); });
        return;
    }
    ++faults.disks;
    FaultPlan& f = machine_->disks.faults;
    u64 const n = segments_start + random_.below(12 * rows_per_segment);
    switch (random_.below(4)) {
        case 0:
            f.latent.insert(u64{bad_disk_} << 48 | n);
            break;
        case 1: {
            u8 const* const old = image.at(bad_disk_, n);
            u8* const b = pool_.take();
            if (old) std::memcpy(b, old, block_bytes);
            if (!old) std::memset(b, 0, block_bytes);
            b[random_.below(block_bytes)] ^= 0x40;
            image.at(bad_disk_, n) = b;
            break;
        }
        case 2:
            f.slower[bad_disk_] = 40;
            slowed_ = disk_slow_until_ = now_ + Duration::s(2);
            at(disk_slow_until_, [this] { end_slowness(); });
            break;
        default:
            f.lose_write[u64{bad_disk_} << 48 |
                         (machine_->disks.block_writes[bad_disk_] + random_.below(20))] = 1;
            break;
    }
}

/// The disk is as fast as the others again, when its time has come.
void System::end_slowness() {
    if (now_ < disk_slow_until_) return;
    if (machine_) machine_->disks.faults.slower[bad_disk_] = 1;
    if (former_.machine) former_.machine->disks.faults.slower[bad_disk_] = 1;
}

void System::pause() {
    ++faults.pause;
    Instant const end = now_ + some_ms(50, 4000);
    if (random_.chance(agents + 1)) {
        server_paused_ = slowed_ = end;
        at(end, [this] { poke_server(); });
    } else {
        Node& n = node_[random_.below(agents)];
        n.paused_until = end;
    }
}

void System::plan() {
    auto const some = [&](std::function<void()> const& f) {
        for (u32 i = 0; i < faults_each; ++i) at(now_ + some_ms(500, 30'000), f);
    };
    some([this] { lose_server(); });
    some([this] { lose_agent(); });
    some([this] { lose_power(); });
    some([this] { hurt_disk(); });
    some([this] { pause(); });
    some([this] { take_over(); });
    some([this] { lose_alternate(); });
    some([this] {
        ++faults.network;
        partition_until_[random_.below(agents)] = now_ + some_ms(50, 4000);
    });
}

// --- the run -------------------------------------------------------------------------------------

/// Films have an oracle of their own.
std::string without_films(std::string const& dump) {
    std::string rest;
    for (std::size_t at = 0; at < dump.size();) {
        std::size_t const end = std::min(dump.find('\n', at), dump.size() - 1) + 1;
        std::string const line = dump.substr(at, end - at);
        at = end;
        if (!FilmOracle::is_film(line)) rest += line;
    }
    return rest;
}

bool System::judge_films() {
    std::string const p = film_oracle_.judge(*machine_);
    now_ = std::max(now_, machine_->now);
    if (!p.empty()) fail(p);
    return p.empty();
}

bool System::judge(bool rolled_back, char const* when) {
    Client c(*machine_, 0);
    std::string text;
    if (c.dump(&text) != Error::None) {
        fail(std::string("the store cannot be read ") + when);
        return false;
    }
    now_ = std::max(now_, machine_->now);
    text = without_films(text);
    if (!oracle_.judge(text, rolled_back)) {
        fail(std::string(ups_ ? "UPS: " : "no UPS: ") + "the store is not what the messages say " +
             when + ":\n" + text + "expected for one:\n" + oracle_.one_state());
        return false;
    }
    return true;
}

/// To the next thing that happens.
void System::advance() {
    Instant next = events_.empty() ? Instant::never() : events_.top().t;
    bool const running = server_ && now_ >= server_paused_;
    if (running) {
        next = std::min(next, std::max(machine_->store().next_deadline(), now_ + Duration::ms(1)));
        next = std::min(next, std::max(server_->next_deadline(), now_ + Duration::ms(1)));
        if (machine_->disks.busy()) next = std::min(next, machine_->disks.next_completion());
    }
    if (former_.server) {
        Instant t = std::max(former_.server->next_deadline(), now_ + Duration::ms(1));
        if (former_.machine->disks.busy()) {
            t = std::min(t, former_.machine->disks.next_completion());
        }
        next = std::min(next, std::max(t, former_.paused));
    }
    if (alternate_) {
        next = std::min(next, std::max(alternate_->next_deadline(), now_ + Duration::ms(1)));
        next = std::min(next,
                        std::max(second_machine_->store().next_deadline(), now_ + Duration::ms(1)));
        if (second_machine_->disks.busy()) {
            next = std::min(next, second_machine_->disks.next_completion());
        }
    }
    for (Node& n : node_) {
        if (!n.agent) continue;
        Instant t = n.when(n.agent->next_deadline());
        if (!n.asked && n.agent->active() && n.steps < steps_each) t = std::min(t, n.next_step);
        if (with_films_ && n.agent->active()) t = std::min(t, n.film.next());
        t = std::max(t, std::max(n.paused_until, now_ + Duration::us(10)));
        next = std::min(next, t);
    }
    now_ = std::max(now_, next);
    if (vulnerable()) unsettled_ = now_;
    if (!events_.empty() && events_.top().t <= now_) {
        auto const f = events_.top().f;
        events_.pop();
        f();
    }
    if (server_ && now_ >= server_paused_) {
        while (server_ && machine_->disks.busy() && machine_->disks.next_completion() <= now_) {
            machine_->disks.step();
        }
        machine_->disks.set_now(now_);
        machine_->now = now_;
        poke_server();
    }
    poke_former();
    poke_alternate();
    for (Node& n : node_) {
        if (!n.agent || now_ < n.paused_until) continue;
        n.agent->advance(n.clock(now_));
        poke_agent(n, false);
    }
}

std::string System::run() {
    start_alternate();
    if (!start_server()) return "the first mount";
    for (Node& n : node_) start_agent(n);
    plan();
    auto const over = [&] {
        bool all = true;
        for (Node const& n : node_) all = all && n.steps >= steps_each && !n.asked;
        Faults const& f = faults;
        return all && f.network >= 3 && f.server >= 3 && f.disks >= 3 && f.power >= 3 &&
               f.pause >= 3 && f.agent >= 3 && (f.takeover >= 3 || !shared_) && !vulnerable();
    };
    // Then the films that are under way end, too.
    Instant stopped{};
    auto const films_end = [&] {
        bool idle = true;
        for (Node& n : node_) {
            n.film.stop();
            idle = idle && n.film.idle();
        }
        if (stopped == Instant{}) stopped = now_;
        if (now_ - stopped > Duration::s(100)) fail("a film does not come to its end");
        return idle;
    };
    for (u64 i = 0; problem_.empty() && !(over() && films_end()); ++i) {
        advance();
        if (i > 3'000'000 || now_ > Instant{} + Duration::s(1200))
            fail("it does not come to its end");
    }
    if (problem_.empty()) {
        for (Node& n : node_) {
            if (now_ < n.paused_until) now_ = n.paused_until;
        }
        if (now_ < server_paused_) now_ = server_paused_;
        drop_former();
        stop_alternate();
        machine_->now = now_;
        machine_->disks.set_now(now_);
        machine_->pump();
        judge(false, "at the end");
        judge_films();
        never_written += machine_->store().statistics().never_written;
        recalls += server_->recalls();
        for (Node const& n : node_) count_cached(n);
        for (Node const& n : node_) {
            films.recorded += n.film.counts.recorded;
            films.cut += n.film.counts.cut;
            films.opened += n.film.counts.opened;
            films.played += n.film.counts.played;
            films.lost += n.film.counts.lost;
        }
        // What the bad disk has wrong is mended, for the independent checker.
        machine_->disks.faults = {};
        if (!machine_->scrub()) fail("the scrub does not end");
        if (!machine_->unmount()) fail("the unmount does not end");
    }
    return problem_;
}

}  // namespace

RowResult row_agents(RowOptions const& o) {
    auto const start = std::chrono::steady_clock::now();
    RowResult r;
    Memory memory;
    BlockPool pool;
    u64 const count = o.count ? o.count : 1000;
    u64 steps = 0;
    u64 checked = 0;
    Faults sum;
    AgentStatistics cached;
    FilmCounts films;
    u64 recalls = 0;
    u64 handed_back = 0;
    r.passed = true;
    std::string violation;
    for (; r.count < count && r.passed; ++r.count) {
        std::size_t const mark = pool.mark();
        System system(o.seed + r.count, pool, memory);
        std::string problem = system.run();
        if (problem.empty() && r.count % 100 == 0) {
            ++checked;
            check::Report const report = check::run(
                [&](u32 disk, u64 block, u8* out) {
                    u8 const* data = system.image.at(disk, block);
                    for (u32 i = 0; i < block_bytes; ++i) out[i] = data ? data[i] : 0;
                    return true;
                },
                system.image.blocks_per_disk);
            if (!report.clean) problem = "check: " + report.problems[0];
        }
        pool.back_to(mark);
        steps += system.steps;
        sum.network += system.faults.network;
        sum.server += system.faults.server;
        sum.disks += system.faults.disks;
        sum.power += system.faults.power;
        sum.pause += system.faults.pause;
        sum.agent += system.faults.agent;
        sum.takeover += system.faults.takeover;
        recalls += system.recalls;
        handed_back += system.handed_back;
        sum.both += system.faults.both;
        sum.alternate += system.faults.alternate;
        cached.names += system.cached.names;
        cached.absences += system.cached.absences;
        cached.attributes += system.cached.attributes;
        cached.data += system.cached.data;
        cached.listings += system.cached.listings;
        cached.asked += system.cached.asked;
        cached.voided += system.cached.voided;
        films.recorded += system.films.recorded;
        films.cut += system.films.cut;
        films.opened += system.films.opened;
        films.played += system.films.played;
        films.lost += system.films.lost;
        if (!problem.empty()) {
            r.passed = false;
            violation =
                "\nfirst violation: seed " + std::to_string(o.seed + r.count) + ": " + problem;
        }
    }
    r.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    // A proof of caches without an answer from one is none; ten schedules have some of each.
    bool const all_kinds = cached.names > 0 && cached.absences > 0 && cached.attributes > 0 &&
                           cached.data > 0 && cached.listings > 0 && cached.voided > 0 &&
                           recalls > 0;
    if (r.passed && r.count >= 10 && !all_kinds) {
        r.passed = false;
        violation = "\nfirst violation: something was never answered from a cache";
    }
    if (r.passed && r.count >= 100 && handed_back == 0) {
        r.passed = false;
        violation = "\nfirst violation: the alternative server has never handed anything back";
    }
    bool const all_films =
        films.recorded > 0 && films.cut > 0 && films.played > 0 && films.lost > 0;
    if (r.passed && r.count >= 100 && !all_films) {
        r.passed = false;
        violation = "\nfirst violation: something was never done with films";
    }
    char text[1000];
    std::snprintf(
        text, sizeof text,
        "row 5, whole systems: %llu schedules of %u agents, %llu operations, faults: %u of "
        "network, %u of server, %u of agents, %u of disks, %u of power, %u pauses, %u of disks "
        "taken over, %llu "
        "checked, %.1f s, %.1f/s\n  of caches: %llu names, %llu absences, %llu attributes, %llu "
        "data and %llu listings answered, %llu asked for; %llu recalls, %llu leases ended\n"
        "  of the alternative server: lost %u times; %u agents lost while the server was gone, "
        "%llu operations handed back\n"
        "  of films: %llu recorded, %llu cut off, %llu opened to be played, of these %llu lost, "
        "%llu "
        "frames played",
        static_cast<unsigned long long>(r.count), agents, static_cast<unsigned long long>(steps),
        sum.network, sum.server, sum.agent, sum.disks, sum.power, sum.pause, sum.takeover,
        static_cast<unsigned long long>(checked), r.seconds,
        static_cast<double>(r.count) / r.seconds, static_cast<unsigned long long>(cached.names),
        static_cast<unsigned long long>(cached.absences),
        static_cast<unsigned long long>(cached.attributes),
        static_cast<unsigned long long>(cached.data),
        static_cast<unsigned long long>(cached.listings),
        static_cast<unsigned long long>(cached.asked), static_cast<unsigned long long>(recalls),
        static_cast<unsigned long long>(cached.voided), sum.alternate, sum.both,
        static_cast<unsigned long long>(handed_back),
        static_cast<unsigned long long>(films.recorded), static_cast<unsigned long long>(films.cut),
        static_cast<unsigned long long>(films.opened), static_cast<unsigned long long>(films.lost),
        static_cast<unsigned long long>(films.played));
    r.text = text + violation;
    return r;
}

}  // namespace nemesis::fs::simulator
