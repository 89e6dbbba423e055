// Stretches over leaf page tables.
#include "kernel/memory/stretch.h"

#include <algorithm>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/paging.h"
#include "arch/x86_64/pci.h"
#include "kernel/cpu.h"
#include "kernel/machine.h"
#include "kernel/memory/slots.h"
#include "libnemesis/base/assert.h"

namespace nemesis::kernel::stretches {
namespace {

using abi::Error;
using arch::paging::Entry;
namespace paging = arch::paging;

constexpr std::uint8_t kFrameWritable = 1;  ///< Frame::reserved: the one mapping is writable
/// Work of one step in units of some 40 instructions, and what the parts of a creation or an
/// acceptance take of it.
constexpr std::uint32_t kStepWork = 5;
constexpr std::uint32_t kRegionWork = 1, kLinkWork = 2, kSlotWork = 3, kTableWork = 5;
constexpr std::uint8_t kTriesMax = 8;
/// Regions taken out of an acceptor, pages of device memory mapped, and acceptors looked at, in one
/// step.
constexpr std::uint32_t kRegionsPerStep = 6;
constexpr std::uint32_t kDevicePagesPerStep = 8;
constexpr std::uint32_t kAcceptorsPerStep = 12;
/// Work of one step of a destruction, in entries looked at; a mapped one counts as many.
constexpr std::uint32_t kDestroyWork = 30;
constexpr std::uint32_t kMappedPageWork = 12;
constexpr std::uint64_t kRegionsPerSlot = abi::kSlotSize / abi::kRegionSize;
constexpr std::uint32_t kProtectMax = 8;
constexpr Entry kNoAccess = 1ull << 10;  ///< keeps the entry of a page without rights from being 0
constexpr std::uint64_t kBatchMax = 4;
constexpr std::uint64_t kRegionsMax = 256;

/// The leaf entry of `page`, or null. requires: an own stretch.
Entry* leaf_entry(Domain& d, Stretch const& s, std::uint64_t page) {
    if (page >= std::uint64_t{s.regions} * 512) return nullptr;
    auto const walk = paging::walk(d.pml4, s.base + (page >> 9) * abi::kRegionSize);
    if (walk.region == nullptr || (*walk.region & paging::kPresent) == 0) return nullptr;
    return &paging::table_of(*walk.region)[page & 511];
}

/// How many entries of the leaf table that holds `entry` are in use; kept in the table's own frame
/// record, so that a destruction knows when it has seen the last.
std::uint16_t& leaf_use(Entry const* entry) {
    return frames::record(static_cast<FrameNumber>(arch::physical_of(entry) / 4096)).mapped;
}

/// Whoever is loaded may have the page by acceptance; an address means the same everywhere.
void forget_page(std::uint64_t address) { arch::invalidate_page(address); }
void forget_all(Domain const& d) {
    auto& cpu = this_cpu();
    if (cpu.root != d.root) return;
    arch::write_cr3(d.root);
    ++cpu.root_writes;
}

Stretch* own(Domain& d, std::uint64_t number) {
    auto* s = stretch_of(d, number);
    return s != nullptr && s->kind == Stretch::Kind::Own ? s : nullptr;
}

std::uint16_t take_number(Domain& d) {
    auto const number = d.free_stretch;
    if (number != kNoStretch) d.free_stretch = stretch_of(d, number)->next_stretch;
    return number;
}
void free_number(Domain& d, std::uint16_t number) {
    auto* s = stretch_of(d, number);
    *s = Stretch{};
    s->next_stretch = d.free_stretch;
    d.free_stretch = number;
    // Whatever was being made of it is not gone on with.
    if (d.accepting_stretch == number) d.accepting_stretch = kNoStretch;
    if (d.creating_device == number) d.creating_device = kNoStretch;
}

std::uint64_t region_address(Stretch const& s, std::uint64_t region) {
    return s.base + region * abi::kRegionSize;
}

/// The entry of a region, or null after one upper table was made: look again.
Result<Entry*, Error> region_entry(Domain& d, std::uint64_t address) {
    auto const walk = paging::walk(d.pml4, address);
    if (walk.missing == nullptr) return walk.region;
    auto const frame = TRY(frames::take(d, FrameState::Kernel));
    ++d.kernel_frames;
    *walk.missing = paging::make_upper(std::uint64_t{frame} * 4096);
    return nullptr;
}

bool region_free(Domain& d, std::uint64_t address) {
    auto const walk = paging::walk(d.pml4, address);
    return walk.region == nullptr || *walk.region == 0;
}

std::uint64_t slots_of(Stretch const& s) {
    auto const end = s.base + s.regions * abi::kRegionSize;
    return (end - 1) / abi::kSlotSize - s.base / abi::kSlotSize + 1;
}
/// Gives back the slot that was claimed last.
void unclaim_slot(Domain& d, Stretch& s) {
    --s.slots_claimed;
    slots::release((s.base & ~(abi::kSlotSize - 1)) + s.slots_claimed * abi::kSlotSize, d.index);
}

/// Looks at one more region of the domain's first slot for room; if there is none, takes slots of
/// its own. `base` is the first of the free regions seen last.
void choose_address(Domain& d, Stretch& s) {
    if (s.regions > kRegionsPerSlot || s.progress == kRegionsPerSlot) {
        s.base = slots::next_candidate(
            static_cast<std::uint32_t>((s.regions + kRegionsPerSlot - 1) / kRegionsPerSlot));
        ++s.tries;
    } else {
        auto const at = d.first_slot + s.progress * abi::kRegionSize;
        ++s.progress;
        if (!region_free(d, at)) {
            s.base = at + abi::kRegionSize;
            return;
        }
        if (at + abi::kRegionSize - s.base < s.regions * abi::kRegionSize) return;
    }
    s.progress = 0;
    s.step = Stretch::Step::Claim;
}

/// The range is somebody's: try another one, if the kernel chooses.
Result<void, Error> taken(Stretch& s) {
    if (s.tries == 0 || s.tries >= kTriesMax) return fail(Error::Busy);
    s.step = Stretch::Step::Unclaim;
    return {};
}

/// One part of a creation; `work` grows by what it takes. Slots are claimed before their regions
/// are looked at, so nobody else can come in between.
Result<void, Error> create_part(Domain& d, Stretch& s, std::uint32_t& work) {
    using Step = Stretch::Step;
    switch (s.step) {
        case Step::Choose:
            work += kRegionWork;
            choose_address(d, s);
            return {};
        case Step::Claim: {
            work += kSlotWork;
            auto const first = s.base & ~(abi::kSlotSize - 1);
            if (!slots::claim(first + s.slots_claimed * abi::kSlotSize, d.index)) return taken(s);
            if (++s.slots_claimed == slots_of(s)) s.step = Step::Check;
            return {};
        }
        case Step::Unclaim:
            work += kSlotWork;
            if (s.slots_claimed != 0) {
                unclaim_slot(d, s);
            } else {
                s.progress = kRegionsPerSlot;
                s.step = Step::Choose;
            }
            return {};
        case Step::Check:
            work += kRegionWork;
            if (!region_free(d, region_address(s, s.progress))) return taken(s);
            if (++s.progress == s.regions) {
                s.progress = 0;
                s.step = Step::Build;
            }
            return {};
        case Step::Build: {
            work += kTableWork;
            auto* entry = TRY(region_entry(d, region_address(s, s.progress)));
            if (entry == nullptr) return {};
            auto const frame = TRY(frames::take(d, FrameState::Kernel));
            ++d.kernel_frames;
            *entry = paging::make_entry(std::uint64_t{frame} * 4096, s.rights);
            if (++s.progress == s.regions) s.step = Step::Done;
            return {};
        }
        case Step::Done:
            return {};
    }
    return {};
}

Status continue_creation(Domain& d) {
    auto const number = d.creating_stretch;
    auto* s = stretch_of(d, number);
    for (std::uint32_t work = 0; s->step != Stretch::Step::Done;) {
        // A table may cost the zeroing of a part of a frame: it is a step of its own.
        if (work >= kStepWork || (work != 0 && s->step == Stretch::Step::Build))
            return fail(Error::Again);
        TRY_VOID(create_part(d, *s, work));
    }
    s->kind = Stretch::Kind::Own;
    d.creating_stretch = kNoStretch;
    return number;
}

void unlink_acceptor(Stretch& s, Domain& acceptor, Stretch& a) {
    if (s.owner_index == acceptor.index && stretch_of(acceptor, s.owner_stretch) == &a) {
        s.owner_index = a.next_index;  // a revocation has looked to here
        s.owner_stretch = a.next_stretch;
    }
    if (a.previous_index != kNoDomain) {
        auto* before = domains::at(a.previous_index);
        auto* link = stretch_of(*before, a.previous_stretch);
        link->next_index = a.next_index;
        link->next_stretch = a.next_stretch;
    } else {
        s.next_index = a.next_index;
        s.next_stretch = a.next_stretch;
    }
    if (a.next_index != kNoDomain) {
        auto* after = domains::at(a.next_index);
        auto* link = stretch_of(*after, a.next_stretch);
        link->previous_index = a.previous_index;
        link->previous_stretch = a.previous_stretch;
    }
}

/// Takes an accepted stretch out of its acceptor; at most kRegionsPerStep regions a call.
Status drop_accepted(Domain& acceptor, std::uint16_t number) {
    auto* a = stretch_of(acceptor, number);
    if (a->step == Stretch::Step::Check) a->progress = a->regions;  // nothing is mapped yet
    for (std::uint32_t i = 0; a->progress < a->regions; ++i) {
        if (i == kRegionsPerStep) return fail(Error::Again);
        auto const walk = paging::walk(acceptor.pml4, a->base + a->progress * abi::kRegionSize);
        if (walk.region != nullptr) *walk.region = 0;
        ++a->progress;
    }
    forget_all(acceptor);
    auto* owner = domains::at(a->owner_index);
    if (owner != nullptr && owner->generation == a->owner_generation) {
        unlink_acceptor(*stretch_of(*owner, a->owner_stretch), acceptor, *a);
    }
    free_number(acceptor, number);
    return 0;
}

/// Takes one page of a dying stretch out; its frame is free when nobody else maps it.
void drop_page(Domain& owner, Entry& entry, std::uint64_t address) {
    auto const frame = static_cast<FrameNumber>((entry & paging::kAddressMask) >> 12);
    auto const device = (entry & paging::kDevicePage) != 0;
    entry = 0;
    forget_page(address);
    if (device) return;
    auto& record = frames::record(frame);
    auto const ours = record.state == FrameState::Owned && record.owner == owner.index;
    record.reserved = 0;
    frames::unmapped(frame);
    if (ours && record.mapped == 0) frames::release(owner, frame);
}

}  // namespace

bool initialise_table(Domain& d, std::uint32_t& done) {
    for (int i = 0; i < 8 && done < d.stretch_count; ++i) {
        auto const number = static_cast<std::uint16_t>(d.stretch_count - ++done);
        stretch_of(d, number)->next_stretch = d.free_stretch;
        d.free_stretch = number;
    }
    return done == d.stretch_count;
}

void abandon_creation(Domain& d) {
    auto* s = stretch_of(d, d.creating_stretch);
    if (s->kind == Stretch::Kind::Dying) return;
    s->kind = Stretch::Kind::Dying;
    // Before it builds tables, none of those in its range are its own.
    s->progress = s->step >= Stretch::Step::Build ? 0 : s->regions * 512u;
}

Status create(Domain& target, std::uint64_t address, std::uint64_t regions, std::uint64_t rights) {
    if (target.creating_stretch != kNoStretch) {
        auto* s = stretch_of(target, target.creating_stretch);
        if (s->kind != Stretch::Kind::Dying) {
            auto const same = s->regions == regions && s->rights == (rights & 15) &&
                              (address == 0 || s->base == address);
            auto const made = same ? continue_creation(target) : Status(fail(Error::Busy));
            if (made || made.error() == Error::Again) return made;
            // It cannot be finished (or nobody finishes it): taken back in steps, then the error is
            // told.
            abandon_creation(target);
            s->flags = same ? static_cast<std::uint8_t>(-static_cast<int>(made.error())) : 0;
        }
        auto const error = static_cast<Error>(-static_cast<std::int64_t>(s->flags));
        (void)TRY(destroy(target, target.creating_stretch));
        target.creating_stretch = kNoStretch;
        return fail(error != Error::None ? error : Error::Again);
    }
    if (regions == 0 || regions > kRegionsMax || (rights & ~15ull) != 0 ||
        (rights & abi::kRead) == 0) {
        return fail(Error::BadArgument);
    }
    if (address != 0 && (address % abi::kRegionSize != 0 || !slots::valid(address) ||
                         regions * abi::kRegionSize > abi::kSlotsEnd - abi::kSlotSize - address)) {
        return fail(Error::BadArgument);
    }
    if (target.free_stretch == kNoStretch) return fail(Error::QuotaExceeded);
    auto const number = take_number(target);
    auto* s = stretch_of(target, number);
    *s = Stretch{};
    s->kind = Stretch::Kind::Free;
    s->rights = static_cast<std::uint8_t>(rights);
    s->regions = static_cast<std::uint16_t>(regions);
    s->base = address != 0 ? address : target.first_slot;
    s->step = address != 0 ? Stretch::Step::Claim : Stretch::Step::Choose;
    s->next_index = s->owner_index = kNoDomain;
    target.creating_stretch = number;
    return continue_creation(target);
}

Status create_device(Domain& owner, std::uint64_t physical, std::uint64_t pages,
                     std::uint64_t rights) {
    if (physical % 4096 != 0 || pages == 0 || pages > kRegionsMax * 512 ||
        (rights & abi::kExecute) != 0) {
        return fail(Error::BadArgument);
    }
    if (owner.creating_device == kNoStretch) {
        if (!machine::may_be_device(physical, pages * 4096, (rights & abi::kWrite) != 0))
            return fail(Error::BadArgument);
        if (arch::pci::holds_message_table(physical, pages * 4096))
            return fail(Error::NotPermitted);
        auto const regions = (pages + 511) / 512;
        auto const made = TRY(create(owner, 0, regions, (rights & 3) | abi::kMeta));
        auto* fresh = stretch_of(owner, made);
        fresh->progress = 0;
        fresh->device_physical = physical;
        fresh->device_pages = static_cast<std::uint32_t>(pages);
        fresh->device_rights = static_cast<std::uint8_t>(rights);
        owner.creating_device = static_cast<std::uint16_t>(made);
        return fail(Error::Again);
    }
    auto const number = owner.creating_device;
    auto* s = stretch_of(owner, number);
    if (s->kind != Stretch::Kind::Own || s->device_physical != physical ||
        s->device_pages != pages || s->device_rights != rights) {
        return fail(Error::Busy);  // another one is being made, or this one taken away
    }
    auto const cache = (rights & abi::kWriteCombining) != 0 ? 0x80ull
                       : (rights & abi::kCached) != 0       ? 0
                                                      : paging::kUncached | paging::kWriteThrough;
    auto* entry = leaf_entry(owner, *s, s->progress);
    for (std::uint32_t i = 0; i < kDevicePagesPerStep && s->progress < pages; ++i, ++entry) {
        if (i > 0 && s->progress % 512 == 0) break;  // in another leaf table
        if (*entry != 0) return fail(Error::Exists);
        *entry = paging::make_entry(physical + std::uint64_t{s->progress} * 4096, rights & 3) |
                 paging::kDevicePage | cache;
        ++leaf_use(entry);
        ++s->progress;
    }
    if (s->progress < pages) return fail(Error::Again);
    owner.creating_device = kNoStretch;
    return number;
}

Status destroy(Domain& owner, std::uint64_t number) {
    auto* s = stretch_of(owner, number);
    if (s == nullptr) return fail(Error::BadHandle);
    if (s->kind == Stretch::Kind::Accepted) {
        if (s->flags == 0) {
            s->flags = 1;
            s->progress = 0;
        }
        return drop_accepted(owner, static_cast<std::uint16_t>(number));
    }
    if (s->kind == Stretch::Kind::Own) {
        s->kind = Stretch::Kind::Dying;
        s->progress = 0;
    }
    if (s->kind != Stretch::Kind::Dying) return fail(Error::BadHandle);
    // First the acceptors, one a step; then pages and leaf tables; then the slots.
    if (s->next_index != kNoDomain) {
        auto* acceptor = domains::at(s->next_index);
        auto* a = stretch_of(*acceptor, s->next_stretch);
        if (a->flags == 0) {
            a->flags = 1;
            a->progress = 0;
        }
        (void)TRY(drop_accepted(*acceptor, s->next_stretch));
        return fail(Error::Again);
    }
    std::uint32_t work = 0;
    while (s->progress < std::uint32_t{s->regions} * 512) {
        auto const walk = paging::walk(owner.pml4, region_address(*s, s->progress >> 9));
        if (walk.region == nullptr || (*walk.region & paging::kPresent) == 0) {
            s->progress = (s->progress | 511) + 1;
            if ((work += kMappedPageWork) > kDestroyWork) return fail(Error::Again);
            continue;
        }
        auto* table = paging::table_of(*walk.region);
        auto& use = leaf_use(table);
        while (use != 0) {
            auto* const first = &table[s->progress & 511];
            auto* const last = first + (work < kDestroyWork ? kDestroyWork - work : 0);
            auto* used = first;
            while (used != last && *used == 0) ++used;
            work += static_cast<std::uint32_t>(used - first);
            auto const at = static_cast<std::uint32_t>(used - table);
            ASSERT(at < 512);
            s->progress = (s->progress & ~511u) | at;
            if ((work += kMappedPageWork) > kDestroyWork) return fail(Error::Again);
            drop_page(owner, table[at], s->base + std::uint64_t{s->progress} * 4096);
            --use;
        }
        if ((work += kMappedPageWork) > kDestroyWork) return fail(Error::Again);
        auto const leaf = static_cast<FrameNumber>((*walk.region & paging::kAddressMask) >> 12);
        *walk.region = 0;
        frames::release(owner, leaf);
        --owner.kernel_frames;
        forget_all(owner);
        s->progress = (s->progress | 511) + 1;
    }
    for (; s->slots_claimed != 0; work += kMappedPageWork) {
        if (work + kMappedPageWork > kDestroyWork) return fail(Error::Again);
        unclaim_slot(owner, *s);
    }
    free_number(owner, static_cast<std::uint16_t>(number));
    return 0;
}

Status map(Domain& caller, Domain& target, std::uint64_t number, std::uint64_t page,
           std::uint64_t frame, std::uint64_t rights) {
    auto* s = own(target, number);
    if (s == nullptr || (s->rights & abi::kMeta) == 0) return fail(Error::BadHandle);
    constexpr auto wx = abi::kWrite | abi::kExecute;
    if ((rights & ~7ull) != 0 || (rights & abi::kRead) == 0 || (rights & wx) == wx ||
        (rights & ~std::uint64_t{s->rights}) != 0) {
        return fail(Error::BadArgument);
    }
    auto* entry = leaf_entry(target, *s, page);
    if (entry == nullptr || !frames::valid(static_cast<FrameNumber>(frame)) || frame > 0xfffffffe) {
        return fail(Error::BadArgument);
    }
    auto const n = static_cast<FrameNumber>(frame);
    auto& record = frames::record(n);
    if (record.state != FrameState::Owned ||
        (record.owner != target.index && record.owner != caller.index)) {
        return fail(Error::BadHandle);
    }
    if (*entry != 0) return fail(Error::Exists);
    auto const writable = (rights & abi::kWrite) != 0;
    if (record.mapped == 0xffff ||
        (writable && (record.mapped != 0 || record.owner != target.index)) ||
        record.reserved != 0) {
        return fail(Error::Busy);
    }
    ++record.mapped;
    ++leaf_use(entry);
    record.reserved = writable ? kFrameWritable : 0;
    *entry = paging::make_entry(frame * 4096, rights);
    return 0;
}

Status unmap(Domain& target, std::uint64_t number, std::uint64_t page) {
    auto* s = own(target, number);
    if (s == nullptr || (s->rights & abi::kMeta) == 0) return fail(Error::BadHandle);
    auto* entry = leaf_entry(target, *s, page);
    if (entry == nullptr) return fail(Error::BadArgument);
    if (*entry == 0 || (*entry & paging::kDevicePage) != 0) return fail(Error::NotMapped);
    auto const frame = static_cast<FrameNumber>((*entry & paging::kAddressMask) >> 12);
    auto& record = frames::record(frame);
    if (record.state == FrameState::Kernel) return fail(Error::NotPermitted);  // a DIB page
    *entry = 0;
    --leaf_use(entry);
    record.reserved = 0;
    frames::unmapped(frame);
    forget_page(s->base + page * 4096);
    return frame;
}

Status protect(Domain& owner, std::uint64_t number, std::uint64_t page, std::uint64_t count,
               std::uint64_t rights) {
    auto* s = own(owner, number);
    if (s == nullptr || (s->rights & abi::kMeta) == 0) return fail(Error::BadHandle);
    constexpr auto wx = abi::kWrite | abi::kExecute;
    if (count == 0 || count > kProtectMax || (rights & ~7ull) != 0 || (rights & wx) == wx ||
        (rights & ~std::uint64_t{s->rights}) != 0) {
        return fail(Error::BadArgument);
    }
    if (page >= std::uint64_t{s->regions} * 512 || (page & 511) + count > 512)
        return fail(Error::BadArgument);
    auto* entry = leaf_entry(owner, *s, page);
    if (entry == nullptr) return fail(Error::BadArgument);
    auto const writable = (rights & abi::kWrite) != 0;
    auto address = s->base + page * 4096;
    auto const loaded = this_cpu().root == owner.root;
    // No rights at all keeps the frame but takes the present bit: the page faults on any access.
    auto const bits = rights == 0 ? kNoAccess : paging::make_entry(0, rights);
    auto* const records = &frames::record(0);
    for (std::uint64_t i = 0; i < count; ++i, ++entry, address += 4096) {
        auto const old = *entry;
        if (old == 0 || (old & paging::kDevicePage) != 0) return fail(Error::NotMapped);
        auto const physical = old & paging::kAddressMask;
        auto& record = records[physical >> 12];
        if (record.owner != owner.index || record.state != FrameState::Owned ||
            (writable && record.mapped != 1)) {
            return fail(Error::NotPermitted);
        }
        record.reserved = writable ? kFrameWritable : 0;
        *entry = physical | bits;
        if (loaded) arch::invalidate_page(address);
    }
    return 0;
}

Status map_batch(Domain& owner, std::uint64_t number, std::uint64_t page, std::uint64_t count) {
    auto* s = own(owner, number);
    if (s == nullptr || (s->rights & (abi::kMeta | abi::kWrite)) != (abi::kMeta | abi::kWrite)) {
        return fail(Error::BadHandle);
    }
    if (count == 0 || page + count < page) return fail(Error::BadArgument);
    auto* entry = leaf_entry(owner, *s, page);
    if (entry == nullptr) return fail(Error::BadArgument);
    auto const last = std::min<std::uint64_t>({count, kBatchMax, 512 - page % 512});
    std::uint64_t done = 0;
    for (; done < last; ++done, ++entry) {
        if (*entry != 0) {
            if (done > 0) break;
            return fail(Error::Exists);
        }
        auto const frame = frames::take(owner, FrameState::Owned);
        if (!frame) {
            if (done > 0) break;
            return fail(frame.error());
        }
        auto& record = frames::record(*frame);
        record.mapped = 1;
        record.reserved = kFrameWritable;
        *entry = paging::make_entry(std::uint64_t{*frame} * 4096, abi::kRead | abi::kWrite);
    }
    leaf_use(entry - 1) = static_cast<std::uint16_t>(leaf_use(entry - 1) + done);
    return done;
}

Status give(Domain& from, Domain& to, std::uint64_t number, std::uint64_t page,
            std::uint64_t own_number, std::uint64_t own_page, std::uint64_t rights) {
    auto* source = own(from, own_number);
    auto* sink = own(to, number);
    if (source == nullptr || sink == nullptr) return fail(Error::BadHandle);
    constexpr auto wx = abi::kWrite | abi::kExecute;
    if ((rights & ~7ull) != 0 || (rights & abi::kRead) == 0 || (rights & wx) == wx ||
        (rights & ~std::uint64_t{sink->rights}) != 0) {
        return fail(Error::BadArgument);
    }
    auto* old = leaf_entry(from, *source, own_page);
    auto* entry = leaf_entry(to, *sink, page);
    if (old == nullptr || entry == nullptr) return fail(Error::BadArgument);
    if (*old == 0 || (*old & paging::kDevicePage) != 0) return fail(Error::NotMapped);
    if (*entry != 0) return fail(Error::Exists);
    auto const physical = *old & paging::kAddressMask;
    auto const n = static_cast<FrameNumber>(physical >> 12);
    auto& record = frames::record(n);
    if (record.state != FrameState::Owned || record.owner != from.index || record.mapped != 1) {
        return fail(Error::NotPermitted);
    }
    TRY_VOID(frames::give(from, to, n));
    *old = 0;
    --leaf_use(old);
    ++leaf_use(entry);
    forget_page(source->base + own_page * 4096);
    record.reserved = (rights & abi::kWrite) != 0 ? kFrameWritable : 0;
    *entry = paging::make_entry(physical, rights);
    return n;
}

Status physical_address(Domain& owner, std::uint64_t number, std::uint64_t page) {
    auto* s = own(owner, number);
    if (s == nullptr) return fail(Error::BadHandle);
    auto const* entry = leaf_entry(owner, *s, page);
    if (entry == nullptr) return fail(Error::BadArgument);
    if (*entry == 0) return fail(Error::NotMapped);
    return *entry & paging::kAddressMask;
}

Status offer(Domain& owner, std::uint64_t number, abi::DomainId peer, std::uint64_t rights) {
    auto* s = own(owner, number);
    if (s == nullptr || (s->rights & abi::kMeta) == 0 || number == 0) return fail(Error::BadHandle);
    if ((rights & ~std::uint64_t{s->rights} & 7) != 0 || (rights & abi::kRead) == 0) {
        return fail(Error::BadArgument);
    }
    s->offered_index = static_cast<std::uint32_t>(peer);
    s->offered_generation = static_cast<std::uint32_t>(peer >> 32);
    s->offered_rights = static_cast<std::uint8_t>(rights & 7);
    s->owner_index = kNoDomain;  // a revocation begins anew: who accepts now stands first
    return 0;
}

namespace {

/// Links a new acceptance into the owner's list, so that a revocation or a destruction finds it.
std::uint16_t begin_acceptance(Domain& target, Domain& owner, Stretch& s, std::uint64_t number,
                               std::uint64_t rights) {
    auto const taken = take_number(target);
    auto* fresh = stretch_of(target, taken);
    *fresh = Stretch{};
    fresh->kind = Stretch::Kind::Accepted;
    fresh->step = Stretch::Step::Check;
    fresh->rights = static_cast<std::uint8_t>(rights);
    fresh->regions = s.regions;
    fresh->base = s.base;
    fresh->owner_index = owner.index;
    fresh->owner_generation = owner.generation;
    fresh->owner_stretch = static_cast<std::uint16_t>(number);
    fresh->previous_index = kNoDomain;
    fresh->next_index = s.next_index;
    fresh->next_stretch = s.next_stretch;
    if (s.next_index != kNoDomain) {
        auto* after = stretch_of(*domains::at(s.next_index), s.next_stretch);
        after->previous_index = target.index;
        after->previous_stretch = taken;
    }
    s.next_index = target.index;
    s.next_stretch = taken;
    return taken;
}

/// One step of the acceptance that `target` has begun, of `s`: first all regions must be free
/// (it may have accepted the same before), then each is led to the owner's leaf table.
Status continue_acceptance(Domain& target, Domain& owner, Stretch& s) {
    auto const taken = target.accepting_stretch;
    auto* a = stretch_of(target, taken);
    std::uint32_t work = 0;
    for (; a->step == Stretch::Step::Check; work += kRegionWork) {
        if (work >= kStepWork) return fail(Error::Again);
        if (!region_free(target, region_address(*a, a->progress))) {
            TRY_VOID(drop_accepted(target, taken));
            return fail(Error::Exists);
        }
        if (++a->progress < a->regions) continue;
        a->progress = 0;
        a->step = Stretch::Step::Build;
        return fail(Error::Again);
    }
    while (a->progress < a->regions) {
        if (work >= kStepWork) return fail(Error::Again);
        auto const at = region_address(*a, a->progress);
        auto* entry = TRY(region_entry(target, at));
        work += entry != nullptr ? kLinkWork : kTableWork;
        if (entry == nullptr) continue;
        auto const walk = paging::walk(owner.pml4, at);
        ASSERT(walk.region != nullptr);
        *entry = paging::make_entry(*walk.region & paging::kAddressMask, a->rights);
        ++a->progress;
    }
    target.accepting_stretch = kNoStretch;
    s.offered_rights = 0;
    return taken;
}

}  // namespace

Status accept(Domain& target, abi::DomainId owner_id, std::uint64_t number, std::uint64_t rights) {
    auto* owner = domains::find(owner_id);
    if (owner == nullptr || !owner->furnished || owner->state == DomainState::Dead ||
        owner == &target) {
        return fail(Error::BadHandle);
    }
    auto* s = own(*owner, number);
    if (s == nullptr) return fail(Error::BadHandle);
    if (target.accepting_stretch != kNoStretch) {
        auto* a = stretch_of(target, target.accepting_stretch);
        auto const same = a->owner_index == owner->index &&
                          a->owner_generation == owner->generation && a->owner_stretch == number &&
                          a->rights == rights;
        auto const offered = s->offered_index == target.index &&
                             s->offered_generation == target.generation &&
                             (rights & ~std::uint64_t{s->offered_rights}) == 0;
        if (!same || !offered || a->flags != 0) {
            // Another acceptance, or what was offered has changed: the one begun is taken back in
            // steps, and this one looked at after it.
            if (a->flags == 0) {
                a->flags = 1;
                a->progress = 0;
            }
            (void)TRY(drop_accepted(target, target.accepting_stretch));
            return fail(Error::Again);
        }
    }
    if (s->offered_index != target.index || s->offered_generation != target.generation ||
        s->offered_rights == 0) {
        return fail(Error::NotOffered);
    }
    if ((rights & ~std::uint64_t{s->offered_rights}) != 0 || (rights & abi::kRead) == 0) {
        return fail(Error::NotPermitted);
    }
    if (target.accepting_stretch == kNoStretch) {
        if (target.free_stretch == kNoStretch) return fail(Error::QuotaExceeded);
        target.accepting_stretch = begin_acceptance(target, *owner, *s, number, rights);
    }
    return continue_acceptance(target, *owner, *s);
}

Status revoke(Domain& owner, std::uint64_t number, abi::DomainId peer) {
    auto* s = own(owner, number);
    if (s == nullptr) return fail(Error::BadHandle);
    // Nothing is offered any more, so what stands there tells whose acceptance is being looked for.
    s->offered_rights = 0;
    auto const index = static_cast<std::uint32_t>(peer);
    auto const generation = static_cast<std::uint32_t>(peer >> 32);
    if (s->offered_index != index || s->offered_generation != generation) {
        s->offered_index = index;
        s->offered_generation = generation;
        s->owner_index = kNoDomain;
    }
    auto const begun = s->owner_index != kNoDomain;
    auto at_index = begun ? s->owner_index : s->next_index;
    auto at = begun ? s->owner_stretch : s->next_stretch;
    s->owner_index = kNoDomain;
    bool dropped = false;
    for (std::uint32_t work = 0; at_index != kNoDomain; ++work) {
        if (work == kAcceptorsPerStep) {
            s->owner_index = at_index;
            s->owner_stretch = at;
            return fail(Error::Again);
        }
        auto* acceptor = domains::at(at_index);
        auto const here = at;
        auto* a = stretch_of(*acceptor, here);
        at_index = a->next_index;
        at = a->next_stretch;
        if (acceptor->id() != peer) continue;
        // One that has mapped nothing yet is gone at once, and may hide an older one.
        auto const hides = a->step == Stretch::Step::Check;
        if (a->flags == 0) {
            a->flags = 1;
            a->progress = 0;
        }
        auto const done = TRY(drop_accepted(*acceptor, here));
        if (!hides) return done;
        dropped = true;
    }
    if (dropped) return 0;
    return fail(Error::BadHandle);
}

}  // namespace nemesis::kernel::stretches
