// Fuzz target for the messages between agents and the file server. An input is a byte of options
// and a list of records, a control byte and a length each: a message for the server or for the
// agent, a request of the agent's application, or an event (a restart of either, messages that get
// lost from now on, a power failure, time). The two are connected and work; what is fed in comes
// between. Lengths, checksum and, as the control byte says, agent, session and number are made
// right, so that a message gets past the first checks. Both must keep their invariants and go on.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "fs/agent/agent.h"
#include "fs/server/server.h"
#include "fs/simulator/machine.h"

using namespace nemesis;
using namespace nemesis::fs;

namespace {

enum Control : u8 {
    to_agent = 1,
    raw = 2,       // nothing is made right
    own = 4,       // of this session
    numbered = 8,  // the number that is due
    request = 16,  // of the application, instead of a message
    later = 32,    // time passes first
    // Of the server, which has lost its memory; with one of the others something else.
    restart = 128,
    restart_agent = restart | request,
    cut_agent = restart | raw,  // what the server sends gets lost, until the next of these
    cut_server = restart | to_agent,
    power_fails = restart | own,
    long_time = restart | numbered,  // as many seconds as the first byte says, up to 32
    hold = restart | 64,             // the disks answer nothing, until the next of these
};
enum OptionBits : u8 { with_alternative = 1, with_ups = 2 };

ServerOptions server_options(u8 bits) {
    ServerOptions o{.sessions = 3, .touched = 64};
    o.media = {.streams = 2, .ahead = 2, .batch_bytes = 72 * 1024};
    o.alternative = (bits & with_alternative) != 0;
    o.ups = (bits & with_ups) != 0;
    o.hold_up = Duration::s(10);
    o.degraded_bytes_per_s = 1 << 20;
    return o;
}
constexpr AgentOptions agent_options{.log_operations = 8,
                                     .log_bytes = 2 * message_data_max,
                                     .files = 16,
                                     .cache = {4, 8, 4},
                                     .media = {.streams = 2, .ahead = 2, .batch_bytes = 80 * 1024},
                                     .alternative_after = {}};

/// A store as it is after its first mount, to begin each input with, and memory that all share.
struct Beginning {
    std::size_t const server_bytes = Server::memory_needed(server_options(0));
    std::size_t const agent_bytes = Agent::memory_needed(agent_options);
    std::unique_ptr<u8[]> server_memory = std::make_unique<u8[]>(server_bytes);
    std::unique_ptr<u8[]> agent_memory = std::make_unique<u8[]>(agent_bytes);
    simulator::BlockPool pool;
    simulator::Memory memory;
    simulator::Image image{simulator::blocks_for(64)};
    std::size_t mark = 0;
    Beginning() {
        simulator::format(image, pool);
        simulator::Machine m(image, pool, memory);
        if (!m.mount() || !m.unmount()) std::abort();
        mark = pool.mark();
    }
};

struct System final : ServerPort, AgentPort {
    System(Beginning& b, u8 bits) : beginning(b), options(server_options(bits)), image(b.image) {
        start_server({});
        start_agent();
        pump();
    }
    void start_server(Instant now) {
        waiting.clear();
        held = false;
        server.reset();
        machine.emplace(image, beginning.pool, beginning.memory);
        machine->checks = false;  // at the end
        machine->now = now;
        machine->disks.set_now(now);
        if (!machine->mount()) std::abort();
        Arena a(beginning.server_memory.get(), beginning.server_bytes);
        server.emplace(a, machine->store(), *this, options);
        server->start(machine->now);
    }
    void start_agent() {
        Arena c(beginning.agent_memory.get(), beginning.agent_bytes);
        for (Asked& a : asked) a.going = false;
        for (Streams& a : streams) a.going = false;
        agent.emplace(c, *this, agent_options, 1, ++incarnation);
        agent->start(machine->now);
    }
    void send(u64, u8 const* bytes, u32 length) override { queue(to_agent, bytes, length); }
    void send(u8 const* bytes, u32 length) override { queue(0, bytes, length); }
    void send_to_alternative(u8 const* bytes, u32 length) override {
        Received r;
        if (!read_message(bytes, length, &r)) std::abort();
        if (r.header.kind == MessageKind::Returned) life = r.header.session;
    }
    void conflict(u64, Error) override {}
    void queue(u8 where, u8 const* bytes, u32 length) {
        Received r;
        if (!read_message(bytes, length, &r)) std::abort();  // nobody sends what nobody can read
        if (where == to_agent && r.header.kind == MessageKind::Welcome) session = r.header.session;
        if (where == 0 && r.header.kind == MessageKind::New) number = r.header.number;
        if (!lost[where]) waiting.push_back({where, std::vector<u8>(bytes, bytes + length)});
    }
    void deliver(u8 where, std::vector<u8> const& bytes) {
        // A copy of just this size, so that whoever reads on is seen.
        auto const exact = std::make_unique<u8[]>(bytes.size());
        if (!bytes.empty()) std::memcpy(exact.get(), bytes.data(), bytes.size());
        if (where == to_agent) {
            agent->receive(exact.get(), static_cast<u32>(bytes.size()), machine->now);
        } else {
            server->receive(exact.get(), static_cast<u32>(bytes.size()));
        }
        agent->check_invariants();
    }
    void pump() {
        for (u32 steps = 0; steps < 64; ++steps) {
            if (!held) machine->pump();
            server->run();
            if (waiting.empty()) break;
            auto const next = std::move(waiting.front());
            waiting.erase(waiting.begin());
            deliver(next.first, next.second);
        }
    }
    void pass(Duration d) {
        held = false;
        machine->later(d);
        server->advance(machine->now);
        agent->advance(machine->now);
        pump();
    }

