#pragma once
// A bad network between nodes that begin new lives: what worlds of remote invocation stand on.
//
// All comes from one seed: what is lost, doubled and late, who is cut off from whom, and who
// reboots when. Things happen as events, in the order of a time of the world's own; whoever builds
// a world on it adds its users. Each node may lose its life at any event.

#include <cstdio>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <vector>

#include "libnemesis/base/random.h"
#include "libnemesis/remote/node.h"
#include "tests/simulator/remote_world.h"

namespace nemesis::simulation {

using Bytes = std::vector<std::byte>;

inline constexpr int nodes = 3;
inline constexpr std::uint32_t root_object = 1 | 1u << 16;  ///< the first export of each life
inline constexpr remote::InterfaceHash hash{7, 9};
inline constexpr remote::Limits limits{.peers = 5,
                                       .chunks = 400,
                                       .chunks_per_peer = 150,
                                       .objects = 80,
                                       .holdings = 90,
                                       .imports = 90};
inline constexpr remote::Times times{
    .first_repeat = Duration::ms(20), .last_repeat = Duration::ms(320), .lease = Duration::s(2)};
inline constexpr Duration activity = Duration::s(4);  ///< how long users begin something

class Network;

/// One machine's node: its lives, one after the other.
struct NetworkNode : remote::Output, remote::Upper {
    Network* network = nullptr;
    int number = 0;
    int life = 0;
    Bytes memory;
    std::unique_ptr<remote::Node> node;
    Instant tick_at = Instant::never();

    NetworkNode() = default;
    virtual ~NetworkNode() = default;
    NetworkNode(NetworkNode const&) = delete;
    NetworkNode& operator=(NetworkNode const&) = delete;
    void send(remote::Address to, std::span<std::byte const> datagram) override;
};

/// See the head of this file.
class Network {
public:
    Network(std::uint64_t seed, WorldOptions const& options);
    virtual ~Network() = default;
    Network(Network const&) = delete;
    Network& operator=(Network const&) = delete;

    WorldReport run();
    void wrong(std::string const& what);
    void transmit(int from, remote::Address to, std::span<std::byte const> datagram);
    Instant time() const { return now_; }
    void at(Instant when, std::function<void()> what) {
        events_.push({when, ++order_, std::move(what)});
    }
    Duration some(Duration most) {
        return Duration::ns(
            static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(most.ns()) + 1)));
    }

protected:
    virtual NetworkNode& node_at(int which) = 0;
    /// Puts into the world what its users will do.
    virtual void plan() = 0;
    virtual void reboot(int which) = 0;
    /// All is over: nobody waits, nobody holds anything.
    virtual void finish();

    /// A node with empty tables, and a public root object with tag 0.
    void begin_life(NetworkNode& m, remote::InterfaceHash root = hash);
    /// Reboots and partitions, in a world that is not calm.
    void plan_trouble();
    /// From then on nothing reaches the node and nothing leaves it.
    void silence(int which, Instant from);
    void check(NetworkNode& m);
    void count(NetworkNode const& m);

    template <typename... Arguments>
    void trace(char const* format, Arguments... arguments) {
        if (!options_.trace) return;
        std::printf("%10lld us ", static_cast<long long>(now_.ns() / 1000));
        std::printf(format, arguments...);
        std::printf("\n");
    }

    WorldOptions options_;
    Random random_;
    bool calm_ = false;
    Instant now_;
    WorldReport report_;

private:
    struct Event {
        Instant at;
        std::uint64_t order;
        std::function<void()> what;
        bool operator<(Event const& other) const {
            return std::pair(at, order) > std::pair(other.at, other.order);
        }
    };
    struct Cut {
        int a, b;
        Instant from, until;
        bool one_way;
    };
    bool cut(int from, int to) const;
    void arm(NetworkNode& m);

    std::uint64_t loss_ = 0, doubling_ = 0, late_ = 0;  // of a thousand
    Duration spread_;
    std::priority_queue<Event> events_;
    std::uint64_t order_ = 0, checks_ = 0;
    std::vector<Cut> cuts_;
};

}  // namespace nemesis::simulation
