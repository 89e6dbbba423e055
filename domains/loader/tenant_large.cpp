// tenant_large: a program larger than a slot, with a pointer into its far end. Exits with 0x40.
#include "kernel/abi/environment.h"
#include "libnemesis/syscalls.h"

namespace {

char volatile far[17 << 20];
char volatile* volatile last = &far[sizeof(far) - 1];

}  // namespace

extern "C" void nem_main(nemesis::abi::Environment const& env) {
    using namespace nemesis;
    auto const at = reinterpret_cast<std::uint64_t>(last);
    if (at - env.image_begin < abi::kSlotSize || at >= env.image_end) sys::exit(1);
    for (auto const& byte : far)
        if (byte != 0) sys::exit(2);
    *last = 1;
    far[0] = 2;
    sys::exit(*last == 1 && far[sizeof(far) - 2] == 0 ? 0x40 : 3);
}
