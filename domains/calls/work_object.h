#pragma once
// The one implementation of Work, for the servers that the probes kill, flood and lie to.

#include "domains/calls/work.if.h"
#include "libnemesis/clock.h"
#include "libnemesis/invocation/call_server.h"

namespace nemesis::calls {

/// Does what `work.if` says and keeps no state. Served by workers, it stops spinning when nobody
/// waits for it any more (`backlog`). context: as its server calls it
class WorkObject final : public Work {
public:
    Result<std::uint64_t, WorkError> add(std::uint64_t a, std::uint64_t b) override {
        return a + b;
    }
    Result<void, WorkError> spin(std::uint64_t duration) override {
        auto const end = now() + Duration::ns(static_cast<std::int64_t>(duration));
        while (now() < end && (backlog == nullptr || !backlog->is_cancelled())) {
        }
        return {};
    }
    Result<marshal::String<200>, WorkError> repeat(std::string_view text) override {
        return marshal::String<200>(text);
    }
    invocation::Backlog* backlog = nullptr;  ///< of the workers, or null
};

}  // namespace nemesis::calls
