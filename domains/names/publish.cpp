#include "domains/names/publish.h"

#include <algorithm>

#include "domains/names/service.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace nemesis::name_service {

using invocation::Failure;
using names::NameError;

namespace {

// How long is waited before the name server is asked again: at first, and at most.
constexpr auto pause_first = Duration::us(200), pause_most = Duration::ms(50);
/// How long one attempt of the keeper's may take.
constexpr auto patience = Duration::s(1);
constexpr std::uint64_t stack_pages = 4;

/// Whether it may go by itself: the predecessor's name, or a name server that is not there yet.
bool passes(NameError why) {
    return why == NameError::NotYours || why == NameError::Unreachable ||
           why == NameError::NotFound;
}

}  // namespace

Result<void, NameError> Publication::enter(Instant until) {
    if (agent_ != nullptr) {
        char path[agent_path_max];
        auto const name = agent_path(path_, path);
        if (name.empty()) return fail(NameError::TooLong);
        TRY_VOID(enter(name, *agent_, until));
    }
    return enter(path_, offered_, until);
}

Result<void, NameError> Publication::enter(std::string_view path, binder::Offered const& what,
                                           Instant until) {
    names::Handle const handle{what.number(), what.interface().hash.low};
    // Replace: what an earlier attempt has bound, whose answer was lost, is no obstacle. The name
    // of somebody else is never replaced.
    return system_.bind(path, handle, names::BindMode::Replace, {.deadline = until});
}

Result<void, Failure> Publication::publish(std::string_view path,
                                           binder::Offered::Options const& options, Instant until) {
    if (offered_.number() == 0) TRY_VOID(session_.offer(offered_, options));
    if (agent_ != nullptr && agent_->number() == 0) TRY_VOID(session_.offer(*agent_, {.slots = 1}));
    path_ = path;
    for (;;) {
        auto const entered = enter(until);
        if (entered) break;
        auto const why = entered.error();
        if (!passes(why))
            return fail(why == NameError::DeadlinePassed ? Failure::TimedOut : Failure::Refused);
        if (now() >= until)
            return fail(why == NameError::NotYours ? Failure::Busy : Failure::Unreachable);
        Thread::sleep_until(now() + pause_first);
    }
    auto* const stack = pages::take(stack_pages);
    if (stack == nullptr ||
        !keeper_.start(
            [](void* self) { static_cast<Publication*>(self)->keep(); }, this,
            {.stack = stack, .stack_bytes = stack_pages * abi::kPageSize, .name = "publish"}))
        return fail(Failure::NoMemory);
    return {};
}

void Publication::keep() {
    for (;;) {
        (void)system_.wait_for_end(Instant::never());
        // Whatever the reason, it is tried again: a service without its name serves nobody.
        for (auto pause = pause_first; !enter(now() + patience);
             pause = std::min(pause * 2, pause_most))
            Thread::sleep_until(now() + pause);
        ++renewals_;
        log::line(path_, ": registered anew");
    }
}

}  // namespace nemesis::name_service
