// Making and destroying targets.
#include "domains/probes/target.h"

#include "domains/probes/probe.h"
#include "libnemesis/activation/domain_status.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/state.h"

extern "C" char __text_start[], __text_end[], __data_start[];

namespace nemesis::probes {
namespace {

constexpr std::uint32_t kTargetsMax = 64;
Target targets[kTargetsMax];
Mail* mails = nullptr;
std::uint64_t mail_stretch = 0;
std::uint64_t workshop = 0, workshop_address = 0;
std::uint32_t image_frames[256];
std::uint64_t image_first, image_pages_;
std::uint64_t next_slot = 0x155000;

constexpr std::uint64_t kMainStackPages = 2;

bool prepare() {
    if (mails != nullptr) return true;
    auto const address = pages::make_stretch(kTargetsMax, mail_stretch);
    workshop_address = pages::make_stretch(1, workshop);
    if (address == 0 || workshop_address == 0) return false;
    mails = reinterpret_cast<Mail*>(address);
    auto const base = environment().image_begin & ~(abi::kSlotSize - 1);
    image_first = (environment().image_begin - base) / abi::kPageSize;
    image_pages_ = (reinterpret_cast<std::uint64_t>(__data_start) - base) / abi::kPageSize;
    if (image_pages_ > 256) return false;
    for (auto page = image_first; page < image_pages_; ++page) {
        auto const physical = sys::frame_physical(0, page);
        if (physical < 0) return false;
        image_frames[page] = static_cast<std::uint32_t>(physical / 4096);
    }
    return true;
}

bool map_image(Target const& t, std::uint64_t first, std::uint64_t last) {
    auto const base = environment().image_begin & ~(abi::kSlotSize - 1);
    for (auto page = first; page < last; ++page) {
        auto const address = base + page * abi::kPageSize;
        auto const text = address >= reinterpret_cast<std::uint64_t>(__text_start) &&
                          address < reinterpret_cast<std::uint64_t>(__text_end);
        if (sys::map(t.id, 0, page, image_frames[page], abi::kRead | (text ? abi::kExecute : 0)) <
            0)
            return false;
    }
    return true;
}

bool furnish(Target& t, TargetFunction function, TargetOptions const& o,
             abi::DomainLayout const& layout) {
    auto const base = environment().image_begin & ~(abi::kSlotSize - 1);
    if (o.bare) {
        auto const page = (reinterpret_cast<std::uint64_t>(function) - base) / abi::kPageSize;
        if (!map_image(t, page, page + 2)) return false;  // it may reach over a page's end
        return give_page(t, layout.activation_stack + abi::kActivationStackPages - 1,
                         abi::kRead | abi::kWrite);
    }
    if (!map_image(t, image_first, image_pages_)) return false;
    for (std::uint64_t i = 0; i < 2; ++i) {
        if (!give_page(t, layout.activation_stack + abi::kActivationStackPages - 1 - i,
                       abi::kRead | abi::kWrite) ||
            !give_page(t, layout.stack + i, abi::kRead | abi::kWrite)) {
            return false;
        }
    }
    t.mail = &mails[t.number];
    for (std::uint64_t i = 0; i < sizeof(Mail) / 8; ++i)
        reinterpret_cast<std::uint64_t volatile*>(t.mail)[i] = 0;
    t.mail->extra[430] = t.slot + layout.end * abi::kPageSize;
    return sys::stretch_offer(0, mail_stretch, t.id, abi::kRead | abi::kWrite) == 0 &&
           sys::stretch_accept(t.id, dib().id, mail_stretch, abi::kRead | abi::kWrite) >= 0;
}

}  // namespace

abi::DomainLayout layout_of(TargetOptions const& o) {
    if (!prepare()) return {};
    return abi::lay_out(image_pages_, o.endpoints, o.slots, kMainStackPages);
}

Target make(TargetFunction function, TargetOptions const& o) {
    Target t;
    auto const layout = layout_of(o);
    t.number = kTargetsMax;
    for (std::uint32_t i = 0; i < kTargetsMax && !o.bare; ++i) {
        if (targets[i].id == 0) {
            t.number = i;
            break;
        }
    }
    if (layout.end == 0 || (t.number == kTargetsMax && !o.bare)) {
        t.error = code(abi::Error::NoMemory);
        return t;
    }
    auto const base = environment().image_begin & ~(abi::kSlotSize - 1);
    for (int tries = 0; tries < 8; ++tries) {
        t.slot = abi::kSlotsBase + next_slot++ * abi::kSlotSize;
        abi::DomainParameters p{};
        p.slot_address = t.slot;
        p.regions = layout.regions;
        p.dib_offset = layout.dib_ro * abi::kPageSize;
        p.context_slots = o.slots;
        p.endpoints = o.endpoints;
        p.stretches = o.stretches;
        p.frames = o.frames;
        p.privileges = o.privileges;
        p.device_memory[0] = o.device_memory;
        p.device_interrupts[0] = o.device_interrupts;
        p.death_endpoint = kDeathEndpoint;
        p.entry =
            o.entry != 0 ? o.entry : t.slot + (reinterpret_cast<std::uint64_t>(function) - base);
        p.stack =
            t.slot + (layout.activation_stack + abi::kActivationStackPages) * abi::kPageSize - 8;
        p.environment = o.bare ? 0 : reinterpret_cast<std::uint64_t>(&mails[t.number]);
        p.name[0] = 0x0074656772617400ull >> 8;  // "target"
        __builtin_memcpy(state().rw->arguments, &p, sizeof(p));
        t.error = sys::domain_create();
        if (t.error != code(abi::Error::Busy)) break;
    }
    if (t.error < 0) return t;
    t.id = static_cast<abi::DomainId>(t.error);
    t.error = 0;
    if (!o.bare) targets[t.number] = t;
    if (!furnish(t, function, o, layout)) t.error = code(abi::Error::QuotaExceeded);
    if (!o.bare) targets[t.number] = t;
    std::int64_t from = 0;
    if (t.error == 0)
        t.error = sys::contract_set(t.id, o.slice, o.period, o.period, o.weight, &from);
    // Bandwidth of those who died counts as used for a while: the guarantee holds from then on.
    if (t.error == 0 && o.slice > 0) {
        auto const latest = now() + Duration::ms(100);
        Thread::sleep_until(Instant::ns(from) < latest ? Instant::ns(from) : latest);
    }
    EXPECT_EQ(t.error, 0);
    return t;
}

Target make_started(TargetFunction function, TargetOptions const& options) {
    auto t = make(function, options);
    if (t.error == 0) EXPECT(t.start());
    return t;
}

void destroy(Target& t) {
    if (t.id == 0) return;
    EXPECT_EQ(sys::domain_destroy(t.id), 0);
    if (t.number < kTargetsMax) targets[t.number] = Target{};
    t = Target{};
}

void destroy_all() {
    for (auto& t : targets) {
        if (t.id == 0) continue;
        sys::domain_destroy(t.id);
        t = Target{};
    }
}

abi::DomainStatus Target::status() const {
    auto s = domain_status(id);
    if (s) return *s;
    abi::DomainStatus unknown{};
    unknown.state = 99;
    return unknown;
}

bool Target::wait_dead(Duration limit) const {
    return wait_for([&] { return dead(); }, limit);
}

bool connect(Target const& x, std::uint32_t a, Target const& y, std::uint32_t b) {
    return sys::endpoint_offer(x.id, a, y.id) == 0 && sys::endpoint_accept(y.id, b, x.id, a) == 0;
}
bool connect_runner(std::uint32_t own, Target const& target, std::uint32_t theirs) {
    sys::endpoint_close(0, own);
    return sys::endpoint_offer(target.id, theirs, dib().id) == 0 &&
           sys::endpoint_accept(0, own, target.id, theirs) == 0;
}

bool give_page(Target const& t, std::uint64_t page, std::uint64_t rights,
               std::uint64_t first_word) {
    auto const mapped = sys::map_batch(workshop, 0, 1);
    if (mapped < 0 && mapped != code(abi::Error::Exists)) return false;
    *reinterpret_cast<std::uint64_t*>(workshop_address) = first_word;
    return sys::frame_give(t.id, 0, page, workshop, 0, rights) >= 0;
}

std::uint64_t address_in(Target const& target, void const* function) {
    return target.slot + (reinterpret_cast<std::uint64_t>(function) & (abi::kSlotSize - 1));
}

void spinner(abi::DibRo const*) {
    for (;;) asm volatile("");
}
void sleeper(abi::DibRo const*) {
    for (;;) sys::suspend(INT64_MAX);
}

}  // namespace nemesis::probes
