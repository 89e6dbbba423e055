// Bochs display interface: index port 0x1ce, data port 0x1cf, frame buffer in BAR 0.
#include "arch/x86_64/display.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/pci.h"

namespace nemesis::arch::display {
namespace {

constexpr std::uint16_t kWidth = 1024, kHeight = 768;

void set(std::uint16_t index, std::uint16_t value) {
    out16(0x1ce, index);
    out16(0x1cf, value);
}

}  // namespace

boot::FrameBuffer set_mode() {
    auto function = pci::find_class(0x0300);
    if (function == 0xffffffff) function = pci::find_class(0x0380);
    if (function == 0xffffffff || pci::read(function) != 0x11111234) return {};
    auto const base = pci::memory_bar(function, 0);
    if (base == 0) return {};
    pci::write(function | 4, pci::read(function | 4) | 7);
    set(4, 0);
    set(1, kWidth);
    set(2, kHeight);
    set(3, 32);
    set(4, 0x41);
    return boot::FrameBuffer{.physical = base,
                             .width = kWidth,
                             .height = kHeight,
                             .pitch = kWidth * 4,
                             .bits_per_pixel = 32,
                             .red_first = 0,
                             .reserved = 0};
}

}  // namespace nemesis::arch::display
