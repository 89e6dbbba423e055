// The slot table: open addressing, 32 probes.
#include "kernel/memory/slots.h"

namespace nemesis::kernel::slots {
namespace {

constexpr std::uint32_t kFreed = 0xffffffff;
constexpr std::uint32_t kProbes = 32;
Record* table_ = nullptr;
std::uint32_t mask_ = 0;
std::uint32_t next_ = 0x1234;  ///< where next_candidate begins

std::uint32_t key_of(std::uint64_t address) {
    return static_cast<std::uint32_t>((address - abi::kSlotsBase) / abi::kSlotSize) + 1;
}
std::uint32_t start_of(std::uint32_t key) { return (key * 2654435761u) >> 7; }

Record* find(std::uint32_t key) {
    auto const start = start_of(key);
    for (std::uint32_t i = 0; i < kProbes; ++i) {
        auto& record = table_[(start + i) & mask_];
        if (record.slot_plus_one == key) return &record;
        if (record.slot_plus_one == 0) return nullptr;
    }
    return nullptr;
}

}  // namespace

void initialise(Record* table, std::uint32_t capacity) {
    table_ = table;
    mask_ = capacity - 1;
}

bool claim(std::uint64_t address, std::uint32_t owner) {
    if (!valid(address)) return false;
    auto const key = key_of(address);
    auto const start = start_of(key);
    Record* room = nullptr;
    for (std::uint32_t i = 0; i < kProbes; ++i) {
        auto& record = table_[(start + i) & mask_];
        if (record.slot_plus_one == key) {
            if (record.owner != owner) return false;
            ++record.claims;
            return true;
        }
        auto const unused = record.slot_plus_one == 0;
        if (room == nullptr && (unused || record.slot_plus_one == kFreed)) room = &record;
        if (unused) break;
    }
    if (room == nullptr) return false;
    *room = {key, owner, 1, 0};
    return true;
}

std::uint32_t owner_of(std::uint64_t address) {
    if (!valid(address)) return 0xffffffff;
    auto const* record = find(key_of(address));
    return record != nullptr ? record->owner : 0xffffffff;
}

void release(std::uint64_t address, std::uint32_t owner) {
    if (!valid(address)) return;
    auto* record = find(key_of(address));
    if (record != nullptr && record->owner == owner && --record->claims == 0)
        *record = {kFreed, 0, 0, 0};
}

std::uint64_t next_candidate(std::uint32_t count) {
    if (next_ + count + 1 >= abi::kSlotCount) next_ = 1;
    auto const first = next_;
    next_ += count;
    return abi::kSlotsBase + std::uint64_t{first} * abi::kSlotSize;
}

}  // namespace nemesis::kernel::slots
