#include "tests/simulator/remote_world.h"

#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "tests/simulator/network.h"

namespace nemesis::simulation {
namespace {

using remote::Address;
using remote::CallToken;
using remote::Incoming;
using remote::Node;
using remote::PeerId;
using remote::Status;

constexpr Duration long_deadline = Duration::s(30);

enum Operation : std::uint16_t { Echo = 1, Make = 2, CallBack = 3, Never = 4 };

/// The bytes that belong to a token: both sides can tell them without asking.
Bytes bytes_of(std::uint64_t token, std::size_t size, std::uint64_t salt) {
    Bytes bytes(size);
    SplitMix mix(token * 3 + salt);
    std::size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        std::uint64_t const word = mix.next();
        std::memcpy(bytes.data() + at, &word, 8);
    }
    for (; at < size; at++) bytes[at] = static_cast<std::byte>(token + at);
    return bytes;
}

struct RequestHead {
    std::uint64_t token;
    std::uint32_t reply_bytes;
    std::uint32_t object;  ///< CallBack: the caller's
};

/// A call as its maker knows it.
struct Call {
    int from = 0, life = 0, to = 0;
    std::uint16_t operation = 0;
    std::uint32_t reply_bytes = 0;
    Instant deadline;
    bool must_succeed = false, announcement = false;
    bool ended = false, was_not_made = false, maker_died = false;
    int executed = 0;
};

class World;

/// One node, and what its user holds and has made.
struct Machine final : NetworkNode {
    World* world = nullptr;
    struct Held {
        PeerId peer;
        std::uint32_t object;
        std::uint64_t owner_tag;
    };
    std::vector<Held> held;  ///< handles of others' objects
    std::map<std::uint64_t, std::uint32_t>
        made;  ///< own objects by tag, while somebody may hold them

    void on_request(Incoming const& request) override;
    void on_announcement(Incoming const& announcement) override;
    void on_reply(std::uint64_t cookie, Status status, std::span<std::byte const> bytes) override;
    void on_cancelled(CallToken) override {}
    void on_unreferenced(std::uint32_t object, std::uint64_t tag) override;
    void on_peer_lost(PeerId peer) override {
        std::erase_if(held, [&](Held const& h) { return h.peer == peer; });
    }
};

class World final : public Network {
public:
    World(std::uint64_t seed, WorldOptions const& options) : Network(seed, options) {
        for (int i = 0; i < nodes; i++) {
            machines_[i].world = this;
            machines_[i].number = i;
            boot(machines_[i]);
        }
    }

    // ---- what users do ----

    void begin_call(int from) {
        if (now_ - Instant() > activity) return;
        Machine& m = machines_[from];
        int const to = (from + 1 + static_cast<int>(random_.below(nodes - 1))) % nodes;
        auto const peer = m.node->connect(Address{static_cast<std::uint64_t>(to)}, now_);
        if (!peer) return;
        Call call;
        call.from = from;
        call.life = m.life;
        call.to = to;
        std::uint64_t const kind = random_.below(20);
        call.operation = kind < 12 ? Echo : kind < 15 ? Make : kind < 18 ? CallBack : Never;
        call.announcement = kind == 0;
        bool const generous = random_.below(2) == 0 && call.operation != Never;
        Duration const allowed =
            generous ? long_deadline : Duration::us(200) + some(Duration::ms(1500));
        call.deadline = now_ + allowed;
        call.must_succeed = calm_ && generous && !call.announcement;
        call.reply_bytes = some_size();
        std::uint64_t const token = calls_.size() + 1;
        Bytes message = bytes_of(token, sizeof(RequestHead) + some_size(), 1);
        if (call.announcement) message.resize(std::min<std::size_t>(message.size(), 1000));
        RequestHead head{token, call.reply_bytes, 0};
        remote::CallOptions call_options{.object = root_object,
                                         .operation = call.operation,
                                         .deadline = call.deadline,
                                         .cookie = token};
        std::uint32_t given = 0;
        if (call.operation == CallBack) {
            auto const object = export_one(m);
            if (!object) return;
            given = head.object = *object;
            call_options.gives = {&given, 1};
        } else if (!m.held.empty() && random_.below(3) == 0) {
            auto const& held = m.held[random_.below(m.held.size())];
            if (held.peer == *peer) call_options.object = held.object;
            call.must_succeed = false;
        }
        std::memcpy(message.data(), &head, sizeof head);
        calls_.push_back(call);
        ++report_.calls;
        trace("node %d calls %d, token %llu, operation %d, %zu bytes", from, to,
              static_cast<unsigned long long>(token), call.operation, message.size());
        Result<void, Status> begun;
        if (call.announcement) {
            ++report_.announcements;
            begun = m.node->announce(*peer, call_options, message, now_);
            calls_[token - 1].ended = true;
        } else {
            begun = m.node->call(*peer, call_options, message, now_);
        }
        if (!begun) {
            ++report_.not_made;
            calls_[token - 1].ended = true;
            calls_[token - 1].was_not_made = true;
            // An object nobody was given: its owner takes it away.
            if (given != 0) forget(m, given);
        } else if (random_.below(15) == 0 && !call.announcement) {
            calls_[token - 1].must_succeed = false;
            int const life = m.life;
            PeerId const id = *peer;
            at(now_ + some(Duration::ms(100)), [this, from, life, id, token] {
                if (machines_[from].life == life) machines_[from].node->cancel(id, token, now_);
            });
        }
        check(m);
    }

