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

Result<void, Failure> Publication::offer(binder::Offered::Options const& options) {
    if (offered_.number() == 0) TRY_VOID(session_.offer(offered_, options));
    if (agent_ != nullptr && agent_->number() == 0) TRY_VOID(session_.offer(*agent_, {.slots = 1}));
    return {};
}

Result<void, Failure> Publication::publish(std::string_view path,
                                           binder::Offered::Options const& options, Instant until) {
    TRY_VOID(offer(options));
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
    is_wanted_ = is_entered_ = true;
    return start_keeper();
}

Result<void, Failure> Publication::prepare(std::string_view path,
                                           binder::Offered::Options const& options) {
    TRY_VOID(offer(options));
    path_ = path;
    return start_keeper();
}

Result<void, Failure> Publication::start_keeper() {
    auto* const stack = pages::take(stack_pages);
    if (stack == nullptr ||
        !keeper_.start(
            [](void* self) { static_cast<Publication*>(self)->keep(); }, this,
            {.stack = stack, .stack_bytes = stack_pages * abi::kPageSize, .name = "publish"}))
        return fail(Failure::NoMemory);
    return {};
}

void Publication::want() {
    auto const was_on = state().rw->activations_on;
    enter_critical();
    is_wanted_ = true;
    changed_.wake_all();
    system_.wake();
    if (was_on != 0) leave_critical();
}

Result<void, Failure> Publication::withdraw(Instant until) {
    enter_critical();
    is_wanted_ = false;
    system_.wake();
    bool waits = true;
    while (is_entered_ && waits) waits = changed_.wait(until);
    bool const gone = !is_entered_;
    leave_critical();
    if (!gone) return fail(Failure::TimedOut);
    return {};
}

void Publication::keep() {
    for (;;) {
        auto const seen = system_.wakes();
        if (is_wanted_ && !is_entered_) {
            keep_entered();
        } else if (!is_wanted_ && is_entered_) {
            take_away();
        } else if (!is_wanted_) {
            wait_until_wanted();
        } else if (system_.wait_for_end(Instant::never(), seen)) {
            is_entered_ = false;
        }
    }
}

/// Whatever the reason why not, it is tried again: a service without its name serves nobody.
void Publication::keep_entered() {
    for (auto pause = pause_first; !enter(now() + patience);
         pause = std::min(pause * 2, pause_most)) {
        if (!is_wanted_) return;
        Thread::sleep_until(now() + pause);
    }
    is_entered_ = true;
    ++renewals_;
    log::line(path_, ": registered anew");
}

void Publication::take_away() {
    // A name server that is dead has no names; the next one has not this.
    for (auto pause = pause_first;; pause = std::min(pause * 2, pause_most)) {
        auto const gone = system_.unbind(path_, {.deadline = now() + patience});
        if (gone || gone.error() == NameError::NotFound) break;
        Thread::sleep_until(now() + pause);
    }
    enter_critical();
    is_entered_ = false;
    changed_.wake_all();
    leave_critical();
}

void Publication::wait_until_wanted() {
    enter_critical();
    while (!is_wanted_) changed_.wait(Instant::never());
    leave_critical();
}

}  // namespace nemesis::name_service
