#include "arch/x86_64/boot/uefi_memory_map.h"

#include <algorithm>

#include "libnemesis/base/byte_view.h"

namespace nemesis::boot {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kAddressTop = 1ull << 52;

/// EFI_MEMORY_DESCRIPTOR; firmware may append fields.
struct Descriptor {
    std::uint32_t type, padding;
    std::uint64_t physical, virtual_address, pages, attributes;
};
static_assert(sizeof(Descriptor) == 40);

/// EFI_MEMORY_TYPE.
enum FirmwareType : std::uint32_t {
    kLoaderCode = 1,
    kLoaderData = 2,
    kBootServicesCode = 3,
    kBootServicesData = 4,
    kConventional = 7,
    kAcpiReclaim = 9,
    kMappedIo = 11,
    kMappedIoPorts = 12,
    kMaxType = 16,
};

/// Larger wins where ranges overlap.
int caution(std::uint32_t type) {
    switch (static_cast<MemoryType>(type)) {
        case MemoryType::Usable:
            return 1;
        case MemoryType::AcpiTables:
            return 2;
        case MemoryType::Reserved:
            return 3;
    }
    return 3;
}

bool is_usable(MemoryRange const& r) {
    return r.type == static_cast<std::uint32_t>(MemoryType::Usable);
}

/// The range of a descriptor in whole pages; 0 bytes when nothing is left of it.
MemoryRange range_of(Descriptor const& d) {
    auto const type = kernel_type(d.type);
    auto const bytes = d.pages > kAddressTop / kPage ? kAddressTop : d.pages * kPage;
    auto begin = d.physical;
    if (begin >= kAddressTop) return {};
    auto end = bytes > kAddressTop - begin ? kAddressTop : begin + bytes;
    if (type == MemoryType::Usable) {
        begin = (begin + kPage - 1) & ~(kPage - 1);
        end &= ~(kPage - 1);
    } else {
        begin &= ~(kPage - 1);
        end = (end + kPage - 1) & ~(kPage - 1);
    }
    if (end <= begin) return {};
    return MemoryRange{.base = begin,
                       .bytes = end - begin,
                       .type = static_cast<std::uint32_t>(type),
                       .reserved = 0};
}

/// Drops elements for which `which` holds; returns the new count.
template <typename F>
std::size_t drop(std::span<MemoryRange> ranges, F&& which) {
    return static_cast<std::size_t>(std::remove_if(ranges.begin(), ranges.end(), which) -
                                    ranges.begin());
}

}  // namespace

char const* text(MapError error) {
    switch (error) {
        case MapError::BadDescriptorSize:
            return "the memory map's descriptors are too short";
        case MapError::TooManyDescriptors:
            return "the memory map has too many descriptors";
        case MapError::NoUsableMemory:
            return "the memory map names no usable memory";
    }
    return "unknown error of the memory map";
}

MemoryType kernel_type(std::uint32_t type) {
    switch (type) {
        case kLoaderCode:
        case kBootServicesCode:
        case kBootServicesData:
        case kConventional:
            return MemoryType::Usable;
        case kAcpiReclaim:
            return MemoryType::AcpiTables;
        default:
            return MemoryType::Reserved;
    }
}

Result<std::uint32_t, MapError> convert_memory_map(std::span<std::byte const> map,
                                                   std::uint64_t descriptor_bytes,
                                                   std::span<MemoryRange> to, MapScratch& scratch) {
    if (descriptor_bytes < sizeof(Descriptor)) return fail(MapError::BadDescriptorSize);
    ByteView const view(map);
    std::size_t count = 0;
    for (std::uint64_t at = 0; view.contains(at, descriptor_bytes); at += descriptor_bytes) {
        auto const range = range_of(*view.read<Descriptor>(at));
        if (range.bytes == 0) continue;
        if (count == kDescriptorsMax) return fail(MapError::TooManyDescriptors);
        scratch.edges[2 * count] = range.base;
        scratch.edges[2 * count + 1] = range.end();
        scratch.given[count++] = range;
    }
    auto const edges = std::span(scratch.edges).first(2 * count);
    std::sort(edges.begin(), edges.end(), [](auto a, auto b) { return a < b; });

    // Between two neighbouring edges every descriptor covers everything or nothing.
    std::size_t merged = 0;
    for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
        auto const begin = edges[i], end = edges[i + 1];
        if (begin == end) continue;
        std::uint32_t type = 0;
        for (auto const& range : std::span(scratch.given).first(count)) {
            if (range.base > begin || range.end() < end) continue;
            if (type == 0 || caution(range.type) > caution(type)) type = range.type;
        }
        if (type == 0) continue;
        auto* const last = merged > 0 ? &scratch.merged[merged - 1] : nullptr;
        if (last != nullptr && last->end() == begin && last->type == type) {
            last->bytes += end - begin;
        } else {
            scratch.merged[merged++] =
                MemoryRange{.base = begin, .bytes = end - begin, .type = type, .reserved = 0};
        }
    }

    auto ranges = std::span(scratch.merged).first(merged);
    if (ranges.size() > to.size()) {
        ranges = ranges.first(drop(ranges, [](MemoryRange const& r) { return !is_usable(r); }));
    }
    while (ranges.size() > to.size()) {
        auto const smallest =
            std::min_element(ranges.begin(), ranges.end(),
                             [](auto const& a, auto const& b) { return a.bytes < b.bytes; });
        std::copy(smallest + 1, ranges.end(), smallest);
        ranges = ranges.first(ranges.size() - 1);
    }
    if (std::none_of(ranges.begin(), ranges.end(), is_usable))
        return fail(MapError::NoUsableMemory);
    std::copy(ranges.begin(), ranges.end(), to.begin());
    return static_cast<std::uint32_t>(ranges.size());
}

std::uint64_t memory_end(std::span<std::byte const> map, std::uint64_t descriptor_bytes) {
    if (descriptor_bytes < sizeof(Descriptor)) return 0;
    ByteView const view(map);
    std::uint64_t top = 0;
    for (std::uint64_t at = 0; view.contains(at, descriptor_bytes); at += descriptor_bytes) {
        auto const d = *view.read<Descriptor>(at);
        bool const memory =
            d.type != 0 && d.type < kMaxType && d.type != kMappedIo && d.type != kMappedIoPorts;
        auto const range = range_of(d);
        if (memory && range.end() > top) top = range.end();
    }
    return top;
}

}  // namespace nemesis::boot
