// The split virtqueue: what is lent, and what comes back.
#include "drivers/net/virtio_queue.h"

#include <bit>

#include "libnemesis/base/assert.h"

namespace nemesis::virtio {
namespace {

constexpr std::uint16_t kDeviceWrites = 2;                // flag of a descriptor
constexpr std::uint16_t kNoInterrupt = 1;                 // of the driver's part
constexpr std::uint16_t kNoNotification = 1;              // of the device's part
constexpr std::size_t kFlags = 0, kIndex = 1, kRing = 2;  // words of both parts

}  // namespace

VirtioQueue::VirtioQueue(std::span<std::byte> page, std::uint16_t size)
    : page_(page.data()), size_(size) {
    ASSERT(page.size() >= page_bytes && std::has_single_bit(size) && size <= size_max);
}

std::optional<std::uint16_t> VirtioQueue::free_buffer() const {
    auto const number = static_cast<std::uint16_t>(std::countr_one(marks_));
    return number < size_ ? std::optional(number) : std::nullopt;
}

void VirtioQueue::give(std::uint16_t number, std::uint64_t physical, std::uint32_t bytes,
                       bool is_written) {
    ASSERT(number < size_ && !is_lent(number));
    Descriptor const descriptor{physical, bytes,
                                static_cast<std::uint16_t>(is_written ? kDeviceWrites : 0), 0};
    __builtin_memcpy(page_ + descriptors_at + number * sizeof(Descriptor), &descriptor,
                     sizeof(descriptor));
    driver_words()[kRing + (given_ & (size_ - 1))] = number;
    ++given_;
    marks_ |= 1ull << number;
    bytes_[number] = is_written ? bytes : 0;
}

bool VirtioQueue::publish() {
    __atomic_store_n(&driver_words()[kIndex], given_, __ATOMIC_RELEASE);
    // The device looks at the index after it has said whether it wants to be notified.
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return (__atomic_load_n(&device_words()[kFlags], __ATOMIC_RELAXED) & kNoNotification) == 0;
}

Result<std::optional<UsedBuffer>, DeviceError> VirtioQueue::take() {
    if (broken_) return fail(*broken_);
    auto const broken = [&](DeviceError why) {
        broken_ = why;
        return fail(why);
    };
    auto const index = __atomic_load_n(&device_words()[kIndex], __ATOMIC_ACQUIRE);
    auto const ready = static_cast<std::uint16_t>(index - taken_);
    if (ready == 0) return std::nullopt;
    if (ready > lent()) return broken(DeviceError::BadIndex);
    auto const* const element =
        page_ + device_at + kRing * sizeof(std::uint16_t) + (taken_ & (size_ - 1)) * sizeof(Used);
    // Each is read once: the device can write them again at any time.
    auto const claimed =
        __atomic_load_n(reinterpret_cast<std::uint32_t const*>(element), __ATOMIC_RELAXED);
    auto const length =
        __atomic_load_n(reinterpret_cast<std::uint32_t const*>(element) + 1, __ATOMIC_RELAXED);
    if (claimed >= size_ || !is_lent(static_cast<std::uint16_t>(claimed)))
        return broken(DeviceError::BadNumber);
    auto const number = static_cast<std::uint16_t>(claimed);
    if (bytes_[number] != 0 && length > bytes_[number]) return broken(DeviceError::BadLength);
    ++taken_;
    marks_ &= ~(1ull << number);
    return UsedBuffer{number, bytes_[number] != 0 ? length : 0};
}

void VirtioQueue::set_interrupts(bool on) {
    __atomic_store_n(&driver_words()[kFlags], static_cast<std::uint16_t>(on ? 0 : kNoInterrupt),
                     __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

bool VirtioQueue::check_invariants() const {
    return lent() <= size_ && std::popcount(marks_) == lent() &&
           (size_ == 64 || marks_ >> size_ == 0);
}

}  // namespace nemesis::virtio
