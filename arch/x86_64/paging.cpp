// The kernel's tables and the walk through a domain's.
#include "arch/x86_64/paging.h"

#include "arch/x86_64/cpu.h"
#include "kernel/abi/layout.h"

extern "C" char kernel_text_start[], kernel_text_end[], kernel_rodata_end[], kernel_image_start[],
    kernel_image_end[];

namespace nemesis::arch::paging {

Entry no_execute = kNoExecute;

namespace {

/// The last GiB of the address space, above the kernel's image.
constexpr std::uint64_t kFrameBufferWindow = 0xffff'ffff'c000'0000ull;
constexpr Entry kLargeWriteCombining = 1ull << 12;  // PAT entry 4, in an entry of a large page

std::uint64_t kernel_pml4 = 0;
std::uint64_t kernel_root_ = 0;
std::uint64_t physical_map_end_ = 0;

std::uint64_t table_under(Entry& entry, std::uint64_t (*allocate)(), bool user) {
    if ((entry & kPresent) == 0) entry = allocate() | kPresent | kWritable | (user ? kUser : 0);
    return entry & kAddressMask;
}

Entry* leaf(std::uint64_t pml4, std::uint64_t address, std::uint64_t (*allocate)(), bool user) {
    auto table = pml4;
    for (unsigned level = 3; level > 0; --level) {
        table = table_under(physical<Entry>(table)[index_at(address, level)], allocate, user);
    }
    return &physical<Entry>(table)[index_at(address, 0)];
}

}  // namespace

Walk walk(std::uint64_t pml4, std::uint64_t address) {
    auto* entry = &physical<Entry>(pml4)[index_at(address, 3)];
    if ((*entry & kPresent) == 0) return {entry, nullptr};
    entry = &table_of(*entry)[index_at(address, 2)];
    if ((*entry & kPresent) == 0) return {entry, nullptr};
    return {nullptr, &table_of(*entry)[index_at(address, 1)]};
}

bool five_levels() { return features.la57; }

void initialise_root(std::uint64_t pml4) {
    auto* to = physical<Entry>(pml4);
    auto const* from = physical<Entry>(kernel_pml4);
    to[256] = from[256];
    to[511] = from[511];
    to[index_at(abi::kGlobalBase, 3)] = from[index_at(abi::kGlobalBase, 3)];
}

void initialise_top(std::uint64_t root, std::uint64_t pml4) {
    if (!five_levels()) return;
    physical<Entry>(root)[0] = make_upper(pml4);
    physical<Entry>(root)[511] = kernel_pml4 | kPresent | kWritable;
}

std::uint64_t kernel_root() { return kernel_root_; }
std::uint64_t physical_map_end() { return physical_map_end_; }

Entry* global_leaf(std::uint64_t address, std::uint64_t (*allocate)()) {
    return leaf(kernel_pml4, address, allocate, true);
}

void initialise_kernel_tables(std::uint64_t kernel_physical, std::uint64_t physical_end,
                              std::uint64_t (*allocate)()) {
    if (!features.nx) no_execute = 0;
    kernel_pml4 = allocate();
    auto const global = features.pge ? kGlobal : 0;
    // Physical memory, in the largest pages there are.
    auto const pdpt = allocate();
    physical<Entry>(kernel_pml4)[256] = pdpt | kPresent | kWritable | no_execute;
    for (std::uint64_t gib = 0; gib < 512 && (gib << 30) < physical_end; ++gib) {
        physical_map_end_ = (gib + 1) << 30;
        if (features.page_1g) {
            physical<Entry>(pdpt)[gib] =
                (gib << 30) | kPresent | kWritable | kLarge | global | no_execute;
            continue;
        }
        auto const directory = allocate();
        physical<Entry>(pdpt)[gib] = directory | kPresent | kWritable;
        for (std::uint64_t i = 0; i < 512; ++i) {
            physical<Entry>(directory)[i] =
                (gib << 30) | (i << 21) | kPresent | kWritable | kLarge | global | no_execute;
        }
    }
    // The image, page by page: text RX, rodata R, data RW.
    auto const first = reinterpret_cast<std::uint64_t>(kernel_image_start);
    auto const last = reinterpret_cast<std::uint64_t>(kernel_image_end);
    auto const text = reinterpret_cast<std::uint64_t>(kernel_text_start);
    auto const text_end = reinterpret_cast<std::uint64_t>(kernel_text_end);
    auto const rodata_end = reinterpret_cast<std::uint64_t>(kernel_rodata_end);
    for (auto page = first & ~4095ull; page < last; page += 4096) {
        auto entry = (kernel_physical + (page - (first & ~4095ull))) | kPresent | global;
        if (page >= text && page < text_end) {
        } else if (page >= text_end && page < rodata_end) {
            entry |= no_execute;
        } else {
            entry |= no_execute | kWritable;
        }
        *leaf(kernel_pml4, page, allocate, false) = entry;
    }
    // The global window's directory exists before the first domain copies its entry.
    *global_leaf(abi::kTimePage, allocate) = 0;
    auto root = kernel_pml4;
    if (five_levels()) {
        root = allocate();
        physical<Entry>(root)[511] = kernel_pml4 | kPresent | kWritable;
        physical<Entry>(root)[0] = kernel_pml4 | kPresent | kWritable | kUser;
    }
    kernel_root_ = root;
    write_cr3(root);
}

void* map_frame_buffer(std::uint64_t physical_address, std::uint64_t bytes,
                       std::uint64_t (*allocate)()) {
    constexpr std::uint64_t large = 2ull << 20;
    auto const first = physical_address & ~(large - 1);
    auto const pages = (physical_address - first + bytes + large - 1) / large;
    if (bytes == 0 || pages > 512) return nullptr;
    auto& entry = physical<Entry>(kernel_pml4)[index_at(kFrameBufferWindow, 3)];
    auto const directories = table_under(entry, allocate, false);
    auto const directory =
        table_under(physical<Entry>(directories)[index_at(kFrameBufferWindow, 2)], allocate, false);
    for (std::uint64_t i = 0; i < pages; ++i) {
        physical<Entry>(directory)[i] = (first + i * large) | kPresent | kWritable | kLarge |
                                        no_execute | kLargeWriteCombining |
                                        (features.pge ? kGlobal : 0);
    }
    return reinterpret_cast<void*>(kFrameBufferWindow + (physical_address - first));
}

}  // namespace nemesis::arch::paging
