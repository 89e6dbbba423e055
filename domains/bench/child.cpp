// Making children out of the bench's own image.
#include "domains/bench/child.h"

#include "domains/bench/bench.h"
#include "kernel/abi/environment.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/state.h"
#include "libnemesis/threads/thread.h"

extern "C" char const __data_start[];  // domain.ld

namespace nemesis::bench {
namespace {

constexpr std::uint64_t kBoardPages = (sizeof(Board) + abi::kPageSize - 1) / abi::kPageSize;
constexpr std::uint32_t kOwnEndpointFirst = 8, kOwnEndpointLast = 200;

// Pages of a child, counted from its slot: DIB, then these.
constexpr std::uint64_t kEnvironmentPage = 2, kStatePage = 3, kActivationStackPage = 6,
                        kStackPage = 9, kStackPages = 3;

Board* the_board = nullptr;
std::uint64_t board_stretch = 0;
std::uint64_t next_slot = abi::kSlotsBase + 0x2'0001ull * abi::kSlotSize;
std::uint64_t code_stretch = 0, code_base = 0;
std::uint64_t workshop = 0;
std::byte* workshop_page = nullptr;
bool used[kOwnEndpointLast + 1] = {};

/// A page of ours with these contents, ready to be given away.
void fill_page(void const* from, std::size_t bytes) {
    if (workshop_page == nullptr) {
        auto const made = sys::stretch_create(0, 0, 1, abi::kRead | abi::kWrite | abi::kMeta);
        require_success(made, "workshop stretch");
        workshop = static_cast<std::uint64_t>(made);
        workshop_page =
            reinterpret_cast<std::byte*>(sys::call(abi::Call::StretchAddress, 0, workshop));
    }
    require_success(sys::map_batch(workshop, 0, 1), "page for a child");
    if (bytes != 0) __builtin_memcpy(workshop_page, from, bytes);
}

void give_page(Child const& child, std::uint64_t page, void const* from, std::size_t bytes) {
    fill_page(from, bytes);
    require_success(sys::frame_give(child.id, 0, page, workshop, 0, abi::kRead | abi::kWrite),
                    "page to a child");
}

/// Maps our constants and code a second time, in a stretch that can be offered: our image cannot,
/// our DIB lies in it.
void make_code_stretch() {
    auto const& env = environment();
    auto const first = env.image_begin;
    auto const end = reinterpret_cast<std::uint64_t>(__data_start);
    auto const made = sys::stretch_create(0, 0, 1, abi::kRead | abi::kExecute | abi::kMeta);
    require_success(made, "code stretch");
    code_stretch = static_cast<std::uint64_t>(made);
    code_base = static_cast<std::uint64_t>(sys::call(abi::Call::StretchAddress, 0, code_stretch));
    log::line("@code ", code_base, " ", first);
    auto const slot = first & ~(abi::kSlotSize - 1);
    for (auto at = first; at < end; at += abi::kPageSize) {
        auto const physical = sys::frame_physical(0, (at - slot) / abi::kPageSize);
        require_success(physical, "frame of the code");
        require_success(sys::map(0, code_stretch, (at - first) / abi::kPageSize,
                                 static_cast<std::uint64_t>(physical) / abi::kPageSize,
                                 abi::kRead | abi::kExecute),
                        "second mapping of the code");
    }
}

/// Where a child finds a function of ours.
template <typename F>
std::uint64_t in_child(F* function) {
    return reinterpret_cast<std::uint64_t>(function) - environment().image_begin + code_base;
}

/// The child gets `stretch` of ours with `rights`.
void share(Child const& child, std::uint64_t stretch, std::uint64_t rights) {
    require_success(sys::stretch_offer(0, stretch, child.id, rights), "offer");
    require_success(sys::stretch_accept(child.id, dib().id, stretch, rights), "acceptance");
}

[[noreturn]] void full_entry(abi::DibRo const* ro) {
    auto const* env = reinterpret_cast<abi::Environment const*>(ro->environment);
    start(ro, reinterpret_cast<void (*)(abi::Environment const&)>(env->entry));
}

}  // namespace

Board& board() {
    if (the_board == nullptr) {
        auto const at = pages::make_stretch(kBoardPages, board_stretch);
        require(at != 0, "board");
        the_board = reinterpret_cast<Board*>(at);
        make_code_stretch();
        the_board->tsc_base = reinterpret_cast<abi::TimePage const*>(abi::kTimePage)->tsc_base;
    }
    return *the_board;
}

Child make_child(ChildOptions const& options) {
    board();
    abi::DomainParameters p{};
    p.regions = 1;
    p.dib_offset = 0;
    p.context_slots = options.slots;
    p.endpoints = options.endpoints;
    p.stretches = 8;
    p.frames = options.frames;
    p.privileges = options.privileges;
    p.death_endpoint = 1;
    __builtin_memcpy(p.name, "bench child", 12);
    Child child;
    for (;;) {
        p.slot_address = child.base = next_slot;
        next_slot += abi::kSlotSize;
        auto const page = [&](std::uint64_t n) { return child.base + n * abi::kPageSize; };
        p.entry = options.main != nullptr ? in_child(&full_entry) : in_child(options.entry);
        p.stack =
            page(options.main != nullptr ? kStatePage + abi::kStatePages + 1 + 2 : kStatePage + 1);
        p.environment = options.main != nullptr ? page(kEnvironmentPage) : options.argument;
        p.state = page(kStatePage);
        __builtin_memcpy(state().rw->arguments, &p, sizeof(p));
        auto const made = sys::domain_create();
        if (made == static_cast<std::int64_t>(abi::Error::Busy)) continue;
        require_success(made, "child");
        child.id = static_cast<abi::DomainId>(made);
        break;
    }
    share(child, code_stretch, abi::kRead | abi::kExecute);
    share(child, board_stretch, abi::kRead | abi::kWrite);
    if (options.main != nullptr) {
        static abi::Environment env;
        env = abi::Environment{};
        env.magic = abi::kEnvironmentMagic;
        env.dib_ro = child.base;
        env.dib_rw = child.base + abi::kPageSize;
        env.state = child.base + kStatePage * abi::kPageSize;
        env.stack_low = child.base + kStackPage * abi::kPageSize;
        env.stack_high = env.stack_low + kStackPages * abi::kPageSize;
        env.entry = in_child(options.main);
        env.heap_bytes_max = options.argument;  // free for the child's use
        __builtin_memcpy(env.name, "bench child", 12);
        give_page(child, kEnvironmentPage, &env, sizeof(env));
        for (std::uint64_t i = 0; i < abi::kStatePages; ++i)
            give_page(child, kStatePage + i, nullptr, 0);
        for (std::uint64_t i = 0; i < 2; ++i)
            give_page(child, kActivationStackPage + i, nullptr, 0);
        for (std::uint64_t i = 0; i < kStackPages; ++i)
            give_page(child, kStackPage + i, nullptr, 0);
    } else {
        give_page(child, kStatePage, nullptr, 0);
    }
    contract(child, options.slice, options.period, options.deadline, options.weight);
    if (options.start) start_child(child);
    return child;
}

void start_child(Child const& child) {
    require_success(sys::domain_start(child.id), "start of a child");
}
void destroy_child(Child const& child) {
    require_success(sys::domain_destroy(child.id), "end of a child");
}

void reuse_slot(Child const& child) { next_slot = child.base; }

void contract(Child const& child, std::int64_t slice, std::int64_t period, std::int64_t deadline,
              std::uint32_t weight) {
    std::int64_t fits = 0;
    for (;;) {
        auto const set = sys::contract_set(child.id, slice, period, deadline, weight, &fits);
        if (set == static_cast<std::int64_t>(abi::Error::Busy)) {
            // The change before is in force only after an instant at which nobody uses a guarantee.
            Thread::sleep_until(now() + Duration::us(100));
            continue;
        }
        require(set == 0, "contract of a child", set);
        return;
    }
}

std::uint32_t connect(Child const& child, std::uint32_t child_endpoint) {
    for (auto n = kOwnEndpointFirst; n <= kOwnEndpointLast; ++n) {
        if (used[n]) continue;
        used[n] = true;
        require_success(sys::endpoint_offer(child.id, child_endpoint, dib().id),
                        "offer of an endpoint");
        require_success(sys::endpoint_accept(0, n, child.id, child_endpoint), "connection");
        return n;
    }
    require(false, "no endpoint left");
    return 0;
}

void connect(Child const& a, std::uint32_t endpoint_a, Child const& b, std::uint32_t endpoint_b) {
    require_success(sys::endpoint_offer(a.id, endpoint_a, b.id), "offer of an endpoint");
    require_success(sys::endpoint_accept(b.id, endpoint_b, a.id, endpoint_a), "connection");
}

void give_channel(Child const& source, Child const& sink) {
    auto const made = sys::stretch_create(source.id, 0, 1, abi::kRead | abi::kWrite | abi::kMeta);
    require_success(made, "channel");
    auto const number = static_cast<std::uint64_t>(made);
    fill_page(nullptr, 0);
    require_success(sys::frame_give(source.id, number, 0, workshop, 0, abi::kRead | abi::kWrite),
                    "page of a channel");
    require_success(sys::stretch_offer(source.id, number, sink.id, abi::kRead),
                    "offer of a channel");
    require_success(sys::stretch_accept(sink.id, source.id, number, abi::kRead),
                    "acceptance of a channel");
    connect(source, 2, sink, 3);
}

void disconnect(std::uint32_t own_endpoint) {
    sys::endpoint_close(0, own_endpoint);
    used[own_endpoint] = false;
}

}  // namespace nemesis::bench
