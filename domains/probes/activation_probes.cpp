// Activations: on and off, state kept, suspend, resume and time-outs, no wake-up lost.
#include "domains/probes/probe.h"
#include "domains/probes/target.h"

namespace nemesis::probes {
namespace {

constexpr std::uint32_t reason(abi::Reason r) { return static_cast<std::uint32_t>(r); }

/// Notes how it was entered the first time, and every later time.
void counting_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    mail.out[0] = mail.out[0] + (ro->reason == reason(abi::Reason::Started) ? 1 : 0);
    mail.out[1] = mail.out[1] + 1;
    mail.out[2] = rw_of(ro).activations_on;
    mail.out[3] = ro->activations;
    activations_on(ro);
    sys::suspend(mail.in[0] != 0 ? now().ns() + 100'000 : INT64_MAX);
    sys::exit(9);  // activated instead, never returned to
}

void started_once() {
    auto t = make(counting_entry);
    t.mail->in[0] = 1;
    sleep(Duration::ms(2));
    EXPECT_EQ(t.mail->out[1], 0);  // nothing of it runs before it is started
    REQUIRE(t.start());
    EXPECT(!t.start());
    REQUIRE(wait_for([&] { return t.mail->out[1] >= 10; }));
    EXPECT_EQ(t.mail->out[0], 1);
    EXPECT_EQ(t.mail->out[2], 0);
    EXPECT_EQ(t.status().state, 1);
}

/// Activation handler: notes slot 1's state, then lets it go on.
void on_handler(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    auto const& slot = slot_of(ro, 1);
    mail.out[1] = mail.out[1] + 1;
    mail.out[2] = slot.rip;
    mail.out[3] = slot.rbx;
    mail.out[4] = slot.r15;
    mail.out[5] = ro->reason;
    mail.out[6] = rw_of(ro).activations_on;
    mail.out[7] = slot.kind;
    mail.out[8] = rw_of(ro).pending_summary;
    mail.out[9] = rw_of(ro).pending[0];
    do clear_pending(ro);
    while (sys::resume(1) == code(abi::Error::Pending));
    sys::exit(9);
}
void on_main(abi::DibRo const* ro) {
    activations_on(ro);
    auto* counter = &mail_of(ro).out[0];
    asm volatile(
        "movabs $0x1122334455667788, %%rbx\n movabs $0x8877665544332211, %%r15\n"
        "1: incq (%0)\n jmp 1b" ::"a"(counter)
        : "rbx", "r15", "memory");
    __builtin_unreachable();
}
void on_entry(abi::DibRo const* ro) {
    set_handler(ro, on_handler);
    on_main_stack(ro, on_main);
}

void modes_on() {
    auto t = make(on_entry);
    REQUIRE(connect_runner(10, t, 5));
    REQUIRE(t.start());
    REQUIRE(wait_for([&] { return t.mail->out[0] > 100; }));
    REQUIRE_EQ(sys::send(10), 0);
    auto const before = t.mail->out[0];
    REQUIRE(wait_for([&] { return t.mail->out[1] > 0 && t.mail->out[0] > before + 1000; }));
    auto const text = address_in(t, reinterpret_cast<void const*>(&on_main));
    EXPECT(t.mail->out[2] >= text && t.mail->out[2] < text + 128);
    EXPECT_EQ(t.mail->out[3], 0x1122334455667788);
    EXPECT_EQ(t.mail->out[4], 0x8877665544332211);
    EXPECT_EQ(t.mail->out[6], 0);
    EXPECT_EQ(t.mail->out[7] & abi::kSlotFull, abi::kSlotFull);
}

/// The handler must never be entered while activations are off, and the resume slot is used.
void off_handler(abi::DibRo const* ro) {
    mail_of(ro).out[1] = mail_of(ro).out[1] + 1;
    sys::exit(9);
}
void off_main(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    slot_of(ro, 1).rip = slot_of(ro, 2).rip = 0;
    for (;;) {
        mail.out[0] = mail.out[0] + 1;
        mail.out[2] = slot_of(ro, 1).rip;  // save slot
        mail.out[3] = slot_of(ro, 2).rip;  // resume slot
    }
}
void off_entry(abi::DibRo const* ro) {
    set_handler(ro, off_handler);
    on_main_stack(ro, off_main);
}

void modes_off() {
    auto t = make(off_entry);
    auto hog = make(spinner);
    REQUIRE(connect_runner(10, t, 5));
    REQUIRE(t.start() && hog.start());
    std::uint64_t last = 0;
    for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(sys::send(10), 0);
        REQUIRE(wait_for([&] { return t.mail->out[0] > last + 100; }));
        last = t.mail->out[0];
    }
    EXPECT_EQ(t.mail->out[1], 0);
    EXPECT_EQ(t.mail->out[2], 0);
    EXPECT(t.mail->out[3] != 0);
    EXPECT_EQ(t.status().state, 1);
}

/// Fills every general register, then looks again and again whether one has changed: in[0] is the
/// pattern, out[0] counts rounds, out[1] is set when one differs.
void registers_main(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    if (mail.in[1] != 0) activations_on(ro);
    asm volatile(
        "mov %%rax, %%rbx\n"
        "lea 1(%%rax), %%rdx\n lea 2(%%rax), %%rsi\n lea 3(%%rax), %%rdi\n lea 4(%%rax), %%rbp\n"
        "lea 5(%%rax), %%r8\n lea 6(%%rax), %%r9\n lea 7(%%rax), %%r10\n lea 8(%%rax), %%r11\n"
        "lea 9(%%rax), %%r12\n lea 10(%%rax), %%r13\n lea 11(%%rax), %%r14\n lea 12(%%rax), %%r15\n"
        "stc\n"
        "1: jnc 2f\n"
        "mov %%rbx, %%rax\n"
        "inc %%rax\n cmp %%rax, %%rdx\n jne 2f\n inc %%rax\n cmp %%rax, %%rsi\n jne 2f\n"
        "inc %%rax\n cmp %%rax, %%rdi\n jne 2f\n inc %%rax\n cmp %%rax, %%rbp\n jne 2f\n"
        "inc %%rax\n cmp %%rax, %%r8\n jne 2f\n inc %%rax\n cmp %%rax, %%r9\n jne 2f\n"
        "inc %%rax\n cmp %%rax, %%r10\n jne 2f\n inc %%rax\n cmp %%rax, %%r11\n jne 2f\n"
        "inc %%rax\n cmp %%rax, %%r12\n jne 2f\n inc %%rax\n cmp %%rax, %%r13\n jne 2f\n"
        "inc %%rax\n cmp %%rax, %%r14\n jne 2f\n inc %%rax\n cmp %%rax, %%r15\n jne 2f\n"
        "incq (%%rcx)\n stc\n jmp 1b\n"
        "2: movq $1, 8(%%rcx)\n 3: jmp 3b\n" ::"a"(mail.in[0]),
        "c"(&mail.out[0])
        : "memory");
    __builtin_unreachable();
}
void registers_handler(abi::DibRo const* ro) {
    mail_of(ro).out[2] = mail_of(ro).out[2] + 1;
    do clear_pending(ro);
    while (sys::resume(1) == code(abi::Error::Pending));
    sys::exit(9);
}
void registers_entry(abi::DibRo const* ro) {
    set_handler(ro, registers_handler);
    on_main_stack(ro, registers_main);
}

void registers_kept() {
    Target all[4];
    for (std::uint64_t i = 0; i < 4; ++i) {
        all[i] = make(registers_entry);
        all[i].mail->in[0] = 0x0101'0101'0101'0101 * (i + 1);
        all[i].mail->in[1] = i & 1;
        REQUIRE(connect_runner(static_cast<std::uint32_t>(10 + i), all[i], 1));
    }
    for (auto& t : all) REQUIRE(t.start());
    for (int round = 0; round < 60; ++round) {
        sleep(Duration::us(170));
        for (std::uint64_t i = 0; i < 4; ++i) sys::send(10 + i);
    }
    REQUIRE(wait_for([&] { return all[0].mail->out[0] > 1000 && all[3].mail->out[0] > 1000; }));
    for (auto& t : all) {
        EXPECT_EQ(t.mail->out[1], 0);
        EXPECT_EQ(t.status().state, 1);
    }
    EXPECT(all[1].mail->out[2] > 10);
    EXPECT_EQ(all[0].mail->out[2], 0);
}

// ---- no wake-up is lost
// --------------------------------------------------------------------------

/// Purely event-driven: out[0] is the count it has seen. in[0]: spins so long before each look.
void waiter_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    for (;;) {
        clear_pending(ro);
        mail.out[0] = count_of(ro, 5);
        spin(mail.in[0]);
        if (sys::suspend(INT64_MAX) != code(abi::Error::Pending)) mail.out[1] = mail.out[1] + 1;
    }
}
/// The same with activations on: the handler turns them on again by resume, the main part suspends.
void waiter_handler(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    for (;;) {
        clear_pending(ro);
        mail.out[0] = count_of(ro, 5);
        mail.out[1] = mail.out[1] + 1;
        spin(mail.in[0]);
        slot_of(ro, 1).rip = mail.extra[0];
        slot_of(ro, 1).rsp = mail.extra[430];
        slot_of(ro, 1).rdi = reinterpret_cast<std::uint64_t>(ro);
        slot_of(ro, 1).rflags = 0x202;
        slot_of(ro, 1).kind = abi::kSlotFull;
        sys::resume(1);
    }
}
void waiter_main(abi::DibRo const* ro) {
    spin(mail_of(ro).in[1]);
    sys::suspend(INT64_MAX);
    for (;;) {  // pending: the activation comes with the next turn
        mail_of(ro).out[2] = mail_of(ro).out[2] + 1;
        sys::yield();
    }
}
void waiter_on_entry(abi::DibRo const* ro) {
    mail_of(ro).extra[0] = reinterpret_cast<std::uint64_t>(&waiter_main);
    set_handler(ro, waiter_handler);
    waiter_handler(ro);
}

