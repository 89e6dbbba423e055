// The boot, as one list of steps: kernel_start runs once, on the boot stack, interrupts off, and
// ends by giving the processor to the first domain.
#include <cstring>
#include <span>

#include "arch/x86_64/apic.h"
#include "arch/x86_64/boot/boot_info.h"
#include "arch/x86_64/clock.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/descriptors.h"
#include "arch/x86_64/display.h"
#include "arch/x86_64/paging.h"
#include "arch/x86_64/pci.h"
#include "arch/x86_64/serial.h"
#include "kernel/abi/environment.h"
#include "kernel/costs.h"
#include "kernel/cpu.h"
#include "kernel/dispatch.h"
#include "kernel/domain.h"
#include "kernel/interrupt.h"
#include "kernel/log.h"
#include "kernel/machine.h"
#include "kernel/memory/slots.h"
#include "kernel/memory/stretch.h"
#include "kernel/panic.h"
#include "kernel/trace.h"
#include "libnemesis/base/archive.h"
#include "libnemesis/base/assert.h"
#include "libnemesis/base/elf_image.h"

namespace nemesis::kernel {
namespace {

constexpr std::uint32_t kDomainsMax = 32768;
constexpr std::uint32_t kSlotRecords = 131072;
constexpr std::uint32_t kTraceRecords = 1u << 18;
constexpr std::uint64_t kPhysicalMax = 64ull << 30;

alignas(4096) std::uint8_t kernel_stack[16384];
void* scheduler_seats;

/// Memory taken before there are frames: the end of the largest range below 4 GiB.
struct EarlyMemory {
    std::uint64_t base = 0, end = 0;
    std::byte* take(std::uint64_t bytes) {
        end = (end - bytes) & ~4095ull;
        ASSERT(end > base);
        auto* p = arch::physical<std::byte>(end);
        std::memset(p, 0, bytes);
        return p;
    }
} early;

bool overlaps(std::uint64_t a, std::uint64_t a_bytes, std::uint64_t b, std::uint64_t b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

/// Calls `use` with each piece of usable memory that neither kernel nor archive occupies.
template <typename F>
void each_free_piece(boot::BootInfo const& info, F&& use) {
    struct Hole {
        std::uint64_t base, bytes;
    };
    Hole const holes[] = {{0, 1 << 20},
                          {info.kernel_physical & ~4095ull, info.kernel_bytes + 8192},
                          {info.archive_physical & ~4095ull, info.archive_bytes + 8192}};
    for (std::uint32_t i = 0; i < info.memory_count && i < boot::kMemoryRangesMax; ++i) {
        auto const& range = info.memory[i];
        if (range.type != static_cast<std::uint32_t>(boot::MemoryType::Usable)) continue;
        auto at = (range.base + 4095) & ~4095ull;
        auto end = (range.base + range.bytes) & ~4095ull;
        if (end > kPhysicalMax) end = kPhysicalMax;
        while (at < end && at < kPhysicalMax) {
            auto piece_end = end;
            bool inside = false;
            for (auto const& hole : holes) {
                if (hole.bytes == 0) continue;
                if (at >= hole.base && at < hole.base + hole.bytes) {
                    at = (hole.base + hole.bytes + 4095) & ~4095ull;
                    inside = true;
                    break;
                }
                if (hole.base > at && hole.base < piece_end) piece_end = hole.base & ~4095ull;
            }
            if (inside) continue;
            if (piece_end > at) use(at, piece_end - at);
            at = piece_end;
        }
    }
}

void initialise_memory(boot::BootInfo const& info) {
    std::uint64_t physical_end = 0, best = 0;
    each_free_piece(info, [&](std::uint64_t base, std::uint64_t bytes) {
        if (base + bytes > physical_end) physical_end = base + bytes;
        if (base + bytes <= (4ull << 30) && bytes > best) {
            best = bytes;
            early = {base, base + bytes};
        }
    });
    ASSERT(best > (8ull << 20));
    auto const original_end = early.end;
    auto const count = static_cast<FrameNumber>(physical_end / 4096);
    auto* table = reinterpret_cast<Frame*>(early.take(count * sizeof(Frame)));
    frames::initialise(table, count);
    domains::initialise(reinterpret_cast<Domain**>(early.take(kDomainsMax * sizeof(Domain*))),
                        reinterpret_cast<std::uint32_t*>(early.take(kDomainsMax * 8)), kDomainsMax);
    scheduler_seats = early.take(seat_bytes(kDomainsMax));
    slots::initialise(
        reinterpret_cast<slots::Record*>(early.take(kSlotRecords * sizeof(slots::Record))),
        kSlotRecords);
    auto* trace_memory = early.take(TraceRing::bytes_needed(kTraceRecords));
    // The boot tables map the first 4 GiB: frames above them join when the kernel's own exist.
    constexpr auto mapped_at_boot = 4ull << 30;
    auto const add_frames = [&](bool above) {
        each_free_piece(info, [&](std::uint64_t base, std::uint64_t bytes) {
            auto end = base + bytes;
            if (overlaps(base, bytes, early.end, original_end - early.end)) end = early.end;
            if ((end > mapped_at_boot) == above) frames::add_range(base, end - base);
        });
    };
    add_frames(false);
    arch::paging::initialise_kernel_tables(
        info.kernel_physical, physical_end > mapped_at_boot ? physical_end : mapped_at_boot,
        frames::take_boot);
    add_frames(true);
    trace::initialise(trace_memory, kTraceRecords);
}

void initialise_cpu() {
    auto& cpu = cpu0;
    cpu.kernel_stack = reinterpret_cast<std::uint64_t>(kernel_stack + sizeof(kernel_stack));
    cpu.has_fsgsbase = arch::features.fsgsbase;
    initialise_calls(arch::features.fsgsbase);
    cpu.user_mask = (1ull << 47) - 1;
    cpu.normal_cr4 = arch::read_cr4();
    cpu.section_cr4 = cpu.normal_cr4 & ~arch::kCr4Smep;
    cpu.armed = Instant::ns(-1);
    cpu.root = arch::paging::kernel_root();
    new (cpu.scheduler_memory) Scheduler(Scheduler::Options{
        .costs = booked_costs(), .seat_memory = scheduler_seats, .seats = kDomainsMax});
}

std::span<std::byte const> archive_bytes(boot::BootInfo const& info) {
    return {arch::physical<std::byte>(info.archive_physical), info.archive_bytes};
}

/// libnemesis: copied once, mapped in the window that every domain shares.
void map_segment(ElfImage const& image) {
    for (auto const& segment : image.segments()) {
        auto const contents = image.contents(segment);
        for (auto at = segment.page_begin(); at < segment.page_end(); at += 4096) {
            auto const frame = frames::take_boot();
            auto* to = arch::physical<std::byte>(frame);
            auto const from = at > segment.address ? at - segment.address : 0;
            auto const skip = at < segment.address ? segment.address - at : 0;
            if (from < contents.size()) {
                auto const left = contents.size() - from;
                std::memcpy(to + skip, contents.data() + from,
                            left < 4096 - skip ? left : 4096 - skip);
            }
            auto const rights = abi::kRead | (segment.rights.execute ? abi::kExecute : 0);
            *arch::paging::global_leaf(at, frames::take_boot) =
                arch::paging::make_entry(frame, rights) | arch::paging::kGlobal;
        }
    }
}

/// A page of the first domain's image stretch.
std::byte* first_domain_page(Domain& d, std::uint64_t page, std::uint64_t rights) {
    auto n = frames::take(d, FrameState::Owned);
    while (!n) n = frames::take(d, FrameState::Owned);
    auto const mapped = stretches::map(d, d, 0, page, *n, rights);
    ASSERT(mapped.has_value());
    return arch::physical<std::byte>(std::uint64_t{*n} * 4096);
}

Domain* make_first_domain(ElfImage const& image, std::uint64_t segment_begin) {
    constexpr std::uint32_t endpoints = 256, context_slots = 16;
    constexpr std::uint64_t stack_pages = 32;
    auto const slot = image.begin() & ~(abi::kSlotSize - 1);
    auto const layout =
        abi::lay_out((image.end() - slot) / 4096, endpoints, context_slots, stack_pages);
    auto const address = [&](std::uint64_t page) { return slot + page * 4096; };
    abi::DomainParameters p{};
    p.slot_address = slot;
    p.regions = layout.regions;
    p.dib_offset = layout.dib_ro * 4096;
    p.context_slots = context_slots;
    p.endpoints = endpoints;
    p.stretches = 256;
    p.privileges = abi::kPrivilegesAll;
    p.device_memory[0] = p.device_interrupts[0] = {.first = 0, .count = UINT64_MAX};
    p.entry = image.entry();
    p.stack = address(layout.activation_stack + abi::kActivationStackPages);
    p.environment = address(layout.environment);
    p.state = address(layout.state);
    std::memcpy(p.name, "init", 5);
    auto* d = domains::create_first(p, frames::free_count() - 64);
    for (auto const& segment : image.segments()) {
        auto const contents = image.contents(segment);
        auto const rights = abi::kRead | (segment.rights.execute ? abi::kExecute : 0) |
                            (segment.rights.write ? abi::kWrite : 0);
        for (auto at = segment.page_begin(); at < segment.page_end(); at += 4096) {
            auto* to = first_domain_page(*d, (at - slot) / 4096, rights);
            auto const from = at > segment.address ? at - segment.address : 0;
            auto const skip = at < segment.address ? segment.address - at : 0;
            if (from < contents.size()) {
                auto const left = contents.size() - from;
                std::memcpy(to + skip, contents.data() + from,
                            left < 4096 - skip ? left : 4096 - skip);
            }
        }
    }
    constexpr auto rw = abi::kRead | abi::kWrite;
    auto* environment =
        reinterpret_cast<abi::Environment*>(first_domain_page(*d, layout.environment, rw));
    for (std::uint64_t i = 0; i < abi::kStatePages; ++i)
        first_domain_page(*d, layout.state + i, rw);
    for (std::uint64_t i = 0; i < abi::kActivationStackPages; ++i)
        first_domain_page(*d, layout.activation_stack + i, rw);
    for (std::uint64_t i = 0; i < stack_pages; ++i) first_domain_page(*d, layout.stack + i, rw);
    *environment = abi::Environment{};
    environment->magic = abi::kEnvironmentMagic;
    environment->image_begin = image.begin();
    environment->image_end = image.end();
    environment->segment_begin = segment_begin;
    environment->dib_ro = address(layout.dib_ro);
    environment->dib_rw = address(layout.dib_rw);
    environment->state = address(layout.state);
    environment->stack_low = address(layout.stack);
    environment->stack_high = address(layout.end);
    environment->free_page = layout.end;
    environment->regions = layout.regions;
    environment->entry = image.entry();
    environment->heap_bytes_max = 64ull << 20;
    if (auto const tls = image.thread_template()) {
        environment->tls_address = tls->address;
        environment->tls_file_bytes = tls->file_size;
        environment->tls_bytes = tls->memory_size;
        environment->tls_align = tls->alignment;
    }
    std::memcpy(environment->name, "init", 5);
    d->state = DomainState::Alive;
    trace::domain_created(*d);
    return d;
}

void load_first_domain(boot::BootInfo const& info) {
    auto const archive = Archive::open(archive_bytes(info));
    if (!archive) {
        log::line("boot archive: ", text(archive.error()));
        panic("no boot archive", nullptr);
    }
    auto const segment = archive->find("libnemesis");
    std::uint64_t segment_begin = 0;
    if (segment) {
        auto const image = ElfImage::parse(segment->payload, segment_rules);
        if (!image) {
            log::line("libnemesis: ", text(image.error()));
            panic("libnemesis refused", nullptr);
        }
        map_segment(*image);
        segment_begin = image->begin();
    }
    auto const first = archive->find("init");
    if (!first) panic("boot archive holds no init", nullptr);
    auto const image = ElfImage::parse(first->payload);
    if (!image) {
        log::line("init: ", text(image.error()));
        panic("init refused", nullptr);
    }
    auto* d = make_first_domain(*image, segment_begin);
    // Until a QoS manager says otherwise init takes part in spare time only.
    auto& scheduler = cpu0.scheduler();
    ASSERT(
        scheduler.begin(d->entity, Contract{Duration(), Duration(), Duration(), 10}).has_value());
    while (scheduler.step(4).verdict == AdmissionVerdict::Again) {
    }
    auto const now = arch::clock::now();
    (void)scheduler.commit(now);
    d->contract = Contract{Duration(), Duration(), Duration(), 10};
    scheduler.wake(d->entity, now);
    log::line("init: loaded at ", log::hex(image->begin()), ", libnemesis at ",
              log::hex(segment_begin));
}

}  // namespace

extern "C" [[noreturn]] void kernel_start(boot::BootInfo const* info) {
    arch::serial::initialise();
    arch::detect_features();
    arch::initialise_descriptors();
    machine::boot_info = info;
    log::line("Nemesis: ", info->from_uefi != 0 ? "UEFI" : "PVH", " boot, ",
              arch::features.la57 ? 5 : 4, " levels of paging");
    if (auto const* defect = boot::defect_of(*info)) panic(defect, nullptr);
    initialise_memory(*info);
    initialise_cpu();
    arch::apic::initialise(info->rsdp);
    interrupts::initialise();
    auto const time_frame = frames::take_boot();
    arch::clock::calibrate(*arch::physical<abi::TimePage>(time_frame));
    *arch::paging::global_leaf(abi::kTimePage, frames::take_boot) =
        arch::paging::make_entry(time_frame, abi::kRead) | arch::paging::kGlobal;
    trace::initialise(trace::memory, kTraceRecords);  // with the calibrated clock
    machine::frame_buffer =
        boot::usable(info->frame_buffer) ? info->frame_buffer : arch::display::set_mode();
    arch::pci::find_message_tables();
    boot_screen::begin(machine::frame_buffer);
    if (machine::frame_buffer.physical == 0) log::line("display: none found");
    log::line("memory: ", frames::free_count() / 256, " MiB free; clock ",
              arch::clock::parameters.tsc_hz / 1000, " kHz");
    load_first_domain(*info);
    if (boot::has_word(*info, "panic-test")) panic_test();
    boot_screen::end();
    dispatch::start();
}

}  // namespace nemesis::kernel
