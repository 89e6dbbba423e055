#include "domains/names/names_client.h"

namespace nemesis::name_service {
namespace {

using invocation::Failure;
using names::NameError;

NameError error_of(Failure f) {
    switch (f) {
        case Failure::TimedOut:
            return NameError::DeadlinePassed;
        case Failure::BadMessage:
        case Failure::WrongInterface:
        case Failure::NoSuchOperation:
            return NameError::BadAnswer;
        case Failure::TooLong:
            return NameError::TooLong;
        case Failure::NoMemory:
            return NameError::Full;
        default:
            return NameError::Unreachable;
    }
}
NameError error_of(Why w) { return static_cast<NameError>(w); }

/// Holds a mutex.
struct Locked {
    explicit Locked(Mutex& m) : mutex(m) { mutex.lock(); }
    ~Locked() { mutex.unlock(); }
    Locked(Locked const&) = delete;
    Mutex& mutex;
};

}  // namespace

/// The binding to a server, made if there is none; the one unused for longest makes room.
Result<SystemNames::Known*, NameError> SystemNames::known(std::uint64_t offer, Instant deadline) {
    Known* place = nullptr;
    for (auto& k : known_) {
        if (k.used && k.offer == offer) {
            place = &k;
            break;
        }
        if (place == nullptr || !k.used || (place->used && k.last_use < place->last_use))
            place = &k;
    }
    auto& k = *place;
    k.last_use = ++uses_;
    if (k.used && k.offer == offer && !k.bound.client().is_known_dead()) return &k;
    session_.unbind(k.bound);
    k.used = true;
    k.offer = offer;
    auto const made = offer == 0 ? session_.bind_named(k.bound, "names", Names::info, 4, deadline)
                                 : session_.bind(k.bound, offer, Names::info, 4, deadline);
    if (made) return &k;
    k.used = false;
    return fail(error_of(made.error()));
}

/// Asks the system's name server, and on to wherever it sends us. `ask` makes one call and yields
/// its answer, a choice with an alternative `elsewhere`.
template <typename Value, typename Ask>
Result<Value, NameError> SystemNames::follow(std::string_view path, names::Request const& request,
                                             Ask&& ask) {
    Locked const locked(mutex_);
    auto offer = first_;
    auto rest = names::relative(path);
    for (auto hops = request.hops; hops != 0; --hops) {
        auto* const server = TRY(known(offer, request.deadline));
        Proxy proxy(server->bound.client());
        proxy.set_until(request.deadline);
        auto const answer = ask(proxy, rest);
        if (!answer) {
            auto const why = static_cast<Failure>(answer.error());
            if (why == Failure::PeerDead || why == Failure::BadMessage) {
                session_.unbind(server->bound);
                server->used = false;
            }
            return fail(error_of(why));
        }
        answered_ = server;
        using Answer = std::remove_cvref_t<decltype(*answer)>;
        if (answer->tag == Answer::Tag::Failed) return fail(error_of(answer->failed));
        if (answer->tag != Answer::Tag::Elsewhere) {
            if constexpr (std::is_void_v<Value>)
                return {};
            else
                return Value(*answer);
        }
        auto const& on = answer->elsewhere;
        // Nothing of a path is left out twice, and nothing but a name server is asked for names.
        if (on.server.interface_low != Names::info.hash.low || on.server.offer == 0 ||
            on.rest == 0 || on.rest > rest.size())
            return fail(NameError::BadAnswer);
        offer = on.server.offer;
        rest = names::part(rest, on.rest);
    }
    return fail(NameError::TooManyHops);
}

Result<names::Handle, NameError> SystemNames::resolve(std::string_view path,
                                                      names::Request const& request) {
    auto const found = TRY(
        follow<Found>(path, request, [](Proxy& p, std::string_view at) { return p.resolve(at); }));
    names::Handle const handle{found.object.offer, found.object.interface_low};
    if (handle == names::Handle{}) return fail(NameError::BadAnswer);
    return handle;
}

Result<void, NameError> SystemNames::list(std::string_view path, std::string_view after,
                                          names::NameList& names, names::Request const& request) {
    auto const listed = TRY(follow<Listed>(
        path, request, [&](Proxy& p, std::string_view at) { return p.list(at, after); }));
    names.count = 0;
    names.more = listed.page.more;
    for (auto const& entry : listed.page.entries)
        names.entries[names.count++].set(entry.name.view(),
                                         static_cast<names::NameKind>(entry.kind));
    return {};
}

Result<void, NameError> SystemNames::bind(std::string_view path, names::Handle handle,
                                          names::BindMode mode, names::Request const& request) {
    return follow<void>(path, request, [&](Proxy& p, std::string_view at) {
        return p.bind(at, {handle.reference, handle.function}, mode == names::BindMode::Replace);
    });
}

Result<void, NameError> SystemNames::make_directory(std::string_view path,
                                                    names::Request const& request) {
    return follow<void>(path, request,
                        [](Proxy& p, std::string_view at) { return p.make_directory(at); });
}

Result<void, NameError> SystemNames::unbind(std::string_view path, names::Request const& request) {
    return follow<void>(path, request, [](Proxy& p, std::string_view at) { return p.unbind(at); });
}

bool SystemNames::wait_for_end(Instant until, std::uint64_t seen) {
    if (answered_ == nullptr || !answered_->used) return true;
    auto& client = answered_->bound.client();
    auto const seen_there = client.wakes();
    // Who calls wake() from here on is noticed there.
    if (wakes_ != seen) return false;
    return client.wait_for_end(until, seen_there);
}

void SystemNames::wake() {
    ++wakes_;
    for (auto& known : known_) known.bound.client().wake();
}

}  // namespace nemesis::name_service