void wake_ups(TargetFunction entry) {
    auto t = make(entry, {.slice = 2'000'000, .period = 10'000'000});
    REQUIRE_EQ(t.error, 0);
    REQUIRE(connect_runner(10, t, 5));
    REQUIRE(t.start());
    std::uint64_t state = kSeed, sent = 0;
    for (int round = 0; round < 3000; ++round) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        t.mail->in[0] = (state >> 33) % 120;
        t.mail->in[1] = (state >> 43) % 60;
        auto const burst = 1 + (state >> 60) % 3;
        for (std::uint64_t i = 0; i < burst; ++i) {
            EXPECT_EQ(sys::send(10), 0);
            ++sent;
            spin((state >> 50) % 300);
        }
        if (round % 16 == 0) {
            REQUIRE(wait_for([&] { return t.mail->out[0] == sent; }));
        }
    }
    EXPECT(wait_for([&] { return t.mail->out[0] == sent; }));
    EXPECT(t.mail->out[1] > 100);
}
void no_wake_up_lost_off() { wake_ups(waiter_entry); }
void no_wake_up_lost_on() { wake_ups(waiter_on_entry); }

// ---- suspend, resume
// -----------------------------------------------------------------------------

/// Sends to itself (endpoints 6 and 7 are connected), then tries to give up the processor.
void pending_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    mail.out[0] = static_cast<std::uint64_t>(sys::send(6));
    mail.out[1] = rw_of(ro).pending_summary;
    mail.out[2] = rw_of(ro).pending[0];
    mail.out[3] = count_of(ro, 7);
    mail.out[4] = static_cast<std::uint64_t>(sys::suspend(INT64_MAX));
    slot_of(ro, 1).rip = 0;
    mail.out[5] = static_cast<std::uint64_t>(sys::resume(1));
    mail.out[6] = rw_of(ro).activations_on;
    mail.out[7] = static_cast<std::uint64_t>(sys::resume(1000));
    std::int64_t refused;
    std::uint64_t kept;
    asm volatile("mov $0x1234567, %%r14d\n syscall\n mov %%r14, %1"
                 : "=a"(refused), "=r"(kept)
                 : "a"(abi::Call::SendSync), "D"(8), "S"(INT64_MAX)
                 : "rcx", "rdx", "r8", "r9", "r10", "r11", "r14", "memory");
    mail.out[8] = static_cast<std::uint64_t>(refused);
    mail.out[11] = kept;
    clear_pending(ro);
    auto const until = now().ns() + 50'000;
    std::uint64_t before, after;
    asm volatile("mov %%rsp, %0" : "=r"(before));
    mail.out[9] = static_cast<std::uint64_t>(sys::suspend(until));
    asm volatile("mov %%rsp, %0" : "=r"(after));
    mail.out[10] = before == after && now().ns() >= until ? 1 : 0;
    sys::exit(3);
}

