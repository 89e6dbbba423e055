#pragma once
// ProgramStarter: a service that is not there is started by the domain manager.
//
// For a handle's first use (domains/names/service.h). It starts one instance and remembers it:
// while that one runs, or waits for its restart, nothing more is started. If two clients start the
// same service, one instance finds the name taken and ends; both clients reach the other. What is
// started ends with the domain that had it started. Context: threads, one at a time.

#include <cstdint>

#include "domains/names/service.h"
#include "domains/programs/programs.if.h"

namespace nemesis::programs {

/// See the head of this file. owner: borrows the domain manager's proxy
class ProgramStarter final : public name_service::ServiceStarter {
public:
    ProgramStarter(Programs& manager, Order const& order) : manager_(manager), order_(order) {}

    /// errors: Refused (the manager says no: rights, memory, contract, or there is no such
    /// program), and those of calls
    Result<void, invocation::Failure> start(Instant until) override;
    /// How many instances it has started.
    std::uint64_t started() const { return started_; }

private:
    Programs& manager_;
    Order order_;
    std::uint64_t id_ = 0;  ///< of the instance; 0: none yet
    std::uint64_t started_ = 0;
};

}  // namespace nemesis::programs
