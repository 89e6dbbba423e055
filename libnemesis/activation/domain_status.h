#pragma once
// What the kernel says of a domain, copied whole.
//
// The kernel writes the answer to the caller's argument area, which belongs to the domain and not
// to a thread: no other thread may make a call between the answer and its copy.

#include "kernel/abi/errors.h"
#include "kernel/abi/syscalls.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/base/result.h"
#include "libnemesis/state.h"
#include "libnemesis/syscalls.h"

namespace nemesis {

/// The status of `id`, alive or dead; 0: of the caller. context: any, activations on or off.
/// errors: BadHandle, and whatever else sys::domain_inspect refuses
inline Result<abi::DomainStatus, abi::Error> domain_status(abi::DomainId id) {
    auto const was_on = state().rw->activations_on;
    enter_critical();
    abi::DomainStatus status{};
    auto const result = sys::domain_inspect(id);
    if (result == 0) __builtin_memcpy(&status, state().rw->arguments, sizeof(status));
    if (was_on != 0) leave_critical();
    if (result != 0) return fail(static_cast<abi::Error>(result));
    return status;
}

}  // namespace nemesis
