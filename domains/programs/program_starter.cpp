#include "domains/programs/program_starter.h"

namespace nemesis::programs {

using invocation::Failure;

namespace {

Failure failure_of(ProgramsError e) {
    auto const number = static_cast<std::uint16_t>(e);
    return number >= invocation::declared_error_first ? Failure::Refused
                                                      : static_cast<Failure>(number);
}

}  // namespace

// The manager answers without waiting for anybody: no time-out is needed.
Result<void, Failure> ProgramStarter::start(Instant) {
    if (id_ != 0) {
        auto const known = manager_.inspect(id_);
        if (known && known->phase != Phase::Ended) return {};
        if (!known && known.error() != ProgramsError::NotFound)
            return fail(failure_of(known.error()));
        (void)manager_.kill(id_);
        id_ = 0;
    }
    auto const made = manager_.spawn(order_);
    if (!made) return fail(failure_of(made.error()));
    id_ = *made;
    ++started_;
    return {};
}

}  // namespace nemesis::programs
