// Floating-point state: kept for who has it, never seen by others, refused to who has it not.
#include "domains/probes/probe.h"
#include "domains/probes/target.h"

namespace nemesis::probes {
namespace {

// The registers' contents pass through the mail: extra[0..63] to load, extra[64..127] as found.
#define EACH(op, base)                                                                          \
    op(0, base) op(1, base) op(2, base) op(3, base) op(4, base) op(5, base) op(6, base)         \
        op(7, base) op(8, base) op(9, base) op(10, base) op(11, base) op(12, base) op(13, base) \
            op(14, base) op(15, base)
#define LOAD(n, base) "vmovdqu " #n "*32(%0), %%ymm" #n "\n"
#define STORE(n, base) "vmovdqu %%ymm" #n ", " #n "*32(%0)\n"

inline void load_all(std::uint64_t volatile* from) {
    asm volatile(EACH(LOAD, 0)::"r"(from) : "memory");
}
inline void store_all(std::uint64_t volatile* to) {
    asm volatile(EACH(STORE, 0)::"r"(to) : "memory");
}
inline std::uint32_t mxcsr() {
    std::uint32_t v;
    asm volatile("stmxcsr %0" : "=m"(v));
    return v;
}
inline std::uint16_t control_word() {
    std::uint16_t v;
    asm volatile("fnstcw %0" : "=m"(v));
    return v;
}

/// out[0] rounds, out[1] first register that differed + 1, out[2] what it held; in[0] is the
/// pattern.
void pattern_main(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    for (std::uint64_t i = 0; i < 64; ++i) mail.extra[i] = mail.in[0] + i;
    std::uint32_t const control = 0x1f80 | static_cast<std::uint32_t>((mail.in[0] & 3) << 13);
    std::uint64_t const x87 = mail.in[0] | 0x3ff0'0000'0000'0000;
    load_all(mail.extra);
    asm volatile("ldmxcsr %0\n fninit\n fldl %1" ::"m"(control), "m"(x87));
    if (mail.in[1] != 0) activations_on(ro);
    for (;;) {
        store_all(mail.extra + 64);
        for (std::uint64_t i = 0; i < 64; ++i) {
            if (mail.extra[64 + i] != mail.in[0] + i && mail.out[1] == 0) {
                mail.out[1] = i + 1;
                mail.out[2] = mail.extra[64 + i];
            }
        }
        std::uint64_t top;
        asm volatile("fstl %0" : "=m"(top));
        if (mxcsr() != control || top != x87) mail.out[1] = 100;
        mail.out[0] = mail.out[0] + 1;
    }
}
void pattern_handler(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    mail.out[3] = mail.out[3] + 1;
    // The handler spoils the registers: the slot keeps the main part's.
    asm volatile("vpxor %xmm0, %xmm0, %xmm0\n vpxor %xmm9, %xmm9, %xmm9\n fninit");
    do clear_pending(ro);
    while (sys::resume(1) == code(abi::Error::Pending));
    sys::exit(9);
}
void pattern_entry(abi::DibRo const* ro) {
    set_handler(ro, pattern_handler);
    on_main_stack(ro, pattern_main);
}

void state_is_kept() {
    Target all[4];
    for (std::uint64_t i = 0; i < 4; ++i) {
        all[i] = make(pattern_entry, {.privileges = abi::kPrivilegeFpu});
        all[i].mail->in[0] = (i + 1) << 40;
        all[i].mail->in[1] = i & 1;
        REQUIRE(connect_runner(static_cast<std::uint32_t>(10 + i), all[i], 1));
        REQUIRE(all[i].start());
    }
    auto integer = make_started(spinner);
    for (int round = 0; round < 60; ++round) {
        sleep(Duration::us(170));
        for (std::uint64_t i = 0; i < 4; ++i) sys::send(10 + i);
        // The runner, which has floating point too, spoils the registers.
        asm volatile("vpcmpeqd %ymm0, %ymm0, %ymm0\n vpcmpeqd %ymm9, %ymm9, %ymm9\n fninit\n");
    }
    REQUIRE(wait_for([&] {
        return all[0].mail->out[0] > 20 && all[1].mail->out[0] > 20 && all[3].mail->out[0] > 20;
    }));
    for (auto& t : all) {
        EXPECT_EQ(t.mail->out[1], 0);
        EXPECT_EQ(t.status().state, 1);
    }
    EXPECT(all[1].mail->out[3] > 10);
    (void)integer;
}

/// What a domain finds in the registers when it starts, and after each suspend.
void fresh_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    store_all(mail.extra + 64);
    for (std::uint64_t i = 0; i < 64; ++i) mail.out[0] = mail.out[0] | mail.extra[64 + i];
    mail.out[1] = mxcsr();
    mail.out[2] = control_word();
    for (std::uint64_t round = 0; round < 50; ++round) {
        for (std::uint64_t i = 0; i < 64; ++i) mail.extra[i] = 0x7777'0000 + i;
        load_all(mail.extra);
        sys::suspend(now().ns() + 30'000);
        store_all(mail.extra + 64);
        for (std::uint64_t i = 0; i < 64; ++i) {  // its own, or nothing
            auto const found = mail.extra[64 + i];
            if (found != 0 && found != 0x7777'0000 + i) mail.out[3] = mail.out[3] + 1;
        }
    }
    sys::exit(1);
}
void others_are_never_seen() {
    auto hog = make(pattern_entry, {.privileges = abi::kPrivilegeFpu});
    hog.mail->in[0] = 0xbadull << 40;
    REQUIRE(hog.start());
    sleep(Duration::ms(2));
    for (int i = 0; i < 5; ++i) {
        auto t = make_started(fresh_entry, {.privileges = abi::kPrivilegeFpu});
        REQUIRE(t.wait_dead());
        EXPECT_EQ(t.mail->out[0], 0);
        EXPECT_EQ(t.mail->out[1], 0x1f80);
        EXPECT_EQ(t.mail->out[2], 0x37f);
        EXPECT_EQ(t.mail->out[3], 0);
        destroy(t);
    }
    EXPECT_EQ(hog.mail->out[1], 0);
}

void without_entry(abi::DibRo const* ro) {
    mail_of(ro).out[0] = 1;
    asm volatile("movaps %xmm0, %xmm1");
    mail_of(ro).out[0] = 2;
    sys::exit(1);
}
void without_the_flag() {
    auto hog = make(pattern_entry, {.privileges = abi::kPrivilegeFpu});
    REQUIRE(hog.start());
    for (int i = 0; i < 5; ++i) {
        sleep(Duration::us(700));
        auto t = make_started(without_entry);
        REQUIRE(t.wait_dead());
        EXPECT_EQ(t.status().exit_code, (1ull << 56) | 7);
        EXPECT_EQ(t.mail->out[0], 1);
        destroy(t);
    }
    EXPECT_EQ(hog.mail->out[1], 0);
}

/// A floating-point area with a header the processor refuses ends its domain, nobody else's.
void hostile_image_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    auto& slot = slot_of(ro, 3);
    slot.rip = mail.in[2];
    slot.rsp = mail.extra[430];
    slot.rflags = 0x202;
    slot.kind = abi::kSlotFull | abi::kSlotFpu;
    slot.fpu[0] = 0x7f;
    slot.fpu[1] = 0x03;
    slot.fpu[24] = 0x80;
    slot.fpu[25] = 0x1f;
    slot.fpu[mail.in[0]] = static_cast<std::uint8_t>(mail.in[1]);
    mail.out[0] = 1;
    sys::resume(3);
    sys::exit(9);
}
void landed() {
    for (;;) asm volatile("");
}
void hostile_images() {
    constexpr struct {
        std::uint64_t at, value;
        bool refused;
    } cases[] = {{512, 7, false}, {512, 8, true},    {519, 0x80, true},
                 {520, 1, true},  {527, 0x80, true}, {530, 1, true},
                 {26, 1, false},  {0, 0, false},     {2, 0xff, false}};
    for (auto const& c : cases) {
        auto t = make(hostile_image_entry, {.privileges = abi::kPrivilegeFpu});
        t.mail->in[0] = c.at;
        t.mail->in[1] = c.value;
        t.mail->in[2] = address_in(t, reinterpret_cast<void const*>(&landed));
        REQUIRE(t.start());
        sleep(Duration::ms(1));
        auto const status = t.status();
        if (c.refused && status.state != 2)
            failed(__FILE__, __LINE__, "not refused", c.at, c.value, true);
        if (!c.refused && status.state != 1)
            failed(__FILE__, __LINE__, "refused", c.at, c.value, true);
        destroy(t);
    }
}

constexpr Probe list[] = {
    {"floating.state_is_kept", state_is_kept},
    {"floating.others_are_never_seen", others_are_never_seen},
    {"floating.without_the_flag", without_the_flag},
    {"floating.hostile_images", hostile_images},
};

}  // namespace

ProbeList floating_probes() { return {list, sizeof(list) / sizeof(list[0])}; }

}  // namespace nemesis::probes
