// names_user: a client of the system's names that checks what it is told; other modes are hostile.
//
// Argument: a letter, a number, a word.
//   c  binds, resolves, lists, unbinds and tries what is refused; exits with 0x600
//   r  the same without end in the directory WORD, which must be gone when it begins
//   d  as r, and comes through NUMBER deaths of the server; exits with 0x600
//   n  NUMBER names in directory WORD, all found again; exits with 0x600
//   f  as many names as it is given room for; then stays
//   x  writes nonsense into its binding to the server, and rings, for ever
//   s  offers a name server WORD that never answers
//   e  offers a name server WORD that sends everybody on to itself
//   m  through mounts: offers "other" (another name server), "silent" (s), "echo" (e), with
//      deadlines; exits with 0x600
// Exits with 0xbad'0000 and the line where something was not as it must be.
#include <new>

#include "domains/binder/session.h"
#include "domains/names/names_client.h"
#include "libnemesis/base/random.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"
#include "names/name_space.h"

namespace {

using namespace nemesis;
using namespace nemesis::name_service;
using names::Handle;
using names::NameError;

constexpr std::uint64_t space_bytes = 64 * 1024;

void check(bool holds, std::uint64_t line) {
    if (!holds) sys::exit(0xbad'0000 + line);
}
#define CHECK(holds) check(holds, __LINE__)

/// Text put together in a buffer of its own.
struct Path {
    char bytes[256];
    std::size_t size = 0;
    Path& add(std::string_view text) {
        __builtin_memcpy(bytes + size, text.data(), text.size());
        size += text.size();
        return *this;
    }
    Path& add(std::uint64_t n) {
        char digits[20];
        std::size_t at = sizeof(digits);
        do digits[--at] = static_cast<char>('0' + n % 10);
        while ((n /= 10) != 0);
        return add({digits + at, sizeof(digits) - at});
    }
    operator std::string_view() const { return {bytes, size}; }
};

/// All that lives as long as the domain: no destructors are ever run.
struct User {
    explicit User(names::NameSpace const& own) : space(own) {}
    binder::Session session;
    SystemNames system{session};
    names::NameSpace space;
};
alignas(User) std::byte user_memory[sizeof(User)];

User& make_user() {
    auto* const memory = static_cast<std::byte*>(pages::take(space_bytes / abi::kPageSize));
    CHECK(memory != nullptr);
    auto const space = names::NameSpace::create({memory, space_bytes}, 1);
    CHECK(space.has_value());
    auto& user = *new (user_memory) User(*space);
    CHECK(user.session.open().has_value());
    CHECK(user.space.make_directory("global").has_value());
    CHECK(user.space.mount("global", user.system, {.accepts_names = true}).has_value());
    return user;
}

binder::Bound& make_bound() {
    auto* const memory = pages::take(sizeof(binder::Bound) / abi::kPageSize + 1);
    CHECK(memory != nullptr);
    return *new (memory) binder::Bound;
}

names::Request soon(Duration d = Duration::ms(500)) { return {.deadline = now() + d}; }

/// One round of everything in the directory `at`. What failed is an error of the caller's choice.
Result<void, NameError> round(User& user, std::string_view at) {
    auto& space = user.space;
    Path directory;
    directory.add("global/").add(at);
    TRY_VOID(space.make_directory(directory, soon()));
    for (std::uint64_t i = 0; i < 20; ++i) {
        Path name;
        name.add(directory).add("/n").add(i);
        TRY_VOID(space.bind(name, {i + 1, 5}, names::BindMode::New, soon()));
        CHECK(TRY(space.resolve(name, soon())) == (Handle{i + 1, 5}));
    }
    names::NameList list;
    TRY_VOID(space.list(directory, "", list, soon()));
    CHECK(list.count == page_max && list.more && list.entries[0].name() == "n0" &&
          list.entries[1].name() == "n1" && list.entries[2].name() == "n10");
    for (std::uint64_t i = 0; i < 20; ++i) {
        Path name;
        name.add(directory).add("/n").add(i);
        TRY_VOID(space.unbind(name, soon()));
    }
    return space.unbind(directory, soon());
}

/// What is refused, and why.
void refused(User& user) {
    auto& space = user.space;
    CHECK(space.unbind("global/services", soon()).error() == NameError::NotYours);
    CHECK(space.bind("global/nowhere/x", {1, 1}, names::BindMode::New, soon()).error() ==
          NameError::NotFound);
    CHECK(space.resolve("global/services", soon()).error() == NameError::IsADirectory);
    CHECK(space.bind("global/services/mine", {7, 7}, names::BindMode::New, soon()).has_value());
    CHECK(space.bind("global/services/mine", {8, 8}, names::BindMode::New, soon()).error() ==
          NameError::Exists);
    CHECK(space.bind("global/services/mine", {8, 8}, names::BindMode::Replace, soon()).has_value());
    CHECK(space.resolve("global/services/mine/x", soon()).error() == NameError::NotADirectory);
    CHECK(*space.resolve("global/services/mine", soon()) == (Handle{8, 8}));
    // The server checks what a client says, not the client's library: asked without it.
    auto& bound = make_bound();
    CHECK(user.session.bind_named(bound, "names", Names::info, 4).has_value());
    NamesProxy<invocation::CallClient> raw(bound.client());
    char bytes[1023];
    for (auto& b : bytes) b = 'a';
    auto const why = [&](std::string_view path) {
        auto const found = raw.resolve(path);
        CHECK(found && found->tag == Found::Tag::Failed);
        return found->failed;
    };
    CHECK(why({bytes, 300}) == Why::TooLong);
    for (std::size_t i = 1; i < sizeof(bytes); i += 2) bytes[i] = '/';
    CHECK(why({bytes, 1023}) == Why::TooLong);  // 512 components
    CHECK(why("services/../x") == Why::BadName && why("a\nb") == Why::BadName);
    auto const empty = raw.bind("services/none", {0, 0}, false);
    CHECK(empty && empty->tag == Changed::Tag::Failed && empty->failed == Why::BadHandle);
    // To another client the name is somebody else's; and its names go when it unbinds.
    auto const taken = raw.unbind("services/mine");
    CHECK(taken && taken->tag == Changed::Tag::Failed && taken->failed == Why::NotYours);
    auto const made = raw.bind("services/second", {3, 3}, false);
    CHECK(made && made->tag == Changed::Tag::Done);
    user.session.unbind(bound);
    bool gone = false;
    for (int i = 0; i < 1000 && !gone; ++i) {
        Thread::sleep_until(now() + Duration::us(50));
        gone = !space.resolve("global/services/second", soon());
    }
    CHECK(gone);
}

/// Names of the one before must go by themselves.
void wait_until_gone(User& user, std::string_view directory) {
    Path path;
    path.add("global/").add(directory);
    for (auto const end = now() + Duration::ms(200); now() < end;) {
        names::NameList list;
        auto const listed = user.space.list(path, "", list, soon());
        if (!listed && listed.error() == NameError::NotFound) return;
        Thread::sleep_until(now() + Duration::us(50));
    }
    CHECK(false);
}

[[noreturn]] void rounds(User& user, std::string_view directory, std::uint64_t deaths) {
    wait_until_gone(user, directory);
    for (std::uint64_t died = 0;;) {
        auto const done = round(user, directory);
        if (done) continue;
        CHECK(deaths != 0 && done.error() == NameError::Unreachable);
        if (++died == deaths) sys::exit(0x600);
        // An error once; then there is a new server, which knows nothing yet.
        for (auto const end = now() + Duration::ms(200);;) {
            names::NameList list;
            if (user.space.list("global", "", list, soon())) break;
            CHECK(now() < end);
            Thread::sleep_until(now() + Duration::us(50));
        }
    }
}

void many(User& user, std::uint64_t count, std::string_view directory) {
    auto& space = user.space;
    Path at;
    at.add("global/").add(directory);
    // A large server is not there at once.
    for (auto const end = now() + Duration::s(1);;) {
        auto const made = space.make_directory(at, soon());
        if (made) break;
        CHECK(made.error() == NameError::Unreachable && now() < end);
        Thread::sleep_until(now() + Duration::us(200));
    }
    auto const name = [&](std::uint64_t i) {
        Path p;
        p.add(at).add("/d").add(i / 1000);
        if (i != UINT64_MAX) p.add("/n").add(i);
        return p;
    };
    auto const began = now();
    for (std::uint64_t i = 0; i < count; ++i) {
        if (i % 1000 == 0) {
            Path p;
            p.add(at).add("/d").add(i / 1000);
            CHECK(space.make_directory(p, soon()).has_value());
        }
        CHECK(space.bind(name(i), {i + 1, 9}, names::BindMode::New, soon()).has_value());
    }
    auto const bound = now();
    for (std::uint64_t i = 0; i < count; ++i)
        CHECK(*space.resolve(name(i), soon()) == (Handle{i + 1, 9}));
    auto const found = now();
    std::uint64_t listed = 0;
    for (std::uint64_t d = 0; d * 1000 < count; ++d) {
        Path p;
        p.add(at).add("/d").add(d);
        Path after;
        names::NameList list;
        do {
            CHECK(space.list(p, after, list, soon()).has_value());
            listed += list.count;
            after = {};
            if (list.count != 0) after.add(list.entries[list.count - 1].name());
        } while (list.more);
    }
    CHECK(listed == count);
    log::line("names ", count, ": ns each to bind ",
              (bound - began).ns() / static_cast<std::int64_t>(count), ", to resolve ",
              (found - bound).ns() / static_cast<std::int64_t>(count), ", to list ",
              (now() - found).ns() / static_cast<std::int64_t>(count));
    sys::exit(0x600);
}

[[noreturn]] void flood(User& user) {
    std::uint64_t made = 0;
    for (;; ++made) {
        Path p;
        p.add("global/f").add(made);
        auto const done = user.space.bind(p, {1, 1}, names::BindMode::New, soon());
        if (done) continue;
        CHECK(done.error() == NameError::Full);
        break;
    }
    auto& bound = make_bound();
    CHECK(user.session.bind_named(bound, "names", Names::info, 4).has_value());
    auto const room = NamesProxy<invocation::CallClient>(bound.client()).room();
    CHECK(room && made == room->share && room->free > room->share);
    log::line("full at ", made);
    for (;;) Thread::sleep_until(now() + Duration::s(1));
}

/// A binding to the server whose ring is filled with anything.
[[noreturn]] void nonsense(User& user, std::uint64_t seed) {
    auto& bound = make_bound();
    CHECK(user.session.bind_named(bound, "names", Names::info, 4).has_value());
    auto const ring = user.session.end_of(bound);
    Random random(seed);
    for (;;) {
        auto const at = random.below(ring.outgoing.size() / 8) * 8;
        auto const value = random.below(4) == 0 ? random.next() : random.below(2000);
        __builtin_memcpy(ring.outgoing.data() + at, &value, 8);
        auto const next = random.below(9);
        if (random.below(4) == 0) __builtin_memcpy(ring.outgoing.data() + 64, &next, 8);
        if (random.below(2) == 0)
            sys::send(ring.endpoint);
        else
            sys::send_sync(ring.endpoint, now().ns() + 50'000);
    }
}

/// A name server that never answers, or that always answers "elsewhere": with itself.
class Hostile final : public Names {
public:
    explicit Hostile(bool echoes) : echoes_(echoes) {}
    Result<Found, NamesError> resolve(std::string_view path) override {
        wait();
        return Found::make_elsewhere({{itself, Names::info.hash.low}, path.empty() ? none : next});
    }
    Result<Listed, NamesError> list(std::string_view path, std::string_view) override {
        wait();
        return Listed::make_elsewhere({{itself, Names::info.hash.low}, path.empty() ? none : far});
    }
    Result<Changed, NamesError> bind(std::string_view, Target const&, bool) override {
        wait();
        return Changed::make_elsewhere({{itself, 12345}, 1});
    }
    Result<Changed, NamesError> make_directory(std::string_view) override { return never(); }
    Result<Changed, NamesError> unbind(std::string_view) override { return never(); }
    Result<RoomResult, NamesError> room() override { return RoomResult{}; }
    std::uint64_t itself = 0;

private:
    static constexpr std::uint16_t none = 0, next = 1, far = 9999;
    void wait() const {
        while (!echoes_) Thread::sleep_until(Instant::never());
    }
    Result<Changed, NamesError> never() const {
        wait();
        return Changed::make_done();
    }
    bool echoes_;
};

struct HostileServer {
    explicit HostileServer(bool echoes) : object(echoes) {}
    Hostile object;
    invocation::Backlog backlog;
    binder::Session session;
    binder::Offered offered{static_cast<Names*>(&object), Names::info, backlog};
};

[[noreturn]] void serve_badly(bool echoes, std::string_view name) {
    auto* const memory = pages::take(sizeof(HostileServer) / abi::kPageSize + 1);
    CHECK(memory != nullptr);
    auto& s = *new (memory) HostileServer(echoes);
    CHECK(s.session.open().has_value());
    CHECK(s.session
              .offer(s.offered,
                     {.name = name, .slots = 4, .mode = invocation::CallServer::Mode::Workers})
              .has_value());
    s.object.itself = s.offered.number();
    CHECK(s.session.start_serving().has_value());
    s.backlog.run();
}

void mounts(User& user) {
    auto& space = user.space;
    auto const mount = [&](std::string_view path, std::string_view offer) {
        std::uint64_t number = 0;
        for (auto const end = now() + Duration::ms(100); number == 0;) {
            if (auto const found = user.session.binder().find(offer)) number = *found;
            CHECK(now() < end);
            Thread::sleep_until(now() + Duration::us(50));
        }
        CHECK(space.bind(path, {number, Names::info.hash.low}, names::BindMode::New, soon())
                  .has_value());
    };
    mount("global/b", "other");
    mount("global/silent", "silent");
    mount("global/echo", "echo");
    // All of it works beyond the mount point, and it is somebody else's account.
    CHECK(round(user, "b/services/r").has_value());
    CHECK(space.resolve("global/b/nothing", soon()).error() == NameError::NotFound);
    names::NameList list;
    CHECK(space.list("global", "", list, soon()).has_value() && list.count == 4);
    CHECK(list.entries[0].name() == "b" && list.entries[0].kind == names::NameKind::MountPoint);
    CHECK(list.entries[2].name() == "services" &&
          list.entries[2].kind == names::NameKind::Directory);
    CHECK(space.list("global/b", "", list, soon()).has_value() && list.count == 1);
    // Servers that mount each other: every path ends, a long one with TooManyHops.
    mount("global/b/back", "names");
    CHECK(*space.resolve("global/b/back/b", soon()) == *space.resolve("global/b", soon()));
    Path around;
    around.add("global");
    for (int i = 0; i < 12; ++i) around.add("/b/back");
    CHECK(space.resolve(around, soon()).error() == NameError::TooManyHops);
    // A server that does not answer costs the deadline and no more; others are not concerned.
    for (int i = 0; i < 3; ++i) {
        auto const began = now();
        auto const none = space.resolve("global/silent/x", soon(Duration::ms(4)));
        auto const took = now() - began;
        CHECK(!none && none.error() == NameError::DeadlinePassed);
        CHECK(took >= Duration::ms(4) && took < Duration::ms(8));
        CHECK(space.resolve("global/b", soon()).has_value());
    }
    Path deep;
    deep.add("global/echo");
    for (int i = 0; i < 40; ++i) deep.add("/x");
    CHECK(space.resolve(deep, soon()).error() == NameError::TooManyHops);
    CHECK(space.resolve("global/echo/x", soon()).error() == NameError::BadAnswer);
    CHECK(space.list("global/echo/x", "", list, soon()).error() == NameError::BadAnswer);
    CHECK(space.bind("global/echo/x", {1, 1}, names::BindMode::New, soon()).error() ==
          NameError::BadAnswer);
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto const* at = env.arguments + 1;
    std::uint64_t number = 0;
    for (; *at >= '0' && *at <= '9'; ++at)
        number = number * 10 + static_cast<std::uint64_t>(*at - '0');
    if (*at == ' ') ++at;
    std::string_view const word = at;
    auto const mode = env.arguments[0];
    if (mode == 's' || mode == 'e') serve_badly(mode == 'e', word);
    auto& user = make_user();
    switch (mode) {
        case 'c':
            CHECK(round(user, "c").has_value());
            refused(user);
            break;
        case 'r':
        case 'd':
            rounds(user, word, mode == 'd' ? number : 0);
        case 'n':
            many(user, number, word);
            break;
        case 'f':
            flood(user);
        case 'x':
            nonsense(user, number);
        case 'm':
            mounts(user);
            break;
        default:
            CHECK(false);
    }
    sys::exit(0x600);
}
