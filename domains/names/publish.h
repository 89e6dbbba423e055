#pragma once
// Publishing: a service gets a name that everybody can resolve.
//
// publish() offers the object to the binder and lets a name of the system's name server stand for
// the offer. The name goes when the domain dies. One that is restarted may meet the name of its
// predecessor for a moment: that is waited for. Context: threads.

#include <string_view>

#include "domains/binder/session.h"
#include "domains/names/names_client.h"

namespace nemesis::name_service {

/// Makes `offered` known as `path` (below the name server's root: "services/clock"). Afterwards the
/// session's serve() must run. errors: those of Session::offer; Busy (somebody else has the name),
/// Unreachable (no name server, or no such directory), TimedOut
[[nodiscard]] Result<void, invocation::Failure> publish(
    binder::Session& session, SystemNames& system, binder::Offered& offered, std::string_view path,
    binder::Offered::Options const& options, Instant until);

}  // namespace nemesis::name_service
