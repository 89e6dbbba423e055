#include "fs/tools/control.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <set>

namespace nemesis::fs::tools {
namespace {

constexpr u32 hello_magic = 0x31534650;  // "PFS1"
constexpr u32 hello_sizes = static_cast<u32>(sizeof(StoreStatus) * 31 + sizeof(Attributes));
constexpr u64 payload_max = u64{64} << 20;
constexpr u32 name_bytes_max = 65536;

enum class Message : u32 { Hello, Request, Order };

struct Header {
    Message kind;
    u32 magic;
    u64 bytes;  // of the payload
};

/// A Request as it goes over the socket; names, streams, control records and data follow.
struct Wire {
    Op op;
    PnodeType type;
    u16 mode;
    u32 flags;
    u64 pnode;
    u64 pnode2;
    u64 offset;
    u64 length;
    i64 time_ns;
    i32 speed;
    u32 uid;
    u32 gid;
    u32 name;
    u32 name2;
    u32 streams;
    u32 control;
    bool has_buffer;
    Attributes attributes;
};

struct WireReply {
    Error error;
    u64 count;
    i64 time_ns;
    Attributes attributes;
    u64 bytes;  // of data that follow
};

struct WireOrder {
    Order what;
    u32 number;
    DiskModel model;
};

bool takes_data(Op op) { return op == Op::Write || op == Op::Record; }

/// Bytes of the buffer that the operation filled.
u64 filled(Request const& r) {
    switch (r.op) {
        case Op::Read:
        case Op::ReadLink:
        case Op::ReadDirectory:
        case Op::GetXattr:
        case Op::ListXattr:
        case Op::PlayFrame:
        case Op::ReadIndex:
            return r.error == Error::None && r.count <= r.length && r.buffer ? r.count : 0;
        default:
            return 0;
    }
}

bool send_all(int fd, void const* data, u64 bytes) {
    u8 const* p = static_cast<u8 const*>(data);
    while (bytes > 0) {
        ssize_t const n = ::send(fd, p, bytes, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n;
        bytes -= static_cast<u64>(n);
    }
    return true;
}

bool receive_all(int fd, void* data, u64 bytes) {
    u8* p = static_cast<u8*>(data);
    while (bytes > 0) {
        ssize_t const n = ::recv(fd, p, bytes, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n;
        bytes -= static_cast<u64>(n);
    }
    return true;
}

bool address_of(std::string const& name, sockaddr_un* out, socklen_t* length) {
    *out = sockaddr_un{};
    out->sun_family = AF_UNIX;
    if (name.empty() || name.size() + 1 > sizeof out->sun_path) return false;
    std::memcpy(out->sun_path + 1, name.data(), name.size());  // a leading zero: abstract
    *length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    return true;
}

/// Takes one item from the payload. False: it is shorter than it says.
template <typename T>
bool take(std::vector<u8> const& payload, u64* at, u64 count, std::vector<T>* out) {
    if (count > payload_max || count * sizeof(T) > payload.size() - *at) return false;
    out->resize(count);
    if (count > 0) std::memcpy(out->data(), payload.data() + *at, count * sizeof(T));
    *at += count * sizeof(T);
    return true;
}

}  // namespace

std::string control_name(std::vector<std::string> const& paths) {
    Superblock best{};
    for (std::string const& path : paths) {
        int const fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (fd < 0) continue;
        Superblock s{};
        bool const read = ::pread(fd, &s, sizeof s, 0) == sizeof s;
        ::close(fd);
        if (read && s.magic == superblock_magic && s.generation > best.generation) best = s;
    }
    if (best.generation == 0) return "";
    std::string name = "pegasus_fs/";
    for (u8 b : best.uuid) {
        static char const* const digits = "0123456789abcdef";
        name += digits[b >> 4];
        name += digits[b & 15];
    }
    return name;
}

bool ControlServer::start() {
    sockaddr_un address;
    socklen_t length = 0;
    if (!address_of(name_, &address, &length)) return false;
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener_ < 0) return false;
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
        ::listen(listener_, 16) != 0) {
        ::close(listener_);
        listener_ = -1;
        return false;
    }
    acceptor_ = std::thread([this] { accept_all(); });
    return true;
}

void ControlServer::stop() {
    if (listener_ < 0) return;
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    ::close(listener_);
    listener_ = -1;
    for (Connection& c : connections_) c.thread.join();
    connections_.clear();
}

void ControlServer::accept_all() {
    for (;;) {
        int const fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
        if (fd < 0) return;
        ucred peer{};
        socklen_t bytes = sizeof peer;
        bool const known = ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0;
        if (!known || (peer.uid != 0 && peer.uid != ::getuid())) {
            ::close(fd);
            continue;
        }
        connections_.remove_if([](Connection& c) {
            if (c.ended) c.thread.join();
            return c.ended.load();
        });
        Connection& c = connections_.emplace_back();
        c.thread = std::thread([this, fd, &c] {
            serve(fd);
            c.ended = true;
        });
    }
}

void ControlServer::serve(int fd) {
    std::set<u64> sessions;  // of streams, opened through this connection
    std::vector<u8> payload;
    Header h{};
    while (receive_all(fd, &h, sizeof h) && h.magic == hello_magic && h.bytes <= payload_max * 2) {
        payload.resize(h.bytes);
        if (!receive_all(fd, payload.data(), h.bytes)) break;
        if (h.kind == Message::Hello) {
            if (!send_all(fd, &hello_sizes, sizeof hello_sizes)) break;
            continue;
        }
        if (h.kind == Message::Order) {
            WireOrder o;
            if (payload.size() != sizeof o) break;
            std::memcpy(&o, payload.data(), sizeof o);
            auto const status =
                std::make_unique<StoreStatus>(store_.order(o.what, o.number, o.model));
            if (!send_all(fd, status.get(), sizeof *status)) break;
            continue;
        }
        Wire w;
        if (h.kind != Message::Request || payload.size() < sizeof w) break;
        std::memcpy(&w, payload.data(), sizeof w);
        u64 at = sizeof w;
        std::vector<char> name, name2;
        std::vector<StreamAsk> streams;
        std::vector<ControlRecord> control;
        std::vector<u8> data;
        bool const sound =
            w.op <= Op::Recall && w.length <= payload_max && w.name <= name_bytes_max &&
            w.name2 <= name_bytes_max && take(payload, &at, w.name, &name) &&
            take(payload, &at, w.name2, &name2) && take(payload, &at, w.streams, &streams) &&
            take(payload, &at, w.control, &control) &&
            (!takes_data(w.op) || take(payload, &at, w.length, &data));
        // Only what ends with its connection may be asked for: nothing is held for it.
        if (!sound || w.op == Op::Hold || w.op == Op::Release) break;
        if (!takes_data(w.op)) data.resize(w.length);
        Request r;
        r.op = w.op;
        r.type = w.type;
        r.mode = w.mode;
        r.flags = w.flags;
        r.pnode = w.pnode;
        r.pnode2 = w.pnode2;
        r.offset = w.offset;
        r.length = w.length;
        r.time_ns = w.time_ns;
        r.speed = w.speed;
        r.attributes = w.attributes;
        r.who.uid = w.uid;
        r.who.gid = w.gid;
        r.name = {name.data(), w.name};
        r.name2 = {name2.data(), w.name2};
        r.streams = streams.data();
        r.streams_count = w.streams;
        r.control = control.data();
        r.control_count = w.control;
        r.buffer = w.has_buffer ? data.data() : nullptr;
        store_.call(r);
        if (r.op == Op::OpenStreams && r.error == Error::None) sessions.insert(r.count);
        if (r.op == Op::CloseStreams) sessions.erase(r.pnode2);
        WireReply const reply{r.error, r.count, r.time_ns, r.attributes, filled(r)};
        if (!send_all(fd, &reply, sizeof reply) || !send_all(fd, data.data(), reply.bytes)) break;
    }
    for (u64 s : sessions) {
        Request r = StoreAccess::request(Op::CloseStreams, 0);
        r.pnode2 = s;
        store_.call(r);
    }
    ::close(fd);
}

RemoteStore::~RemoteStore() {
    if (fd_ >= 0) ::close(fd_);
}

bool RemoteStore::connect(std::string const& name) {
    sockaddr_un address;
    socklen_t length = 0;
    if (!address_of(name, &address, &length)) return false;
    fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd_ < 0) return false;
    Header const h{Message::Hello, hello_magic, 0};
    u32 sizes = 0;
    bool const good = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
                      send_all(fd_, &h, sizeof h) && receive_all(fd_, &sizes, sizeof sizes) &&
                      sizes == hello_sizes;
    if (!good) {
        ::close(fd_);
        fd_ = -1;
    }
    return good;
}

