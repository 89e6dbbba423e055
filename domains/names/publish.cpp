#include "domains/names/publish.h"

#include "libnemesis/clock.h"

namespace nemesis::name_service {

using invocation::Failure;
using names::NameError;

Result<void, Failure> publish(binder::Session& session, SystemNames& system,
                              binder::Offered& offered, std::string_view path,
                              binder::Offered::Options const& options, Instant until) {
    if (offered.number() == 0) TRY_VOID(session.offer(offered, options));
    names::Handle const handle{offered.number(), offered.interface().hash.low};
    for (;;) {
        auto const bound = system.bind(path, handle, names::BindMode::New, {.deadline = until});
        if (bound) return {};
        // The predecessor's name, or a name server that is not there yet.
        auto const why = bound.error();
        if (why != NameError::Exists && why != NameError::Unreachable && why != NameError::NotFound)
            return fail(why == NameError::DeadlinePassed ? Failure::TimedOut : Failure::Refused);
        if (now() >= until)
            return fail(why == NameError::Exists ? Failure::Busy : Failure::Unreachable);
        Thread::sleep_until(now() + Duration::us(200));
    }
}

}  // namespace nemesis::name_service
