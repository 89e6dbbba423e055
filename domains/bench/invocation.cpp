// Invocation: through a maillon, and by protected call with generated stubs, round trip.
#include <new>

#include "domains/bench/bench.h"
#include "domains/bench/echo.h"
#include "libnemesis/channel.h"
#include "libnemesis/invocation/call_batch.h"
#include "libnemesis/invocation/call_client.h"
#include "libnemesis/log/log.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::bench {
namespace {

using namespace invocation;

constexpr std::uint32_t kSamples = 5'000;

// ---- maillons ----

/// Four kinds of object, so that targets are mixed.
template <int kind>
class Target final : public Echo {
public:
    Result<void, EchoError> null() override {
        calls += kind;
        return {};
    }
    Result<std::array<std::uint64_t, 8>, EchoError> echo(
        std::array<std::uint64_t, 8> const& value) override {
        return value;
    }
    Result<std::uint64_t, EchoError> take(ByteView) override { return 0; }
    Result<std::uint64_t, EchoError> lend(GrantedView const&) override { return 0; }
    Result<void, EchoError> note(std::array<std::uint64_t, 8> const&) override { return {}; }
    Result<NotedResult, EchoError> noted() override { return NotedResult{}; }
    std::uint64_t calls = 0;
};

constexpr std::uint32_t kMaillons = 1'000;
Target<1> targets_1[kMaillons / 4];
Target<2> targets_2[kMaillons / 4];
Target<3> targets_3[kMaillons / 4];
Target<4> targets_4[kMaillons / 4];
Echo* pointers[kMaillons];
alignas(Maillon<Echo>) std::byte maillon_memory[kMaillons * sizeof(Maillon<Echo>)];

[[gnu::noinline]] std::uint32_t through_pointers() {
    auto* const* all = pointers;
    asm volatile("" : "+r"(all));
    auto const before = stamp();
    for (auto* const* p = all; p != all + kMaillons; ++p) (void)(*p)->null();
    return stamp() - before;
}
[[gnu::noinline]] std::uint32_t through_maillons(Maillon<Echo>* maillons) {
    asm volatile("" : "+r"(maillons));  // an address like any other, as for the pointers
    auto const before = stamp();
    for (auto* m = maillons; m != maillons + kMaillons; ++m) (void)(*m)->null();
    return stamp() - before;
}

void maillons() {
    auto* const all = reinterpret_cast<Maillon<Echo>*>(maillon_memory);
    for (std::uint32_t i = 0; i < kMaillons; ++i) {
        Echo* const kinds[] = {&targets_1[i / 4], &targets_2[i / 4], &targets_3[i / 4],
                               &targets_4[i / 4]};
        pointers[i] = kinds[i * 7 % 4];
        new (&all[i]) Maillon<Echo>(pointers[i]);
    }
    fresh();
    for (int round = 0; round < 100; ++round) {
        auto const plain = through_pointers(), far = through_maillons(all);
        // To the nearest: outside the two loops there is an instruction more or less.
        samples().add((far > plain ? far - plain + kMaillons / 2 : 0) / kMaillons);
    }
    report({.metric = "maillon_overhead", .unit = "instructions", .less_empty_pair = false});
}

// ---- protected calls ----

alignas(CallClient) std::byte client_memory[sizeof(CallClient)];

template <typename F>
void measure(std::string_view metric, F&& call) {
    for (int i = 0; i < 20; ++i) call();
    fresh();
    Counters counters;
    counters.begin();
    for (std::uint32_t i = 0; i < kSamples; ++i) {
        fresh_for(100'000);
        auto const before = stamp();
        call();
        samples().add(stamp() - before);
    }
    auto const writes = counters.root_writes(kSamples);
    traced(metric, [&] { call(); });
    require(writes >= 200, "a call did not switch", writes);
    report({.metric = metric, .root_writes_hundredths = writes, .crossings = 4});
}

/// 64 KiB to the server: in pieces that are copied, and filled and granted in place.
void large(CallClient& client, EchoProxy<CallClient>& echo) {
    constexpr std::uint32_t kBytes = 65536, kPiece = 4096;
    static std::byte data[kBytes];
    auto const fill = [](std::span<std::byte> to) {
        for (std::uint32_t i = 0; i < kBytes; ++i) to[i] = static_cast<std::byte>(i / 512);
    };
    fill(data);
    std::uint64_t expected = 0;
    for (std::uint64_t at = 0; at < kBytes; at += 512)
        expected += ByteView(data).read<std::uint64_t>(at).value_or(0);
    measure("idc_pieces_64k", [&] {
        std::uint64_t sum = 0;
        for (std::uint32_t at = 0; at < kBytes; at += kPiece) {
            auto const part = echo.take(ByteView(std::span(data).subspan(at, kPiece)));
            if (!part) require(false, "take");
            sum += *part;
        }
        if (sum != expected) require(false, "pieces");
    });
    auto const buffer = client.take_granted(kBytes);
    require(buffer.has_value(), "no room to grant");
    fill(buffer->bytes());
    measure("idc_granted_64k", [&] {
        auto const sum = echo.lend(buffer->view());
        if (!sum || *sum != expected) require(false, "lend");
    });
}

void stream(CallClient& client, EchoProxy<CallClient>& echo) {
    constexpr std::uint32_t kBatch = 16;
    std::array<std::uint64_t, 8> value{1};
    auto const first = echo.noted();
    require(first.has_value(), "noted");
    // Inline, so that nothing but the batch is between the two readings.
    auto const batch = [&]() __attribute__((always_inline)) {
        CallBatch together(client);
        EchoProxy<CallBatch> notes(together);
        for (std::uint32_t m = 0; m < kBatch; ++m) {
            asm volatile("" : "+m"(value));  // what is sent is not known before
            if (!notes.note(value)) require(false, "note");
        }
        // The server works on all of them before this returns.
        together.send(true);
    };
    fresh();
    std::uint32_t const batches = 1'000;
    for (std::uint32_t i = 0; i < batches; ++i) {
        fresh_for(100'000);
        auto const before = stamp();
        batch();
        samples().add((stamp() - before + kBatch - 1) / kBatch);
    }
    traced("idc_stream_b16", batch);
    auto const last = echo.noted();
    auto const made = batches + (scale().trace ? 1 : 0);
    require(last.has_value() && last->count - first->count == std::uint64_t{made} * kBatch,
            "notes were lost");
    report({.metric = "idc_stream_b16",
            .unit = "instr/message",
            .crossings = 4,
            .less_empty_pair = false});
}

}  // namespace

void idc() {
    maillons();
    auto const* requests = find_channel("calls");
    auto const* replies = find_channel("replies");
    require(requests != nullptr && replies != nullptr, "channels of the bench server");
    auto& client = *new (client_memory) CallClient;
    BindingEnd const end{outgoing(*requests), incoming(*replies), requests->endpoint};
    require(client.open(end, BindingShape::of(Echo::info)).has_value(), "binding");
    EchoProxy<CallClient> echo(client);
    Thread::sleep_until(now() + Duration::ms(5));
    measure("idc_call_0", [&] {
        if (!echo.null()) require(false, "null");
    });
    std::array<std::uint64_t, 8> value{1, 2, 3, 4, 5, 6, 7, 8};
    measure("idc_call_64", [&] {
        auto const back = echo.echo(value);
        if (!back || (*back)[7] != 8) require(false, "echo");
    });
    static std::byte data[4096];
    for (std::uint32_t i = 0; i < sizeof(data); ++i) data[i] = static_cast<std::byte>(i / 512);
    measure("idc_call_4096", [&] {
        auto const sum = echo.take(ByteView(data));
        if (!sum || *sum != 0x1C1C'1C1C'1C1C'1C1Cull) require(false, "take");
    });
    large(client, echo);
    stream(client, echo);
}

}  // namespace nemesis::bench
