// Kernel-privileged sections: what works inside, what ends them, what is restored afterwards.
#include "domains/probes/probe.h"
#include "domains/probes/target.h"
#include "libnemesis/kps/kps.h"

namespace nemesis::probes {
namespace {

constexpr std::uint64_t kSmep = 1u << 20, kSmap = 1u << 21, kAc = 1u << 18, kIf = 1u << 9;
constexpr std::uint64_t kBoundMax = 20'000;  ///< of kps_enter (kernel/abi/syscalls.h)
constexpr std::uint64_t kFault = 1ull << 56, kOverrun = 3ull << 56;

enum Act : std::uint64_t {
    ReadControl,
    Outside,
    AfterLeaving,
    Enter,
    NullStack,
    OddStack,
    UnmappedStack,
    ProtectionInside,
    DivideInside,
    PageInside,
    CallsInside,
    LoopForEver,
    LongButBounded,
    Nested,
};

inline std::uint64_t flags() {
    std::uint64_t f;
    asm volatile("pushfq\n pop %0" : "=r"(f));
    return f;
}
inline std::uint64_t cr4() {
    std::uint64_t v;
    asm volatile("mov %%cr4, %0" : "=r"(v));
    return v;
}
inline std::int64_t enter(std::uint64_t bound = 500) {
    return sys::call(abi::Call::KpsEnter, bound);
}
inline void leave() { sys::call(abi::Call::KpsLeave); }

void actor(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    mail.out[0] = 1;
    switch (mail.in[0]) {
        case ReadControl:
            mail.out[1] = static_cast<std::uint64_t>(enter());
            mail.out[2] = cr4();
            mail.out[3] = flags();
            leave();
            mail.out[4] = flags();
            break;
        case Outside:
            mail.out[1] = cr4();
            break;
        case AfterLeaving:
            enter();
            leave();
            mail.out[1] = cr4();
            break;
        case Enter:
            mail.out[1] = static_cast<std::uint64_t>(enter(mail.in[1]));
            if (mail.out[1] == 0) leave();
            break;
        case NullStack:
            enter();
            asm volatile("xor %%esp, %%esp\n ud2" ::: "memory");
            break;
        case OddStack:
            enter();
            asm volatile("mov %0, %%rsp\n ud2" ::"r"(0xdead'0000'0000'0000ull) : "memory");
            break;
        case UnmappedStack:
            enter();
            asm volatile("mov %0, %%rsp\n push %%rax\n" ::"r"(0x4000ull) : "memory");
            break;
        case ProtectionInside:
            enter();
            asm volatile("wrmsr" ::"c"(0xdeadbeef), "a"(0), "d"(0));
            asm volatile("mov %0, %%rax\n mov (%%rax), %%rax" ::"r"(0x8000'0000'0000'0000ull >> 1)
                         : "rax");
            break;
        case DivideInside:
            enter();
            asm volatile("xor %%ecx, %%ecx\n div %%rcx" ::: "rax", "rcx", "rdx");
            break;
        case PageInside:
            enter();
            *reinterpret_cast<std::uint64_t volatile*>(0x5000) = 1;
            break;
        case CallsInside: {
            enter(5000);
            std::uint64_t refused = 0;
            for (std::uint64_t n = 0; n < 60; ++n) {
                if (n == static_cast<std::uint64_t>(abi::Call::KpsLeave)) continue;
                if (sys::call(static_cast<abi::Call>(n)) == code(abi::Error::InSection)) ++refused;
            }
            mail.out[1] = refused;
            mail.out[2] = cr4();  // still inside
            mail.out[3] = flags();
            leave();
            break;
        }
        case LoopForEver:
            enter(mail.in[1]);
            mail.out[5] = static_cast<std::uint64_t>(now().ns());
            for (;;) mail.out[6] = static_cast<std::uint64_t>(now().ns());
        case LongButBounded:
            for (int i = 0; i < 300; ++i) {
                enter(5000);
                spin(1500);
                leave();
                mail.out[1] = mail.out[1] + 1;
            }
            break;
        case Nested:
            enter(2000);
            {
                KernelPrivilegedSection inner;
                mail.out[1] = cr4();
            }
            mail.out[2] = cr4();
            leave();
            break;
        default:
            break;
    }
    sys::exit(1);
}

std::uint64_t act(Target& t, Act what, std::uint64_t argument = 0,
                  std::uint64_t privileges = abi::kPrivilegeKps) {
    t = make(actor, {.privileges = privileges});
    t.mail->in[0] = what;
    t.mail->in[1] = argument;
    t.start();
    EXPECT(t.wait_dead());
    return t.status().exit_code;
}

/// The kernel's own protection, as it stands while it runs.
std::uint64_t protection() {
    return static_cast<std::uint64_t>(sys::measure(abi::MeasureWord::Protection));
}
void expect_protection() {
    EXPECT_EQ(protection() & kSmep, kSmep);
    EXPECT_EQ(protection() & kSmap, kSmap);
}

void privileged_inside_only() {
    Target t;
    EXPECT_EQ(act(t, ReadControl), 1);
    EXPECT_EQ(t.mail->out[1], 0);
    EXPECT_EQ(t.mail->out[2] & kSmep, 0);
    EXPECT_EQ(t.mail->out[3] & kAc, kAc);
    EXPECT_EQ(t.mail->out[4] & kAc, 0);
    EXPECT_EQ(act(t, Outside), kFault | 13);
    EXPECT_EQ(act(t, AfterLeaving), kFault | 13);
    expect_protection();
}

void needs_the_privilege() {
    Target t;
    EXPECT_EQ(act(t, Enter, 0, abi::kPrivilegesAll & ~abi::kPrivilegeKps), 1);
    EXPECT_EQ(t.mail->out[1], code(abi::Error::NotPermitted));
}

void bound_is_checked() {
    Target t;
    for (auto const bound : {std::uint64_t{0}, kBoundMax + 1, ~std::uint64_t{0}}) {
        EXPECT_EQ(act(t, Enter, bound), 1);
        EXPECT_EQ(t.mail->out[1], code(abi::Error::BadArgument));
    }
    EXPECT_EQ(act(t, Enter, kBoundMax), 1);
    EXPECT_EQ(t.mail->out[1], 0);
}

void faults_end_section_and_domain() {
    constexpr struct {
        Act act;
        std::uint64_t vector;
    } cases[] = {
        {NullStack, 6}, {OddStack, 6}, {UnmappedStack, 14}, {DivideInside, 0}, {PageInside, 14}};
    for (auto const& c : cases) {
        Target t;
        EXPECT_EQ(act(t, c.act), kFault | c.vector);
        expect_protection();
        destroy(t);
    }
    Target t;
    EXPECT_EQ(act(t, ProtectionInside) >> 56, 1);
    expect_protection();
}

void calls_refused_inside() {
    Target t;
    EXPECT_EQ(act(t, CallsInside), 1);
    EXPECT_EQ(t.mail->out[1], 59);
    EXPECT_EQ(t.mail->out[2] & kSmep, 0);
    EXPECT_EQ(t.mail->out[3] & kAc, kAc);
    EXPECT_EQ(t.mail->out[3] & kIf, kIf);  // the watchdog still gets through
    expect_protection();
}

void overrun_is_ended() {
    for (std::uint64_t const bound : {100ul, 500ul, 5000ul, kBoundMax}) {
        Target t;
        EXPECT_EQ(act(t, LoopForEver, bound), kOverrun);
        EXPECT_BELOW(static_cast<std::int64_t>(t.mail->out[6] - t.mail->out[5]),
                     static_cast<std::int64_t>(bound) + 300);
        expect_protection();
        destroy(t);
    }
}

/// Timers that fall due during sections are served after them, protection is restored on every
/// entry.
void timers_beside_sections() {
    Target t = make(actor, {.privileges = abi::kPrivilegeKps});
    t.mail->in[0] = LongButBounded;
    auto hog = make_started(spinner);
    REQUIRE(t.start());
    std::int64_t worst = 0;
    REQUIRE(sys::contract_set(0, 1'000'000, 5'000'000, 5'000'000, 1000) == 0);
    while (!t.dead()) {
        auto const when = now() + Duration::us(97);
        Thread::sleep_until(when);
        auto const late = (now() - when).ns();
        if (late > worst) worst = late;
        expect_protection();
    }
    REQUIRE(sys::contract_set(0, 0, 0, 0, 1000) == 0);
    EXPECT_EQ(t.mail->out[1], 300);
    EXPECT_BELOW(worst, 40'000);
    (void)hog;
}

void nested() {
    Target t;
    EXPECT_EQ(act(t, Nested), 1);
    EXPECT_EQ(t.mail->out[1] & kSmep, 0);
    EXPECT_EQ(t.mail->out[2] & kSmep, 0);  // the inner one did not leave
    {
        KernelPrivilegedSection outer;
        KernelPrivilegedSection inner;
    }
    expect_protection();
}

constexpr Probe list[] = {
    {"section.privileged_inside_only", privileged_inside_only},
    {"section.needs_the_privilege", needs_the_privilege},
    {"section.bound_is_checked", bound_is_checked},
    {"section.faults_end_section_and_domain", faults_end_section_and_domain},
    {"section.calls_refused_inside", calls_refused_inside},
    {"section.overrun_is_ended", overrun_is_ended},
    {"section.timers_beside_sections", timers_beside_sections},
    {"section.nested", nested},
};

}  // namespace

ProbeList section_probes() { return {list, sizeof(list) / sizeof(list[0])}; }

}  // namespace nemesis::probes
