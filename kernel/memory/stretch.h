#pragma once
// Stretches: creating them, mapping frames into them, sharing them by offer and acceptance.
//
// An own stretch has one leaf page table a region. An acceptor's upper entries lead to the same
// leaf tables with its own rights, so what the owner maps appears at every acceptor at once and a
// revocation clears one entry a region. No page is ever writable and executable, and a frame
// that is writable somewhere is mapped nowhere else. Source: PEG94 "Memory Model"; decision 0001.
// Every function is one bounded step; Again means "call again".

#include <cstdint>

#include "kernel/abi/errors.h"
#include "kernel/domain.h"
#include "libnemesis/base/result.h"

namespace nemesis::kernel::stretches {

using Status = Result<std::uint64_t, abi::Error>;

/// errors: BadArgument, Busy, QuotaExceeded, NoMemory, Again. Returns the stretch's number.
Status create(Domain& target, std::uint64_t address, std::uint64_t regions, std::uint64_t rights);
/// Device memory [physical, +pages) at an address of the kernel's choice.
Status create_device(Domain& owner, std::uint64_t physical, std::uint64_t pages,
                     std::uint64_t rights);
Status destroy(Domain& owner, std::uint64_t number);
/// The creation under way is not gone on with: what there is of it is left to `destroy`.
void abandon_creation(Domain& d);

/// Frames in and out of an own stretch of `target`, by page number. One bounded step each; errors
/// as in kernel/abi/syscalls.h.
Status map(Domain& caller, Domain& target, std::uint64_t number, std::uint64_t page,
           std::uint64_t frame, std::uint64_t rights);
Status unmap(Domain& target, std::uint64_t number, std::uint64_t page);
Status protect(Domain& owner, std::uint64_t number, std::uint64_t page, std::uint64_t count,
               std::uint64_t rights);
Status map_batch(Domain& owner, std::uint64_t number, std::uint64_t page, std::uint64_t count);
Status give(Domain& from, Domain& to, std::uint64_t number, std::uint64_t page,
            std::uint64_t own_number, std::uint64_t own_page, std::uint64_t rights);
Status physical_address(Domain& owner, std::uint64_t number, std::uint64_t page);

/// Sharing: `offer` names the peer and the most it may have, `accept` is the peer's step, `revoke`
/// takes the right away again. errors: BadHandle, BadArgument, NotOffered, NotPermitted, Busy,
/// Again
Status offer(Domain& owner, std::uint64_t number, abi::DomainId peer, std::uint64_t rights);
Status accept(Domain& target, abi::DomainId owner, std::uint64_t number, std::uint64_t rights);
Status revoke(Domain& owner, std::uint64_t number, abi::DomainId peer);

/// Makes the chain of free stretch numbers of a new domain, some a call; `done` counts them.
/// Returns true when all are chained.
bool initialise_table(Domain& d, std::uint32_t& done);

}  // namespace nemesis::kernel::stretches
