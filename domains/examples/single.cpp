// The single-threaded model: one flow of control that its own activation handler resumes.
//
// No thread package and no dispatcher: the program is entered by the kernel at _start, gives the
// handler a stack, turns activations on and computes. Whenever it is given the processor again its
// handler runs first; it counts, and continues the computation where it was. The same text could be
// a Unix process. Source: PEG94 "Virtual-Processor Model"; architecture K4.
#include "kernel/abi/environment.h"
#include "libnemesis/clock.h"
#include "libnemesis/syscalls.h"

using namespace nemesis;

namespace {

constexpr std::uint32_t kResumeSlot = 0, kSaveSlot = 1;
constexpr std::uint64_t kLast = 2'000'000;

abi::DibRw* rw;
std::uint64_t volatile activations = 0;

/// Activations are off. What the computation was doing lies in the save slot.
[[noreturn]] void on_activation(abi::DibRo const*) {
    activations = activations + 1;
    for (;;) {
        // Events would be looked at here. Clearing the summary before the words loses none.
        __atomic_exchange_n(&rw->pending_summary, 0, __ATOMIC_SEQ_CST);
        for (auto& word : rw->pending) __atomic_exchange_n(&word, 0, __ATOMIC_SEQ_CST);
        sys::resume(kSaveSlot);  // returns only if an event came meanwhile
    }
}

void log_number(std::uint64_t n) {
    char digits[20];
    std::size_t at = sizeof(digits);
    do digits[--at] = static_cast<char>('0' + n % 10);
    while ((n /= 10) != 0);
    sys::log({digits + at, sizeof(digits) - at});
}

[[noreturn]] void compute() {
    rw->activations_on = 1;
    std::uint64_t sum = 0;
    for (std::uint64_t n = 1; n <= kLast; ++n) {
        sum += n;
        asm volatile("" : "+r"(sum));
    }
    rw->activations_on = 0;
    sys::log(sum == kLast * (kLast + 1) / 2 ? "single: the sum is right after "
                                            : "single: the sum is WRONG after ");
    log_number(activations);
    sys::log(activations > 0 ? " activations\n" : " activations: too few\n");
    sys::exit(0);
}

}  // namespace

/// First activation, on the activation stack, activations off.
extern "C" [[noreturn]] void _start(abi::DibRo const* ro) {
    rw = reinterpret_cast<abi::DibRw*>(ro->rw_address);
    auto const* environment = reinterpret_cast<abi::Environment const*>(ro->environment);
    rw->activation_vector = reinterpret_cast<std::uint64_t>(&on_activation);
    rw->slot[0] = kResumeSlot;
    rw->slot[1] = kSaveSlot;
    // The computation has the main stack to itself; the activation stack starts over each time.
    asm volatile("mov %0, %%rsp\n xor %%ebp, %%ebp\n call *%1\n ud2" ::"r"(environment->stack_high),
                 "r"(&compute));
    __builtin_unreachable();
}
