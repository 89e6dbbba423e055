// Names: resolving one of three components in a name space of 100,000, and one below a mount whose
// server is another domain.
#include <algorithm>

#include "domains/bench/bench.h"
#include "domains/bench/child.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/state.h"
#include "libnemesis/threads/thread.h"
#include "names/name_channel.h"
#include "names/name_space.h"

namespace nemesis::bench {
namespace {

using names::Handle;
using names::NameSpace;

constexpr std::uint32_t kSamples = 10'000;
constexpr std::uint32_t kNames = 100'000;
constexpr std::uint32_t kServedNames = 64;
constexpr std::uint64_t kSeed = 0x6E616D6573;

template <typename T>
T need(Result<T, names::NameError> result, std::string_view what) {
    require(result.has_value(), what, result ? 0 : static_cast<std::int64_t>(result.error()));
    return *result;
}
void need(Result<void, names::NameError> result, std::string_view what) {
    require(result.has_value(), what, result ? 0 : static_cast<std::int64_t>(result.error()));
}

/// Writes `prefix` and a number of five digits.
std::string_view numbered(char (&buffer)[32], std::string_view prefix, std::uint32_t number) {
    std::size_t length = prefix.size();
    __builtin_memcpy(buffer, prefix.data(), length);
    for (std::uint32_t digit = 10'000; digit != 0; digit /= 10) {
        buffer[length++] = static_cast<char>('0' + number / digit % 10);
    }
    return {buffer, length};
}

/// Names of ordinary lengths at the root and one below it, and the one that is measured.
void fill(NameSpace& space) {
    need(space.make_directory("services"), "directory");
    need(space.make_directory("services/media"), "directory");
    need(space.bind("services/media/clock", {1, 2}), "name");
    char buffer[32];
    for (std::uint32_t i = 0; i < kNames / 2; ++i) {
        need(space.bind(numbered(buffer, "object", i), {i + 1, 1}), "name at the root");
        need(space.bind(numbered(buffer, "services/media/n", i), {i + 1, 2}), "name below");
    }
}

void resolve_local() {
    std::uint64_t stretch = 0;
    auto const bytes = names::NameTree::bytes_for(kNames + 16);
    auto const at = pages::make_stretch(bytes / abi::kPageSize + 1, stretch);
    require(at != 0, "memory for names");
    auto space = need(NameSpace::create({reinterpret_cast<std::byte*>(at), bytes}, kSeed), "names");
    fresh();
    std::uint32_t const before = stamp();
    fill(space);
    note("names_bound", kNames);
    note("names_bind_each", (stamp() - before) / kNames);
    fresh();
    auto const measure = [&](std::string_view path) {
        for (std::uint32_t i = 0; i < kSamples; ++i) {
            if (i % 64 == 0) fresh_for(64 * 1000);
            auto const begun = stamp();
            auto const found = space.resolve(path);
            auto const ended = stamp();
            require(found.has_value(), "a name is not found");
            samples().add(ended - begun);
        }
    };
    measure("services/media/clock");
    traced("resolve_local", [&] { static_cast<void>(space.resolve("services/media/clock")); });
    report({.metric = "resolve_local", .root_writes_hundredths = 0, .crossings = 0});
    // All of the others once: the bound holds for each.
    char buffer[32];
    for (std::uint32_t i = 0; i < kNames / 2; ++i) {
        if (i % 64 == 0) fresh_for(64 * 1000);
        auto const path = numbered(buffer, "services/media/n", i);
        auto const begun = stamp();
        auto const found = space.resolve(path);
        auto const ended = stamp();
        require(found.has_value() && found->reference == i + 1, "a name is another");
        samples().add(ended - begun);
    }
    report({.metric = "names_resolve_each", .root_writes_hundredths = 0, .crossings = 0});
}

// ---- a name server in another domain ----

/// What bench and server share: the four stretches of the two rings.
struct Shared {
    alignas(ring_line) std::byte requests[names::request_ring.source_bytes()];
    alignas(ring_line) std::byte requests_taken[names::request_ring.sink_bytes()];
    alignas(ring_line) std::byte replies[names::reply_ring.source_bytes()];
    alignas(ring_line) std::byte replies_taken[names::reply_ring.sink_bytes()];
    /// The server's own: in a domain of its own image it would be in its heap.
    alignas(ring_line) std::byte names[128 * 1024];
};
static_assert(sizeof(Shared) < sizeof(Board::samples));

Shared& shared() {
    auto const at = reinterpret_cast<std::uint64_t>(&board().samples);
    return *reinterpret_cast<Shared*>((at + ring_line - 1) & ~std::uint64_t{ring_line - 1});
}

void answer(void* self, std::uint32_t endpoint, std::uint64_t) {
    // What cannot be served (a broken ring) is the asker's loss; it is woken all the same.
    static_cast<void>(static_cast<names::NameChannelService*>(self)->serve());
    sys::send_sync(endpoint, INT64_MAX);
}

void name_server_main(abi::Environment const& environment) {
    auto& s = *reinterpret_cast<Shared*>(environment.heap_bytes_max);
    auto space = NameSpace::create(s.names, kSeed + 1);
    auto requests = RingSink<>::create(names::request_ring, s.requests, s.requests_taken);
    auto replies = RingSource<>::create(names::reply_ring, s.replies, s.replies_taken);
    ASSERT(space && requests && replies);
    bool made = space->make_directory("media").has_value();
    char buffer[32];
    for (std::uint32_t i = 0; i < kServedNames; ++i) {
        made = made && space->bind(numbered(buffer, "media/n", i), {i + 1, 1}).has_value();
    }
    made = made && space->bind("media/clock", {7, 8}).has_value();
    ASSERT(made);
    names::NameChannelService service(*requests, *replies, *space, names::ServeRights::ReadOnly);
    attach(2, Closure{answer, &service});
    enter_critical();
    WaitQueue never;
    for (;;) never.wait(Instant::never());
}

/// Synchronous send: the server works on our time and hands the processor back.
class DonatingBell final : public names::NameBell {
public:
    explicit DonatingBell(std::uint32_t endpoint) : endpoint_(endpoint) {}
    names::BellWait call(Instant until) override {
        sys::send_sync(endpoint_, until.ns());
        auto& rw = *state().rw;
        rw.pending[0] = 0;
        rw.pending_summary = 0;
        return names::BellWait::Event;
    }
    names::BellWait wait(Instant) override { return names::BellWait::PeerDead; }

private:
    std::uint32_t endpoint_;
};

void resolve_mounted() {
    auto& s = shared();
    std::fill_n(reinterpret_cast<std::byte*>(&s), sizeof(Shared), std::byte{0});
    auto const server = make_child(
        {.main = name_server_main, .argument = reinterpret_cast<std::uint64_t>(&s), .weight = 1});
    auto const endpoint = connect(server, 2);
    Thread::sleep_until(now() + Duration::ms(5));
    auto requests = RingSource<>::create(names::request_ring, s.requests, s.requests_taken);
    auto replies = RingSink<>::create(names::reply_ring, s.replies, s.replies_taken);
    require(requests && replies, "rings");
    DonatingBell bell(endpoint);
    names::NameChannelClient client(*requests, *replies, bell);
    alignas(64) static std::byte memory[4096];
    auto space = need(NameSpace::create(memory, kSeed), "names");
    need(space.make_directory("b"), "directory");
    need(space.mount("b", client), "mount");
    fresh();
    Counters counters;
    enter_critical();
    counters.begin();
    for (std::uint32_t i = 0; i < kSamples; ++i) {
        auto const begun = stamp();
        auto const found = space.resolve("b/media/clock");
        auto const ended = stamp();
        require(found == Handle{7, 8}, "a mounted name is not found",
                found ? -1 : static_cast<std::int64_t>(found.error()));
        samples().add(ended - begun);
    }
    auto const writes = counters.root_writes(kSamples);
    traced("resolve_mounted", [&] { static_cast<void>(space.resolve("b/media/clock")); });
    leave_critical();
    require(writes >= 200, "a mounted name was resolved without its server", writes);
    report({.metric = "resolve_mounted", .root_writes_hundredths = writes, .crossings = 4});
    disconnect(endpoint);
    destroy_child(server);
}

}  // namespace

void naming() {
    resolve_local();
    resolve_mounted();
}

}  // namespace nemesis::bench
