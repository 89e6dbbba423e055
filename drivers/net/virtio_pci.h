#pragma once
// Where the registers of a virtio 1.x device lie, as PCI configuration space says.
//
// What configuration space says is the device's word: chains of capabilities are followed for 48
// steps at most, an address that wraps or a part too small for what is read there is refused. That
// the ranges are the device's own and no memory of others is the kernel's to check when they are
// mapped. Hardware free: configuration space is read through the caller's function.
// Source: VIRTIO 1.1, 4.1 "Virtio Over PCI Bus".

#include <cstdint>
#include <optional>

namespace nemesis::virtio {

/// A range of device memory. units: physical address, bytes
struct RegisterRange {
    std::uint64_t physical = 0;
    std::uint64_t bytes = 0;
};

/// The parts of a device that a driver without port input and output uses.
struct PciLayout {
    RegisterRange common, notify, device;
    std::uint32_t notify_multiplier = 0;
};

/// Offsets in the common part.
inline constexpr std::uint64_t common_device_feature_select = 0, common_device_feature = 4,
                               common_driver_feature_select = 8, common_driver_feature = 12,
                               common_config_vector = 16, common_status = 20,
                               common_queue_select = 22, common_queue_size = 24,
                               common_queue_vector = 26, common_queue_enable = 28,
                               common_queue_notify = 30, common_queue_descriptors = 32,
                               common_queue_driver = 40, common_queue_device = 48,
                               common_bytes = 56;

/// One 32-bit word of configuration space: bus<<16 | device<<11 | function<<8 | offset.
using ReadConfiguration = std::uint32_t (*)(void* self, std::uint32_t number);

/// The first function with this vendor and one of two device numbers.
/// errors: nullopt: no such device; context: a few thousand reads where there is none
std::optional<std::uint32_t> find_function(ReadConfiguration read, void* self, std::uint16_t vendor,
                                           std::uint16_t device, std::uint16_t older_device);
/// errors: nullopt: not all parts are there, or they make no sense
std::optional<PciLayout> find_layout(ReadConfiguration read, void* self, std::uint32_t function);

}  // namespace nemesis::virtio
