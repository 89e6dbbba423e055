// tile_client: has tiles sharpened by a filter that it finds by name. Where the filter is, in this
// domain, in another or on another machine, only the name says:
//
//     filter=/local/filter   filter=/services/filter   filter=/b/filter
//
// Argument: "filter=NAME clock=NAME tiles=N allow=MS [clock_allow=MS] [again]". Each call may take
// `allow` milliseconds, those of the clock `clock_allow` if it is given. Says "@tiles N checksum H"
// in the end and exits with 0. A call that fails is said
// ("@lost FAILURE after NS ns"), and so is when the name leads somewhere again ("@found after NS
// ns"); with the word "again" it goes on so for ever, else the first failure ends it with the
// failure's number.
#include <new>
#include <utility>

#include "domains/node/service_names.h"
#include "domains/node/sharpen_filter.h"
#include "libnemesis/base/hash.h"
#include "libnemesis/channel.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;
using namespace nemesis::node;
using names::NameSpace;

constexpr std::uint64_t kNamesBytes = 16 * 1024;

/// What the argument says.
struct Wishes {
    std::string_view filter, clock;
    std::uint64_t tiles = 0, allow_ms = 0, clock_allow_ms = 0;
    bool again = false;
};

std::uint64_t number(std::string_view text) {
    std::uint64_t n = 0;
    for (char const c : text) n = n * 10 + static_cast<std::uint64_t>(c - '0');
    return n;
}

Wishes read(std::string_view text) {
    Wishes wishes;
    while (!text.empty()) {
        std::size_t n = 0;
        while (n < text.size() && text[n] != ' ') ++n;
        auto const word = text.substr(0, n);
        text.remove_prefix(n < text.size() ? n + 1 : n);
        auto const is = [&](std::string_view key) {
            return word.size() >= key.size() && word.substr(0, key.size()) == key;
        };
        if (is("filter=")) wishes.filter = word.substr(7);
        if (is("clock=")) wishes.clock = word.substr(6);
        if (is("tiles=")) wishes.tiles = number(word.substr(6));
        if (is("allow=")) wishes.allow_ms = number(word.substr(6));
        if (is("clock_allow=")) wishes.clock_allow_ms = number(word.substr(12));
        if (word == "again") wishes.again = true;
    }
    if (wishes.clock_allow_ms == 0) wishes.clock_allow_ms = wishes.allow_ms;
    return wishes;
}

/// All that lives as long as the domain: no destructors are ever run.
struct Everything {
    SharpenFilter own;
    binder::Session session;
    BinderNames services{session};
    NodeNames a{session, "a"}, b{session, "b"};
};

/// A tile of a picture that needs no file: slopes and edges.
void draw(std::uint64_t tile, std::span<std::byte, tiles::tile_bytes> to) {
    for (std::size_t i = 0; i < to.size(); ++i) {
        auto const x = i % 64 + tile * 64, y = i / 64 + tile * 3;
        to[i] = static_cast<std::byte>((x * 5 + y * 3 + ((x / 16 + y / 16) % 2) * 90) & 0xff);
    }
}

using Filter = Service<tiles::Filter, tiles::FilterProxy>;
using Clock = Service<tiles::Clock, tiles::ClockProxy>;

constexpr auto kPause = Duration::ms(10);

template <typename E>
bool is(E why, invocation::Failure failure) {
    return static_cast<invocation::Failure>(why) == failure;
}

/// Calls until it succeeds, or the first failure counts. Returns that failure, or 0.
template <typename S, typename Call>
std::uint16_t call(S& service, std::uint64_t allow_ms, bool again, Call&& one) {
    auto const allow = Duration::ms(static_cast<std::int64_t>(allow_ms));
    auto const first = now();
    for (bool is_lost = false;;) {
        auto const begin = now();
        service.set_until(begin + allow);
        auto done = one(*service.handle().operator->());
        // Nothing has been called yet: who serves may be about to start.
        while (!done && is(done.error(), invocation::Failure::Unreachable) &&
               now() + kPause < begin + allow) {
            service.forget();
            Thread::sleep_until(now() + kPause);
            service.set_until(begin + allow);
            auto next = one(*service.handle().operator->());
            // Time that runs out meanwhile is not why it could not be called.
            if (!next && is(next.error(), invocation::Failure::TimedOut)) break;
            done = std::move(next);
        }
        if (done) {
            if (is_lost) log::line("@found after ", (now() - first).ns(), " ns");
            return 0;
        }
        auto const why = static_cast<std::uint16_t>(done.error());
        if (!is_lost)
            log::line("@lost ", text(static_cast<invocation::Failure>(why)), " after ",
                      (now() - begin).ns(), " ns");
        is_lost = true;
        if (!again) return why;
        service.forget();
        Thread::sleep_until(begin + allow);
    }
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto const wishes = read(env.arguments);
    auto* const memory = pages::take(sizeof(Everything) / abi::kPageSize + 1);
    auto* const names_memory = static_cast<std::byte*>(pages::take(kNamesBytes / abi::kPageSize));
    if (memory == nullptr || names_memory == nullptr) sys::exit(0x100);
    auto& all = *new (memory) Everything;
    if (!all.session.open()) sys::exit(0x101);
    auto made = NameSpace::create({names_memory, kNamesBytes}, cycle_count());
    if (!made) sys::exit(0x102);
    auto& space = *made;
    auto* const own = static_cast<tiles::Filter*>(&all.own);
    for (auto const* directory : {"local", "services", "a", "b"})
        if (!space.make_directory(directory)) sys::exit(0x103);
    if (!space.bind("local/filter", {reinterpret_cast<std::uint64_t>(own), kObject}) ||
        !space.mount("services", all.services) || !space.mount("a", all.a) ||
        !space.mount("b", all.b))
        sys::exit(0x104);

    Filter filter(space, all.session, wishes.filter);
    Clock clock(space, all.session, wishes.clock);
    if (!wishes.clock.empty()) {
        std::uint64_t time = 0;
        auto const why = call(clock, wishes.clock_allow_ms, wishes.again, [&](tiles::Clock& c) {
            auto const said = c.now();
            if (said) time = *said;
            return said;
        });
        if (why != 0) sys::exit(why);
        log::line("@clock ", time, " here ", now().ns());
    }
    static std::byte tile[tiles::tile_bytes];
    std::uint64_t checksum = 0;
    for (std::uint64_t i = 0; wishes.again || i < wishes.tiles; ++i) {
        draw(i, tile);
        auto const why = call(filter, wishes.allow_ms, wishes.again, [&](tiles::Filter& f) {
            auto const sharpened = f.sharpen(static_cast<std::uint16_t>(i % 20),
                                             static_cast<std::uint16_t>(i / 20 % 15),
                                             ByteView(std::span<std::byte const>(tile)));
            if (sharpened) checksum = checksum * 31 + code_hash(sharpened->span());
            return sharpened;
        });
        if (why != 0) sys::exit(why);
        if (wishes.again && i % 200 == 199) log::line("@tiles ", i + 1, " so far");
    }
    log::line("@tiles ", wishes.tiles, " checksum ", checksum);
    sys::exit(0);
}
