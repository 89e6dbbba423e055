#pragma once
// ObjectTable: what this node lets others call, and which peer holds how many handles of it.
//
// An object is *public* (whoever asks may call it: a node's root objects) or callable by those
// peers only that have been given a handle. A peer's holdings end when it releases them or its
// association ends; an object that is not public and that nobody holds any more is reported once.
//
// Invariants (check_invariants): an object's holders is the sum of its holdings; no peer has two
// holdings of one object; every holding is in one peer's list or free.

#include <cstdint>
#include <span>

#include "libnemesis/base/result.h"
#include "libnemesis/remote/status.h"

namespace nemesis::remote {

/// The 128-bit hash of an interface's canonical text.
struct InterfaceHash {
    std::uint64_t low = 0, high = 0;
    constexpr bool operator==(InterfaceHash const&) const = default;
};

/// One entry. A number is index and generation, so that an old number never means a new object.
struct ObjectEntry {
    std::uint64_t tag = 0;  ///< the owner's, handed back with each request
    InterfaceHash interface;
    std::uint32_t holders = 0;  ///< handles given away
    std::uint16_t generation = 0;
    bool used = false;
    bool is_public = false;
};

/// How many handles of an object one peer holds.
struct Holding {
    std::uint32_t object = 0;
    std::uint32_t count = 0;
    std::uint32_t next = 0;  ///< index + 1; 0: the last
};

/// See the head of this file. owner: borrows the memory
class ObjectTable {
public:
    ObjectTable() = default;
    ObjectTable(std::span<ObjectEntry> objects, std::span<Holding> holdings,
                std::span<std::uint32_t> peers);

    /// errors: NoMemory
    [[nodiscard]] Result<std::uint32_t, Status> add(std::uint64_t tag, InterfaceHash interface,
                                                    bool is_public);
    /// Takes an object and all handles of it away; unknown numbers are ignored.
    void remove(std::uint32_t number);
    /// errors: null if there is none of that number
    ObjectEntry const* find(std::uint32_t number) const;
    /// Whether `peer` may call it.
    bool may_call(std::uint32_t peer, std::uint32_t number) const;

    /// One handle more for `peer`. errors: NoSuchObject, NoMemory
    [[nodiscard]] Result<void, Status> give(std::uint32_t peer, std::uint32_t number);
    /// `count` handles fewer, as many as there are. Returns whether nobody holds it any more.
    bool take_back(std::uint32_t peer, std::uint32_t number, std::uint32_t count);
    /// Takes back one object's handles from `peer`; call until it yields 0. Returns the number of
    /// an object that nobody holds any more, or `more` when it must be called again.
    std::uint32_t drop_one(std::uint32_t peer, bool& more);

    bool holds_any(std::uint32_t peer) const { return peers_[peer] != 0; }
    std::uint32_t holdings_in_use() const { return in_use_; }
    bool check_invariants() const;

private:
    static std::uint32_t index_of(std::uint32_t number) { return (number & 0xFFFF) - 1; }
    std::uint32_t* link_of(std::uint32_t peer, std::uint32_t number);

    std::span<ObjectEntry> objects_;
    std::span<Holding> holdings_;
    std::span<std::uint32_t> peers_;  ///< first holding of each peer, index + 1
    std::uint32_t free_ = 0;
    std::uint32_t in_use_ = 0;
};

}  // namespace nemesis::remote
