#pragma once
// Targets: the domains that probes make, cheap and as hostile as one likes.
//
// A target runs a function of probe_runner's own text: code and constants are position-independent,
// so the frames are mapped a second time, at the same distance from the start of the target's slot.
// Writable data of the runner is not there. A target has a DIB, an activation stack, a main
// stack below a guard, and (unless bare) one page of mail that it shares with the runner. Its
// function is entered as the first activation, activations off, with the DIB as argument.
//
// Functions that run in targets: use sys::, Mail and the DIB; no globals, no libnemesis state.

#include <cstdint>

#include "kernel/abi/dib.h"
#include "kernel/abi/environment.h"
#include "kernel/abi/syscalls.h"
#include "libnemesis/clock.h"
#include "libnemesis/syscalls.h"

namespace nemesis::probes {

/// The page that a target and the runner share.
struct Mail {
    std::uint64_t volatile in[16];
    std::uint64_t volatile out[64];
    std::uint64_t volatile go;
    std::uint64_t volatile extra[431];
};
static_assert(sizeof(Mail) == 4096);

using TargetFunction = void (*)(abi::DibRo const*);

struct TargetOptions {
    std::uint64_t privileges = 0;
    abi::DeviceGrant device_memory = {};
    abi::DeviceGrant device_interrupts = {};
    std::uint64_t frames = 64;
    std::uint32_t endpoints = 16;
    std::uint32_t slots = 4;
    std::uint32_t stretches = 8;
    std::uint32_t weight = 100;
    std::int64_t slice = 0, period = 0;
    bool bare = false;        ///< no mail, and no more text than the function
    std::uint64_t entry = 0;  ///< instead of the function's address
};

struct Target {
    abi::DomainId id = 0;
    std::int64_t error = 0;  ///< of the creation
    std::uint64_t slot = 0;
    Mail* mail = nullptr;
    std::uint32_t number = 0;

    bool start() const { return sys::domain_start(id) == 0; }
    abi::DomainStatus status() const;
    bool dead() const { return status().state == 2; }
    /// Waits until it is dead. errors: false after `limit`
    bool wait_dead(Duration limit = Duration::ms(200)) const;
    bool contract(std::int64_t slice, std::int64_t period, std::uint32_t weight) const {
        return sys::contract_set(id, slice, period, period, weight) == 0;
    }
};

/// Where things lie in every target, from the start of its slot.
abi::DomainLayout layout_of(TargetOptions const& options);

/// Makes a target that will run `function`; not yet started.
Target make(TargetFunction function, TargetOptions const& options = {});
Target make_started(TargetFunction function, TargetOptions const& options = {});
/// Kills and reclaims it.
void destroy(Target& target);
void destroy_all();

/// The runner's endpoint that counts deaths of targets.
inline constexpr std::uint32_t kDeathEndpoint = 3;
/// Connects endpoint `a` of one with endpoint `b` of the other.
bool connect(Target const& x, std::uint32_t a, Target const& y, std::uint32_t b);
/// Connects endpoint `own` of the runner with endpoint `theirs` of the target.
bool connect_runner(std::uint32_t own, Target const& target, std::uint32_t theirs);

/// One page in the target's slot, filled by `words`.
bool give_page(Target const& target, std::uint64_t page, std::uint64_t rights,
               std::uint64_t first_word = 0);
/// First page of a target's slot that is free for probes.
inline constexpr std::uint64_t kFreePage = 480;

/// Address that `function` (of the runner's text) has in `target`.
std::uint64_t address_in(Target const& target, void const* function);

// ---- for functions that run in targets
// -----------------------------------------------------------

inline Mail& mail_of(abi::DibRo const* ro) { return *reinterpret_cast<Mail*>(ro->environment); }
inline abi::DibRw& rw_of(abi::DibRo const* ro) {
    return *reinterpret_cast<abi::DibRw*>(ro->rw_address);
}
inline abi::ContextSlot& slot_of(abi::DibRo const* ro, std::uint32_t n) {
    return reinterpret_cast<abi::ContextSlot*>(ro->rw_address + sizeof(abi::DibRw))[n];
}
inline std::uint64_t count_of(abi::DibRo const* ro, std::uint32_t n) {
    return reinterpret_cast<std::uint64_t const volatile*>(ro + 1)[n];
}
/// Sends later activations to `handler`, state to slot 1 when activations are on.
inline void set_handler(abi::DibRo const* ro, TargetFunction handler) {
    auto& rw = rw_of(ro);
    rw.activation_vector = reinterpret_cast<std::uint64_t>(handler);
    rw.slot[0] = 2;
    rw.slot[1] = 1;
}
inline void activations_on(abi::DibRo const* ro) {
    asm volatile("" ::: "memory");
    *const_cast<std::uint32_t volatile*>(&rw_of(ro).activations_on) = 1;
    asm volatile("" ::: "memory");
}
inline void clear_pending(abi::DibRo const* ro) {
    auto& rw = rw_of(ro);
    __atomic_exchange_n(&rw.pending_summary, 0, __ATOMIC_SEQ_CST);
    for (auto& word : rw.pending) __atomic_exchange_n(&word, 0, __ATOMIC_SEQ_CST);
}
/// Goes on with the rest of the function on the main stack, so that the activation stack is free.
[[noreturn]] inline void on_main_stack(abi::DibRo const* ro, TargetFunction function) {
    // The main stack's top was left in the mail's last word by the runner.
    auto const top = mail_of(ro).extra[430];
    asm volatile("mov %0, %%rsp\n xor %%ebp, %%ebp\n call *%1\n ud2" ::"r"(top), "r"(function),
                 "D"(ro)
                 : "memory");
    __builtin_unreachable();
}
inline void spin(std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) asm volatile("");
}
inline void spin_until(std::int64_t when) {
    while (now().ns() < when) {
    }
}

/// A target that does nothing but spin.
void spinner(abi::DibRo const*);
/// A target that waits for ever, activations off.
void sleeper(abi::DibRo const*);

}  // namespace nemesis::probes
