// Capabilities of a virtio device in PCI configuration space.
#include "drivers/net/virtio_pci.h"

namespace nemesis::virtio {
namespace {

constexpr std::uint8_t kVendorCapability = 9;
constexpr std::uint8_t kCommon = 1, kNotify = 2, kDevice = 4;
constexpr std::uint64_t kPartBytesMax = 1u << 20;

/// The address of a memory BAR; 0: none, or one for ports.
std::uint64_t memory_bar(ReadConfiguration read, void* self, std::uint32_t function,
                         std::uint32_t bar) {
    if (bar > 5) return 0;
    auto const low = read(self, function | (0x10 + 4 * bar));
    if ((low & 1) != 0) return 0;
    std::uint64_t base = low & ~15u;
    if ((low & 6) == 4) {
        if (bar == 5) return 0;
        base |= std::uint64_t{read(self, function | (0x14 + 4 * bar))} << 32;
    }
    return base;
}

}  // namespace

std::optional<std::uint32_t> find_function(ReadConfiguration read, void* self, std::uint16_t vendor,
                                           std::uint16_t device, std::uint16_t older_device) {
    auto const wanted = [&](std::uint32_t identity) {
        auto const number = static_cast<std::uint16_t>(identity >> 16);
        return static_cast<std::uint16_t>(identity) == vendor &&
               (number == device || number == older_device);
    };
    for (std::uint32_t slot = 0; slot < 256 * 32; ++slot) {
        auto const first = slot << 11;
        auto const identity = read(self, first);
        if (identity == 0xffff'ffff) continue;
        auto const functions = (read(self, first | 0x0c) & 0x0080'0000) != 0 ? 8u : 1u;
        for (std::uint32_t f = 0; f < functions; ++f) {
            auto const function = first | f << 8;
            if (wanted(f == 0 ? identity : read(self, function))) return function;
        }
    }
    return std::nullopt;
}

std::optional<PciLayout> find_layout(ReadConfiguration read, void* self, std::uint32_t function) {
    if ((read(self, function | 4) & (1u << 20)) == 0) return std::nullopt;
    PciLayout layout;
    auto at = read(self, function | 0x34) & 0xfc;
    for (int step = 0; step < 48 && at >= 0x40; ++step) {
        auto const head = read(self, function | at);
        auto const kind = static_cast<std::uint8_t>(head >> 24);
        auto const length = head >> 16 & 0xff;
        auto const next = head >> 8 & 0xfc;
        // What says where something lies has 16 bytes; none reaches behind configuration space.
        if ((head & 0xff) == kVendorCapability && length >= 16 && at <= 0xf0) {
            auto const base = memory_bar(read, self, function, read(self, function | (at + 4)) & 7);
            std::uint64_t const offset = read(self, function | (at + 8));
            std::uint64_t const bytes = read(self, function | (at + 12));
            RegisterRange const range{base + offset, bytes};
            bool const sound = base != 0 && range.physical >= base && bytes <= kPartBytesMax &&
                               range.physical + bytes > range.physical;
            // The first of its kind counts.
            if (sound && kind == kCommon && layout.common.bytes == 0) layout.common = range;
            if (sound && kind == kDevice && layout.device.bytes == 0) layout.device = range;
            if (sound && kind == kNotify && layout.notify.bytes == 0 && length >= 20 &&
                at <= 0xec) {
                layout.notify = range;
                layout.notify_multiplier = read(self, function | (at + 16));
            }
        }
        at = next;
    }
    if (layout.common.bytes < common_bytes || layout.notify.bytes < 2 || layout.device.bytes < 6 ||
        layout.common.physical % 4 != 0 || layout.notify.physical % 2 != 0)
        return std::nullopt;
    return layout;
}

}  // namespace nemesis::virtio
