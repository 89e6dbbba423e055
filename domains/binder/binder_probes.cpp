// binder_probes: protected calls that come about by a name while both sides run, and what is left
// when one of them dies, lies or floods.
//
// Makes a binder of its own, and servers and clients that are introduced to it. Prints
// "[     OK ] name" or "[ FAILED ] name: ..." and ends the machine.
// Argument: kills of each kind, bindings at a time, a seed ("60 200 1"). Without bindings only the
// probes that kill are run.
#include "domains/calls/work.if.h"
#include "domains/parties/party.h"
#include "libnemesis/base/random.h"

namespace {

using namespace nemesis;
using namespace nemesis::parties;

constexpr std::uint64_t kSeed = 20260102;
std::uint64_t seed = 0;  ///< of the kills
/// As parties::party, of few frames.
abi::DomainId party(std::string_view program, std::string_view arguments,
                    std::uint32_t bindings = 8, std::uint32_t weight = 100,
                    std::int64_t slice_ns = 0) {
    return parties::party(program, arguments,
                          {.bindings = bindings,
                           .frames = 192 + bindings * 3 / 2,
                           .heap_bytes = (1u << 20) + bindings * 4096ull,
                           .stack_pages = 4,
                           .weight = weight,
                           .slice_ns = slice_ns});
}

binder::Identity identity(std::uint64_t hash, std::uint32_t version) {
    binder::Identity id;
    (void)id.name.assign("probe.Something");
    id.version = version;
    id.hash_low = id.hash_high = hash;
    return id;
}
binder::Limits limits() {
    binder::Limits l;
    l.clients = 4;
    l.slots = 16;
    l.request_bytes = l.reply_bytes = 64;
    return l;
}

/// A client binds to what `server_argument` has made, calls it and unbinds. How many endpoints the
/// server has in use then, or 0: it went wrong.
std::uint64_t verified(std::string_view server_argument, std::uint64_t which) {
    bool const grants = server_argument[0] == 'g' || server_argument[0] == 'v';
    Argument const argument(grants ? 'w' : 'v', 0, "work");
    auto const id = party("bound_client1", std::string_view(argument));
    if (!expect(id != 0, "no client that verifies", which)) return 0;
    auto const ended = wait_for([&] { return !lives(id); });
    auto const code = status(id).exit_code;
    sys::domain_destroy(id);
    if (!expect(ended && code > kDone && code < kDone + 256, "the next binding does not serve",
                code, which))
        return 0;
    return code - kDone;
}

// ---- what the creator sees when it is a party itself ----

void interfaces_differ() {
    auto& b = link().binder();
    auto const offer = b.offer("differing", identity(1, 3), limits());
    if (!expect(offer.has_value(), "no offer")) return;
    expect(b.offer("differing", identity(1, 3), limits()).error() == binder::BinderError::NameTaken,
           "a name twice");
    auto const asked = b.bind(*offer, identity(2, 4), 16, 0);
    expect(asked && asked->tag == binder::Asked::Tag::Mismatch && asked->mismatch.version == 3 &&
               asked->mismatch.hash_low == 1,
           "the other interface is not told");
    auto const same = b.bind(*offer, identity(1, 9), 16, 0);
    if (expect(same && same->tag == binder::Asked::Tag::Binding, "the hash alone counts")) {
        // The offer's clients are counted, and each side's release counts once.
        auto const notice = b.next();
        expect(notice && notice->tag == binder::Notice::Tag::Connect, "no notice");
        expect(b.release(same->binding).has_value() && b.release(same->binding).has_value() &&
                   !b.release(same->binding),
               "two sides, two releases");
    }
    for (int i = 0; i < 4; ++i) (void)b.bind(*offer, identity(1, 3), 16, 0);
    auto const fifth = b.bind(*offer, identity(1, 3), 16, 0);
    expect(!fifth && fifth.error() == binder::BinderError::TooMany, "more clients than offered");
    for (;;) {
        auto const notice = b.next();
        if (!notice || notice->tag == binder::Notice::Tag::Nothing) break;
        auto const n =
            notice->tag == binder::Notice::Tag::Connect ? notice->connect.binding : notice->ended;
        (void)b.release(n);
        (void)b.release(n);
    }
    expect(b.withdraw(*offer).has_value() && !b.withdraw(*offer) && !b.find("differing"),
           "withdrawn");
}

/// Every operation with every kind of number, right ones among them.
void random_operations() {
    auto& b = link().binder();
    Random random(kSeed);
    std::uint64_t numbers[16] = {};
    std::uint64_t succeeded = 0;
    for (int i = 0; i < 4'000; ++i) {
        auto const number = random.between(0, 7) == 0 ? random.next() : numbers[random.below(16)];
        auto& place = numbers[random.below(16)];
        char name[2] = {static_cast<char>('a' + random.below(4)), 0};
        auto const one = [&](auto const& result) { succeeded += result.has_value() ? 1 : 0; };
        switch (random.below(9)) {
            case 0: {
                auto l = limits();
                if (random.below(4) == 0) l.slots = static_cast<std::uint32_t>(random.next());
                if (random.below(4) == 0) l.reply_bytes = static_cast<std::uint32_t>(random.next());
                if (random.below(2) == 0) l.granted_bytes = 4096u << random.below(12);
                auto const made = b.offer({name, random.below(2)}, identity(random.below(2), 1), l);
                one(made);
                if (made) place = *made;
                break;
            }
            case 1:
                one(b.withdraw(number));
                break;
            case 2:
                one(b.find({name, 1}));
                break;
            case 3:
                one(b.describe(number));
                break;
            case 4: {
                auto const made =
                    b.bind(number, identity(random.below(2), 1), 1u << random.below(8),
                           random.below(4) == 0 ? 4096u << random.below(6) : 0u);
                one(made);
                if (made && made->tag == binder::Asked::Tag::Binding) place = made->binding;
                break;
            }
            case 5:
                one(b.collect(number));
                break;
            case 6: {
                auto const notice = b.next();
                one(notice);
                break;
            }
            case 7:
                one(b.accept(number, static_cast<std::uint32_t>(random.next())));
                break;
            default:
                one(b.release(number));
        }
    }
    expect(succeeded > 400, "hardly any operation succeeded", succeeded);
    // All of it goes again.
    for (auto const n : numbers) {
        (void)b.withdraw(n);
        (void)b.release(n), (void)b.release(n);
    }
    for (int i = 0; i < 200; ++i) {
        auto const notice = b.next();
        if (!notice || notice->tag == binder::Notice::Tag::Nothing) break;
        auto const n =
            notice->tag == binder::Notice::Tag::Connect ? notice->connect.binding : notice->ended;
        (void)b.release(n), (void)b.release(n);
    }
}

/// Domains that do not exist, or do not want: what was made for them is taken back.
void introduced_for_nothing() {
    auto& b = link().binder();
    auto const some = [&] {
        for (std::uint64_t i = 0; i < 40; ++i) {
            if (!expect(b.introduce(0xffff'0000'0000ull + i, 0, 0).has_value(), "no introduction",
                        i))
                return;
            Thread::sleep_until(now() + Duration::us(200));
        }
    };
    some();
    auto const before = frames_settled();
    some();
    expect(frames_settled() == before, "frames are missing", before, frames_free());
}

// ---- deaths ----

/// A server that stays; clients that are killed while they bind and call. After each: the binder
/// and the server have what they had before, and the next client is served.
void clients_die(std::string_view server_argument, std::string_view client_argument,
                 std::uint64_t kills) {
    // The first ones may leave tables behind that later ones use again.
    constexpr std::uint64_t first = 4;
    Random random(kSeed + seed);
    auto const server = party("bound_server0", server_argument);
    if (!expect(server != 0, "no server")) return;
    Account before;
    std::uint64_t endpoints = 0;
    for (std::uint64_t i = 0; i < kills + first && !has_failed; ++i) {
        auto const client = party("bound_client0", client_argument);
        if (!expect(client != 0, "no client", i)) return;
        Thread::sleep_until(now() + Duration::ns(random.between(0, 300'000)));
        expect(status(client).state == 1, "the client ended by itself", status(client).exit_code,
               i);
        sys::domain_destroy(client);
        expect(status(server).state == 1, "the server ended", status(server).exit_code, i);
        if (i >= first) expect_account(before, i);
        auto const used = verified(server_argument, i);
        if (i + 1 == first) {
            before = Account::settled();
            endpoints = used;
        }
        if (i >= first)
            expect(used == endpoints, "endpoints of the server are left", used - endpoints, i);
    }
    log::line("killed ", running, " ", kills, " clients: endpoints of the server ", endpoints,
              " before and after");
    before.say();
    // It serves as ever.
    auto const last = party("bound_client0", client_argument);
    Thread::sleep_until(now() + Duration::ms(2));
    sys::domain_destroy(server);
    expect(wait_for([&] { return status(last).state == 1; }), "the last client ended",
           status(last).exit_code);
    sys::domain_destroy(last);
}

/// Servers of one name that are killed while a client binds and calls: each call that fails says
/// PeerDead, and the next binding serves.
void servers_die(std::string_view server_argument, char mode, std::uint64_t kills) {
    constexpr std::uint64_t first = 8;
    Random random(kSeed + 1 + seed);
    Argument const argument(mode, kills, "work");
    auto const client = party("bound_client0", std::string_view(argument));
    if (!expect(client != 0, "no client")) return;
    Account before;
    std::uint64_t killed = 0;
    while (status(client).state == 1 && killed < 20 * kills && !has_failed) {
        auto const server = party("bound_server0", server_argument);
        if (!expect(server != 0, "no server", killed)) return;
        Thread::sleep_until(now() + Duration::ns(random.between(0, 500'000)));
        expect(status(server).state == 1, "the server ended by itself", status(server).exit_code,
               killed);
        sys::domain_destroy(server);
        ++killed;
        if (killed == first) before = Account::settled();
        if (killed > first && status(client).state == 1) expect_account(before, killed);
    }
    expect(status(client).state == 2 && status(client).exit_code == kDone,
           "the client did not come through", status(client).exit_code, killed);
    log::line("killed ", running, " ", killed, " servers, ", kills, " of them bound to");
    before.say();
    sys::domain_destroy(client);
}

/// A client that only sleeps is told when its server dies.
void idle_client_is_told() {
    auto const server = party("bound_server0", "iwork");
    auto const client = party("bound_client0", "s work");
    Thread::sleep_until(now() + Duration::ms(3));
    if (!expect(lives(client), "the client ended", status(client).exit_code)) return;
    sys::domain_destroy(server);
    auto const told = wait_for([&] { return !lives(client); }, Duration::ms(1));
    expect(told && status(client).exit_code == kDone, "the death is not told",
           status(client).exit_code);
    sys::domain_destroy(client);
}

/// Clients that name ranges by hand and write into what is read, beside one that grants as it
/// should; each is killed in the middle.
void hostile_grants(std::uint64_t kills) {
    auto const server = party("bound_server0", "gwork");
    auto const friendly = party("bound_client1", "g2 work");
    Account before;
    Random random(kSeed + 2 + seed);
    for (std::uint64_t i = 0; i < kills && !has_failed; ++i) {
        auto const hostile = party("bound_client0", "y1 work");
        if (!expect(hostile != 0, "no hostile domain", i)) return;
        Thread::sleep_until(now() + Duration::us(200) + Duration::ns(random.between(0, 800'000)));
        expect(status(hostile).state == 1, "it was not refused, or refused wrongly",
               status(hostile).exit_code, i);
        sys::domain_destroy(hostile);
        expect(status(server).state == 1 && status(friendly).state == 1, "one was harmed",
               status(server).exit_code, status(friendly).exit_code);
        if (i == 3) before = Account::settled();
        if (i > 3) expect_account(before, i);
    }
    sys::domain_destroy(server);
    sys::domain_destroy(friendly);
}

/// Domains that write nonsense into their connection, others that bind and call beside them.
void hostile_parties(std::uint64_t kills) {
    auto const server = party("bound_server0", "iwork");
    auto const friendly = party("bound_client1", "d2 work");
    Account before;
    for (std::uint64_t i = 0; i < kills && !has_failed; ++i) {
        char argument[8] = {'x', static_cast<char>('0' + i / 10 % 10),
                            static_cast<char>('0' + i % 10)};
        auto const hostile = party("bound_client0", {argument, 3});
        if (!expect(hostile != 0, "no hostile domain", i)) return;
        Thread::sleep_until(now() + Duration::us(300));
        sys::domain_destroy(hostile);
        expect(status(server).state == 1 && status(friendly).state == 1, "one was harmed",
               status(server).exit_code, status(friendly).exit_code);
        expect(link().binder().describe(0).error() == binder::BinderError::NoSuchOffer,
               "the binder does not answer");
        if (i == 3) before = Account::settled();
        if (i > 3) expect_account(before, i);
    }
    sys::domain_destroy(server);
    sys::domain_destroy(friendly);
}

/// A shared server without a contract; one client floods it, another domain takes the spare time; a
/// third has a contract and a job each period, most of it the server's work. When it donates, all
/// its deadlines hold; when it does not, they do not.
void flooded_server() {
    constexpr std::uint64_t jobs = 30;
    for (bool const donates : {true, false}) {
        auto const server = party("bound_server0", "iwork", 8, 1);
        auto const flood = party("bound_client0", "d1 work", 8, 100);
        auto const guaranteed =
            party("bound_client2", donates ? "p30 work" : "q30 work", 8, 1, 1'500'000);
        // They are bound before there is next to no time left for the server itself.
        Thread::sleep_until(now() + Duration::ms(5));
        auto const hog = party("bound_client1", "h", 8, 10'000);
        if (!expect(server != 0 && flood != 0 && hog != 0 && guaranteed != 0, "not made")) return;
        auto const ended =
            wait_for([&] { return status(guaranteed).state == 2; }, Duration::ms(10 * (jobs + 20)));
        auto const missed = status(guaranteed).exit_code - 0x600;
        if (donates)
            expect(ended && missed == 0, "deadlines were missed", ended ? missed : jobs);
        else
            expect(!ended || missed > jobs / 2, "the check cannot fail", missed);
        expect(status(flood).state == 1 && status(server).state == 1, "one ended",
               status(flood).exit_code);
        for (auto const id : {server, flood, hog, guaranteed}) sys::domain_destroy(id);
        (void)frames_settled();
    }
}

/// A call by synchronous send gives the whole domain up: its other threads wake in time all the
/// same.
void sleeper_wakes_during_call() {
    auto const server = party("bound_server0", "iwork");
    auto const client = party("bound_client0", "t20 work", 8, 1, 1'500'000);
    expect(wait_for([&] { return status(client).state == 2; }, Duration::ms(400)), "has not ended");
    auto const late_us = status(client).exit_code - 0x600;
    expect(late_us < 20, "a sleeper came late", late_us);
    sys::domain_destroy(client);
    sys::domain_destroy(server);
    (void)frames_settled();
}

/// Five servers, five clients, each with a fifth of `count` bindings, a fifth of them to each
/// server; called all; then all die.
void many_bindings(std::uint64_t count) {
    auto const each = static_cast<std::uint32_t>(count / 5);
    abi::DomainId servers[5], clients[5];
    for (auto& s : servers) {
        auto const number = static_cast<char>('0' + (&s - servers));
        char const argument[] = {'i', 'm', number};
        char name[] = "bound_server0";
        name[12] = number;
        s = party(name, {argument, 3}, each);
        if (!expect(s != 0, "no server")) return;
    }
    char argument[24] = {'m'};
    std::size_t n = 1;
    for (auto d = std::uint64_t{1'000'000}; d != 0; d /= 10)
        argument[n++] = static_cast<char>('0' + each / d % 10);
    __builtin_memcpy(argument + n, " m", 2);
    auto const before = frames_free();
    auto const began = now();
    for (auto& c : clients) {
        char name[] = "bound_client0";
        name[12] = static_cast<char>('0' + (&c - clients));
        c = party(name, {argument, n + 2}, each);
        if (!expect(c != 0, "no client")) return;
    }
    // They are through when nobody computes any more.
    std::int64_t used = -1;
    for (;;) {
        std::int64_t sum = 0;
        for (auto const c : clients) {
            auto const s = status(c);
            sum += s.used_ns + s.extra_ns;
            if (!expect(s.state == 1, "a client ended", s.exit_code)) return;
        }
        if (sum == used) break;
        used = sum;
        Thread::sleep_until(now() + Duration::ms(50));
    }
    log::line("@bindings ", count, ": ", (before - frames_free()) * 4, " KiB with the clients, ",
              (now() - began).ns() / 1'000'000, " ms");
    for (auto const c : clients) sys::domain_destroy(c);
    for (auto const s : servers) {
        expect(status(s).state == 1, "a server ended", status(s).exit_code);
        sys::domain_destroy(s);
    }
}

/// Calls that are taken back: their callers go on at once, the server does not work for nobody.
void calls_cancelled() {
    auto const server = party("bound_server0", "wcancel");
    auto const client = party("bound_client0", "c20 cancel");
    expect(wait_for([&] { return status(client).state == 2; }, Duration::ms(500)), "it hangs");
    expect(status(client).exit_code == 0x600, "a cancelled call", status(client).exit_code);
    expect(status(server).state == 1, "the server ended", status(server).exit_code);
    sys::domain_destroy(client);
    sys::domain_destroy(server);
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    char const* at = env.arguments;
    auto const kills = number(at);
    auto const bindings = number(at);
    seed = number(at);
    bool const only_kills = bindings == 0;
    auto const before = frames_free();
    binder::BinderOptions options;
    options.parties = 64;
    options.bindings = static_cast<std::uint32_t>(bindings + 100);
    options.frames = 4096 + bindings * 5;
    start_binder(options);
    if (!only_kills) {
        probe("binder.interfaces_differ", interfaces_differ);
        probe("binder.random_operations", random_operations);
    }
    probe("binder.client_dies", [&] { clients_die("iwork", "d1 work", kills); });
    probe("binder.client_without_donation_dies", [&] { clients_die("iwork", "a1 work", kills); });
    probe("binder.client_of_worker_dies", [&] { clients_die("wwork", "d1 work", kills); });
    probe("binder.server_dies", [&] { servers_die("iwork", 'd', kills); });
    probe("binder.server_without_donation_dies", [&] { servers_die("iwork", 'a', kills); });
    probe("binder.server_of_watching_client_dies", [&] { servers_die("iwork", 'e', kills); });
    probe("binder.server_with_worker_dies", [&] { servers_die("wwork", 'd', kills); });
    probe("binder.granting_client_dies", [&] { clients_die("gwork", "g1 work", kills); });
    probe("binder.granting_client_of_worker_dies", [&] { clients_die("vwork", "g1 work", kills); });
    probe("binder.server_dies_while_reading", [&] { servers_die("gwork", 'g', kills); });
    probe("binder.worker_dies_while_reading", [&] { servers_die("vwork", 'g', kills); });
    if (!only_kills) {
        probe("binder.hostile_grants", [&] { hostile_grants(kills); });
        probe("binder.hostile_parties", [&] { hostile_parties(kills); });
        probe("binder.flooded_server", flooded_server);
        probe("binder.sleeper_wakes_during_call", sleeper_wakes_during_call);
        probe("binder.calls_cancelled", calls_cancelled);
        probe("binder.idle_client_is_told", idle_client_is_told);
        probe("binder.many_bindings", [&] { many_bindings(bindings); });
    }
    // Leaves a few behind, which later introductions would replace.
    probe("binder.introduced_for_nothing", introduced_for_nothing);
    probe("binder.ends_with_everything", [&] {
        link().destroy();
        // What init lent for pages on their way stays with it.
        expect(frames_free() + 4 >= before, "frames are missing", before, frames_free());
    });
    end_probes();
}
