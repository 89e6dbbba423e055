// Programs become domains.
#include "domains/loader/loader.h"

#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/syscalls.h"

namespace nemesis::loader {
namespace {

constexpr std::uint64_t kRegionsPerSlot = abi::kSlotSize / abi::kRegionSize;
constexpr std::string_view kTaken = "the slot is taken";

/// The address of the slot that holds the image's end and has room for what lies behind it.
std::uint64_t own_slot(std::uint64_t end, manager::ChildOptions const& options) {
    auto const slot = (end - 1) & ~(abi::kSlotSize - 1);
    auto const layout = abi::lay_out((end - slot) / abi::kPageSize, options.endpoints,
                                     options.context_slots, options.stack_pages);
    return layout.regions <= kRegionsPerSlot ? slot : slot + abi::kSlotSize;
}

}  // namespace

std::byte* FrameStore::take(std::uint64_t count) {
    return static_cast<std::byte*>(pages::take(count));
}

void FrameStore::give(std::byte* first, std::uint64_t count) { pages::give(first, count); }

bool FrameStore::open() {
    if (page_ != nullptr) return true;
    auto const made = sys::stretch_create(0, 0, 1, abi::kRead | abi::kWrite | abi::kMeta);
    if (made < 0) return false;
    stretch_ = static_cast<std::uint64_t>(made);
    page_ = reinterpret_cast<std::byte*>(sys::call(abi::Call::StretchAddress, 0, stretch_));
    return true;
}

Result<SharedPage, LoadError> FrameStore::publish(std::span<std::byte const> contents,
                                                  std::uint64_t skip) {
    if (!open() || sys::map_batch(stretch_, 0, 1) < 0) return fail(LoadError::NoMemory);
    __builtin_memcpy(page_ + skip, contents.data(), contents.size());
    // Unmapped here, the frame stays ours; from now on it is mapped read-only, elsewhere.
    auto const frame = sys::unmap(0, stretch_, 0);
    if (frame < 0) return fail(LoadError::NoMemory);
    return static_cast<SharedPage>(frame);
}

void FrameStore::withdraw(SharedPage page) { sys::frame_free(page); }

Result<manager::Child, LoadFailure> Loader::make(ElfImage const& image, Place const& place,
                                                 manager::ChildOptions const& options) {
    manager::ImagePlan plan{.begin = image.begin() + place.offset,
                            .end = image.end() + place.offset,
                            .entry = image.entry() + place.offset,
                            .thread_template = image.thread_template()};
    plan.own_slot = own_slot(plan.end, options);
    if (plan.thread_template) plan.thread_template->address += place.offset;
    // An image that ends just before its own slot has no page there.
    auto const image_end = plan.end;
    if (plan.end < plan.own_slot) plan.end = plan.own_slot;
    auto child = manager::make(plan, options);
    if (!child) {
        return fail(LoadFailure{"domain", child.error() == manager::ManagerError::SlotTaken
                                              ? kTaken
                                              : "the kernel refuses it (see the log)"});
    }
    child->environment.image_end = image_end;
    head_stretch_ = 0;
    if (plan.own_slot > place.base) {
        auto const made = sys::stretch_create(
            child->id, place.base, (plan.own_slot - place.base) / abi::kRegionSize,
            abi::kRead | abi::kWrite | abi::kExecute | abi::kMeta);
        if (made < 0) {
            sys::domain_destroy(child->id);
            auto const error = static_cast<abi::Error>(made);
            return fail(LoadFailure{"slots", error == abi::Error::Busy ? kTaken : text(error)});
        }
        head_stretch_ = static_cast<std::uint64_t>(made);
    }
    return *child;
}

bool Loader::give_page(manager::Child const& child, std::uint64_t address,
                       InstancePage const& page) {
    auto const rights = abi::kRead | (page.rights.write ? abi::kWrite : 0) |
                        (page.rights.execute ? abi::kExecute : 0);
    // Slots before the child's own are a stretch that begins at the place's base.
    auto const in_head = address < child.slot;
    auto const stretch = in_head ? head_stretch_ : 0;
    auto const number = (address - (in_head ? head_base_ : child.slot)) / abi::kPageSize;
    switch (page.kind) {
        case InstancePage::Kind::Shared: {
            auto const mapped = sys::map(child.id, stretch, number, page.page, rights);
            if (mapped >= 0) return true;
            log::line("shared page: ", text(static_cast<abi::Error>(mapped)));
            return false;
        }
        case InstancePage::Kind::Copy:
            return manager::give_page(child.id, stretch, number, rights, [&](std::byte* to) {
                __builtin_memcpy(to, page.contents, abi::kPageSize);
            });
        case InstancePage::Kind::Empty:
            return manager::give_page(child.id, stretch, number, rights, [](std::byte*) {});
    }
    return false;
}

Result<Loaded, LoadFailure> Loader::load(std::span<std::byte const> file,
                                         manager::ChildOptions const& options) {
    auto const program = cache_.find_program(file);
    if (!program) {
        return fail(LoadFailure{"image", program.error() == LoadError::BadImage
                                             ? text(cache_.why())
                                             : text(program.error())});
    }
    auto const& image = cache_.image(*program);
    auto const end = image.end() - (image.movable() ? 0 : image.begin() & ~(abi::kSlotSize - 1));
    auto search = cache_.search(
        *program, static_cast<std::uint32_t>(own_slot(end, options) / abi::kSlotSize + 1));
    for (;;) {
        auto const number = cache_.next_place(search);
        if (!number) return fail(LoadFailure{"place", text(number.error())});
        auto const& place = cache_.place(*number);
        auto const child = make(image, place, options);
        if (!child) {
            cache_.refuse(*number);
            if (child.error().why == kTaken) continue;
            return fail(child.error());
        }
        head_base_ = place.base;
        if (auto const prepared = cache_.prepare(*number); !prepared) {
            sys::domain_destroy(child->id);
            return fail(LoadFailure{"relocation", prepared.error() == LoadError::BadImage
                                                      ? text(cache_.why())
                                                      : text(prepared.error())});
        }
        auto const complete = cache_.for_each_page(*number, [&](std::uint64_t address,
                                                                InstancePage const& page) {
            return give_page(*child, address, page);
        }) && manager::furnish(*child, options).has_value();
        if (!complete) {
            sys::domain_destroy(child->id);
            return fail(LoadFailure{"memory", "the quota given does not hold the program"});
        }
        cache_.acquire(*number);
        return Loaded{*child, *number};
    }
}

void Loader::ended(Loaded const& loaded) {
    sys::domain_destroy(loaded.child.id);
    cache_.release(loaded.place);
}

}  // namespace nemesis::loader
