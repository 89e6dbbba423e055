// Fuzz target for the datagrams of remote invocation. An input is a list of {length u16, bytes}:
// each is delivered to a node with an association, a public object and calls under way, its keys
// made right unless the first byte says not, and time passes in between. The node's invariants must
// hold.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "libnemesis/remote/node.h"

namespace nemesis::remote {
namespace {

struct Keeper final : Output, Upper {
    void send(Address, std::span<std::byte const> datagram) override {
        auto const d = read_datagram(datagram);
        if (!d) std::abort();  // a node never sends what a node cannot read
        own_key = d->header.source;
    }
    void on_request(Incoming const& r) override {
        if (r.operation % 2 == 0)
            static_cast<void>(node->reply(r.token, Status::Ok, r.bytes, {}, now));
    }
    void on_announcement(Incoming const&) override {}
    void on_reply(std::uint64_t, Status, std::span<std::byte const>) override {}
    void on_cancelled(CallToken) override {}
    void on_unreferenced(std::uint32_t, std::uint64_t) override {}
    void on_peer_lost(PeerId) override {}

    Node* node = nullptr;
    Instant now;
    std::uint64_t own_key = 0;
};

constexpr Limits limits{
    .peers = 3, .chunks = 40, .chunks_per_peer = 20, .objects = 4, .holdings = 4, .imports = 4};
constexpr std::uint64_t peer_key = 0x1234;

void deliver(Node& node, std::span<std::byte const> bytes, Instant now) {
    auto const exact = std::make_unique<std::byte[]>(bytes.size());
    if (!bytes.empty()) std::memcpy(exact.get(), bytes.data(), bytes.size());
    node.receive(Address{1}, {exact.get(), bytes.size()}, now);
    if (!node.check_invariants()) std::abort();
}

void run(std::span<std::byte const> input) {
    Keeper keeper;
    std::vector<std::byte> memory(Node::bytes_for(limits));
    auto node = *Node::create(memory, limits, {}, 99, keeper, keeper);
    keeper.node = &node;
    static_cast<void>(node.export_object(1, {1, 2}, true));
    auto const peer = *node.connect(Address{1}, keeper.now);
    struct {
        Header header;
        HelloPart part;
    } welcome{{.kind = Kind::Welcome, .destination = keeper.own_key, .source = peer_key}, {}};
    deliver(node, std::as_bytes(std::span(&welcome, 1)), keeper.now);
    std::byte const request[3000] = {};
    for (std::size_t const size : {0ul, 3000ul}) {
        static_cast<void>(node.call(peer, {.object = 7, .deadline = Instant::ns(5'000'000'000)},
                                    {request, size}, keeper.now));
    }
    std::uint64_t const key = keeper.own_key;
    while (input.size() >= 3) {
        std::size_t const length =
            (static_cast<std::size_t>(input[0]) | static_cast<std::size_t>(input[1]) << 8) % 1500;
        bool const make_right = input[2] != std::byte{0};
        input = input.subspan(3);
        auto const part = input.first(std::min(length, input.size()));
        input = input.subspan(part.size());
        std::vector<std::byte> bytes(part.begin(), part.end());
        if (make_right && bytes.size() >= sizeof(Header)) {
            bytes[0] = std::byte{protocol_version};
            std::memcpy(bytes.data() + 8, &key, 8);
            std::memcpy(bytes.data() + 16, &peer_key, 8);
        }
        deliver(node, bytes, keeper.now);
        keeper.now += Duration::ms(7);
        node.tick(keeper.now);
    }
}

}  // namespace
}  // namespace nemesis::remote

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    nemesis::remote::run(std::as_bytes(std::span(data, size)));
    return 0;
}
