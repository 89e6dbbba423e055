// Hostile domains: random system calls, every byte of a context slot, creation parameters that
// change. Beside them lives a canary: a contract that may not miss, and memory that may not change.
#include "domains/probes/probe.h"
#include "domains/probes/target.h"
#include "libnemesis/state.h"

namespace nemesis::probes {
namespace {

constexpr std::uint64_t kPattern = 0x6372'7970'7469'6321;

/// Works 0.2 ms of its 0.5 ms every 5 ms, and looks at its page. out[0] jobs, out[1] missed, out[2]
/// spoiled.
void canary_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    auto* page = reinterpret_cast<std::uint64_t volatile*>(mail.in[0]);
    for (std::uint64_t i = 0; i < 512; ++i) page[i] = kPattern + i;
    auto release = now().ns();
    for (;;) {
        for (int round = 0; round < 20; ++round) {
            for (std::uint64_t i = 0; i < 512; ++i) {
                if (page[i] != kPattern + i) mail.out[2] = mail.out[2] + 1;
            }
        }
        release += 5'000'000;
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
Target canary() {
    auto t = make(canary_entry, {.weight = 0, .slice = 500'000, .period = 5'000'000});
    EXPECT_EQ(t.error, 0);
    EXPECT(give_page(t, kFreePage, abi::kRead | abi::kWrite));
    t.mail->in[0] = t.slot + kFreePage * abi::kPageSize;
    EXPECT(t.start());
    return t;
}
void expect_unharmed(Target const& t) {
    auto const jobs = t.mail->out[0];
    EXPECT(wait_for([&] { return t.mail->out[0] > jobs; }));
    EXPECT_EQ(t.mail->out[1], 0);
    EXPECT_EQ(t.mail->out[2], 0);
    EXPECT_EQ(t.status().state, 1);
}

struct Random {
    std::uint64_t state;
    std::uint64_t next() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state * 2685821657736338717ull;
    }
};

inline std::int64_t raw_call(std::uint64_t n, std::uint64_t const* a, std::uint64_t* leaked) {
    std::int64_t result;
    std::uint64_t x = a[0], y = a[1], z = a[2];
    register std::uint64_t r10 asm("r10") = a[3];
    register std::uint64_t r8 asm("r8") = a[4];
    register std::uint64_t r9 asm("r9") = a[5];
    std::uint64_t c, f;
    asm volatile("syscall"
                 : "=a"(result), "+D"(x), "+S"(y), "+d"(z), "+r"(r10), "+r"(r8), "+r"(r9), "=c"(c),
                   "=r"(f)
                 : "a"(n)
                 : "r11", "memory");
    // Nothing of the kernel's in the registers it leaves behind.
    for (auto const v : {x, y, z, r10, r8, r9}) {
        if (v >= 0xffff'8000'0000'0000 && v < 0xffff'ffff'ffff'0000) *leaked = v;
    }
    return result;
}

constexpr std::uint64_t kParameterWords = sizeof(abi::DomainParameters) / 8;

inline std::uint64_t volatile* parameters_of(abi::DibRo const* ro) {
    return reinterpret_cast<std::uint64_t volatile*>(&rw_of(ro).arguments[0]);
}
/// Some of what stands there as parameters of a creation becomes something else.
void spoil_parameters(abi::DibRo const* ro, Random& random) {
    auto* to = parameters_of(ro);
    for (std::uint64_t i = 0; i < kParameterWords; ++i) {
        to[i] = random.next() % 3 == 0   ? random.next() % 64
                : random.next() % 5 == 0 ? random.next()
                                         : to[i];
    }
}
/// Creates a child from parameters that may all be right, or one of which is far too large. Its id
/// is among those that later calls name. extra[4]: how many were made.
void create_child(abi::DibRo const* ro, Random& random) {
    auto& mail = mail_of(ro);
    if (mail.in[10] != 0 && random.next() % 4 != 0) sys::domain_destroy(mail.in[10]);
    auto* to = parameters_of(ro);
    for (std::uint64_t i = 0; i < kParameterWords; ++i) to[i] = 0;
    auto const word = [&](std::size_t offset) -> std::uint64_t volatile& { return to[offset / 8]; };
    using P = abi::DomainParameters;
    word(offsetof(P, slot_address)) =
        abi::kSlotsBase + (0x300000 + random.next() % 64) * abi::kSlotSize;
    word(offsetof(P, regions)) = 1 + random.next() % 2;
    word(offsetof(P, dib_offset)) = (random.next() % 300) * abi::kPageSize;
    std::size_t const counts[] = {offsetof(P, context_slots), offsetof(P, endpoints),
                                  offsetof(P, stretches)};
    for (auto const at : counts) word(at) = 1 + random.next() % 20;
    word(offsetof(P, frames)) = 20 + random.next() % 60;
    word(offsetof(P, death_endpoint)) = 1;
    if (random.next() % 2 != 0) {
        auto const field = random.next() % (sizeof(counts) / sizeof(counts[0]));
        word(counts[field]) = (256ull << random.next() % 40) + random.next() % 2;
    }
    auto made = code(abi::Error::Again);
    for (int step = 0; made == code(abi::Error::Again) && step < 200; ++step)
        made = sys::call(abi::Call::DomainCreate);
    if (made <= 0) return;
    mail.in[10] = static_cast<std::uint64_t>(made);
    mail.extra[4] = mail.extra[4] + 1;
}

/// in[0] calls from the seed in[1]; in[2]: a mask of call numbers never made. out[0] calls,
/// out[1..] how often which result. Goes on where it is activated.
void caller_loop(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    Random random{mail.extra[0]};
    while (mail.out[0] < mail.in[0]) {
        constexpr auto count = static_cast<std::uint64_t>(abi::Call::Count);
        auto n = random.next() % (count + 1);
        std::uint64_t a[6];
        for (auto& word : a) {
            switch (random.next() % 12) {
                case 0:
                    word = random.next();
                    break;
                case 1:
                    word = 0;
                    break;
                case 2:
                    word = random.next() % 64;
                    break;
                case 3:
                    word = random.next() % 4096;
                    break;
                case 4:
                    word = mail.in[3 + random.next() % 8];
                    break;  // ids of domains
                case 5:
                    word = ~std::uint64_t{0} - random.next() % 3;
                    break;
                case 6:
                    word = 1ull << (random.next() % 64);
                    break;
                case 7:
                    word = static_cast<std::uint64_t>(now().ns()) + random.next() % 20'000;
                    break;
                case 8:
                    word = ro->rw_address + random.next() % 8192;
                    break;
                case 9:
                    word = abi::kSlotsBase + (random.next() % 0x400000) * abi::kRegionSize;
                    break;
                case 10:
                    word = (random.next() % 16) | ((random.next() % 4) << 16);
                    break;
                default:
                    word = random.next() % 8;
                    break;
            }
        }
        if (n == count) n = random.next();
        mail.extra[0] = random.state;
        mail.out[0] = mail.out[0] + 1;
        if (n < 64 && (mail.in[2] >> n & 1) != 0) continue;
        if (n == static_cast<std::uint64_t>(abi::Call::DomainCreate)) {
            if (random.next() % 2 != 0)
                spoil_parameters(ro, random);
            else
                create_child(ro, random);
        }
        // A time-out far away would end the run: those that wait get one that comes.
        if (n == static_cast<std::uint64_t>(abi::Call::Suspend))
            a[0] = static_cast<std::uint64_t>(now().ns()) + a[0] % 20'000;
        if (n == static_cast<std::uint64_t>(abi::Call::SendSync))
            a[1] = static_cast<std::uint64_t>(now().ns()) + a[1] % 20'000;
        if (n == static_cast<std::uint64_t>(abi::Call::Log))
            a[0] = a[0] % 100 + 33;  // keep the log readable
        // What would change somebody's contract, if it were allowed.
        if (n == static_cast<std::uint64_t>(abi::Call::ContractSet) && random.next() % 4 == 0) {
            a[0] = mail.in[3 + random.next() % 3];
            a[1] = a[2] = a[3] = 0;
            a[4] = random.next() % 2;
        }
        std::uint64_t leaked = 0;
        auto result = raw_call(n, a, &leaked);
        // A call with long work has only begun it: sometimes it is gone on with.
        for (auto more = random.next() % 64; more > 1 && result == code(abi::Error::Again); --more)
            result = raw_call(n, a, &leaked);
        if (leaked != 0) mail.out[60] = leaked;
        if (result > -20 && result <= 0)
            mail.out[static_cast<std::uint64_t>(1 - result)] =
                mail.out[static_cast<std::uint64_t>(1 - result)] + 1;
    }
    mail.go = 1;
    sys::exit(1);
}
/// Whatever activated it: on with the next call.
void caller_entry(abi::DibRo const* ro) {
    auto& rw = rw_of(ro);
    rw.activation_vector = reinterpret_cast<std::uint64_t>(&caller_entry);
    if (mail_of(ro).extra[0] == 0) mail_of(ro).extra[0] = mail_of(ro).in[1];
    clear_pending(ro);
    caller_loop(ro);
}

constexpr std::uint64_t bit(abi::Call call) { return 1ull << static_cast<unsigned>(call); }

/// `total` calls by targets with `privileges`; one that dies by its own call is made again.
void random_calls(std::uint64_t total, std::uint64_t privileges, std::uint64_t seed) {
    auto watch = canary();
    auto peer = make_started(sleeper);
    std::uint64_t done = 0, lives = 0, children = 0;
    // Not made: exit and machine_exit (they end the run), section calls (they are trusted).
    auto mask = bit(abi::Call::Exit) | bit(abi::Call::MachineExit) | bit(abi::Call::KpsEnter) |
                bit(abi::Call::KpsLeave);
    // Contracts of others are what the privilege is for: the canary's and the runner's would be
    // changed.
    if ((privileges & abi::kPrivilegeControlContracts) != 0)
        mask |= bit(abi::Call::ContractSet) | bit(abi::Call::GuaranteesSet);
    while (done < total && lives < 400) {
        ++lives;
        auto t = make(caller_entry, {.privileges = privileges,
                                     .device_interrupts = {.first = 0, .count = 256},
                                     .frames = 300,
                                     .weight = 50});
        REQUIRE_EQ(t.error, 0);
        auto& in = t.mail->in;
        in[0] = total - done;
        in[1] = seed * 1000 + lives;
        in[2] = mask;
        in[3] = t.id;
        in[4] = peer.id;
        in[5] = watch.id;
        in[6] = dib().id;
        in[7] = dib().parent;
        in[8] = t.id + 1;
        in[9] = t.id + (1ull << 32);
        in[10] = 0;
        REQUIRE(connect(t, 5, peer, 5));
        REQUIRE_EQ(sys::endpoint_offer(t.id, 6, t.id), 0);
        REQUIRE_EQ(sys::endpoint_accept(t.id, 7, t.id, 6), 0);
        REQUIRE(t.start());
        std::uint64_t last = ~0ull;
        while (!t.dead() && t.mail->out[0] != last) {  // stands still: it has given itself up
            last = t.mail->out[0];
            sleep(Duration::ms(4));
        }
        done += t.mail->out[0];
        children += t.mail->extra[4];
        EXPECT_EQ(t.mail->out[60], 0);
        destroy(t);
        sys::endpoint_close(peer.id, 5);
    }
    EXPECT(done >= total);
    if ((privileges & abi::kPrivilegeCreateDomains) != 0) EXPECT(children > total / 1000);
    expect_unharmed(watch);
    EXPECT_EQ(peer.status().state, 1);
}

void calls_without_privileges() {
    random_calls(option("calls=", 40'000), 0, option("seed=", kSeed));
}
void calls_with_privileges() {
    constexpr auto privileges =
        abi::kPrivilegesAll &
        ~(abi::kPrivilegeMachine | abi::kPrivilegeKps | abi::kPrivilegeDevices);
    random_calls(option("calls=", 20'000), privileges, option("seed=", kSeed) + 1);
}

// ---- context slots
// -------------------------------------------------------------------------------

/// Resumes slot 3 with one byte after the other replaced. out[0] is the next byte, out[1] how often
/// it came back: by the landing or by a fault. in[0] first byte, in[1] value's seed, in[2] step.
void fuzz_next(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    auto& rw = rw_of(ro);
    rw.slot[0] = 0;
    rw.slot[1] = 1;
    clear_pending(ro);
    while (mail.out[0] < 1024 * mail.in[2]) {
        auto const at = mail.out[0] % 1024;
        mail.out[0] = mail.out[0] + 1;
        auto* bytes = reinterpret_cast<std::uint8_t volatile*>(&slot_of(ro, 3));
        for (std::uint64_t i = 0; i < 1024; ++i) bytes[i] = 0;
        auto& slot = slot_of(ro, 3);
        slot.rip = mail.extra[1];
        slot.rsp = mail.extra[430];
        slot.rdi = reinterpret_cast<std::uint64_t>(ro);
        slot.rflags = 0x202;
        slot.kind = (at & 1) != 0 ? abi::kSlotFull | abi::kSlotFpu : abi::kSlotFull;
        slot.fpu[0] = 0x7f;
        slot.fpu[1] = 0x03;
        slot.fpu[24] = 0x80;
        slot.fpu[25] = 0x1f;
        slot.fpu[512] = 7;
        Random random{mail.in[1] + mail.out[0] * 77};
        bytes[at] = static_cast<std::uint8_t>(random.next() >> 20);
        sys::resume(3);
    }
    mail.go = 1;
    sys::exit(1);
}
void fuzz_handler(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    mail.out[1] = mail.out[1] + 1;
    // With what flags it ran: interrupts on, no right to ports.
    constexpr std::uint64_t interrupts = 1u << 9, ports = 3u << 12;
    auto const& ran = slot_of(ro, 1);
    if ((ran.kind & abi::kSlotFull) != 0 && (ran.rflags & (interrupts | ports)) != interrupts)
        mail.out[2] = mail.out[2] + 1;
    fuzz_next(ro);
}
/// Where an unharmed slot goes: ends in an exception, so that the handler has the processor again.
void fuzz_landing() {
    for (int i = 0; i < 3; ++i) asm volatile("");
    __builtin_trap();
}
void fuzz_entry(abi::DibRo const* ro) {
    rw_of(ro).activation_vector = reinterpret_cast<std::uint64_t>(&fuzz_handler);
    mail_of(ro).extra[1] = reinterpret_cast<std::uint64_t>(&fuzz_landing);
    fuzz_next(ro);
}

void every_byte_of_a_slot() {
    auto watch = canary();
    auto const rounds = option("rounds=", 2);
    std::uint64_t next = 0, lives = 0, back = 0;
    while (next < 1024 * rounds && lives < 3000) {
        ++lives;
        auto t = make(fuzz_entry, {.privileges = abi::kPrivilegeFpu, .weight = 50});
        REQUIRE_EQ(t.error, 0);
        t.mail->in[1] = option("seed=", kSeed);
        t.mail->in[2] = rounds;
        t.mail->out[0] = next;
        REQUIRE(t.start());
        // It has spare time only: its first turn may take a while.
        (void)wait_for([&] { return t.mail->out[0] != next; });
        std::uint64_t last = ~0ull;
        while (!t.dead() && t.mail->out[0] != last) {
            last = t.mail->out[0];
            sleep(Duration::ms(3));
        }
        if (t.mail->out[0] == next && t.mail->go == 0) break;
        next = t.mail->out[0];
        back += t.mail->out[1];
        EXPECT_EQ(t.mail->out[2], 0);
        destroy(t);
    }
    EXPECT_BELOW(1024 * rounds - 1, next);
    EXPECT_BELOW(1000, back);
    expect_unharmed(watch);
}

/// Slots of nothing but random bytes.
void random_main(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    rw_of(ro).slot[0] = 0;
    rw_of(ro).slot[1] = 1;
    clear_pending(ro);
    auto& slot = slot_of(ro, 3);
    auto* words = reinterpret_cast<std::uint64_t volatile*>(&slot);
    mail.extra[2] = mail.extra[2] + 1;
    Random random{mail.in[1] + mail.extra[2] * 991};
    for (std::uint64_t i = 0; i < 128; ++i) words[i] = random.next();
    if (random.next() % 4 != 0) slot.kind = random.next() & ~std::uint64_t{abi::kSlotFpu};
    if (random.next() % 2 == 0) slot.rip = slot.rip % (abi::kSlotsEnd);
    mail.out[0] = mail.out[0] + 1;
    if (mail.out[0] >= mail.in[0]) sys::exit(1);
    for (;;) sys::resume(3);
}
void random_entry(abi::DibRo const* ro) {
    rw_of(ro).activation_vector = reinterpret_cast<std::uint64_t>(&random_main);
    random_main(ro);
}
void random_slots() {
    auto watch = canary();
    std::uint64_t done = 0;
    for (std::uint64_t lives = 0; lives < 300 && done < 1500; ++lives) {
        auto t = make(random_entry, {.privileges = abi::kPrivilegeFpu, .weight = 50});
        REQUIRE_EQ(t.error, 0);
        t.mail->in[0] = 1500 - done;
        t.mail->in[1] = kSeed + lives;
        REQUIRE(t.start());
        std::uint64_t last = ~0ull;
        while (!t.dead() && t.mail->out[0] != last) {
            last = t.mail->out[0];
            sleep(Duration::ms(3));
        }
        done += t.mail->out[0];
        destroy(t);
    }
    EXPECT_BELOW(1499, done);
    expect_unharmed(watch);
}

/// Creation takes several calls; what it was begun with counts.
void creation_parameters_change() {
    auto const layout = layout_of({});
    auto const set = [&](std::uint64_t slot, std::uint64_t regions, std::uint64_t dib) {
        abi::DomainParameters p{};
        p.slot_address = slot;
        p.regions = regions;
        p.dib_offset = dib;
        p.context_slots = p.endpoints = p.stretches = 4;
        p.frames = 60;
        p.death_endpoint = kDeathEndpoint;
        __builtin_memcpy(state().rw->arguments, &p, sizeof(p));
    };
    auto const slot = abi::kSlotsBase + 0x2ffff * abi::kSlotSize;
    constexpr struct {
        std::uint64_t slot_change, regions, dib;
    } changes[] = {{0x1234'5678, 1, 0},
                   {0, 200, 0x7f00'0000},
                   {0, 1, 0xffff'ffff'ffff'f000},
                   {0x4000'0000'0000, 8, 0x20'0000},
                   {0, 0, 0}};
    (void)layout;
    for (auto const& change : changes) {
        for (int before = 1; before < 40; ++before) {
            set(slot, 1, 0);
            std::int64_t made = 0;
            for (int i = 0; i < before; ++i) made = sys::call(abi::Call::DomainCreate);
            if (made > 0) {
                sys::domain_destroy(static_cast<abi::DomainId>(made));
                break;
            }
            set(slot ^ change.slot_change, change.regions, change.dib);
            // The half-made one cannot be named either.
            for (std::uint64_t index = 1; before % 8 == 1 && index < 8; ++index) {
                for (std::uint64_t generation = 1; generation < 400; generation += 1) {
                    auto const id = (generation << 32) | index;
                    if (sys::stretch_accept(0, id, 0, abi::kRead) >= 0)
                        failed(__FILE__, __LINE__, "accepted", id, 0, true);
                }
            }
            made = sys::domain_create();
            if (made > 0) sys::domain_destroy(static_cast<abi::DomainId>(made));
            set(slot, 1, 0);
            made = sys::domain_create();
            if (made > 0) sys::domain_destroy(static_cast<abi::DomainId>(made));
        }
    }
}

/// The registers a callee keeps are kept by every call that returns, also by those that are
/// refused; the arguments' come back as zero.
void registers_after_calls() {
    for (std::uint64_t n = 0; n < 48; ++n) {
        // Not those that would harm the runner itself.
        using enum abi::Call;
        constexpr auto left_out = bit(Exit) | bit(MachineExit) | bit(Suspend) | bit(KpsEnter) |
                                  bit(KpsLeave) | bit(Resume) | bit(ContractSet) |
                                  bit(GuaranteesSet) | bit(Unmap) | bit(DomainCreate);
        if ((left_out >> n & 1) != 0) continue;
        for (std::uint64_t const argument : {0ull, 45ull, ~0ull}) {
            std::uint64_t wrong, first = argument;
            asm volatile(
                "push %%rbx\n push %%rbp\n"
                "mov $0x11111, %%ebx\n mov $0x22222, %%ebp\n mov $0x33333, %%r12d\n mov $0x44444, "
                "%%r13d\n"
                "mov $0x55555, %%r14d\n mov $0x66666, %%r15d\n"
                "mov %%rdi, %%rsi\n mov %%rdi, %%rdx\n mov %%rdi, %%r10\n mov %%rdi, %%r8\n mov "
                "%%rdi, %%r9\n"
                "syscall\n"
                "mov %%rdi, %%rcx\n or %%rsi, %%rcx\n or %%r8, %%rcx\n or %%r9, %%rcx\n"
                "or %%r10, %%rcx\n"
                "sub $0x11111, %%rbx\n or %%rbx, %%rcx\n sub $0x22222, %%rbp\n or %%rbp, %%rcx\n"
                "sub $0x33333, %%r12\n or %%r12, %%rcx\n sub $0x44444, %%r13\n or %%r13, %%rcx\n"
                "sub $0x55555, %%r14\n or %%r14, %%rcx\n sub $0x66666, %%r15\n or %%r15, %%rcx\n"
                "pop %%rbp\n pop %%rbx\n"
                : "=c"(wrong), "+D"(first)
                : "a"(n)
                : "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory",
                  "cc");
            if (wrong != 0) failed(__FILE__, __LINE__, "call, difference", n, wrong, true);
        }
    }
    sys::endpoint_close(0, 0);
}

constexpr Probe list[] = {
    {"hostile.creation_parameters_change", creation_parameters_change},
    {"hostile.registers_after_calls", registers_after_calls},
    {"hostile.every_byte_of_a_slot", every_byte_of_a_slot},
    {"hostile.random_slots", random_slots},
    {"hostile.calls_without_privileges", calls_without_privileges},
    {"hostile.calls_with_privileges", calls_with_privileges},
};

}  // namespace

ProbeList hostile_probes() { return {list, sizeof(list) / sizeof(list[0])}; }

}  // namespace nemesis::probes
