// Many domains, and large ones: what is bounded stays bounded. Long: run on demand.
#include "domains/probes/probe.h"
#include "domains/probes/target.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/state.h"

namespace nemesis::probes {
namespace {

constexpr std::int64_t kMs = 1'000'000;
/// No step of a destruction keeps the processor for longer than the most urgent may wait for it
/// (docs/costs.md, timer_wakeup). units: ns
constexpr std::int64_t kEntryMax = 1000;

/// out[0] jobs, out[1] missed: 0.2 ms of work every 5 ms.
void ticker_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    auto release = now().ns();
    for (;;) {
        spin(60'000);
        release += 5 * kMs;
        auto const time = now().ns();
        if (time > release) {
            mail.out[1] = mail.out[1] + 1;
            release = time;
        }
        mail.out[0] = mail.out[0] + 1;
        sys::suspend(release);
        clear_pending(ro);
    }
}
Target ticker() {
    auto t = make(ticker_entry, {.weight = 0, .slice = kMs / 2, .period = 5 * kMs});
    EXPECT_EQ(t.error, 0);
    EXPECT(t.start());
    return t;
}

/// Adds one to the count of its life in a page it shares, and waits.
void bare_entry(abi::DibRo const* ro) {
    for (;;) {
        sys::suspend(INT64_MAX);
        clear_pending(ro);
    }
}

/// Endpoints and acceptances: in[0] how many frames it takes for itself.
void large_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    std::uint64_t taken = 0;
    while (taken < mail.in[0]) {
        auto const made = sys::stretch_create(0, 0, 64, abi::kRead | abi::kWrite | abi::kMeta);
        if (made < 0) break;
        for (std::uint64_t page = 0; page < 64 * 512 && taken < mail.in[0];) {
            auto const mapped = sys::map_batch(static_cast<std::uint64_t>(made), page, 4);
            if (mapped < 0) break;
            page += static_cast<std::uint64_t>(mapped);
            taken += static_cast<std::uint64_t>(mapped);
        }
        mail.out[1] = static_cast<std::uint64_t>(made);
    }
    mail.out[0] = taken;
    mail.go = 1;
    for (;;) sys::suspend(INT64_MAX);
}

/// A domain with 256 MiB and many peers (each has accepted a stretch of it; as many as there are
/// endpoints are connected too) is destroyed. Nobody else misses; everything is returned.
void kill_among(std::uint64_t peers, std::uint64_t mib) {
    auto const count = peers;
    auto const page_count = (count * sizeof(Target) + abi::kPageSize - 1) / abi::kPageSize;
    auto* all = static_cast<Target*>(pages::take(page_count));
    REQUIRE(all != nullptr);
    auto watch = ticker();
    auto const before = sys::machine_info(abi::MachineInfo::FramesFree);
    auto const endpoints = count + 4 < 4096 ? static_cast<std::uint32_t>(count + 4) : 4096;
    auto victim =
        make(large_entry,
             {.frames = mib * 256 + 2000, .endpoints = endpoints, .stretches = 16, .weight = 1000});
    REQUIRE_EQ(victim.error, 0);
    victim.mail->in[0] = mib * 256;
    REQUIRE(victim.start());
    REQUIRE(wait_for([&] { return victim.mail->go == 1; }, Duration::s(20)));
    EXPECT_EQ(victim.mail->out[0], mib * 256);
    auto const shared = victim.mail->out[1];
    std::uint64_t made = 0;
    for (; made < count; ++made) {
        auto& t = all[made];
        t = make(
            bare_entry,
            {.frames = 24, .endpoints = 4, .slots = 2, .stretches = 4, .weight = 1, .bare = true});
        if (t.error != 0) break;
        if (!EXPECT_EQ(sys::stretch_offer(victim.id, shared, t.id, abi::kRead), 0)) break;
        // One step of it: a region or two are enough to be on the list.
        auto const accepted =
            sys::call6(abi::Call::StretchAccept, t.id, victim.id, shared, abi::kRead);
        if (!EXPECT(accepted >= 0 || accepted == code(abi::Error::Again))) break;
        if (made + 1 < endpoints &&
            !EXPECT(connect(victim, static_cast<std::uint32_t>(made + 1), t, 1)))
            break;
        if (!EXPECT(t.start())) break;
    }
    EXPECT_EQ(made, count);
    auto const jobs = watch.mail->out[0];
    sys::measure(abi::MeasureWord::ResetEntryMax);
    auto const began = now();
    destroy(victim);
    auto const took = now() - began;
    log::line("destroyed in ", took);
    EXPECT_BELOW(sys::measure(abi::MeasureWord::EntryMax), kEntryMax + 1);
    auto const due = static_cast<std::uint64_t>(took.ns() / (5 * kMs));
    EXPECT(watch.mail->out[0] + 1 >= jobs + due);
    EXPECT_EQ(watch.mail->out[1], 0);
    for (std::uint64_t i = 0; i < made; ++i) sys::domain_destroy(all[i].id);
    EXPECT_EQ(watch.mail->out[1], 0);
    EXPECT_EQ(sys::machine_info(abi::MachineInfo::FramesFree), before);
    pages::give(all, page_count);
}

void kill_large_one() { kill_among(200, 64); }
void kill_large_one_long() { kill_among(10'000, 256); }

/// Does what in[0] says, and says so in out[3]. Odd: sends from each of its endpoints; out[0] sent,
/// out[1] refused, because the peer is dead. Even: looks; out[2] endpoints with half as many
/// events.
void switchboard_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    for (;;) {
        while (mail.in[0] == mail.out[3]) {
            sys::suspend(now().ns() + kMs / 2);
            clear_pending(ro);
        }
        auto const task = mail.in[0];
        for (std::uint32_t n = 0; n < ro->endpoint_count; ++n) {
            if (task % 2 == 0) {
                mail.out[2] = mail.out[2] + (count_of(ro, n) == task / 2);
                continue;
            }
            auto const sent = sys::send(n);
            mail.out[0] = mail.out[0] + (sent == 0);
            mail.out[1] = mail.out[1] + (sent == code(abi::Error::PeerDead));
        }
        mail.out[3] = task;
    }
}

/// 262,144 endpoints, 4,096 in each of 64 domains, each connected to one of another domain: an
/// event passes between any two. No domain has more, and what none has the quota for is refused.
void all_endpoints() {
    constexpr std::uint32_t domains = 64, each = abi::kEndpointsMax;
    static_assert(domains * each == 262'144);
    constexpr TargetOptions options{.frames = 128, .endpoints = each};
    auto more = options, poorer = options;
    more.endpoints = each + 1;
    poorer.frames = 40;
    EXPECT_EQ(make(switchboard_entry, more).error, code(abi::Error::BadArgument));
    EXPECT_EQ(make(switchboard_entry, poorer).error, code(abi::Error::QuotaExceeded));

    static Target all[domains];
    for (auto& t : all) {
        t = make(switchboard_entry, options);
        REQUIRE_EQ(t.error, 0);
    }
    // With each domain, so with each of the 63 others in turn: i ^ k is i's partner as i is its.
    for (std::uint32_t i = 0; i < domains; ++i) {
        for (std::uint32_t n = 0; n < each; ++n) {
            auto const partner = i ^ (1 + n % (domains - 1));
            if (partner > i) REQUIRE(connect(all[i], n, all[partner], n));
        }
        EXPECT_EQ(sys::endpoint_offer(all[i].id, each, all[i ^ 1].id), code(abi::Error::BadHandle));
    }
    for (auto& t : all) REQUIRE(t.start());
    auto const let_all = [&](std::uint64_t task, std::uint32_t from) {
        for (auto i = from; i < domains; ++i) all[i].mail->in[0] = task;
        return wait_for(
            [&] {
                for (auto i = from; i < domains; ++i)
                    if (all[i].mail->out[3] != task) return false;
                return true;
            },
            Duration::s(2));
    };
    REQUIRE(let_all(1, 0));
    REQUIRE(let_all(2, 0));
    for (auto const& t : all) {
        EXPECT_EQ(t.mail->out[0], each);
        EXPECT_EQ(t.mail->out[2], each);
    }
    // The death of one ends its connections and no others; who had one gets an event.
    sys::measure(abi::MeasureWord::ResetEntryMax);
    destroy(all[0]);
    EXPECT_BELOW(sys::measure(abi::MeasureWord::EntryMax), kEntryMax + 1);
    REQUIRE(let_all(3, 1));
    REQUIRE(let_all(4, 1));
    std::uint64_t sent = 0, refused = 0;
    for (std::uint32_t i = 1; i < domains; ++i) {
        sent += all[i].mail->out[0] - each;
        refused += all[i].mail->out[1];
        EXPECT_EQ(all[i].mail->out[2], 2 * each);
    }
    EXPECT_EQ(refused, each);
    EXPECT_EQ(sent, (domains - 2) * each);
}

/// 10,000 domains alive at once; a contract holder misses nothing while they come, run and go.
void ten_thousand() {
    constexpr std::uint64_t count = 10'000;
    auto const page_count = (count * 8 + abi::kPageSize - 1) / abi::kPageSize;
    auto* ids = static_cast<std::uint64_t*>(pages::take(page_count));
    REQUIRE(ids != nullptr);
    auto watch = ticker();
    auto const before = sys::machine_info(abi::MachineInfo::FramesFree);
    std::uint64_t made = 0;
    for (; made < count; ++made) {
        auto t = make(
            made % 100 == 0 ? spinner : bare_entry,
            {.frames = 24, .endpoints = 4, .slots = 2, .stretches = 4, .weight = 1, .bare = true});
        if (t.error != 0 || !t.start()) break;
        ids[made] = t.id;
    }
    EXPECT_EQ(made, count);
    auto const used = before - sys::machine_info(abi::MachineInfo::FramesFree);
    EXPECT_BELOW(used, static_cast<std::int64_t>(count) * 10 + 1);  // 40 KiB a domain
    sleep(Duration::ms(50));
    for (std::uint64_t i = 0; i < made; ++i) sys::domain_destroy(ids[i]);
    EXPECT_EQ(watch.mail->out[1], 0);
    EXPECT(watch.mail->out[0] > 20);
    EXPECT_EQ(sys::machine_info(abi::MachineInfo::FramesFree), before);
    pages::give(ids, page_count);
}

/// Waits for a while, lets others go first, or works: by numbers of its own.
void restless_entry(abi::DibRo const* ro) {
    auto number = ro->id * 0x9e3779b97f4a7c15ull | 1;
    for (;;) {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        spin(number >> 8 & 0xfff);
        if ((number & 3) == 0)
            sys::yield();
        else
            sys::suspend(now().ns() + static_cast<std::int64_t>(number >> 32 & 0xffffff));
        clear_pending(ro);
    }
}

/// Thousands compete for spare time, wait for time-outs and use up small guarantees, and are ended
/// one by one: whoever has a guarantee misses nothing. (How long an entry to the kernel is
/// meanwhile is counted from outside, tests/guest/probes_long.py.)
void restless_crowd(std::uint64_t count) {
    auto const page_count = (count * 8 + abi::kPageSize - 1) / abi::kPageSize;
    auto* ids = static_cast<std::uint64_t*>(pages::take(page_count));
    REQUIRE(ids != nullptr);
    auto watch = ticker();
    std::uint64_t made = 0;
    for (; made < count; ++made) {
        TargetOptions options{.frames = 24,
                              .endpoints = 4,
                              .slots = 2,
                              .stretches = 4,
                              .weight = static_cast<std::uint32_t>(made % 7 + 1),
                              .bare = true};
        if (made % 50 == 0) {
            options.slice = 5'000;
            options.period = 100 * kMs;
        }
        auto t = make(restless_entry, options);
        if (t.error != 0 || !t.start()) break;
        ids[made] = t.id;
    }
    EXPECT_EQ(made, count);
    sleep(Duration::ms(400));
    for (std::uint64_t i = 0; i < made; ++i) sys::domain_destroy(ids[i]);
    EXPECT_EQ(watch.mail->out[1], 0);
    EXPECT(watch.mail->out[0] > 80);
    pages::give(ids, page_count);
}
void restless_hundreds() { restless_crowd(300); }
void restless_thousands() { restless_crowd(10'000); }

constexpr Probe list[] = {
    {"scale.restless_hundreds", restless_hundreds},
    {"+scale.restless_ten_thousand", restless_thousands},
    {"scale.kill_64_mib_200_peers", kill_large_one},
    {"scale.all_endpoints", all_endpoints},
    {"+scale.kill_256_mib_10000_peers", kill_large_one_long},
    {"+scale.ten_thousand_domains", ten_thousand},
};

}  // namespace

ProbeList scale_probes() { return {list, sizeof(list) / sizeof(list[0])}; }

}  // namespace nemesis::probes
