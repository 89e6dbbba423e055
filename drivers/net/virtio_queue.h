#pragma once
// VirtioQueue: one split virtqueue of a virtio 1.x device, in one page of memory that the device
// reads and writes too. Descriptor i stands for buffer i of its owner and for nothing else, so a
// queue has neither chains nor a free list.
//
//   give(i, ...)   lends buffer i to the device; publish() makes what was given visible
//   take()         what the device has given back, one at a time
//
// The device is hostile: all that it writes (its index, a number, a length) is read once and
// checked against what was lent. What cannot be true breaks the queue for ever: BadIndex, BadNumber
// or BadLength, and the owner gives the device up. Nothing the device writes is ever used as an
// index or size before.
// Invariant (check_invariants): 0 <= given - taken <= size, and as many buffers are marked lent.
// Hardware free. Source: Virtual I/O Device (VIRTIO) 1.1, 2.6 "Split Virtqueues".

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "libnemesis/base/result.h"

namespace nemesis::virtio {

/// Why a queue, or the whole device, is given up.
enum class DeviceError : std::uint8_t {
    BadIndex,   ///< the device claims to have used more than it was given
    BadNumber,  ///< it gives back what it does not have
    BadLength,  ///< it has written more than the buffer holds
};

/// The reason in words. owner: static
constexpr std::string_view text(DeviceError error) {
    switch (error) {
        case DeviceError::BadIndex:
            return "it claims to have used more buffers than it was given";
        case DeviceError::BadNumber:
            return "it gives a buffer back that it does not have";
        case DeviceError::BadLength:
            return "it claims to have written more than a buffer holds";
    }
    return "unknown";
}

/// What the device has given back. `length`: bytes that it has written, 0 where it only reads
struct UsedBuffer {
    std::uint16_t number = 0;
    std::uint32_t length = 0;
};

/// See the head of this file. context: one thread or closure at a time; every call O(1)
class VirtioQueue {
public:
    static constexpr std::uint16_t size_max = 64;
    /// Where the three parts lie in the page.
    static constexpr std::uint64_t descriptors_at = 0, driver_at = 2048, device_at = 2560;
    static constexpr std::uint64_t page_bytes = 4096;

    VirtioQueue() = default;
    /// requires: a zeroed page, aligned as pages are; `size` a power of two, at most size_max;
    /// owner: the page outlives the queue and what the device does with it
    VirtioQueue(std::span<std::byte> page, std::uint16_t size);

    std::uint16_t size() const { return size_; }
    /// Buffers that the device has.
    std::uint16_t lent() const { return static_cast<std::uint16_t>(given_ - taken_); }
    bool is_lent(std::uint16_t number) const { return (marks_ >> number & 1) != 0; }
    /// The lowest buffer that is not lent. errors: nullopt when all are
    std::optional<std::uint16_t> free_buffer() const;

    /// Lends buffer `number` to the device from the next publish() on: `bytes` at `physical`, which
    /// it writes, or else only reads. requires: not lent
    void give(std::uint16_t number, std::uint64_t physical, std::uint32_t bytes, bool is_written);
    /// Returns whether the device wants to be notified.
    bool publish();
    /// The next buffer that the device has given back; nullopt: none.
    /// errors: see DeviceError; from then on the same each time
    [[nodiscard]] Result<std::optional<UsedBuffer>, DeviceError> take();
    /// Whether the device is to interrupt when it gives something back. Look once more with take()
    /// after switching it on: what came before brings no interrupt.
    void set_interrupts(bool on);

    bool check_invariants() const;

private:
    struct Descriptor {
        std::uint64_t address;
        std::uint32_t bytes;
        std::uint16_t flags;
        std::uint16_t next;
    };
    struct Used {
        std::uint32_t number;
        std::uint32_t length;
    };
    static_assert(sizeof(Descriptor) == 16 && sizeof(Used) == 8);
    static_assert(driver_at >= sizeof(Descriptor) * size_max);
    static_assert(device_at >= driver_at + 6 + 2 * size_max);
    static_assert(page_bytes >= device_at + 6 + 8 * size_max);

    std::uint16_t* driver_words() const {
        return reinterpret_cast<std::uint16_t*>(page_ + driver_at);
    }
    std::uint16_t* device_words() const {
        return reinterpret_cast<std::uint16_t*>(page_ + device_at);
    }

    std::byte* page_ = nullptr;
    std::uint16_t size_ = 0;
    std::uint16_t given_ = 0;  ///< buffers lent so far, modulo 2^16
    std::uint16_t taken_ = 0;  ///< and given back
    std::uint64_t marks_ = 0;  ///< bit i: buffer i is lent
    std::optional<DeviceError> broken_;
    std::uint32_t bytes_[size_max] = {};  ///< of each buffer; 0 where the device only reads
};

}  // namespace nemesis::virtio