void pending_is_not_lost() {
    auto t = make(pending_entry), peer = make(sleeper);
    REQUIRE_EQ(sys::endpoint_offer(t.id, 6, t.id), 0);
    REQUIRE_EQ(sys::endpoint_accept(t.id, 7, t.id, 6), 0);
    REQUIRE(connect(t, 8, peer, 8));
    REQUIRE(peer.start());
    sleep(Duration::ms(1));
    REQUIRE(t.start());
    REQUIRE(t.wait_dead());
    auto const& out = t.mail->out;
    EXPECT_EQ(t.status().exit_code, 3);
    EXPECT_EQ(out[0], 0);
    EXPECT_EQ(out[1], 1);
    EXPECT_EQ(out[2], 1u << 7);
    EXPECT_EQ(out[3], 1);
    EXPECT_EQ(out[4], code(abi::Error::Pending));
    EXPECT_EQ(out[5], code(abi::Error::Pending));
    EXPECT_EQ(out[6], 0);
    EXPECT_EQ(out[7], code(abi::Error::BadArgument));
    EXPECT_EQ(out[8], code(abi::Error::Pending));
    EXPECT_EQ(out[11], 0x1234567);
    EXPECT_EQ(out[9], 0);
    EXPECT_EQ(out[10], 1);
}

