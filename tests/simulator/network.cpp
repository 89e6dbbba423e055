#include "tests/simulator/network.h"

namespace nemesis::simulation {

using remote::Address;
using remote::Node;

void NetworkNode::send(Address to, std::span<std::byte const> datagram) {
    network->transmit(number, to, datagram);
}

Network::Network(std::uint64_t seed, WorldOptions const& options)
    : options_(options), random_(seed) {
    // Each world has a network of its own.
    loss_ = random_.below(3) == 0 ? 0 : random_.below(400);
    doubling_ = random_.below(3) == 0 ? 0 : random_.below(300);
    late_ = random_.below(2) == 0 ? 0 : random_.below(60);
    spread_ = Duration::us(static_cast<std::int64_t>(1 + random_.below(30'000)));
    calm_ = options.calm || random_.below(3) == 0;
    if (calm_) {
        loss_ = std::min<std::uint64_t>(loss_, 150);
        late_ = 0;
    }
}

WorldReport Network::run() {
    plan();
    while (!events_.empty() && report_.wrong.empty()) {
        Event const event = events_.top();
        events_.pop();
        if (event.order > 500'000) wrong("the world does not come to rest");
        now_ = event.at;
        event.what();
        for (int i = 0; i < nodes; i++) arm(node_at(i));
    }
    finish();
    return report_;
}

void Network::wrong(std::string const& what) {
    if (report_.wrong.empty()) {
        report_.wrong = "at " + std::to_string(now_.ns() / 1000) + " us: " + what;
    }
}

void Network::transmit(int from, Address to, std::span<std::byte const> datagram) {
    ++report_.datagrams;
    if (to.value >= nodes) return wrong("a datagram to nowhere");
    int const target = static_cast<int>(to.value);
    if (cut(from, target) || random_.below(1000) < loss_) return;
    int copies = 1 + (random_.below(1000) < doubling_ ? 1 : 0);
    while (copies-- > 0) {
        Duration delay = Duration::us(50) + some(spread_);
        // Some come so late that their sender or receiver has begun a new life.
        if (random_.below(1000) < late_) delay += some(Duration::s(3));
        auto const bytes = std::make_shared<Bytes>(datagram.begin(), datagram.end());
        at(now_ + delay, [this, from, target, bytes] {
            if (cut(from, target)) return;
            if (auto const d = remote::read_datagram(*bytes); d && options_.trace) {
                trace("  %d to %d: kind %d of call %llu, keys %04llx %04llx", from, target,
                      static_cast<int>(d->header.kind),
                      static_cast<unsigned long long>(d->header.number),
                      static_cast<unsigned long long>(d->header.source & 0xFFFF),
                      static_cast<unsigned long long>(d->header.destination & 0xFFFF));
            }
            // An allocation of its own size, so that a read beyond it is seen.
            auto& m = node_at(target);
            m.node->receive(Address{static_cast<std::uint64_t>(from)}, *bytes, now_);
            check(m);
        });
    }
}

void Network::begin_life(NetworkNode& m, remote::InterfaceHash root) {
    ++m.life;
    m.network = this;
    m.memory.assign(Node::bytes_for(limits), std::byte{0xA5});
    m.node = std::make_unique<Node>(
        *Node::create(m.memory, limits, times,
                      static_cast<std::uint64_t>(m.life) << 32 | random_.next() >> 40, m, m));
    if (*m.node->export_object(0, root, true) != root_object) wrong("the root's number");
}

void Network::plan_trouble() {
    if (calm_) return;
    for (std::uint64_t i = random_.below(4); i > 0; i--) {
        int const which = static_cast<int>(random_.below(nodes));
        at(Instant() + some(activity), [this, which] {
            trace("node %d begins a new life", which);
            ++report_.reboots;
            reboot(which);
        });
    }
    for (std::uint64_t i = random_.below(4); i > 0; i--) {
        int const a = static_cast<int>(random_.below(nodes));
        int const b = (a + 1) % nodes;
        Instant const from = Instant() + some(activity);
        bool const one_way = random_.below(3) == 0;
        cuts_.push_back({a, b, from, from + some(Duration::s(4)), one_way});
    }
}

void Network::silence(int which, Instant from) {
    for (int other = 0; other < nodes; other++)
        if (other != which) cuts_.push_back({which, other, from, Instant::never(), false});
}

bool Network::cut(int from, int to) const {
    for (auto const& c : cuts_) {
        if (now_ < c.from || now_ > c.until) continue;
        if ((c.a == from && c.b == to) || (!c.one_way && c.a == to && c.b == from)) return true;
    }
    return false;
}

/// Makes sure that an event comes when the node wants to be called.
void Network::arm(NetworkNode& m) {
    Instant const next = m.node->next_tick();
    if (next == Instant::never() || next == m.tick_at) return;
    m.tick_at = next;
    int const which = m.number, life = m.life;
    at(std::max(next, now_), [this, which, life] {
        auto& machine = node_at(which);
        if (machine.life != life) return;
        machine.tick_at = Instant::never();
        machine.node->tick(now_);
        check(machine);
    });
}

void Network::check(NetworkNode& m) {
    if (++checks_ % 16 == 0 && !m.node->check_invariants()) wrong("an invariant is broken");
    if (now_ - Instant() > Duration::s(200)) {
        wrong("the world does not come to rest: node " + std::to_string(m.number) + " has " +
              std::to_string(m.node->holdings_in_use()) + " holdings, " +
              std::to_string(m.node->imports_in_use()) + " imports, " +
              std::to_string(m.node->chunks_free()) + " chunks free");
    }
}

void Network::count(NetworkNode const& m) {
    report_.repeated += m.node->counters().repeated;
    report_.duplicates += m.node->counters().duplicates;
    if (m.node->counters().malformed != 0) wrong("a node sends what a node cannot read");
}

void Network::finish() {
    for (int i = 0; i < nodes; i++) {
        auto& m = node_at(i);
        count(m);
        if (!m.node->check_invariants()) wrong("an invariant is broken");
        if (m.node->chunks_free() != limits.chunks) wrong("chunks are kept for ever");
        if (m.node->holdings_in_use() != 0) wrong("holdings are kept for ever");
        if (m.node->imports_in_use() != 0) wrong("imports are kept for ever");
        if (m.node->peers_in_use() != 0) wrong("an association is kept for ever");
    }
}

}  // namespace nemesis::simulation
