#include "domains/names/service.h"

#include <algorithm>

#include "libnemesis/clock.h"

namespace nemesis::name_service {

using invocation::AnyMaillon;
using invocation::Failure;
using names::NameError;

namespace {

// How long is waited before the name is resolved again: at first, and at most.
constexpr auto pause_first = Duration::us(50), pause_most = Duration::ms(2);

/// Whether it may go by itself: the service is being started again, or the name server.
bool passes(Failure why) { return why == Failure::Unreachable || why == Failure::PeerDead; }

}  // namespace

std::string_view agent_path(std::string_view service, std::span<char, agent_path_max> to) {
    constexpr std::string_view ending = ".agent";
    if (service.size() > to.size() - ending.size()) return {};
    __builtin_memcpy(to.data(), service.data(), service.size());
    __builtin_memcpy(to.data() + service.size(), ending.data(), ending.size());
    return {to.data(), service.size() + ending.size()};
}

ServiceConnection::ServiceConnection(names::NameSpace& space, binder::Session& session,
                                     std::string_view name, invocation::InterfaceInfo const& info,
                                     ServiceOptions const& options)
    : space_(space), session_(session), name_(name), info_(info), options_(options) {
    bound_.client().on_dead({&ServiceConnection::server_died, this});
    bound_.client().on_not_there({&ServiceConnection::not_there, this});
}

void ServiceConnection::set_maillon(AnyMaillon& own, AnyMaillon again, void* proxy) {
    own_ = &own;
    again_ = again;
    proxy_ = target_ = proxy;
    own = again;
}

/// Whoever has replaced the maillon's function meanwhile is obeyed.
void ServiceConnection::server_died(void* self) {
    auto& c = *static_cast<ServiceConnection*>(self);
    if (*c.own_ == AnyMaillon(c.target_, nullptr)) *c.own_ = c.again_;
}

void ServiceConnection::not_there(void* self) {
    static_cast<ServiceConnection*>(self)->look_again_ = true;
    server_died(self);
}

/// Whether the name leads elsewhere, or nowhere now; then no call is under way any more.
/// requires: connecting_ is held
bool ServiceConnection::has_moved(Instant until) {
    look_again_ = false;
    auto const found = space_.resolve(name_, {.deadline = until});
    if (found && found->reference == offer_) return false;
    // Each has its answer, or its time-out: none was made and is not known to be.
    while (bound_.client().calls_in_flight() != 0 && !bound_.is_dead() && now() < until)
        Thread::sleep_until(now() + pause_first);
    return true;
}

void ServiceConnection::forget() {
    connecting_.lock();
    session_.unbind(bound_);
    connecting_.unlock();
}

void ServiceConnection::fetch_with(ObjectFetcher& fetcher) {
    connecting_.lock();
    options_.fetcher = &fetcher;
    enter_critical();
    if (*own_ == AnyMaillon(target_, nullptr)) *own_ = again_;
    leave_critical();
    connecting_.unlock();
}

Result<void*, Failure> ServiceConnection::first_use() {
    if (state().rw->activations_on == 0) return fail(Failure::Busy);
    connecting_.lock();
    auto const found = reach();
    if (found) {
        enter_critical();
        // The service may have died again already: then the next use finds out, and not this
        // maillon. Whoever has replaced its function meanwhile is obeyed.
        if ((*found == fetched_ || !bound_.is_dead()) && *own_ == again_) own_->set_direct(*found);
        leave_critical();
    }
    connecting_.unlock();
    return found;
}

/// requires: connecting_ is held
Result<void*, Failure> ServiceConnection::reach() {
    // Perhaps another thread has been here meanwhile.
    if (fetched_ != nullptr) return fetched_;
    auto const until = std::min(until_, now() + options_.patience);
    if (!bound_.is_bound() || bound_.is_dead() || (look_again_ && has_moved(until))) {
        if (auto const why = connect(until); why != Failure::None) return fail(why);
        if (options_.agents != nullptr) {
            auto* const agent = options_.agents->agent_of(
                {space_, session_, name_, info_, bound_, until_, connections_}, until);
            target_ = agent != nullptr ? agent : proxy_;
        }
    }
    if (options_.fetcher == nullptr) return target_;
    auto const object = options_.fetcher->fetch(bound_.client(), info_, until);
    if (object) {
        fetched_ = *object;
        session_.unbind(bound_);
        return fetched_;
    }
    if (object.error() != Failure::Refused) return fail(object.error());
    options_.fetcher = nullptr;
    return target_;
}

Failure ServiceConnection::connect(Instant until) {
    for (auto pause = pause_first;; pause = std::min(pause * 2, pause_most)) {
        auto const why = connect_once(until);
        if (why == Failure::None) ++connections_;
        if (!passes(why) || now() >= until) return why;
        Thread::sleep_until(std::min(until, now() + pause));
    }
}

Failure ServiceConnection::connect_once(Instant until) {
    // What is left of the dead one goes first: it has a place at the binder, and its endpoint.
    session_.unbind(bound_);
    auto const found = space_.resolve(name_, {.deadline = until});
    if (!found) {
        why_ = found.error();
        switch (why_) {
            case NameError::NotFound:
                if (options_.starter != nullptr) {
                    auto const started = options_.starter->start(until);
                    if (!started) return started.error();
                }
                return Failure::Unreachable;
            case NameError::Unreachable:
            case NameError::InUse:
                return Failure::Unreachable;
            case NameError::DeadlinePassed:
                return Failure::TimedOut;
            default:
                return Failure::Refused;
        }
    }
    auto const bound = session_.bind(bound_, found->reference, info_, options_.slots, until);
    if (!bound) return bound.error();
    offer_ = found->reference;
    look_again_ = false;
    return Failure::None;
}

}  // namespace nemesis::name_service
