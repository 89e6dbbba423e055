#include "libnemesis/remote/object_table.h"

#include <algorithm>

#include "libnemesis/base/assert.h"

namespace nemesis::remote {

ObjectTable::ObjectTable(std::span<ObjectEntry> objects, std::span<Holding> holdings,
                         std::span<std::uint32_t> peers)
    : objects_(objects), holdings_(holdings), peers_(peers) {
    ASSERT(objects.size() < 0xFFFF);
    for (auto& object : objects) object = ObjectEntry{};
    for (auto& peer : peers) peer = 0;
    for (std::size_t i = holdings.size(); i-- > 0;) {
        holdings[i] = Holding{.next = free_};
        free_ = static_cast<std::uint32_t>(i + 1);
    }
}

Result<std::uint32_t, Status> ObjectTable::add(std::uint64_t tag, InterfaceHash interface,
                                               bool is_public) {
    for (std::size_t i = 0; i < objects_.size(); i++) {
        ObjectEntry& o = objects_[i];
        if (o.used) continue;
        auto const generation = static_cast<std::uint16_t>(o.generation + 1);
        o = {tag, interface, 0, generation, true, is_public};
        return static_cast<std::uint32_t>(i + 1) | static_cast<std::uint32_t>(generation) << 16;
    }
    return fail(Status::NoMemory);
}

ObjectEntry const* ObjectTable::find(std::uint32_t number) const {
    std::uint32_t const index = index_of(number);
    if (index >= objects_.size()) return nullptr;
    ObjectEntry const& o = objects_[index];
    return o.used && o.generation == number >> 16 ? &o : nullptr;
}

std::uint32_t* ObjectTable::link_of(std::uint32_t peer, std::uint32_t number) {
    std::uint32_t* link = &peers_[peer];
    while (*link != 0 && holdings_[*link - 1].object != number) link = &holdings_[*link - 1].next;
    return link;
}

void ObjectTable::remove(std::uint32_t number) {
    if (find(number) == nullptr) return;
    for (std::uint32_t peer = 0; peer < peers_.size(); peer++) {
        take_back(peer, number, ~0u);
    }
    objects_[index_of(number)].used = false;
}

bool ObjectTable::may_call(std::uint32_t peer, std::uint32_t number) const {
    ObjectEntry const* const object = find(number);
    if (object == nullptr) return false;
    if (object->is_public) return true;
    for (std::uint32_t at = peers_[peer]; at != 0; at = holdings_[at - 1].next) {
        if (holdings_[at - 1].object == number) return true;
    }
    return false;
}

Result<void, Status> ObjectTable::give(std::uint32_t peer, std::uint32_t number) {
    if (find(number) == nullptr) return fail(Status::NoSuchObject);
    std::uint32_t* const link = link_of(peer, number);
    if (*link == 0) {
        if (free_ == 0) return fail(Status::NoMemory);
        std::uint32_t const at = free_;
        free_ = holdings_[at - 1].next;
        holdings_[at - 1] = {number, 0, 0};
        *link = at;
        ++in_use_;
    }
    Holding& holding = holdings_[*link - 1];
    if (holding.count == 0xFFFF'FFFF) return fail(Status::NoMemory);
    ++holding.count;
    ++objects_[index_of(number)].holders;
    return {};
}

bool ObjectTable::take_back(std::uint32_t peer, std::uint32_t number, std::uint32_t count) {
    std::uint32_t* const link = link_of(peer, number);
    if (*link == 0) return false;
    std::uint32_t const at = *link;
    Holding& holding = holdings_[at - 1];
    count = std::min(count, holding.count);
    holding.count -= count;
    if (holding.count == 0) {
        *link = holding.next;
        holding = {0, 0, free_};
        free_ = at;
        --in_use_;
    }
    ObjectEntry& object = objects_[index_of(number)];
    object.holders -= count;
    return count != 0 && object.holders == 0 && !object.is_public;
}

std::uint32_t ObjectTable::drop_one(std::uint32_t peer, bool& more) {
    std::uint32_t const at = peers_[peer];
    more = at != 0;
    if (at == 0) return 0;
    std::uint32_t const number = holdings_[at - 1].object;
    return take_back(peer, number, ~0u) ? number : 0;
}

bool ObjectTable::check_invariants() const {
    std::uint64_t held = 0, holders = 0, listed = 0, free = 0;
    for (std::uint32_t const first : peers_) {
        for (std::uint32_t at = first; at != 0; at = holdings_[at - 1].next) {
            if (++listed > holdings_.size()) return false;
            Holding const& holding = holdings_[at - 1];
            if (holding.count == 0 || find(holding.object) == nullptr) return false;
            held += holding.count;
        }
    }
    for (std::uint32_t at = free_; at != 0; at = holdings_[at - 1].next) {
        if (++free > holdings_.size()) return false;
    }
    for (ObjectEntry const& o : objects_) {
        if (o.used) holders += o.holders;
    }
    return held == holders && listed == in_use_ && listed + free == holdings_.size();
}

}  // namespace nemesis::remote
