// Stretches over leaf page tables.
#include "kernel/memory/stretch.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/paging.h"
#include "kernel/cpu.h"
#include "kernel/machine.h"
#include "kernel/memory/slots.h"
#include "libnemesis/base/assert.h"

namespace nemesis::kernel::stretches {
namespace {

using abi::Error;
using arch::paging::Entry;
namespace paging = arch::paging;

constexpr std::uint16_t kNone = 0xffff;
constexpr std::uint8_t kFrameWritable = 1;  ///< Frame::reserved: the one mapping is writable
constexpr std::uint32_t kTakesPerStep = 2;
constexpr std::uint32_t kRegionsPerStep = 8;
/// Work of one step of a destruction, in entries looked at; a mapped one counts as many.
constexpr std::uint32_t kDestroyWork = 60;
constexpr std::uint32_t kMappedPageWork = 22;
constexpr std::uint32_t kProtectMax = 8;
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
    if (number != kNone) d.free_stretch = stretch_of(d, number)->next_stretch;
    return number;
}
void free_number(Domain& d, std::uint16_t number) {
    auto* s = stretch_of(d, number);
    *s = Stretch{};
    s->next_stretch = d.free_stretch;
    d.free_stretch = number;
}

/// Makes the upper tables above `address`, at most `budget` frames; null when more steps are
/// needed.
Result<Entry*, Error> region_entry(Domain& d, std::uint64_t address, std::uint32_t& budget) {
    for (;;) {
        auto const walk = paging::walk(d.pml4, address);
        if (walk.missing == nullptr) return walk.region;
        if (budget == 0) return fail(Error::Again);
        --budget;
        auto const frame = TRY(frames::take(d, FrameState::Kernel));
        ++d.kernel_frames;
        *walk.missing = paging::make_upper(std::uint64_t{frame} * 4096);
    }
}

bool regions_free(Domain& d, std::uint64_t base, std::uint64_t regions) {
    for (std::uint64_t i = 0; i < regions; ++i) {
        auto const walk = paging::walk(d.pml4, base + i * abi::kRegionSize);
        if (walk.region != nullptr && *walk.region != 0) return false;
    }
    return true;
}

/// An address for `regions`: free ones in the domain's first slot, else slots of their own.
std::uint64_t choose_address(Domain& d, std::uint64_t regions) {
    constexpr auto per_slot = abi::kSlotSize / abi::kRegionSize;
    for (std::uint64_t first = 0; first + regions <= per_slot; ++first) {
        auto const base = d.first_slot + first * abi::kRegionSize;
        if (regions_free(d, base, regions)) return base;
    }
    return slots::find_free(static_cast<std::uint32_t>((regions + per_slot - 1) / per_slot));
}

/// Calls `each` for every slot that [base, base + regions) touches, until it returns false.
template <typename F>
bool each_slot(std::uint64_t base, std::uint64_t regions, F&& each) {
    auto const end = base + regions * abi::kRegionSize;
    for (auto at = base & ~(abi::kSlotSize - 1); at < end; at += abi::kSlotSize) {
        if (!each(at)) return false;
    }
    return true;
}

bool claim_slots(Domain& d, std::uint64_t base, std::uint64_t regions) {
    std::uint64_t claimed = 0;
    if (each_slot(base, regions,
                  [&](std::uint64_t at) { return slots::claim(at, d.index) && ++claimed > 0; })) {
        return true;
    }
    each_slot(base, regions, [&](std::uint64_t at) {
        if (claimed-- == 0) return false;
        slots::release(at, d.index);
        return true;
    });
    return false;
}

void release_slots(Domain& d, std::uint64_t base, std::uint64_t regions) {
    each_slot(base, regions, [&](std::uint64_t at) { return slots::release(at, d.index), true; });
}

Status continue_creation(Domain& d) {
    auto const number = d.creating_stretch;
    auto* s = stretch_of(d, number);
    std::uint32_t budget = kTakesPerStep;
    while (s->progress < s->regions) {
        auto* entry = TRY(region_entry(d, s->base + s->progress * abi::kRegionSize, budget));
        if (budget == 0) return fail(Error::Again);
        --budget;
        auto const frame = TRY(frames::take(d, FrameState::Kernel));
        ++d.kernel_frames;
        *entry = paging::make_entry(std::uint64_t{frame} * 4096, s->rights);
        ++s->progress;
    }
    s->kind = Stretch::Kind::Own;
    d.creating_stretch = kNone;
    return number;
}

void unlink_acceptor(Domain& owner, Stretch& s, Domain& acceptor, Stretch& a) {
    (void)owner;
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
    (void)acceptor;
}

/// Takes an accepted stretch out of its acceptor; at most kRegionsPerStep regions a call.
Status drop_accepted(Domain& acceptor, std::uint16_t number) {
    auto* a = stretch_of(acceptor, number);
    for (std::uint32_t i = 0; a->progress < a->regions; ++i) {
        if (i == kRegionsPerStep) return fail(Error::Again);
        auto const walk = paging::walk(acceptor.pml4, a->base + a->progress * abi::kRegionSize);
        if (walk.region != nullptr) *walk.region = 0;
        ++a->progress;
    }
    forget_all(acceptor);
    auto* owner = domains::at(a->owner_index);
    if (owner != nullptr && owner->generation == a->owner_generation) {
        unlink_acceptor(*owner, *stretch_of(*owner, a->owner_stretch), acceptor, *a);
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

void initialise_table(Domain& d) {
    d.free_stretch = kNone;
    d.creating_stretch = kNone;
    d.accepting_stretch = kNone;
    d.creating_device = kNone;
    for (std::uint32_t i = d.stretch_count; i-- > 0;) {
        auto* s = stretch_of(d, i);
        s->next_stretch = d.free_stretch;
        d.free_stretch = static_cast<std::uint16_t>(i);
    }
}

Status create(Domain& target, std::uint64_t address, std::uint64_t regions, std::uint64_t rights) {
    if (target.creating_stretch != kNone) {
        auto* s = stretch_of(target, target.creating_stretch);
        if (s->kind != Stretch::Kind::Dying) {
            auto const same = s->regions == regions && s->rights == (rights & 15) &&
                              (address == 0 || s->base == address);
            auto const made = same ? continue_creation(target) : Status(fail(Error::Busy));
            if (made || made.error() == Error::Again) return made;
            // It cannot be finished (or nobody finishes it): taken back in steps, then the error is
            // told.
            s->kind = Stretch::Kind::Dying;
            s->progress = 0;
            s->flags = same ? static_cast<std::uint8_t>(-static_cast<int>(made.error())) : 0;
        }
        auto const error = static_cast<Error>(-static_cast<std::int64_t>(s->flags));
        (void)TRY(destroy(target, target.creating_stretch));
        target.creating_stretch = kNone;
        return fail(error != Error::None ? error : Error::Again);
    }
    if (regions == 0 || regions > kRegionsMax || (rights & ~15ull) != 0 ||
        (rights & abi::kRead) == 0) {
        return fail(Error::BadArgument);
    }
    auto const base = address != 0 ? address : choose_address(target, regions);
    if (base == 0) return fail(Error::Busy);
    if (base % abi::kRegionSize != 0 || !slots::valid(base) ||
        regions * abi::kRegionSize > abi::kSlotsEnd - abi::kSlotSize - base) {
        return fail(Error::BadArgument);
    }
    if (!regions_free(target, base, regions)) return fail(Error::Busy);
    if (target.free_stretch == kNone) return fail(Error::QuotaExceeded);
    if (!claim_slots(target, base, regions)) return fail(Error::Busy);
    auto const number = take_number(target);
    auto* s = stretch_of(target, number);
    *s = Stretch{};
    s->kind = Stretch::Kind::Free;
    s->rights = static_cast<std::uint8_t>(rights);
    s->regions = static_cast<std::uint16_t>(regions);
    s->base = base;
    s->next_index = kNoDomain;
    target.creating_stretch = number;
    return continue_creation(target);
}

Status create_device(Domain& owner, std::uint64_t physical, std::uint64_t pages,
                     std::uint64_t rights) {
    if (physical % 4096 != 0 || pages == 0 || pages > kRegionsMax * 512 ||
        (rights & abi::kExecute) != 0) {
        return fail(Error::BadArgument);
    }
    auto const regions = (pages + 511) / 512;
    if (!machine::may_be_device(physical, pages * 4096, (rights & abi::kWrite) != 0))
        return fail(Error::BadArgument);
    auto const begun = owner.creating_device;
    if (begun != kNone && stretch_of(owner, begun)->kind != Stretch::Kind::Own)
        owner.creating_device = kNone;
    std::uint16_t number;
    if (owner.creating_device == kNone) {
        auto const made = TRY(create(owner, 0, regions, (rights & 3) | abi::kMeta));
        number = static_cast<std::uint16_t>(made);
        owner.creating_device = number;
        auto* fresh = stretch_of(owner, number);
        fresh->progress = 0;
        fresh->reserved[0] = static_cast<std::uint32_t>(physical >> 12);
        fresh->reserved[1] = static_cast<std::uint32_t>(physical >> 44);
        fresh->reserved[2] = static_cast<std::uint32_t>(pages);
        fresh->reserved[3] = static_cast<std::uint32_t>(rights);
    } else {
        number = owner.creating_device;
    }
    auto* s = stretch_of(owner, number);
    if (s->reserved[0] != static_cast<std::uint32_t>(physical >> 12) ||
        s->reserved[1] != physical >> 44 || s->reserved[2] != pages || s->reserved[3] != rights) {
        return fail(Error::Busy);  // another one is being made
    }
    auto const cache = (rights & abi::kWriteCombining) != 0 ? 0x80ull
                       : (rights & abi::kCached) != 0       ? 0
                                                      : paging::kUncached | paging::kWriteThrough;
    for (std::uint32_t i = 0; s->progress < pages; ++i) {
        if (i == 24) return fail(Error::Again);
        auto* entry = leaf_entry(owner, *s, s->progress);
        *entry = paging::make_entry(physical + std::uint64_t{s->progress} * 4096, rights & 3) |
                 paging::kDevicePage | cache;
        ++leaf_use(entry);
        ++s->progress;
    }
    owner.creating_device = kNone;
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
    // First the acceptors, one a step; then the pages, 32 a step; then the leaf tables.
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
        auto const walk = paging::walk(owner.pml4, s->base + (s->progress >> 9) * abi::kRegionSize);
        if (walk.region == nullptr || (*walk.region & paging::kPresent) == 0) {
            s->progress = (s->progress | 511) + 1;
            if ((work += kMappedPageWork) > kDestroyWork) return fail(Error::Again);
            continue;
        }
        auto* table = paging::table_of(*walk.region);
        auto& use = leaf_use(table);
        while (use != 0) {
            auto at = s->progress & 511;
            while (table[at] == 0 && work < kDestroyWork) {
                ++at;
                ++work;
            }
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
    release_slots(owner, s->base, s->regions);
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
    auto const bits = rights == 0 ? std::uint64_t{0} : paging::make_entry(0, rights);
    for (std::uint64_t i = 0; i < count; ++i, ++entry, address += 4096) {
        auto const old = *entry;
        if (old == 0 || (old & paging::kDevicePage) != 0) return fail(Error::NotMapped);
        auto const physical = old & paging::kAddressMask;
        auto& record = frames::record(static_cast<FrameNumber>(physical >> 12));
        if (record.owner != owner.index || record.state != FrameState::Owned ||
            (writable && record.mapped != 1)) {
            return fail(Error::NotPermitted);
        }
        record.reserved = writable ? kFrameWritable : 0;
        *entry = physical | bits | (rights == 0 ? 1ull << 10 : 0);
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
    std::uint64_t done = 0;
    for (; done < count && done < 4; ++done) {
        auto* entry = leaf_entry(owner, *s, page + done);
        if (entry == nullptr || *entry != 0) {
            if (done > 0) break;
            return fail(entry == nullptr ? Error::BadArgument : Error::Exists);
        }
        auto const frame = frames::take(owner, FrameState::Owned);
        if (!frame) {
            if (done > 0) break;
            return fail(frame.error());
        }
        auto& record = frames::record(*frame);
        record.mapped = 1;
        ++leaf_use(entry);
        record.reserved = kFrameWritable;
        *entry = paging::make_entry(std::uint64_t{*frame} * 4096, abi::kRead | abi::kWrite);
    }
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
    return 0;
}

Status accept(Domain& target, abi::DomainId owner_id, std::uint64_t number, std::uint64_t rights) {
    auto* owner = domains::find(owner_id);
    if (owner == nullptr || !owner->furnished || owner->state == DomainState::Dead ||
        owner == &target) {
        return fail(Error::BadHandle);
    }
    auto* s = own(*owner, number);
    if (s == nullptr) return fail(Error::BadHandle);
    if (s->offered_index != target.index || s->offered_generation != target.generation ||
        s->offered_rights == 0) {
        return fail(Error::NotOffered);
    }
    if ((rights & ~std::uint64_t{s->offered_rights}) != 0 || (rights & abi::kRead) == 0) {
        return fail(Error::NotPermitted);
    }
    if (target.accepting_stretch == kNone) {
        if (!regions_free(target, s->base, s->regions < 32 ? s->regions : 32))
            return fail(Error::Exists);
        if (target.free_stretch == kNone) return fail(Error::QuotaExceeded);
        auto const taken = take_number(target);
        auto* fresh = stretch_of(target, taken);
        *fresh = Stretch{};
        fresh->kind = Stretch::Kind::Accepted;
        fresh->rights = static_cast<std::uint8_t>(rights);
        fresh->regions = s->regions;
        fresh->base = s->base;
        fresh->owner_index = owner->index;
        fresh->owner_generation = owner->generation;
        fresh->owner_stretch = static_cast<std::uint16_t>(number);
        fresh->previous_index = kNoDomain;
        fresh->next_index = s->next_index;
        fresh->next_stretch = s->next_stretch;
        if (s->next_index != kNoDomain) {
            auto* after = stretch_of(*domains::at(s->next_index), s->next_stretch);
            after->previous_index = target.index;
            after->previous_stretch = taken;
        }
        s->next_index = target.index;
        s->next_stretch = taken;
        target.accepting_stretch = taken;
    }
    auto const taken = target.accepting_stretch;
    auto* a = stretch_of(target, taken);
    if (a->kind != Stretch::Kind::Accepted || a->owner_index != owner->index ||
        a->owner_stretch != number) {  // revoked meanwhile, or another acceptance is under way
        if (a->kind == Stretch::Kind::Accepted) return fail(Error::Busy);
        target.accepting_stretch = kNone;
        return fail(Error::NotOffered);
    }
    if (a->flags != 0)
        return fail(Error::Busy);  // being revoked, and the two count in the same place
    std::uint32_t budget = kTakesPerStep, work = 0;
    while (a->progress < a->regions) {
        if (work++ == kRegionsPerStep) return fail(Error::Again);
        auto const at = a->base + a->progress * abi::kRegionSize;
        auto* entry = TRY(region_entry(target, at, budget));
        auto const walk = paging::walk(owner->pml4, at);
        ASSERT(walk.region != nullptr);
        *entry = paging::make_entry(*walk.region & paging::kAddressMask, rights);
        ++a->progress;
    }
    target.accepting_stretch = kNone;
    s->offered_rights = 0;
    return taken;
}

Status revoke(Domain& owner, std::uint64_t number, abi::DomainId peer) {
    auto* s = own(owner, number);
    if (s == nullptr) return fail(Error::BadHandle);
    s->offered_rights = 0;
    // The peer's own table says where it is: its acceptance is found from the list's head in steps.
    std::uint32_t work = 0;
    auto index = s->next_index;
    auto at = s->next_stretch;
    while (index != kNoDomain) {
        auto* acceptor = domains::at(index);
        auto* a = stretch_of(*acceptor, at);
        if (acceptor->id() == peer) {
            if (a->flags == 0) {
                a->flags = 1;
                a->progress = 0;
            }
            return drop_accepted(*acceptor, at);
        }
        if (++work == 64) return fail(Error::Busy);
        index = a->next_index;
        at = a->next_stretch;
    }
    return fail(Error::BadHandle);
}

}  // namespace nemesis::kernel::stretches
