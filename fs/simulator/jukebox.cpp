#include "fs/simulator/jukebox.h"

#include <algorithm>
#include <cstring>

#include "fs/core/store.h"

namespace nemesis::fs::simulator {

std::function<bool(u64, u32, u8*)> units_of(Shelf const& shelf) {
    return [&shelf](u64 number, u32 blocks, u8* out) {
        auto const found = shelf.unit.find(number);
        std::size_t const bytes = (std::size_t{blocks} + 1) * block_bytes;
        if (found == shelf.unit.end() || found->second->size() != bytes) return false;
        std::memcpy(out, found->second->data(), bytes);
        return true;
    };
}

Duration Jukebox::wait(u64 units) { return load + transfer * static_cast<i64>(units); }

void Jukebox::submit(TertiaryCommand const& c) {
    ASSERT(!busy_);
    busy_ = true;
    command_ = c;
    u64 const disk = c.unit / units_per_disk;
    due_ = now_ + transfer;
    if (disk != loaded_) {
        due_ += load;
        ++loads;
        loaded_ = disk;
    }
}

void Jukebox::step() {
    ASSERT(busy_);
    busy_ = false;
    TertiaryCommand const c = command_;
    std::size_t const bytes = std::size_t{c.blocks} * block_bytes;
    auto const found = shelf_.unit.find(c.unit);
    TertiaryStatus status = fails ? TertiaryStatus::Error : TertiaryStatus::Good;
    switch (c.operation) {
        case TertiaryOperation::Put:
            if (fails) break;
            shelf_.unit[c.unit] =
                std::make_shared<std::string const>(reinterpret_cast<char*>(c.data), bytes);
            if (trace_) {
                trace_->push_back({EventKind::UnitPut, 0, c.unit, nullptr, nullptr, put_->size()});
                put_->push_back(shelf_.unit[c.unit]);
            }
            break;
        case TertiaryOperation::Get:
            if (found == shelf_.unit.end()) status = TertiaryStatus::Error;
            if (status != TertiaryStatus::Good) break;
            std::memset(c.data, 0, bytes);
            std::memcpy(c.data, found->second->data(), std::min(bytes, found->second->size()));
            break;
        case TertiaryOperation::Erase:
            if (fails) break;
            shelf_.unit.erase(c.unit);
            if (trace_) trace_->push_back({EventKind::UnitErased, 0, c.unit, nullptr, nullptr, 0});
            break;
    }
    store_->tertiary_done(status);
}

}  // namespace nemesis::fs::simulator
