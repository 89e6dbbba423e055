#pragma once
// The system calls of protected calls, as tests/calls/two_domains.cpp has them: what is included in
// the place of libnemesis/syscalls.h when both ends of a call run in one process of the host.
// Meaning: kernel/abi/syscalls.h.

#include <cstdint>

#include "kernel/abi/dib.h"
#include "kernel/abi/errors.h"
#include "kernel/abi/syscalls.h"

namespace nemesis::sys {

using Word = std::uint64_t;

std::int64_t send(Word endpoint);
std::int64_t request(Word endpoint, std::int64_t until);
std::int64_t answer(Word endpoint, Word goes_on);
std::int64_t endpoint_state(Word endpoint);

}  // namespace nemesis::sys
