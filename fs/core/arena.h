#pragma once
// The one piece of memory the core has: given by the caller, carved at mount, then sealed.
//
// Nothing is ever given back. A carving that does not fit leaves `exhausted()` true and yields
// null, and the mount refuses; a carving after `seal()` is our bug and stops the program.

#include <cstddef>
#include <cstdint>

#include "libnemesis/base/assert.h"

namespace nemesis::fs {

/// Memory of the caller, carved until sealed.
class Arena {
public:
    Arena(void* memory, std::size_t bytes)
        : at_(static_cast<std::uint8_t*>(memory)), end_(at_ + bytes), begin_(at_) {}

    /// Memory for `count` objects of T, not initialised. errors: null when it does not fit.
    template <typename T>
    T* carve(std::size_t count, std::size_t align = alignof(T)) {
        ASSERT(!sealed_);
        auto const address = reinterpret_cast<std::uintptr_t>(at_);
        std::size_t const pad = (align - address % align) % align;
        std::size_t const room = static_cast<std::size_t>(end_ - at_);
        if (exhausted_ || pad > room || count > (room - pad) / sizeof(T)) {
            exhausted_ = true;
            return nullptr;
        }
        T* result = reinterpret_cast<T*>(at_ + pad);
        at_ += pad + count * sizeof(T);
        return result;
    }

    void seal() { sealed_ = true; }
    bool exhausted() const { return exhausted_; }
    std::size_t used() const { return static_cast<std::size_t>(at_ - begin_); }

private:
    std::uint8_t* at_;
    std::uint8_t* end_;
    std::uint8_t* begin_;
    bool sealed_ = false;
    bool exhausted_ = false;
};

}  // namespace nemesis::fs