    Result<std::uint32_t, Status> export_one(Machine& m) {
        std::uint64_t const tag = ++tags_;
        auto const object = m.node->export_object(tag, hash);
        if (object) {
            m.made[tag] = *object;
            ++report_.handles;
        }
        return object;
    }

    void forget(Machine& m, std::uint32_t object) {
        m.node->remove_object(object);
        std::erase_if(m.made, [&](auto const& pair) { return pair.second == object; });
    }

    void execute(Machine& m, Incoming const& request, bool announcement) {
        RequestHead head;
        if (request.bytes.size() < sizeof head) return wrong("a request without its head");
        std::memcpy(&head, request.bytes.data(), sizeof head);
        if (head.token == 0 || head.token > calls_.size()) return wrong("a request nobody made");
        Call& call = calls_[head.token - 1];
        Bytes expected = bytes_of(head.token, request.bytes.size(), 1);
        std::memcpy(expected.data(), &head, sizeof head);
        if (std::memcmp(expected.data(), request.bytes.data(), expected.size()) != 0) {
            return wrong("a request with bytes of another");
        }
        trace("node %d executes token %llu", m.number, static_cast<unsigned long long>(head.token));
        if (call.to != m.number || call.announcement != announcement ||
            call.operation != request.operation) {
            return wrong("a request at the wrong place");
        }
        if (call.was_not_made) return wrong("a request executed that was said not to be made");
        if (++call.executed > 1) return wrong("a request executed twice");
        ++report_.executed;
        if (announcement) return;
        CallToken const token = request.token;
        if (call.operation == CallBack) {
            // The server keeps the handle for a while, calls through it, and drops it.
            if (m.node->import(token.peer, head.object, now_)) {
                m.held.push_back({token.peer, head.object, 0});
                drop_later(m, token.peer, head.object);
            }
        }
        if (call.operation == Never) return;
        std::uint64_t const number = head.token;
        if (random_.below(2) == 0) {
            answer(m.number, m.life, token, number);
        } else {
            int const which = m.number, life = m.life;
            at(now_ + some(Duration::ms(200)),
               [this, which, life, token, number] { answer(which, life, token, number); });
        }
    }

    void answer(int which, int life, CallToken token, std::uint64_t number) {
        Machine& m = machines_[which];
        if (m.life != life) return;
        Call const& call = calls_[number - 1];
        Bytes reply = bytes_of(number, call.reply_bytes + 8, 2);
        std::uint32_t given = 0;
        if (call.operation == Make) {
            auto const object = export_one(m);
            if (!object) {
                static_cast<void>(m.node->reply(token, Status::Refused, {}, {}, now_));
                return;
            }
            given = *object;
            std::memcpy(reply.data(), &given, sizeof given);
        }
        std::span<std::uint32_t const> const gives(&given, given != 0 ? 1 : 0);
        auto const replied = m.node->reply(token, Status{64}, reply, gives, now_);
        // A caller that no longer waits is given nothing.
        if (given != 0 && !replied && replied.error() == Status::Cancelled) forget(m, given);
        check(m);
    }

