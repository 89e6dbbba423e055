// Mapping pages, and faults that a domain handles itself.
#include "domains/bench/bench.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/base/random.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/state.h"

namespace nemesis::bench {
namespace {

constexpr std::uint32_t kFaults = 5'000, kPages = 400;
constexpr auto kReadWrite = abi::kRead | abi::kWrite;

/// The one byte store whose length the handler knows.
[[gnu::always_inline]] inline void store_byte(std::uint64_t address) {
    asm volatile("movb $1, (%%rcx)" : : "c"(address) : "memory");
}
constexpr std::uint64_t kStoreBytes = 3;

FaultAction step_over(void*, abi::FaultRecord const&, abi::ContextSlot& context) {
    context.rip += kStoreBytes;
    return FaultAction::Retry;
}

void fault_to_domain() {
    set_fault_handler(step_over, nullptr);
    auto const read_only = reinterpret_cast<std::uint64_t>(&dib());
    Counters counters;
    counters.begin();
    for (std::uint32_t i = 0; i < kFaults; ++i) {
        if (i % 64 == 0) fresh_for(64 * 2000);
        auto const before = stamp();
        store_byte(read_only);
        samples().add(stamp() - before);
    }
    traced("fault_to_domain", [&] { store_byte(read_only); });
    report({.metric = "fault_to_domain",
            .root_writes_hundredths = counters.root_writes(kFaults),
            .crossings = 4});
}

struct Appel {
    std::uint64_t stretch, base;
    std::uint64_t protect_next;  ///< page that the handler protects, or none
};
Appel appel;

FaultAction unprotect(void*, abi::FaultRecord const& fault, abi::ContextSlot&) {
    auto const page = (fault.address - appel.base) / abi::kPageSize;
    if (page >= kPages) return FaultAction::Kill;
    if (appel.protect_next != ~0ull) sys::protect(appel.stretch, appel.protect_next, 1, abi::kRead);
    sys::protect(appel.stretch, page, 1, kReadWrite);
    return FaultAction::Retry;
}

/// appel1: a store to a protected page; the handler protects another page and unprotects this one.
void appel1() {
    set_fault_handler(unprotect, nullptr);
    Random random(1);
    auto page = random.below(kPages);
    sys::protect(appel.stretch, page, 1, abi::kRead);
    Counters counters;
    counters.begin();
    for (std::uint32_t i = 0; i < kFaults; ++i) {
        if (i % 64 == 0) fresh_for(64 * 4000);
        auto const next = (page + 1 + random.below(kPages - 1)) % kPages;
        appel.protect_next = next;
        auto const before = stamp();
        store_byte(appel.base + page * abi::kPageSize);
        samples().add(stamp() - before);
        page = next;
    }
    appel.protect_next = (page + 1) % kPages;
    traced("appel1", [&] { store_byte(appel.base + page * abi::kPageSize); });
    sys::protect(appel.stretch, appel.protect_next, 1, kReadWrite);
    appel.protect_next = ~0ull;
    report({.metric = "appel1",
            .root_writes_hundredths = counters.root_writes(kFaults),
            .crossings = 8});
}

/// appel2: protect all pages, then store to each; the handler unprotects it. A figure a page.
void appel2() {
    set_fault_handler(unprotect, nullptr);
    Counters counters;
    counters.begin();
    constexpr std::uint32_t rounds = 20, together = 8;  // pages a call
    for (std::uint32_t round = 0; round < rounds; ++round) {
        fresh_for(kPages * 4000);
        for (std::uint32_t first = 0; first < kPages / together * together; first += together) {
            auto const before = stamp();
            auto const result = sys::protect(appel.stretch, first, together, abi::kRead);
            for (std::uint32_t i = 0; i < together; ++i)
                store_byte(appel.base + (first + i) * abi::kPageSize);
            samples().add((stamp() - before) / together);
            require_success(result, "protect");
        }
    }
    report({.metric = "appel2",
            .unit = "instructions/page",
            .root_writes_hundredths = counters.root_writes(rounds * kPages),
            .crossings = 6});
}

/// One call a page: frame and stretch owned.
void map_page() {
    std::uint64_t stretch = 0;
    auto const made = sys::stretch_create(0, 0, 4, kReadWrite | abi::kMeta);
    require_success(made, "stretch to map in");
    stretch = static_cast<std::uint64_t>(made);
    constexpr std::uint32_t count = 1024;
    static std::uint32_t frames[count];
    for (auto& frame : frames) frame = static_cast<std::uint32_t>(sys::frame_alloc(0));
    Counters counters;
    counters.begin();
    for (std::uint32_t i = 0; i < count; ++i) {
        if (i % 64 == 0) fresh_for(64 * 2000);
        auto const frame = frames[i];
        auto const before = stamp();
        auto const result = sys::map(0, stretch, i, frame, kReadWrite);
        samples().add(stamp() - before);
        require_success(result, "map");
    }
    report({.metric = "map_page",
            .root_writes_hundredths = counters.root_writes(count),
            .crossings = 2});
    for (std::uint32_t i = 0; i < count; ++i) {
        if (i % 64 == 0) fresh_for(64 * 2000);
        auto const before = stamp();
        auto const result = sys::unmap(0, stretch, i);
        samples().add(stamp() - before);
        require_success(result, "unmap");
    }
    report({.metric = "unmap_page", .crossings = 2});
    // The batch takes new, clean frames, four a call.
    for (std::uint32_t i = 0; i < 256; ++i) {
        if (i % 16 == 0) fresh_for(16 * 20000);
        auto const before = stamp();
        auto const mapped = sys::map_batch(stretch, 4 * i, 4);
        auto const taken = stamp() - before;
        require_success(mapped, "map_batch");
        if (mapped > 0) samples().add(taken / static_cast<std::uint32_t>(mapped));
    }
    report({.metric = "map_batch", .unit = "instructions/page", .crossings = -1});
    require_success(sys::stretch_destroy(0, stretch), "end of the stretch");
    for (auto const frame : frames) sys::frame_free(frame);
}

}  // namespace

void memory() {
    fault_to_domain();
    map_page();
    appel.base = pages::make_stretch(kPages, appel.stretch);
    require(appel.base != 0, "stretch for faults");
    appel.protect_next = ~0ull;
    appel1();
    appel2();
    sys::stretch_destroy(0, appel.stretch);
}

}  // namespace nemesis::bench
