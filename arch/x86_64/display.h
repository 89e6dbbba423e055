#pragma once
// Early mode set: a linear frame buffer from QEMU's standard VGA where firmware gave none.

#include "arch/x86_64/boot/boot_info.h"

namespace nemesis::arch::display {

/// Sets 1024x768, 32 bits a pixel, on a Bochs-style adapter; physical 0 if there is none.
boot::FrameBuffer set_mode();

}  // namespace nemesis::arch::display