    void ended(Machine& m, std::uint64_t token, Status status, std::span<std::byte const> bytes) {
        if (token == 0 || token > calls_.size()) return wrong("an answer to nothing");
        Call& call = calls_[token - 1];
        trace("node %d: token %llu ends: %s", m.number, static_cast<unsigned long long>(token),
              std::string(text(status)).c_str());
        if (call.from != m.number || call.life != m.life) return wrong("an answer to another");
        if (call.ended) return wrong("a call that ends twice");
        call.ended = true;
        if (now_ > call.deadline) return wrong("a call that ends after its deadline");
        bool const success = status == Status{64};
        if (success) {
            ++report_.succeeded;
            if (call.executed != 1) return wrong("success without execution");
            Bytes expected = bytes_of(token, call.reply_bytes + 8, 2);
            if (bytes.size() != expected.size()) return wrong("a reply of the wrong size");
            std::size_t const skip = call.operation == Make ? sizeof(std::uint32_t) : 0;
            if (std::memcmp(expected.data() + skip, bytes.data() + skip, bytes.size() - skip) !=
                0) {
                return wrong("a reply with bytes of another");
            }
            if (call.operation == Make) {
                std::uint32_t object = 0;
                std::memcpy(&object, bytes.data(), sizeof object);
                auto const peer =
                    m.node->connect(Address{static_cast<std::uint64_t>(call.to)}, now_);
                if (peer && m.node->import(*peer, object, now_)) {
                    Machine const& owner = machines_[call.to];
                    std::uint64_t tag = 0;
                    for (auto const& [t, o] : owner.made) {
                        if (o == object) tag = t;
                    }
                    if (calm_ && tag == 0) return wrong("a handle of an object that is gone");
                    m.held.push_back({*peer, object, tag});
                    drop_later(m, *peer, object);
                }
            }
        } else if (status == Status::Unreachable || status == Status::NoSuchObject ||
                   status == Status::Busy || status == Status::TooLong) {
            ++report_.not_made;
            call.was_not_made = true;
            if (call.executed != 0) return wrong("said not to be made, but it was");
        } else {
            ++report_.unknown;
        }
        bool const excused = status == Status::NoMemory || status == Status::Refused;
        if (call.must_succeed && !success && !excused) {
            wrong("a call in a calm network ends with: " + std::string(text(status)));
        }
    }

    void unreferenced(Machine& m, std::uint32_t object, std::uint64_t tag) {
        trace("node %d: object %x unreferenced", m.number, object);
        if (!m.made.contains(tag)) return wrong("an object unreferenced that was not held");
        for (auto const& other : machines_) {
            for (auto const& held : other.held) {
                if (calm_ && held.owner_tag == tag && other.number != m.number) {
                    return wrong("an object ends while a handle of it is held");
                }
            }
        }
        forget(m, object);
    }

private:
    NetworkNode& node_at(int which) override { return machines_[which]; }

    std::uint32_t some_size() {
        switch (random_.below(8)) {
            case 0:
                return 0;
            case 1:
                return static_cast<std::uint32_t>(random_.below(6000));
            case 2:
                return random_.below(12) == 0 ? static_cast<std::uint32_t>(random_.below(60'000))
                                              : static_cast<std::uint32_t>(remote::fragment_bytes -
                                                                           40 + random_.below(80));
            default:
                return static_cast<std::uint32_t>(random_.below(200));
        }
    }

    void boot(Machine& m) {
        m.held.clear();
        m.made.clear();
        begin_life(m);
    }

    void reboot(int which) override {
        for (Call& call : calls_) {
            if (call.from == which && !call.ended) call.ended = call.maker_died = true;
        }
        count(machines_[which]);
        boot(machines_[which]);
    }

    void plan() override {
        std::uint64_t const calls = 20 + random_.below(60);
        for (std::uint64_t i = 0; i < calls; i++) {
            int const from = static_cast<int>(random_.below(nodes));
            at(Instant() + some(activity), [this, from] { begin_call(from); });
        }
        plan_trouble();
    }

    void drop_later(Machine& m, PeerId peer, std::uint32_t object) {
        int const which = m.number, life = m.life;
        at(now_ + some(Duration::s(3)), [this, which, life, peer, object] {
            Machine& machine = machines_[which];
            if (machine.life != life) return;
            for (std::size_t i = 0; i < machine.held.size(); i++) {
                if (machine.held[i].peer != peer || machine.held[i].object != object) continue;
                machine.held.erase(machine.held.begin() + static_cast<long>(i));
                machine.node->drop(peer, object, now_);
                break;
            }
            check(machine);
        });
    }

    /// All is over: nobody waits, nobody holds anything.
    void finish() override {
        for (auto const& call : calls_) {
            if (!call.ended) wrong("a call that never ends");
        }
        Network::finish();
        for (auto& m : machines_) {
            if (!m.made.empty()) wrong("an object that nobody holds is not reported");
        }
    }

    Machine machines_[nodes];
    std::uint64_t tags_ = 0;
    std::vector<Call> calls_;
};

void Machine::on_request(Incoming const& request) { world->execute(*this, request, false); }
void Machine::on_announcement(Incoming const& a) { world->execute(*this, a, true); }
void Machine::on_reply(std::uint64_t cookie, Status status, std::span<std::byte const> bytes) {
    world->ended(*this, cookie, status, bytes);
}
void Machine::on_unreferenced(std::uint32_t object, std::uint64_t tag) {
    world->unreferenced(*this, object, tag);
}

}  // namespace

WorldReport run_world(std::uint64_t seed, WorldOptions const& options) {
    return std::make_unique<World>(seed, options)->run();
}

}  // namespace nemesis::simulation
