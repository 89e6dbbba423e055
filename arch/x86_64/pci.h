#pragma once
// PCI configuration space and message-signalled interrupts: written by the kernel only.
//
// A function is named bus<<16 | device<<11 | function<<8; the low byte is a register offset or an
// MSI-X entry. Source: PCI Local Bus 3.0, configuration mechanism 1; MSI and MSI-X capabilities.

#include <cstdint>

namespace nemesis::arch::pci {

/// One 32-bit word of configuration space; all ones where nothing answers.
std::uint32_t read(std::uint32_t number);
void write(std::uint32_t number, std::uint32_t value);

/// Offset of capability `id` of the function, or 0. bound: 48 steps.
std::uint32_t find_capability(std::uint32_t function, std::uint8_t id);
/// Physical address of a memory BAR, or 0.
std::uint64_t memory_bar(std::uint32_t function, unsigned bar);

/// Sends message entry `number & 255` of the function to `vector`, masked. False: no such entry.
bool route_message(std::uint32_t number, std::uint8_t vector);
void set_message_mask(std::uint32_t number, bool masked);
/// The function of `number` reaches memory no more, until one of its messages is routed again.
void stop_mastering(std::uint32_t number);

/// Notes where the message tables (MSI-X) of all functions lie, by whole pages. Boot only, once
/// addresses are assigned: nobody but the kernel could change them.
void find_message_tables();
/// Whether [physical, +bytes) touches such a page: what is written there says where interrupts go.
/// bound: 9 comparisons.
bool holds_message_table(std::uint64_t physical, std::uint64_t bytes);

/// First function with this class code (class<<8 | subclass), or 0xffffffff. Boot only.
std::uint32_t find_class(std::uint16_t class_code);

}  // namespace nemesis::arch::pci