Error RemoteStore::call(Request& r) {
    Wire const w{r.op,
                 r.type,
                 r.mode,
                 r.flags,
                 r.pnode,
                 r.pnode2,
                 r.offset,
                 r.length,
                 r.time_ns,
                 r.speed,
                 r.who.uid,
                 r.who.gid,
                 r.name.length,
                 r.name2.length,
                 r.streams_count,
                 r.control_count,
                 r.buffer != nullptr,
                 r.attributes};
    u64 const data = takes_data(r.op) ? r.length : 0;
    Header const h{Message::Request, hello_magic,
                   sizeof w + r.name.length + r.name2.length + r.streams_count * sizeof(StreamAsk) +
                       r.control_count * sizeof(ControlRecord) + data};
    WireReply reply{};
    bool const good = !gone_ && send_all(fd_, &h, sizeof h) && send_all(fd_, &w, sizeof w) &&
                      send_all(fd_, r.name.text, r.name.length) &&
                      send_all(fd_, r.name2.text, r.name2.length) &&
                      send_all(fd_, r.streams, r.streams_count * sizeof(StreamAsk)) &&
                      send_all(fd_, r.control, r.control_count * sizeof(ControlRecord)) &&
                      send_all(fd_, r.buffer, data) && receive_all(fd_, &reply, sizeof reply) &&
                      reply.bytes <= r.length && (reply.bytes == 0 || r.buffer) &&
                      receive_all(fd_, r.buffer, reply.bytes);
    if (!good) {
        gone_ = true;
        return r.error = Error::Damaged;
    }
    r.count = reply.count;
    r.time_ns = reply.time_ns;
    r.attributes = reply.attributes;
    r.done = true;
    return r.error = reply.error;
}

StoreStatus RemoteStore::order(Order what, u32 number, DiskModel model) {
    Header const h{Message::Order, hello_magic, sizeof(WireOrder)};
    WireOrder const o{what, number, model};
    auto status = std::make_unique<StoreStatus>();
    if (gone_ || !send_all(fd_, &h, sizeof h) || !send_all(fd_, &o, sizeof o) ||
        !receive_all(fd_, status.get(), sizeof *status)) {
        gone_ = true;
        *status = StoreStatus{};
    }
    status->mounted_at[sizeof status->mounted_at - 1] = 0;
    status->shelf[sizeof status->shelf - 1] = 0;
    return *status;
}

}  // namespace nemesis::fs::tools