    /// One request of the application, and the memory it lies in.
    struct Asked {
        AgentRequest request;
        std::string name;
        std::string name2;
        std::vector<u8> buffer = std::vector<u8>(message_data_max);
        bool going = false;
    };

    /// One request of the application about streams.
    struct Streams {
        MediaRequest request;
        MediaAsk asks[2];
        ControlRecord control[3];
        std::vector<u8> buffer = std::vector<u8>(message_data_max + 4096);
        bool going = false;
    };

    Beginning& beginning;
    ServerOptions options;
    simulator::Image image;
    std::optional<simulator::Machine> machine;
    u64 incarnation = 0;
    std::optional<Server> server;
    std::optional<Agent> agent;
    std::vector<std::pair<u8, std::vector<u8>>> waiting;
    u64 session = 0;
    u64 number = 0;
    u64 set = 4;   // of streams: the last one that was opened
    u64 life = 0;  // of the server, as the alternative one knows it
    bool lost[2] = {};
    bool held = false;
    Asked asked[3];
    Streams streams[6];
    i64 frame_time = 0;
};

/// One that opens, records, plays, seeks or closes; of a set that is open, if there is one.
void ask_streams(System& s, std::vector<u8> const& in) {
    System::Streams* free = nullptr;
    for (System::Streams& a : s.streams) {
        if (a.going && a.request.done && a.request.op == Op::OpenStreams) s.set = a.request.set;
        if (!a.going || a.request.done) free = &a;
    }
    if (!free) return;
    static constexpr Op ops[] = {Op::OpenStreams, Op::OpenStreams, Op::Record,
                                 Op::PlayFrame,   Op::Seek,        Op::CloseStreams};
    MediaRequest& r = free->request;
    r = MediaRequest{};
    r.op = ops[in[0] % std::size(ops)];
    r.flags = in[0] % std::size(ops);  // stream_record, stream_play
    r.set = s.set + (in[8] > 240 ? in[8] : 0);
    for (u32 i = 0; i < 2; ++i) free->asks[i] = {in[1 + i] % 8u, in[7] > 200 ? in[7] * 1000u : 0};
    r.streams = free->asks;
    r.streams_count = in[3] % 16 ? 1 + in[3] % 2 : in[3];
    r.stream = in[4] % 3;
    r.control = free->control;
    r.control_count = 1 + in[5] % 3;
    for (u32 i = 0; i < r.control_count; ++i) {
        u32 const bytes = in[6] > 200 ? 22'000u : in[6] * 3u;
        free->control[i] = {s.frame_time += in[7] % 7, bytes, 0};
        r.length += bytes;
    }
    if (in[9] % 8 == 7) ++r.length;
    if (r.op == Op::PlayFrame) r.length = free->buffer.size() >> in[5] % 8;
    r.buffer = free->buffer.data();
    r.time_ns = in[6] - 10;
    r.speed = (in[7] % 8 - 3) * 1000;
    if (r.op == Op::OpenStreams) r.speed = in[5] % 8 ? 1000 : r.speed;
    free->going = true;
    s.agent->submit(r, s.machine->now);
}

void ask(System& s, std::vector<u8> in) {
    if (!in.empty() && in[0] >= 200) {
        in.resize(16);
        in[0] -= 200;
        ask_streams(s, in);
        return;
    }

    System::Asked* free = nullptr;
    for (System::Asked& a : s.asked) {
        if (!a.going || a.request.done) free = &a;
    }
    if (!free) return;
    in.resize(16);
    AgentRequest& r = free->request;
    r = AgentRequest{};
    static constexpr Op ops[] = {
        Op::Create,        Op::Write,         Op::Read,          Op::Lookup,   Op::Unlink,
        Op::Rename,        Op::Link,          Op::Rmdir,         Op::Truncate, Op::Punch,
        Op::Fsync,         Op::GetAttributes, Op::ReadDirectory, Op::Symlink,  Op::ReadLink,
        Op::SetAttributes, Op::SetXattr,      Op::RemoveXattr,   Op::GetXattr, Op::ListXattr};
    r.op = ops[in[0] % std::size(ops)];
    r.file = in[1] % 8;
    r.file2 = in[2] % 8;
    free->name = std::string(1 + in[3] % 3, static_cast<char>('a' + in[3] % 4));
    free->name2 = std::string(1 + in[4] % 3, static_cast<char>('a' + in[4] % 4));
    r.name = {free->name.data(), static_cast<u32>(free->name.size())};
    r.name2 = {free->name2.data(), static_cast<u32>(free->name2.size())};
    r.type = in[5] % 3 == 0 ? PnodeType::Directory : PnodeType::File;
    if (in[5] % 7 == 5) r.type = PnodeType::Stream;
    r.mode = in[5];
    r.flags = in[8] % 32;
    r.offset = in[6] * 97u;
    r.length = in[7] * 64u;
    r.buffer = free->buffer.data();
    free->going = true;
    s.agent->submit(r, s.machine->now);
}

/// With lengths that fit each other, but for every eighth.
void message_about_streams(System& s, u8 control, Message m, std::vector<u8> const& in) {
    u32 length = static_cast<u32>(in.size() - sizeof m);
    std::vector<u8> data(message_data_max);
    std::memcpy(data.data(), in.data() + sizeof m, length);
    m.file.pnode %= 6;
    m.file.generation %= 3;
    m.file.zero %= 4;
    if (m.links % 8 == 7) {
        m.count %= 100;
    } else if (m.kind == MessageKind::Open) {
        m.count = 1 + m.count % 2;
        length = static_cast<u32>(m.count * sizeof(StreamRef));
        m.size = m.size % 2 ? 70'000 : m.size;
        for (u32 i = 0; i < m.count; ++i) {
            StreamRef r;
            std::memcpy(&r, data.data() + i * sizeof r, sizeof r);
            r.file = {first_pnode + r.file.pnode % 4, r.file.generation % 2, 0};
            std::memcpy(data.data() + i * sizeof r, &r, sizeof r);
        }
    } else if (m.kind == MessageKind::Batch) {
        bool const two = m.count % 4 == 3;  // parts
        m.count = two ? message_data_max + length : length;
        m.offset = two && m.offset % 2 ? message_data_max : 0;
        length = two && m.offset == 0 ? message_data_max : length;
        m.links %= 4;
    } else {
        length = 0;
    }
    std::vector<u8> out(message_bytes_max);
    out.resize(build_message(out.data(), m, {}, {}, data.data(), length));
    s.deliver(control & to_agent, out);
}

void message(System& s, u8 control, std::vector<u8> in) {
    if (control & raw) {
        s.deliver(control & to_agent, in);
        return;
    }
    in.resize(in.size() < sizeof(Message) ? sizeof(Message) : in.size());
    Message m;
    std::memcpy(&m, in.data(), sizeof m);
    m.magic = message_magic;
    m.version = message_version;
    m.kind = static_cast<MessageKind>(1 + static_cast<u32>(m.kind) % 31);
    if (control & own) {
        m.agent = 1 + m.agent % 3;
        m.incarnation = s.incarnation;
        bool const handed = m.kind == MessageKind::HandBack || m.kind == MessageKind::AllHanded;
        m.session = handed ? s.life : s.session;
    }
    if (control & numbered) m.number = s.number + (control >> 6 & 1);
    if (m.type > PnodeType::Dead) m.type = PnodeType::File;
    u32 const rest = static_cast<u32>(in.size() - sizeof m);
    if (m.kind >= MessageKind::Open && (control & own)) {
        if (control & numbered) m.number = s.set + (control >> 6 & 1) * media_sets_max;
        message_about_streams(s, control, m, in);
        return;
    }
    u32 const first = rest < 255 ? m.name_length % (rest + 1) : m.name_length % 256;
    u32 const second = rest - first < 255 ? m.name2_length % (rest - first + 1) : 0;
    std::vector<u8> out(message_bytes_max);
    char const* const names = reinterpret_cast<char const*>(in.data() + sizeof m);
    u32 const bytes = build_message(out.data(), m, {names, first}, {names + first, second},
                                    in.data() + sizeof m + first + second, rest - first - second);
    out.resize(bytes);
    s.deliver(control & to_agent, out);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    static Beginning beginning;
    if (size < 1) return 0;
    beginning.pool.back_to(beginning.mark);
    System s(beginning, data[0]);
    ++data;
    --size;
    u32 restarts = 0;  // each takes as long as all the rest
    for (u32 records = 0; size >= 3 && records < 32; ++records) {
        u8 const control = data[0];
        std::size_t length = data[1] | data[2] << 8;
        data += 3;
        size -= 3;
        if (length > size) length = size;
        if (control & later) s.pass(Duration::ms(300));
        std::vector<u8> const in(data, data + length);
        if (control & restart) {
            switch (control & ~later) {
                case restart_agent:
                    s.start_agent();
                    break;
                case cut_agent:
                    s.lost[1] = !s.lost[1];
                    break;
                case cut_server:
                    s.lost[0] = !s.lost[0];
                    break;
                case hold:
                    s.held = !s.held;
                    break;
                case power_fails:
                    s.server->power_failing();
                    break;
                case long_time:
                    s.pass(Duration::s(1 + (in.empty() ? 0 : in[0] % 32)));
                    break;
                default:
                    if (restarts++ < 3) s.start_server(s.machine->now);
                    break;
            }
        } else if (control & request) {
            ask(s, in);
        } else {
            message(s, control, in);
        }
        s.pump();
        data += length;
        size -= length;
    }
    // Whatever has come: time passes and nothing is hurt.
    for (u32 i = 0; i < 4; ++i) s.pass(Duration::s(3));
    s.machine->store().check_invariants();
    return 0;
}
