#pragma once
// BusyMeter: how long this machine has been busy, that is not idle, between two looks. With counted
// time a ns is an instruction, of whomever: kernel, drivers and all domains. Idle time is what
// depends on the other machine and on the host; it is left out.

#include <cstdint>

#include "libnemesis/clock.h"
#include "libnemesis/syscalls.h"

namespace nemesis::node {

/// See the head of this file. context: any
class BusyMeter {
public:
    /// Busy time since the last look. units: ns
    std::uint32_t look() {
        auto const idle = static_cast<std::uint64_t>(sys::measure(abi::MeasureWord::IdleTime));
        auto const time = static_cast<std::uint64_t>(now().ns());
        auto const busy = (time - time_) - (idle - idle_);
        time_ = time;
        idle_ = idle;
        return static_cast<std::uint32_t>(busy);
    }

private:
    std::uint64_t time_ = 0, idle_ = 0;
};

}  // namespace nemesis::node
