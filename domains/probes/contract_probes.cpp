// Contracts: admission through the call, changes at run time, guarantees off and on.
#include "domains/probes/probe.h"
#include "domains/probes/target.h"

namespace nemesis::probes {
namespace {

constexpr std::int64_t kMs = 1'000'000;

/// A periodic job: in[0] ns of work every in[1] ns. out[0] jobs, out[1] missed, out[2] worst
/// lateness. It works by the time of its own, so the slice must be a little larger.
void job_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    auto release = now().ns();
    for (;;) {
        // Work is counted in loop rounds, calibrated by in[2].
        spin(mail.in[2]);
        auto const end = now().ns();
        auto const late = end - (release + static_cast<std::int64_t>(mail.in[1]));
        mail.out[0] = mail.out[0] + 1;
        if (late > 0) {
            mail.out[1] = mail.out[1] + 1;
            if (late > static_cast<std::int64_t>(mail.out[2]))
                mail.out[2] = static_cast<std::uint64_t>(late);
        }
        release += static_cast<std::int64_t>(mail.in[1]);
        if (release < end) release = end;
        clear_pending(ro);
        sys::suspend(release);
    }
}
/// What a round of spin takes, rounded up.
std::uint64_t ns_per_round() {
    auto best = INT64_MAX;
    for (int i = 0; i < 5; ++i) {
        auto const before = now();
        spin(10'000);
        best = (now() - before).ns() < best ? (now() - before).ns() : best;
    }
    return static_cast<std::uint64_t>(best / 10'000) + (best % 10'000 > 200 ? 1 : 0);
}
Target job(std::uint64_t work_ns, std::int64_t slice, std::int64_t period,
           std::uint32_t weight = 0) {
    auto t = make(job_entry, {.weight = weight, .slice = slice, .period = period});
    EXPECT_EQ(t.error, 0);
    t.mail->in[1] = static_cast<std::uint64_t>(period);
    t.mail->in[2] = work_ns / ns_per_round();
    return t;
}

void refused_with_the_largest_slice() {
    auto a = make(sleeper), b = make(sleeper);
    REQUIRE_EQ(sys::contract_set(a.id, 6 * kMs, 10 * kMs, 10 * kMs, 0), 0);
    std::int64_t fits = 0;
    EXPECT_EQ(sys::contract_set(b.id, 6 * kMs, 10 * kMs, 10 * kMs, 0, &fits),
              code(abi::Error::Refused));
    EXPECT(fits > 3 * kMs && fits < 4 * kMs);
    std::int64_t again = 0;
    EXPECT_EQ(sys::contract_set(b.id, fits + 1, 10 * kMs, 10 * kMs, 0, &again),
              code(abi::Error::Refused));
    EXPECT_EQ(again, fits);
    EXPECT_EQ(b.status().slice, 0);  // refused: nothing has changed
    EXPECT_EQ(sys::contract_set(b.id, fits, 10 * kMs, 10 * kMs, 0), 0);
    EXPECT_EQ(b.status().slice, fits);
    // With a deadline before the period.
    EXPECT_EQ(sys::contract_set(b.id, 5 * kMs, 20 * kMs, 5 * kMs, 0, &fits),
              code(abi::Error::Refused));
    EXPECT(fits < 5 * kMs);
    EXPECT_EQ(sys::contract_set(b.id, fits + 1, 20 * kMs, 5 * kMs, 0), code(abi::Error::Refused));
    // The limits are the booked costs': a slice of the whole period never fits.
    EXPECT_EQ(sys::contract_set(a.id, 0, 0, 0, 1), 0);
    EXPECT_EQ(sys::contract_set(b.id, 10 * kMs, 10 * kMs, 10 * kMs, 0), code(abi::Error::Refused));
}

void arguments() {
    auto t = make(sleeper);
    constexpr struct {
        std::int64_t slice, period, deadline;
    } bad[] = {{-1, kMs, kMs},
               {2, 1, 1},
               {1, kMs, 2 * kMs},
               {kMs, kMs, 1},
               {INT64_MIN, INT64_MIN, INT64_MIN},
               {1, INT64_MIN, 1},
               {INT64_MAX, 1, 1},
               {1, kMs, -1},
               {1, 0, 0}};
    for (auto const& c : bad) {
        EXPECT_EQ(sys::contract_set(t.id, c.slice, c.period, c.deadline, 1),
                  code(abi::Error::BadArgument));
    }
    EXPECT_EQ(sys::contract_set(t.id, INT64_MAX, INT64_MAX, INT64_MAX, 1) < 0, true);
    EXPECT_EQ(sys::contract_set(t.id, 0, 0, 0, 10'001), code(abi::Error::BadArgument));
    EXPECT_EQ(sys::contract_set(t.id, 0, 0, 0, ~0ull), code(abi::Error::BadArgument));
    EXPECT_EQ(sys::contract_set(t.id + (1ull << 32), 0, 0, 0, 1), code(abi::Error::BadHandle));
    EXPECT_EQ(t.status().state, 0);
}

void without_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    mail.out[0] = static_cast<std::uint64_t>(sys::contract_set(0, 1000, 1'000'000, 1'000'000, 1));
    mail.out[1] = static_cast<std::uint64_t>(sys::guarantees_set(false));
    mail.out[2] = static_cast<std::uint64_t>(sys::domain_create());
    mail.out[3] = static_cast<std::uint64_t>(sys::irq_bind(0, 1, 5));
    mail.out[4] = static_cast<std::uint64_t>(sys::device_stretch(0xfed00000, 1, 1));
    mail.out[5] = static_cast<std::uint64_t>(sys::pci_read(0));
    mail.out[6] = static_cast<std::uint64_t>(sys::call(abi::Call::MachineExit, 0x11));
    mail.out[7] = static_cast<std::uint64_t>(sys::frame_physical(0, 0));
    mail.out[8] = static_cast<std::uint64_t>(sys::call(abi::Call::KpsEnter, 500));
    sys::exit(1);
}
void privileges_are_needed() {
    auto t = make_started(without_entry);
    REQUIRE(t.wait_dead());
    EXPECT_EQ(t.status().exit_code, 1);
    for (int i = 0; i < 9; ++i) EXPECT_EQ(t.mail->out[i], code(abi::Error::NotPermitted));
}

/// A contract beside spinning hogs: not one miss, also while other contracts come, change and go.
void changes_at_run_time() {
    auto player = job(2 * kMs - 20'000, 2 * kMs, 10 * kMs);
    Target hogs[3] = {make(spinner), make(spinner), make(spinner)};
    for (auto& hog : hogs) REQUIRE(hog.start());
    REQUIRE(player.start());
    auto other = job(kMs, 2 * kMs, 20 * kMs);
    REQUIRE(other.start());
    std::uint64_t state = kSeed;
    for (int round = 0; round < 30; ++round) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        auto const period = static_cast<std::int64_t>(5 + (state >> 40) % 40) * kMs;
        auto const slice = period / static_cast<std::int64_t>(2 + (state >> 50) % 9);
        std::int64_t fits = 0;
        auto result = sys::contract_set(other.id, slice, period, period, 1, &fits);
        if (result == code(abi::Error::Refused) && fits > 0)
            result = sys::contract_set(other.id, fits, period, period, 1);
        EXPECT(result == 0 || result == code(abi::Error::Busy));
        sleep(Duration::ms(7));
    }
    EXPECT(player.mail->out[0] >= 20);
    EXPECT_EQ(player.mail->out[1], 0);
}

void guarantees_off_and_on() {
    auto player = job(2 * kMs - 20'000, 2 * kMs, 10 * kMs);
    REQUIRE(player.contract(2 * kMs, 10 * kMs, 1));
    Target hogs[6];
    for (auto& hog : hogs) {
        hog = make(spinner);
        REQUIRE(hog.start());
    }
    REQUIRE(player.start());
    sleep(Duration::ms(60));
    EXPECT(player.mail->out[0] >= 5);
    EXPECT_EQ(player.mail->out[1], 0);
    EXPECT_EQ(sys::guarantees_set(false), 0);
    sleep(Duration::ms(120));
    auto const missed = player.mail->out[1];
    EXPECT_EQ(sys::guarantees_set(true), 0);
    EXPECT(missed >= 3);
    sleep(Duration::ms(30));
    auto const after = player.mail->out[1];
    sleep(Duration::ms(80));
    EXPECT_EQ(player.mail->out[1], after);
}

/// Spare time goes by weight.
void spare_time_by_weight() {
    auto one = make(spinner, {.weight = 100}), three = make(spinner, {.weight = 300});
    REQUIRE(one.start() && three.start());
    sleep(Duration::ms(100));
    auto const a = one.status().extra_ns, b = three.status().extra_ns;
    EXPECT_BELOW(95 * kMs, a + b);
    EXPECT_BELOW(2 * a + 900'000, b);
    EXPECT_BELOW(b, 4 * a);
    EXPECT_BELOW(b < 3 * a ? 3 * a - b : b - 3 * a, 2 * kMs);
}

/// Who overruns pays: a spinner with a contract and no weight gets its slice and not more.
void overrun_is_paid_back() {
    auto greedy = make(spinner, {.weight = 0, .slice = 3 * kMs, .period = 10 * kMs});
    auto player = job(2 * kMs - 20'000, 2 * kMs, 10 * kMs);
    auto hog = make_started(spinner, {.weight = 1});
    REQUIRE(greedy.start() && player.start());
    sleep(Duration::ms(100));
    auto const used = greedy.status();
    EXPECT_BELOW(used.used_ns, 34 * kMs);
    EXPECT_BELOW(26 * kMs, used.used_ns);
    EXPECT_EQ(used.extra_ns, 0);
    EXPECT_EQ(player.mail->out[1], 0);
    (void)hog;
}

/// One expiry of the timer ends a slice or a quantum: the kernel's share stays small.
void slices_end_at_once() {
    auto a = make_started(spinner), b = make_started(spinner);
    auto c = make_started(spinner, {.weight = 0, .slice = 1 * kMs, .period = 4 * kMs});
    sleep(Duration::ms(10));
    auto const kernel = sys::measure(abi::MeasureWord::KernelReserve);
    auto const began = now();
    sleep(Duration::ms(60));
    auto const took = (now() - began).ns();
    EXPECT_BELOW(0, c.status().used_ns);
    EXPECT_BELOW(sys::measure(abi::MeasureWord::KernelReserve) - kernel, took / 100);
    (void)a, (void)b;
}

constexpr Probe list[] = {
    {"contract.refused_with_the_largest_slice", refused_with_the_largest_slice},
    {"contract.arguments", arguments},
    {"contract.privileges_are_needed", privileges_are_needed},
    {"contract.changes_at_run_time", changes_at_run_time},
    {"contract.guarantees_off_and_on", guarantees_off_and_on},
    {"contract.spare_time_by_weight", spare_time_by_weight},
    {"contract.overrun_is_paid_back", overrun_is_paid_back},
    {"contract.slices_end_at_once", slices_end_at_once},
};

}  // namespace

ProbeList contract_probes() { return {list, sizeof(list) / sizeof(list[0])}; }

}  // namespace nemesis::probes