/// Wakes at instants and notes by how much it was late: out[0] rounds, out[1] the worst, out[2] too
/// early, out[3] wrong reasons.
void timer_handler(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    auto const late = now().ns() - static_cast<std::int64_t>(mail.extra[1]);
    if (mail.out[0] > 0) {
        if (late < 0) mail.out[2] = mail.out[2] + 1;
        if (late > static_cast<std::int64_t>(mail.out[1]))
            mail.out[1] = static_cast<std::uint64_t>(late);
        if (ro->reason != reason(abi::Reason::Timeout)) mail.out[3] = mail.out[3] + 1;
    }
    mail.out[0] = mail.out[0] + 1;
    mail.extra[2] = mail.extra[2] * 6364136223846793005ull + 1442695040888963407ull;
    auto const until =
        now().ns() + 20'000 + static_cast<std::int64_t>((mail.extra[2] >> 40) % 500'000);
    mail.extra[1] = static_cast<std::uint64_t>(until);
    activations_on(ro);
    sys::suspend(until);
    sys::exit(9);
}
void timer_entry(abi::DibRo const* ro) {
    set_handler(ro, timer_handler);
    timer_handler(ro);
}

void time_outs_are_accurate() {
    auto t = make(timer_entry, {.slice = 1'000'000, .period = 5'000'000});
    auto hog = make_started(spinner);
    REQUIRE_EQ(t.error, 0);
    t.mail->extra[2] = kSeed;
    REQUIRE(t.start());
    REQUIRE(wait_for([&] { return t.mail->out[0] >= 300; }, Duration::s(1)));
    EXPECT_EQ(t.mail->out[2], 0);
    EXPECT_EQ(t.mail->out[3], 0);
    EXPECT_BELOW(static_cast<std::int64_t>(t.mail->out[1]), 5000);
    (void)hog;
}

void past_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    for (auto const until :
         {std::int64_t{0}, std::int64_t{-1}, INT64_MIN, now().ns() - 1, now().ns()}) {
        sys::suspend(until);
        mail.out[0] = mail.out[0] + 1;
    }
    sys::exit(3);
}
void time_outs_in_the_past() {
    auto t = make_started(past_entry);
    EXPECT(t.wait_dead());
    EXPECT_EQ(t.mail->out[0], 5);
    auto c = make_started(past_entry, {.slice = 1'000'000, .period = 20'000'000});
    EXPECT(c.wait_dead());
    EXPECT_EQ(c.mail->out[0], 5);
}

/// Slot numbers that do not exist mean slot 0; the domain goes on.
void odd_slots_main(abi::DibRo const* ro) {
    auto& rw = rw_of(ro);
    rw.slot[0] = 0xffffffff;
    rw.slot[1] = 4;
    for (int i = 0; i < 200'000; ++i) {
        mail_of(ro).out[0] = mail_of(ro).out[0] + 1;
        rw.slot[0] = static_cast<std::uint32_t>(i) * 0x9e3779b9u | 4;
    }
    mail_of(ro).out[1] = slot_of(ro, 0).rip;
    sys::exit(3);
}
void slot_numbers() {
    auto t = make_started(odd_slots_main);
    auto hog = make_started(spinner);
    REQUIRE(t.wait_dead());
    EXPECT_EQ(t.status().exit_code, 3);
    EXPECT(t.mail->out[1] != 0);
    (void)hog;
}

constexpr Probe list[] = {
    {"activation.started_once", started_once},
    {"activation.on_enters_the_vector", modes_on},
    {"activation.off_resumes", modes_off},
    {"activation.registers_kept", registers_kept},
    {"activation.no_wake_up_lost_off", no_wake_up_lost_off},
    {"activation.no_wake_up_lost_on", no_wake_up_lost_on},
    {"activation.pending_is_not_lost", pending_is_not_lost},
    {"activation.time_outs_are_accurate", time_outs_are_accurate},
    {"activation.time_outs_in_the_past", time_outs_in_the_past},
    {"activation.slot_numbers", slot_numbers},
};

}  // namespace

ProbeList activation_probes() { return {list, sizeof(list) / sizeof(list[0])}; }

}  // namespace nemesis::probes
