// Faults: delivered to who caused them and retried; unhandled they end that domain alone.
#include "domains/probes/probe.h"
#include "domains/probes/target.h"
#include "libnemesis/state.h"

namespace nemesis::probes {
namespace {

constexpr std::uint64_t kFaultCode = 1ull << 56;

/// Own page at in[0] (stretch 0, page in[1]) loses its rights and is touched; the handler gives
/// them back.
void retry_handler(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    if (ro->reason == static_cast<std::uint32_t>(abi::Reason::Fault)) {
        mail.out[0] = mail.out[0] + 1;
        mail.out[1] = ro->fault.vector;
        mail.out[2] = ro->fault.address;
        mail.out[3] = ro->fault.count;
        sys::protect(0, mail.in[1], 1, abi::kRead | abi::kWrite);
    }
    do clear_pending(ro);
    while (sys::resume(1) == code(abi::Error::Pending));
}
void retry_main(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    activations_on(ro);
    auto* word = reinterpret_cast<std::uint64_t volatile*>(mail.in[0]);
    for (std::uint64_t i = 1; i <= 100; ++i) {
        sys::protect(0, mail.in[1], 1, i % 2 == 0 ? abi::kRead : 0);
        *word = i;
        if (*word == i) mail.out[4] = mail.out[4] + 1;
    }
    sys::exit(1);
}
void retry_entry(abi::DibRo const* ro) {
    set_handler(ro, retry_handler);
    on_main_stack(ro, retry_main);
}

void delivered_and_retried() {
    auto t = make(retry_entry);
    REQUIRE(give_page(t, kFreePage, abi::kRead | abi::kWrite));
    t.mail->in[0] = t.slot + kFreePage * abi::kPageSize;
    t.mail->in[1] = kFreePage;
    REQUIRE(t.start());
    REQUIRE(t.wait_dead());
    EXPECT_EQ(t.status().exit_code, 1);
    EXPECT_EQ(t.mail->out[0], 100);
    EXPECT_EQ(t.mail->out[1], 14);
    EXPECT_EQ(t.mail->out[2], t.mail->in[0]);
    EXPECT_EQ(t.mail->out[3], 100);
    EXPECT_EQ(t.mail->out[4], 100);
}

/// Raises exception after exception; the handler notes the vector and skips to the next.
void vectors_handler(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    if (ro->reason == static_cast<std::uint32_t>(abi::Reason::Fault)) {
        mail.out[mail.extra[0]] = ro->fault.vector + 1;
        slot_of(ro, 1).rip = mail.extra[1];
        slot_of(ro, 1).rsp = mail.extra[2];
    }
    do clear_pending(ro);
    while (sys::resume(1) == code(abi::Error::Pending));
}
void vectors_main(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    activations_on(ro);
    // Each case leaves where to go on, then faults.
#define RAISE(n, text)                                                              \
    mail.extra[0] = n;                                                              \
    asm volatile("lea 9f(%%rip), %%rax\n mov %%rax, (%0)\n mov %%rsp, 8(%0)\n" text \
                 "\n 9:\n" ::"r"(&mail.extra[1])                                    \
                 : "rax", "rbx", "rcx", "rdx", "r12", "r13", "r14", "r15", "memory", "cc")
    RAISE(0, "xor %%ecx, %%ecx\n div %%ecx");
    RAISE(1, "pushfq\n orl $0x100, (%%rsp)\n popfq\n nop\n nop");
    RAISE(2, "int3");
    RAISE(3, "int $0x30");
    RAISE(4, "ud2");
    RAISE(5, "fninit");
    RAISE(6, "hlt");
    RAISE(7, "cli");
    RAISE(8, "mov %%cr3, %%rax");
    RAISE(9, "xor %%eax, %%eax\n movq (%%rax), %%rax");
    RAISE(10, "mov $0x10, %%eax\n mov %%eax, %%ss");
    RAISE(11, "in $0x60, %%al");
    RAISE(12, "mov $0x10, %%eax\n ltr %%ax");
    RAISE(13, "movabs $0x8000000000000000, %%rax\n jmp *%%rax");
    RAISE(14, "movabs $0x8000000000000000, %%rax\n mov %%rax, %%rsp\n push %%rax");
    RAISE(15, "sgdt -64(%%rsp)");
    RAISE(16, "wbinvd");
    RAISE(17, "int $0x80");
    RAISE(18, "rdmsr");
    RAISE(19, "int $2");
#undef RAISE
    sys::exit(1);
}
void vectors_entry(abi::DibRo const* ro) {
    set_handler(ro, vectors_handler);
    on_main_stack(ro, vectors_main);
}

void every_exception() {
    constexpr std::uint64_t expected[] = {0,  1,  13, 13, 6,  7,  13, 13, 13, 14,
                                          13, 13, 13, 13, 12, 13, 13, 13, 13, 13};
    auto t = make_started(vectors_entry);
    REQUIRE(t.wait_dead());
    EXPECT_EQ(t.status().exit_code, 1);
    for (std::uint64_t i = 0; i < sizeof(expected) / 8; ++i) {
        // A stack access that is not canonical: 12 by the book, 13 in the emulator.
        if (expected[i] == 12 && t.mail->out[i] == 14) continue;
        if (t.mail->out[i] != expected[i] + 1)
            failed(__FILE__, __LINE__, "case, vector", i, t.mail->out[i] - 1, true);
    }
}

void crash_entry(abi::DibRo const* ro) {
    (void)ro;
    __builtin_trap();
}
void unhandled_ends_only_its_domain() {
    auto witness = make(spinner);
    REQUIRE(witness.start());
    auto const count = [] {
        return reinterpret_cast<std::uint64_t const volatile*>(state().ro + 1)[kDeathEndpoint];
    };
    for (std::uint64_t i = 1; i <= 10; ++i) {
        auto const before = count();
        auto t = make_started(crash_entry);
        REQUIRE(t.wait_dead());
        EXPECT_EQ(t.status().exit_code, kFaultCode | 6);
        EXPECT_EQ(t.status().fault_vector, 6);
        EXPECT_EQ(count(), before + 1);
        destroy(t);
        EXPECT_EQ(count(), before + 1);
    }
    auto const used = witness.status().extra_ns;
    sleep(Duration::ms(3));
    EXPECT_BELOW(used, witness.status().extra_ns);
}

/// Faults in the handler itself, with activations off.
void double_handler(abi::DibRo const* ro) {
    mail_of(ro).out[0] = mail_of(ro).out[0] + 1;
    __builtin_trap();
}
void double_entry(abi::DibRo const* ro) {
    set_handler(ro, double_handler);
    activations_on(ro);
    __builtin_trap();
}
void fault_in_the_handler() {
    auto t = make_started(double_entry);
    REQUIRE(t.wait_dead());
    EXPECT_EQ(t.status().exit_code, kFaultCode | 6);
    EXPECT_EQ(t.mail->out[0], 1);
}

/// Vectors and stacks that lead nowhere end their domain only. in[0]: which word of the DIB; in[1]:
/// value.
void odd_vector_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    auto* words = reinterpret_cast<std::uint64_t volatile*>(ro->rw_address);
    words[mail.in[0]] = mail.in[1];
    activations_on(ro);
    sys::suspend(now().ns() + 10'000);
    for (;;) {
    }
}
void activation_words() {
    for (std::uint64_t word = 0; word < 2; ++word) {
        for (std::uint64_t const value :
             {0ull, 0x1234ull, 0x8000'0000'0000ull, 0xffff'8000'0000'0000ull, ~0ull}) {
            auto t = make(odd_vector_entry);
            t.mail->in[0] = word;
            t.mail->in[1] = value;
            REQUIRE(t.start());
            // A stack that leads nowhere is only noticed when it is used.
            EXPECT(t.wait_dead(Duration::ms(5)) || word == 1);
            destroy(t);
        }
    }
}

constexpr Probe list[] = {
    {"fault.delivered_and_retried", delivered_and_retried},
    {"fault.every_exception", every_exception},
    {"fault.unhandled_ends_only_its_domain", unhandled_ends_only_its_domain},
    {"fault.in_the_handler", fault_in_the_handler},
    {"fault.activation_words", activation_words},
};

}  // namespace

ProbeList fault_probes() { return {list, sizeof(list) / sizeof(list[0])}; }

}  // namespace nemesis::probes
