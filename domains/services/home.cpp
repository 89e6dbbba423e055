#include "domains/services/home.h"

#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"

namespace nemesis::services {

using invocation::Failure;

namespace {

/// How long the name server may take to agree that the name is gone.
constexpr auto patience = Duration::s(1);

class Critical {
public:
    Critical() : was_on_(state().rw->activations_on) { enter_critical(); }
    ~Critical() {
        if (was_on_ != 0) leave_critical();
    }
    Critical(Critical const&) = delete;
    Critical& operator=(Critical const&) = delete;

private:
    std::uint64_t was_on_;
};

}  // namespace

void Home::arrived() {
    Critical const critical;
    place_ = Place::Here;
    taker_ = nullptr;
    resident_.is_here_ = true;
    name_.want();
}

void Home::begin() { arrived(); }

binder::Offered::PerClient Home::per_client() {
    return {[](void* self, std::uint64_t) -> void* {
                for (auto& visitor : static_cast<Home*>(self)->visitors_) {
                    if (visitor.is_used) continue;
                    visitor.is_used = true;
                    return static_cast<Migrant*>(&visitor);
                }
                return nullptr;
            },
            [](void* self, void* object) {
                auto& visitor = *static_cast<Visitor*>(static_cast<Migrant*>(object));
                static_cast<Home*>(self)->leaves(visitor);
                visitor.is_used = false;
            },
            this};
}

/// Who has taken the object without settling is gone: it is here as before.
void Home::leaves(Visitor& visitor) {
    if (place_ == Place::Taken && taker_ == &visitor) arrived();
}

Result<marshal::Bytes<moved_max>, MigrantError> Home::take(Visitor& visitor) {
    {
        Critical const critical;
        if (place_ == Place::Elsewhere) return fail(MigrantError::NotHere);
        if (place_ != Place::Here) return fail(MigrantError::Moving);
        place_ = Place::Taken;
        taker_ = &visitor;
    }
    // First the name goes, and calls are still served: so nobody whose call has failed finds
    // the object here once more.
    if (!name_.withdraw(now() + patience)) {
        arrived();
        return fail(MigrantError::Busy);
    }
    Critical const critical;
    resident_.is_here_ = false;
    std::byte bytes[moved_max];
    marshal::Bytes<moved_max> state;
    (void)state.assign({bytes, resident_.save(bytes)});
    return state;
}

Result<void, MigrantError> Home::settle(Visitor& visitor) {
    Critical const critical;
    if (place_ != Place::Taken || taker_ != &visitor) return fail(MigrantError::NotHere);
    place_ = Place::Elsewhere;
    taker_ = nullptr;
    return {};
}

Result<void, MigrantError> Home::fetch(std::string_view from, std::uint64_t pause) {
    {
        Critical const critical;
        if (place_ == Place::Here) return fail(MigrantError::IsHere);
        if (place_ != Place::Elsewhere) return fail(MigrantError::Moving);
        place_ = Place::Coming;
    }
    auto const until = now() + patience;
    Result<void, MigrantError> done = fail(MigrantError::Unreachable);
    if (auto const found = space_.resolve(from, {.deadline = until})) {
        auto const bound = session_.bind(other_, found->reference, Migrant::info, 1, until);
        if (bound)
            done = fetch_over(other_.client(), pause);
        else
            done = fail(static_cast<MigrantError>(bound.error()));
        session_.unbind(other_);
    }
    if (done)
        arrived();
    else
        place_ = Place::Elsewhere;
    return done;
}

Result<void, MigrantError> Home::fetch_over(invocation::CallClient& other, std::uint64_t pause) {
    MigrantProxy<invocation::CallClient> from(other);
    auto const state = from.take();
    if (!state) return fail(state.error());
    if (!resident_.restore(state->span())) return fail(MigrantError::BadMessage);
    if (pause != 0) Thread::sleep_until(now() + Duration::ns(static_cast<std::int64_t>(pause)));
    auto const settled = from.settle();
    // Nobody else has the object any more, whether it has settled or not.
    if (!settled && settled.error() == MigrantError::PeerDead) {
        log::line("the object's old home has died: it is here");
        return {};
    }
    return settled;
}

}  // namespace nemesis::services
