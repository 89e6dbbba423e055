// Creation and reclaim of domains in bounded steps.
#include "kernel/domain.h"

#include <cstring>

#include "arch/x86_64/clock.h"
#include "arch/x86_64/paging.h"
#include "kernel/cpu.h"
#include "kernel/dispatch.h"
#include "kernel/event.h"
#include "kernel/log.h"
#include "kernel/machine.h"
#include "kernel/memory/slots.h"
#include "kernel/memory/stretch.h"
#include "kernel/trace.h"
#include "libnemesis/base/assert.h"

namespace nemesis::kernel::domains {
namespace {

using abi::Error;
namespace paging = arch::paging;

Domain** table_ = nullptr;
std::uint32_t* generations_ = nullptr;  ///< also the chain of free indices while an index is free
std::uint32_t* free_next_ = nullptr;
std::uint32_t capacity_ = 0, first_free_ = kNoDomain, alive_ = 0;

/// What of the first frame the tables may use behind the Domain itself.
constexpr std::uint32_t kInlineStretches = 12;
constexpr std::uint32_t kInlineBytes = 4096 - ((sizeof(Domain) + 63) & ~std::size_t{63});
constexpr std::uint32_t kInlineEndpoints =
    (kInlineBytes - kInlineStretches * sizeof(Stretch)) / sizeof(Endpoint);
static_assert(kInlineEndpoints >= 16);

/// Does one of `all` hold each of `wanted`?
template <unsigned long n>
bool hold(abi::DeviceGrant const (&all)[n], abi::DeviceGrant const (&wanted)[n]) {
    for (auto const& w : wanted)
        if (w.count != 0 && !holds(all, w.first, w.count)) return false;
    return true;
}

bool valid(Domain const& creator, abi::DomainParameters const& p) {
    auto const ro = abi::dib_ro_pages(static_cast<std::uint32_t>(p.endpoints));
    auto const rw = abi::dib_rw_pages(static_cast<std::uint32_t>(p.context_slots));
    return p.slot_address % abi::kSlotSize == 0 && slots::valid(p.slot_address) && p.regions >= 1 &&
           p.regions <= 8 && p.context_slots >= 1 && p.context_slots <= abi::kSlotsMax &&
           p.endpoints >= 1 && p.endpoints <= abi::kEndpointsMax && p.stretches >= 1 &&
           p.stretches <= abi::kStretchesMax && p.dib_offset % 4096 == 0 &&
           p.dib_offset < p.regions * abi::kRegionSize &&
           (p.dib_offset & (abi::kRegionSize - 1)) + (ro + rw) * 4096 <= abi::kRegionSize &&
           (p.privileges & ~creator.privileges) == 0 && p.frames < (1ull << 31) &&
           p.death_endpoint < creator.endpoint_count;
}

bool grants_are_held(Domain const& creator, abi::DomainParameters const& p) {
    return hold(creator.device_memory, p.device_memory) &&
           hold(creator.device_interrupts, p.device_interrupts);
}

std::uint8_t* frame_pointer(FrameNumber n) {
    return arch::physical<std::uint8_t>(std::uint64_t{n} * 4096);
}

/// Steps of creation after the kernel object exists. Each takes at most one frame.
enum Step : std::uint64_t {
    kDescribe,
    kRoot,
    kTop,
    kImage,
    kReadOnly,
    kReadWrite,
    kEndpoints,
    kStretches,
    kDone
};

Result<FrameNumber, Error> kernel_frame(Domain& d) {
    auto const n = TRY(frames::take(d, FrameState::Kernel));
    ++d.kernel_frames;
    return n;
}

/// Maps page `at` of the image stretch to a kernel-owned frame (a DIB page).
void map_dib_page(Domain& d, std::uint64_t at, FrameNumber n, std::uint64_t rights) {
    auto const walk = paging::walk(d.pml4, at);
    auto& entry = paging::table_of(*walk.region)[paging::index_at(at, 0)];
    entry = paging::make_entry(std::uint64_t{n} * 4096, rights);
    frames::record(n).mapped = 1;
    ++frames::record(static_cast<FrameNumber>(arch::physical_of(&entry) / 4096)).mapped;
}

/// What the parameters say of the object itself.
void describe(Domain& d, abi::DomainParameters const& p) {
    d.slot_count = static_cast<std::uint32_t>(p.context_slots);
    d.endpoint_count = static_cast<std::uint32_t>(p.endpoints);
    d.stretch_count = static_cast<std::uint16_t>(p.stretches);
    d.privileges = p.privileges;
    std::memcpy(d.device_memory, p.device_memory, sizeof(d.device_memory));
    std::memcpy(d.device_interrupts, p.device_interrupts, sizeof(d.device_interrupts));
    d.fpu = (p.privileges & abi::kPrivilegeFpu) != 0;
    d.first_slot = p.slot_address;
    d.image_regions = p.regions;
    d.ro_address = p.slot_address + p.dib_offset;
    d.death_endpoint = static_cast<std::uint16_t>(p.death_endpoint);
    std::memcpy(d.name, p.name, sizeof(d.name));
    d.name[31] = 0;
}

Result<void, Error> furnish_step(Domain& d, abi::DomainParameters const& p) {
    auto const ro_pages = abi::dib_ro_pages(d.endpoint_count);
    auto const dib = d.ro_address;
    switch (d.creation_step) {
        case kDescribe: {
            // Not what was looked at when the object was made: the creator may write between steps.
            auto const* creator = at(d.parent_index);
            if (creator != nullptr && !(valid(*creator, p) && grants_are_held(*creator, p)))
                return fail(Error::BadArgument);
            if (slots::owner_of(p.slot_address) != 0xffffffff) return fail(Error::Busy);
            describe(d, p);
            ++d.creation_step;
            return {};
        }
        case kRoot: {
            d.pml4 = std::uint64_t{TRY(kernel_frame(d))} * 4096;
            d.root = d.pml4;
            paging::initialise_root(d.pml4);
            ++d.creation_step;
            return {};
        }
        case kTop: {
            if (paging::five_levels()) {
                d.root = std::uint64_t{TRY(kernel_frame(d))} * 4096;
                paging::initialise_top(d.root, d.pml4);
            }
            ++d.creation_step;
            return {};
        }
        case kStretches: {  // tables beyond what the first frame holds, then their chain
            auto const pages = d.stretch_count > kInlineStretches
                                   ? (d.stretch_count + kStretchesPerPage - 1) / kStretchesPerPage
                                   : 0;
            constexpr auto pages_inside = sizeof(d.stretch_pages) / sizeof(d.stretch_pages[0]);
            if (pages > pages_inside && d.stretch_directory == d.stretch_pages) {
                d.stretch_directory =
                    reinterpret_cast<Stretch**>(frame_pointer(TRY(kernel_frame(d))));
                return {};
            }
            if (d.reclaim_position < pages) {
                d.stretch_directory[d.reclaim_position] =
                    reinterpret_cast<Stretch*>(frame_pointer(TRY(kernel_frame(d))));
                ++d.reclaim_position;
                return {};
            }
            if (d.stretch_count <= kInlineStretches) {
                d.stretch_pages[0] =
                    reinterpret_cast<Stretch*>(reinterpret_cast<std::uint8_t*>(&d) + 4096 -
                                               kInlineStretches * sizeof(Stretch));
            }
            auto chained = static_cast<std::uint32_t>(d.reclaim_position) - pages;
            auto const complete = stretches::initialise_table(d, chained);
            d.reclaim_position = pages + chained;
            if (!complete) return {};
            d.reclaim_position = 0;
            ++d.creation_step;
            return {};
        }
        case kEndpoints: {
            auto const pages = (d.endpoint_count + kEndpointsPerPage - 1) / kEndpointsPerPage;
            if (d.endpoint_count > kInlineEndpoints && d.reclaim_position < pages) {
                d.endpoint_pages[d.reclaim_position] =
                    reinterpret_cast<Endpoint*>(frame_pointer(TRY(kernel_frame(d))));
                ++d.reclaim_position;
                return {};
            }
            if (d.endpoint_count <= kInlineEndpoints) {
                d.endpoint_pages[0] =
                    reinterpret_cast<Endpoint*>(reinterpret_cast<std::uint8_t*>(&d) +
                                                ((sizeof(Domain) + 63) & ~std::size_t{63}));
            }
            d.endpoints = d.endpoint_pages[0];
            d.near_endpoints =
                d.endpoint_count < kEndpointsPerPage ? d.endpoint_count : kEndpointsPerPage;
            d.reclaim_position = 0;
            ++d.creation_step;
            return {};
        }
        case kImage: {
            constexpr auto rights = abi::kRead | abi::kWrite | abi::kExecute | abi::kMeta;
            (void)TRY(stretches::create(d, d.first_slot, d.image_regions, rights));
            d.reclaim_position = 0;
            ++d.creation_step;
            return {};
        }
        case kReadOnly: {
            if (d.reclaim_position < ro_pages) {
                auto const n = TRY(kernel_frame(d));
                if (d.reclaim_position == 0) d.ro = reinterpret_cast<abi::DibRo*>(frame_pointer(n));
                d.count_pages[d.reclaim_position] =
                    reinterpret_cast<std::uint64_t*>(frame_pointer(n));
                map_dib_page(d, dib + d.reclaim_position * 4096, n, abi::kRead);
                ++d.reclaim_position;
                return {};
            }
            d.reclaim_position = 0;
            ++d.creation_step;
            return {};
        }
        case kReadWrite: {
            if (d.reclaim_position < abi::dib_rw_pages(d.slot_count)) {
                auto const n = TRY(kernel_frame(d));
                if (d.reclaim_position == 0) d.rw = reinterpret_cast<abi::DibRw*>(frame_pointer(n));
                d.rw_pages[d.reclaim_position] = frame_pointer(n);
                map_dib_page(d, dib + (ro_pages + d.reclaim_position) * 4096, n,
                             abi::kRead | abi::kWrite);
                ++d.reclaim_position;
                return {};
            }
            d.slot_zero = slot_of(d, 0);
            d.ro->magic = abi::kDibMagic;
            d.ro->id = d.id();
            d.ro->endpoint_count = d.endpoint_count;
            d.ro->slot_count = d.slot_count;
            d.ro->rw_address = dib + ro_pages * 4096;
            d.ro->parent = (std::uint64_t{d.parent_generation} << 32) | d.parent_index;
            d.ro->environment = p.environment;
            d.rw->activation_vector = p.entry;
            d.rw->activation_stack = p.stack;
            d.rw->activation_gs = p.state;
            d.rw->activations_on = 1;
            d.reclaim_position = 0;
            ++d.creation_step;
            return {};
        }
        default:
            return {};
    }
}

/// The order of steps: tables of the object first, because stretches need them.
constexpr Step kOrder[] = {kDescribe, kEndpoints, kStretches, kRoot, kTop,
                           kImage,    kReadOnly,  kReadWrite, kDone};

Result<void, Error> furnish(Domain& d, abi::DomainParameters const& p) {
    auto const position = d.exit_code;  // index into kOrder while being created
    if (kOrder[position] == kDone) {
        d.exit_code = 0;
        d.furnished = true;
        d.live_generation = d.generation;
        d.state = DomainState::Created;
        return {};
    }
    d.creation_step = kOrder[position];
    TRY_VOID(furnish_step(d, p));
    if (d.creation_step != kOrder[position]) ++d.exit_code;
    return fail(Error::Again);
}

Domain* construct(FrameNumber n, std::uint32_t index) {
    // The frame is clean: what has no initialiser of its own is zero.
    auto* d = new (frame_pointer(n)) Domain;
    d->index = index;
    d->runnable = d->entity.runnable_flag();
    d->generation = ++generations_[index];
    d->frame_list = kNoFrame;
    d->state = DomainState::Created;
    d->stretch_directory = d->stretch_pages;
    d->free_stretch = d->creating_stretch = kNoStretch;
    d->accepting_stretch = d->creating_device = kNoStretch;
    table_[index] = d;
    this_cpu().scheduler().add(d->entity, arch::clock::now());
    return d;
}

/// The list of children decides who is reclaimed with whom; parent_of decides who commands.
void link_child(Domain& parent, Domain& child) {
    child.previous_sibling = nullptr;
    child.next_sibling = parent.first_child;
    if (parent.first_child != nullptr) parent.first_child->previous_sibling = &child;
    parent.first_child = &child;
}
void unlink_child(Domain& child) {
    auto* parent = table_[child.parent_index];
    if (child.previous_sibling != nullptr)
        child.previous_sibling->next_sibling = child.next_sibling;
    else if (parent != nullptr && parent->first_child == &child)
        parent->first_child = child.next_sibling;
    if (child.next_sibling != nullptr)
        child.next_sibling->previous_sibling = child.previous_sibling;
}

Domain* parent_of(Domain const& d) {
    auto* parent = at(d.parent_index);
    if (parent != nullptr && parent->generation == d.parent_generation &&
        parent->state != DomainState::Dead) {
        return parent;
    }
    return d.index != 0 ? at(0) : nullptr;  // the first domain adopts
}

/// Dead before it lived. Returns false if it was already.
bool abandon(Domain& d) {
    if (d.state == DomainState::Dead) return false;
    this_cpu().scheduler().retire(d.entity, arch::clock::now());
    d.state = DomainState::Dead;
    d.exit_code = 0;
    d.reclaim_position = 0;
    d.reclaim_step = 0;
    return true;
}

}  // namespace

void initialise(Domain** table, std::uint32_t* generations, std::uint32_t capacity) {
    table_ = table;
    generations_ = generations;
    free_next_ = generations + capacity;
    capacity_ = capacity;
    for (std::uint32_t i = capacity; i-- > 0;) {
        free_next_[i] = first_free_;
        first_free_ = i;
    }
}

Domain* at(std::uint32_t index) { return index < capacity_ ? table_[index] : nullptr; }

Domain* find(abi::DomainId id) {
    auto* d = at(static_cast<std::uint32_t>(id));
    return d != nullptr && d->generation == id >> 32 ? d : nullptr;
}

Result<Domain*, Error> target(Domain& caller, abi::DomainId id) {
    if (id == 0 || id == caller.id()) return &caller;
    auto* d = find(id);
    if (d == nullptr || !d->furnished) return fail(Error::BadHandle);
    if (parent_of(*d) != &caller) return fail(Error::NotPermitted);
    return d;
}

Result<Domain*, Error> create_step(Domain& creator, abi::DomainParameters const& p) {
    if (creator.creating == nullptr) {
        if (!valid(creator, p)) return fail(Error::BadArgument);
        if (p.frames == 0 || p.frames + creator.frames_used > creator.frames_quota)
            return fail(Error::QuotaExceeded);
        if (first_free_ == kNoDomain) return fail(Error::NoMemory);
        // The object's frame is taken by the creator and given to the child it becomes.
        auto const n = TRY(frames::take(creator, FrameState::Kernel));
        auto const index = first_free_;
        first_free_ = free_next_[index];
        auto* d = construct(n, index);
        d->parent_index = creator.index;
        d->parent_generation = creator.generation;
        d->frames_quota = p.frames;
        creator.frames_quota -= p.frames;
        ASSERT(frames::give(creator, *d, n));
        d->kernel_frames = 1;
        link_child(creator, *d);
        creator.creating = d;
        ++alive_;
        return fail(Error::Again);
    }
    auto* d = creator.creating;
    if (d->state == DomainState::Dead) {  // abandoned: taken back in steps, then the error is told
        auto const error = static_cast<Error>(d->creation_error);
        TRY_VOID(reclaim_step(*d));
        creator.creating = nullptr;
        return fail(error);
    }
    auto const progress = furnish(*d, p);
    if (!progress) {
        if (progress.error() == Error::Again) return fail(Error::Again);
        d->creation_error = static_cast<std::int64_t>(progress.error());
        abandon(*d);
        return fail(Error::Again);
    }
    creator.creating = nullptr;
    trace::domain_created(*d);
    return d;
}

Domain* create_first(abi::DomainParameters const& p, std::uint64_t quota) {
    // Its object's frame belongs to nobody for a moment: a stand-in owner carries it.
    alignas(64) static std::uint8_t stand_in_memory[sizeof(Domain)];
    auto* stand_in = new (stand_in_memory) Domain{};
    stand_in->index = 0;
    stand_in->frame_list = kNoFrame;
    stand_in->frames_quota = 1;
    auto n = frames::take(*stand_in, FrameState::Kernel);
    while (!n) n = frames::take(*stand_in, FrameState::Kernel);
    auto const index = first_free_;
    first_free_ = free_next_[index];
    auto* d = construct(*n, index);
    d->frames_quota = quota;
    describe(*d, p);
    d->exit_code = 1;  // that step is done
    ASSERT(frames::give(*stand_in, *d, *n));
    d->kernel_frames = 1;
    ++alive_;
    for (;;) {
        auto const progress = furnish(*d, p);
        if (progress) return d;
        ASSERT(progress.error() == Error::Again);
    }
}

void kill(Domain& d, std::uint64_t exit_code) {
    if (d.state == DomainState::Dead) return;
    auto const now = arch::clock::now();
    if (d.state == DomainState::Alive || d.state == DomainState::Created) {
        this_cpu().scheduler().retire(d.entity, now);
    }
    d.state = DomainState::Dead;
    d.live_generation = 0;
    d.exit_code = exit_code;
    d.suspended = false;
    events::donor_died(d, now);
    ++d.serve_epoch;
    d.reclaim_step = 0;
    d.reclaim_position = 0;
    auto& cpu = this_cpu();
    if (cpu.fpu_owner == &d) cpu.fpu_owner = nullptr;
    if (machine::contract_in_progress == &d) machine::contract_in_progress = nullptr;
    if (cpu.payer == &d) {  // whoever runs on its reservation does so no longer
        cpu.payer = nullptr;
        cpu.reschedule = true;
    }
    trace::domain_died(d);
    // Its own parent only: to whoever adopts it the endpoint's number means something else.
    auto* parent = parent_of(d);
    if (parent != nullptr && parent->index == d.parent_index)
        events::raise(*parent, d.death_endpoint);
}

Result<void, Error> reclaim_step(Domain& d) {
    ASSERT(d.state == DomainState::Dead);
    if (d.creating != nullptr) {  // a child it was furnishing goes first
        auto* child = d.creating;
        if (abandon(*child)) return fail(Error::Again);
        TRY_VOID(reclaim_step(*child));
        d.creating = nullptr;
        return fail(Error::Again);
    }
    if (auto* child =
            d.first_child) {  // children go with their parent; grandchildren move up first
        if (child->creating != nullptr) {
            if (abandon(*child->creating)) return fail(Error::Again);
            TRY_VOID(reclaim_step(*child->creating));
            child->creating = nullptr;
            return fail(Error::Again);
        }
        if (auto* grandchild = child->first_child) {
            unlink_child(*grandchild);
            grandchild->parent_index = d.index;
            grandchild->parent_generation = d.generation;
            link_child(d, *grandchild);
            return fail(Error::Again);
        }
        if (child->state != DomainState::Dead)
            kill(*child, abi_exit::kDestroyed);
        else
            TRY_VOID(reclaim_step(*child));
        return fail(Error::Again);
    }
    switch (d.reclaim_step) {
        case 0: {  // endpoints: the peers learn of it
            for (int work = 0; work < 16; ++work, ++d.reclaim_position) {
                if (d.reclaim_position >= d.endpoint_count ||
                    d.endpoint_pages[d.reclaim_position / kEndpointsPerPage] == nullptr) {
                    d.reclaim_position = 0;
                    ++d.reclaim_step;
                    return fail(Error::Again);
                }
                if (endpoint_of(d, d.reclaim_position)->state == Endpoint::State::Free) continue;
                // Closing one may wake a peer: that is a step of its own.
                if (work < 4) events::close(d, static_cast<std::uint32_t>(d.reclaim_position++));
                return fail(Error::Again);
            }
            return fail(Error::Again);
        }
        case 1: {  // stretches
            for (int work = 0; work < 12; ++work, ++d.reclaim_position) {
                if (d.reclaim_position >= d.stretch_count ||
                    d.stretch_directory[d.reclaim_position / kStretchesPerPage] == nullptr) {
                    d.reclaim_position = 0;
                    ++d.reclaim_step;
                    return fail(Error::Again);
                }
                auto* s = stretch_of(d, d.reclaim_position);
                if (s->kind == Stretch::Kind::Free && d.creating_stretch != d.reclaim_position)
                    continue;
                if (work > 2) return fail(Error::Again);  // next time as the first
                if (d.creating_stretch == d.reclaim_position) {
                    stretches::abandon_creation(d);
                    d.creating_stretch = kNoStretch;
                }
                (void)TRY(stretches::destroy(d, d.reclaim_position));
                return fail(Error::Again);
            }
            return fail(Error::Again);
        }
        case 2: {  // whatever frames are left: tables, DIB, unmapped memory; the object's frame
                   // last
            auto const object = static_cast<FrameNumber>(arch::physical_of(&d) / 4096);
            if (d.kernel_frames != 0) {  // the upper tables go out of use before their frames do
                if (this_cpu().root == d.root && d.root != 0) {
                    this_cpu().root = paging::kernel_root();
                    arch::write_cr3(this_cpu().root);
                }
                d.kernel_frames = 0;
            }
            for (int work = 0; work < 5; ++work) {
                auto n = d.frame_list;
                if (n == object) n = frames::record(n).next;
                if (n == kNoFrame) {
                    ++d.reclaim_step;
                    return fail(Error::Again);
                }
                auto& record = frames::record(n);
                if (record.state == FrameState::Kernel) record.mapped = 0;
                if (record.mapped != 0)
                    frames::orphan(d, n);
                else
                    frames::release(d, n);
            }
            return fail(Error::Again);
        }
        case 3:
            this_cpu().scheduler().remove(d.entity, arch::clock::now());
            ++d.reclaim_step;
            return fail(Error::Again);
        default:
            break;
    }
    auto const index = d.index;
    auto const object = static_cast<FrameNumber>(arch::physical_of(&d) / 4096);
    auto* parent = table_[d.parent_index];
    if (parent != nullptr && parent->generation == d.parent_generation)
        parent->frames_quota += d.frames_quota;
    unlink_child(d);
    table_[index] = nullptr;
    frames::release(d, object);
    free_next_[index] = first_free_;
    first_free_ = index;
    --alive_;
    return {};
}

std::uint32_t alive_count() { return alive_; }

}  // namespace nemesis::kernel::domains
