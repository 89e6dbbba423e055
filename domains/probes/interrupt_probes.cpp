// Interrupts as events: delivered once, masked until acknowledged, one owner.
#include "domains/probes/probe.h"
#include "domains/probes/target.h"
#include "libnemesis/kps/kps.h"
#include "libnemesis/state.h"

namespace nemesis::probes {
namespace {

constexpr std::uint32_t kEndpoint = 50;

std::uint64_t count() {
    return __atomic_load_n(&reinterpret_cast<std::uint64_t const*>(state().ro + 1)[kEndpoint],
                           __ATOMIC_ACQUIRE);
}

/// The interval timer fires `hertz` times a second, or (0) not any more.
void set_interval_timer(std::uint32_t hertz) {
    KernelPrivilegedSection section;
    auto const divisor = hertz != 0 ? 1193182 / hertz : 0;
    out8(0x43, hertz != 0 ? 0x34 : 0x30);
    out8(0x40, static_cast<std::uint8_t>(divisor));
    out8(0x40, static_cast<std::uint8_t>(divisor >> 8));
}

struct BoundLine {
    std::int64_t source;
    BoundLine() : source(sys::irq_bind(0, 0, kEndpoint)) {}
    ~BoundLine() {
        set_interval_timer(0);
        sys::endpoint_close(0, kEndpoint);
    }
    BoundLine(BoundLine const&) = delete;
    BoundLine& operator=(BoundLine const&) = delete;
    std::uint64_t n() const { return static_cast<std::uint64_t>(source); }
};

void masked_until_acknowledged() {
    BoundLine line;
    REQUIRE(line.source >= 0);
    auto const begin = count();
    set_interval_timer(1000);
    sleep(Duration::ms(5));
    EXPECT_EQ(count(), begin);  // masked until the first acknowledgement
    EXPECT_EQ(sys::irq_ack(line.n()), 0);
    sleep(Duration::ms(10));
    EXPECT_EQ(count(), begin + 1);  // one, however many ticks there were
    for (std::uint64_t i = 2; i < 20; ++i) {
        EXPECT_EQ(sys::irq_ack(line.n()), 0);
        if (count() == begin + i - 1) {
            REQUIRE(wait_for([&] { return count() == begin + i; }, Duration::ms(5)));
        }
        sleep(Duration::ms(3));
        EXPECT_EQ(count(), begin + i);
    }
}

void one_owner() {
    BoundLine line;
    REQUIRE(line.source >= 0);
    EXPECT_EQ(sys::irq_bind(0, 0, kEndpoint + 1), code(abi::Error::Busy));
    EXPECT_EQ(sys::irq_bind(0, 2, kEndpoint + 1),
              code(abi::Error::Busy));  // the same line by its other name
    EXPECT_EQ(sys::irq_bind(0, 1ull << 32, kEndpoint + 1), code(abi::Error::BadArgument));
    EXPECT_EQ(sys::irq_bind(0, 200, kEndpoint + 1), code(abi::Error::BadArgument));
    EXPECT_EQ(sys::irq_bind(0, 1000, kEndpoint + 1), code(abi::Error::NotPermitted));
    EXPECT_EQ(sys::irq_bind(2, 5, kEndpoint + 1), code(abi::Error::BadArgument));
    EXPECT_EQ(sys::irq_bind(1, 0xffff00, kEndpoint + 1), code(abi::Error::BadArgument));
    EXPECT_EQ(sys::irq_bind(0, 5, kEndpoint), code(abi::Error::Busy));
    EXPECT_EQ(sys::irq_bind(0, 5, 1u << 20), code(abi::Error::BadArgument));
    EXPECT_EQ(sys::irq_ack(line.n() + 1), code(abi::Error::BadHandle));
    EXPECT_EQ(sys::irq_ack(~0ull), code(abi::Error::BadHandle));
    EXPECT_EQ(sys::endpoint_close(0, kEndpoint), 0);
    EXPECT_EQ(sys::irq_ack(line.n()), code(abi::Error::BadHandle));
    BoundLine again;
    EXPECT(again.source >= 0);
}

/// A driver that acknowledges as fast as it can, at the device's highest rate: out[0] interrupts.
void storm_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    auto const source = sys::irq_bind(0, 0, 5);
    mail.out[1] = static_cast<std::uint64_t>(source);
    mail.go = 1;
    for (;;) {
        clear_pending(ro);
        mail.out[0] = count_of(ro, 5);
        sys::irq_ack(static_cast<std::uint64_t>(source));
        sys::suspend(INT64_MAX);
    }
}
void tick_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    auto release = now().ns();
    for (;;) {
        spin(500'000 / 3);
        release += 5'000'000;
        auto const time = now().ns();
        if (time > release) mail.out[1] = mail.out[1] + 1;
        if (time > release) release = time;
        mail.out[0] = mail.out[0] + 1;
        sys::suspend(release);
        clear_pending(ro);
    }
}
void storm_harms_nobody() {
    auto player = make(tick_entry, {.weight = 0, .slice = 600'000, .period = 5'000'000});
    REQUIRE_EQ(player.error, 0);
    auto driver = make_started(storm_entry, {.privileges = abi::kPrivilegeInterrupts,
                                             .device_interrupts = {.first = 0, .count = 1},
                                             .weight = 10});
    REQUIRE(wait_for([&] { return driver.mail->go == 1; }));
    EXPECT(static_cast<std::int64_t>(driver.mail->out[1]) >= 0);
    auto hog = make_started(spinner, {.weight = 10});
    REQUIRE(player.start());
    set_interval_timer(59659);  // as fast as it goes in the emulator, within reason
    sleep(Duration::ms(60));
    set_interval_timer(0);
    EXPECT(driver.mail->out[0] > 100);
    EXPECT(player.mail->out[0] >= 10);
    EXPECT_EQ(player.mail->out[1], 0);
    (void)hog;
}

void owner_dies() {
    auto driver = make_started(storm_entry, {.privileges = abi::kPrivilegeInterrupts,
                                             .device_interrupts = {.first = 0, .count = 1}});
    REQUIRE(wait_for([&] { return driver.mail->go == 1; }));
    set_interval_timer(2000);
    REQUIRE(wait_for([&] { return driver.mail->out[0] > 5; }));
    EXPECT_EQ(sys::irq_bind(0, 0, kEndpoint), code(abi::Error::Busy));
    destroy(driver);
    sleep(Duration::ms(3));
    BoundLine line;
    REQUIRE(line.source >= 0);
    EXPECT_EQ(sys::irq_ack(line.n()), 0);
    auto const begin = count();
    EXPECT(wait_for([&] { return count() > begin; }, Duration::ms(5)));
}

/// Tries to take devices: out[0] the line of its grant, out[1] the line after it, out[2] a message
/// of that number, out[3] the page of its grant, out[4] that and the next, out[5] the next.
void grant_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    auto const page = mail.in[0];
    auto const try_stretch = [](std::uint64_t physical, std::uint64_t pages) {
        auto made = sys::device_stretch(physical, pages, abi::kRead);
        if (made >= 0) sys::stretch_destroy(0, static_cast<std::uint64_t>(made));
        return static_cast<std::uint64_t>(made);
    };
    mail.out[0] = static_cast<std::uint64_t>(sys::irq_bind(0, 5, 5));
    mail.out[1] = static_cast<std::uint64_t>(sys::irq_bind(0, 6, 6));
    mail.out[2] = static_cast<std::uint64_t>(sys::irq_bind(1, 5, 6));
    mail.out[3] = try_stretch(page, 1);
    mail.out[4] = try_stretch(page, 2);
    mail.out[5] = try_stretch(page + 4096, 1);
    mail.go = 1;
    for (;;) sys::suspend(INT64_MAX);
}
void only_what_was_granted() {
    constexpr auto refused = static_cast<std::int64_t>(abi::Error::NotPermitted);
    constexpr std::uint64_t page = 0xf000'0000;  // no memory there on the machines of these tests
    auto t = make(grant_entry, {.privileges = abi::kPrivilegeInterrupts | abi::kPrivilegeDevices,
                                .device_memory = {.first = page, .count = 4096},
                                .device_interrupts = {.first = 5, .count = 1}});
    REQUIRE_EQ(t.error, 0);
    t.mail->in[0] = page;
    REQUIRE(t.start());
    REQUIRE(wait_for([&] { return t.mail->go == 1; }));
    EXPECT(static_cast<std::int64_t>(t.mail->out[0]) >= 0);
    EXPECT_EQ(static_cast<std::int64_t>(t.mail->out[1]), refused);
    EXPECT_EQ(static_cast<std::int64_t>(t.mail->out[2]), refused);
    EXPECT(static_cast<std::int64_t>(t.mail->out[3]) >= 0);
    EXPECT_EQ(static_cast<std::int64_t>(t.mail->out[4]), refused);
    EXPECT_EQ(static_cast<std::int64_t>(t.mail->out[5]), refused);
}

/// A child is given a part of what its parent has, and no more: out[0] the part, out[1] more.
void parent_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    auto const create = [&](abi::DeviceGrant memory, abi::DeviceGrant interrupts) {
        auto& p = *reinterpret_cast<abi::DomainParameters*>(rw_of(ro).arguments);
        __builtin_memcpy(&p, const_cast<std::uint64_t const*>(&mail.extra[100]), sizeof(p));
        p.device_memory[0] = memory;
        p.device_interrupts[0] = interrupts;
        auto const made = sys::domain_create();
        if (made >= 0) sys::domain_destroy(static_cast<abi::DomainId>(made));
        return static_cast<std::uint64_t>(made);
    };
    mail.out[0] = create({8192, 4096}, {3, 1});
    mail.out[1] = create({8192, 4097}, {3, 1});
    mail.out[2] = create({4096, 4096}, {3, 1});
    mail.out[3] = create({8192, 4096}, {3, 2});
    mail.out[4] = create({8192, UINT64_MAX}, {3, 1});
    mail.go = 1;
    for (;;) sys::suspend(INT64_MAX);
}
void a_child_gets_no_more_than_its_parent_has() {
    constexpr auto refused = static_cast<std::int64_t>(abi::Error::BadArgument);
    auto t = make(parent_entry, {.privileges = abi::kPrivilegeCreateDomains,
                                 .device_memory = {.first = 8192, .count = 4096},
                                 .device_interrupts = {.first = 3, .count = 1},
                                 .frames = 400});
    REQUIRE_EQ(t.error, 0);
    abi::DomainParameters p{};
    p.slot_address = t.slot + abi::kSlotSize * 64;
    p.regions = 1;
    p.context_slots = 4;
    p.endpoints = 16;
    p.stretches = 8;
    p.frames = 64;
    __builtin_memcpy(const_cast<std::uint64_t*>(&t.mail->extra[100]), &p, sizeof(p));
    REQUIRE(t.start());
    REQUIRE(wait_for([&] { return t.mail->go == 1; }));
    EXPECT(static_cast<std::int64_t>(t.mail->out[0]) >= 0);
    for (int i = 1; i <= 4; ++i) EXPECT_EQ(static_cast<std::int64_t>(t.mail->out[i]), refused);
}

/// A section that faults (in[0] == 0) or overruns.
void bad_section_entry(abi::DibRo const* ro) {
    sys::call(abi::Call::KpsEnter, 500);
    if (mail_of(ro).in[0] == 0) __builtin_trap();
    for (;;) asm volatile("");
}
/// The interrupts that a section masks come through again when the kernel has ended it.
void come_after_a_section_that_was_ended() {
    for (std::uint64_t overrun = 0; overrun < 2; ++overrun) {
        BoundLine line;
        REQUIRE(line.source >= 0);
        set_interval_timer(1000);
        auto t = make(bad_section_entry, {.privileges = abi::kPrivilegeKps});
        t.mail->in[0] = overrun;
        REQUIRE(t.start());
        REQUIRE(t.wait_dead());
        // No section of the runner's own before this: leaving it would unmask everything.
        auto const begin = count();
        EXPECT_EQ(sys::irq_ack(line.n()), 0);
        EXPECT(wait_for([&] { return count() > begin; }, Duration::ms(5)));
        destroy(t);
    }
}

/// A message-signalled interrupt, of QEMU's teaching device (-device edu).
void message_signalled() {
    std::uint64_t function = 0;
    for (std::uint64_t device = 0; device < 32 && function == 0; ++device) {
        if (sys::pci_read(device << 11) == 0x11e81234) function = device << 11;
    }
    REQUIRE(function != 0);  // the machine lacks -device edu: nothing could be tried
    auto const bar = static_cast<std::uint64_t>(sys::pci_read(function | 0x10)) & ~15ull;
    REQUIRE(bar != 0);
    auto const made = sys::device_stretch(bar, 1, abi::kRead | abi::kWrite);
    REQUIRE(made >= 0);
    auto const n = static_cast<std::uint64_t>(made);
    auto* registers =
        reinterpret_cast<std::uint32_t volatile*>(sys::call(abi::Call::StretchAddress, 0, n));
    auto const source = sys::irq_bind(1, function, kEndpoint);
    EXPECT(source >= 0);
    auto const s = static_cast<std::uint64_t>(source);
    auto const masters_bus = [&] { return (sys::pci_read(function | 4) & 4) != 0; };
    EXPECT(masters_bus());
    EXPECT_EQ(sys::irq_bind(1, function, kEndpoint + 1), code(abi::Error::Busy));
    auto const begin = count();
    EXPECT_EQ(registers[0] & 0xffff, 0x00ed);
    EXPECT_EQ(sys::irq_ack(s), 0);
    for (std::uint64_t i = 1; i <= 10; ++i) {
        registers[0x60 / 4] = 1;  // raise
        EXPECT(wait_for([&] { return count() == begin + i; }, Duration::ms(2)));
        registers[0x64 / 4] = 1;  // acknowledged at the device
        EXPECT_EQ(sys::irq_ack(s), 0);
    }
    sleep(Duration::ms(1));
    EXPECT_EQ(count(), begin + 10);
    // Without its driver's source a device reaches no memory: that may be somebody else's by then.
    sys::endpoint_close(0, kEndpoint);
    EXPECT(!masters_bus());
    EXPECT_EQ(sys::stretch_destroy(0, n), 0);
}

/// Offset of a capability of a function, or 0.
std::uint64_t capability(std::uint64_t function, std::uint64_t id) {
    if ((sys::pci_read(function | 4) & (1 << 20)) == 0) return 0;
    auto at = static_cast<std::uint64_t>(sys::pci_read(function | 0x34)) & 0xfc;
    for (int i = 0; i < 48 && at != 0; ++i) {
        auto const word = static_cast<std::uint64_t>(sys::pci_read(function | at));
        if ((word & 0xff) == id) return at;
        at = (word >> 8) & 0xfc;
    }
    return 0;
}

/// What a device's message table says is the kernel's to write: its page is in no device stretch,
/// alone or among others. The machine must have a device with one (-device virtio-rng-pci).
void message_tables_are_the_kernels() {
    constexpr auto rw = abi::kRead | abi::kWrite;
    bool tried = false;
    for (std::uint64_t device = 0; device < 32; ++device) {
        auto const function = device << 11;
        auto const at = capability(function, 0x11);
        if (at == 0) continue;
        auto const where = static_cast<std::uint64_t>(sys::pci_read(function | (at + 4)));
        auto const number = where & 7;
        auto const low = static_cast<std::uint64_t>(sys::pci_read(function | (0x10 + 4 * number)));
        auto bar = low & ~15ull;
        if ((low & 6) == 4)
            bar |= static_cast<std::uint64_t>(sys::pci_read(function | (0x14 + 4 * number))) << 32;
        auto const page = (bar + (where & ~7ull)) & ~4095ull;
        REQUIRE(bar != 0);
        EXPECT_EQ(sys::device_stretch(page, 1, rw), code(abi::Error::NotPermitted));
        EXPECT_EQ(sys::device_stretch(page, 1, abi::kRead), code(abi::Error::NotPermitted));
        EXPECT_EQ(sys::device_stretch(page - 4096, 3, rw), code(abi::Error::NotPermitted));
        EXPECT_EQ(sys::device_stretch(page - 4096, 2, rw), code(abi::Error::NotPermitted));
        auto const beside = sys::device_stretch(page - 4096, 1, rw);
        EXPECT(beside >= 0);
        if (beside >= 0) EXPECT_EQ(sys::stretch_destroy(0, static_cast<std::uint64_t>(beside)), 0);
        tried = true;
    }
    EXPECT(tried);
}

constexpr Probe list[] = {
    {"interrupt.masked_until_acknowledged", masked_until_acknowledged},
    {"interrupt.one_owner", one_owner},
    {"interrupt.storm_harms_nobody", storm_harms_nobody},
    {"interrupt.owner_dies", owner_dies},
    {"interrupt.only_what_was_granted", only_what_was_granted},
    {"interrupt.a_child_gets_no_more_than_its_parent_has",
     a_child_gets_no_more_than_its_parent_has},
    {"interrupt.come_after_a_section_that_was_ended", come_after_a_section_that_was_ended},
    {"interrupt.message_signalled", message_signalled},
    {"interrupt.message_tables_are_the_kernels", message_tables_are_the_kernels},
};

}  // namespace

ProbeList interrupt_probes() { return {list, sizeof(list) / sizeof(list[0])}; }

}  // namespace nemesis::probes
