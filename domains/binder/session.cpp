#include "domains/binder/session.h"

#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace nemesis::binder {
namespace {

using namespace invocation;

Failure failure_of(BinderError e) {
    switch (e) {
        case BinderError::NoSuchOffer:
        case BinderError::NoSuchBinding:
            return Failure::Unreachable;
        case BinderError::NameTaken:
            return Failure::Busy;
        case BinderError::TooMany:
        case BinderError::NoRoom:
            return Failure::NoMemory;
        case BinderError::NotAccepted:
            return Failure::PeerDead;
        case BinderError::OutOfRange:
            return Failure::TooLong;
        case BinderError::NotPermitted:
            return Failure::Refused;
        default:
            return static_cast<Failure>(e);
    }
}

InterfaceIdentity named(Identity const& said) {
    InterfaceIdentity id{{said.hash_low, said.hash_high}, said.version, {}};
    auto const name = said.name.view();
    for (std::size_t i = 0; i < name.size() && i < sizeof(id.name) - 1; ++i) id.name[i] = name[i];
    return id;
}

std::byte* address_of(std::int64_t stretch) {
    return reinterpret_cast<std::byte*>(
        sys::call(abi::Call::StretchAddress, 0, static_cast<std::uint64_t>(stretch)));
}

/// As failure_of; that policy says no is said to people too.
Failure refused(std::string_view what, BinderError why) {
    if (why == BinderError::NotPermitted)
        log::line("'", what, "' is closed: this domain may not bind to it");
    return failure_of(why);
}

/// Calls in flight on a way back, at most.
constexpr std::uint32_t reverse_slots = 4;

BindingShape shape_of(Shape const& s) {
    return {s.slots, s.request_bytes, s.reply_bytes, s.granted_bytes};
}

/// As much as whole pages, of what may be asked for.
std::uint32_t granted_pages(std::uint64_t bytes) {
    return bytes >= granted_bytes_max
               ? granted_bytes_max
               : BindingShape::granted_pages(static_cast<std::uint32_t>(bytes));
}

}  // namespace

Identity identity_of(InterfaceInfo const& info) {
    Identity said;
    (void)said.name.assign(InterfaceIdentity::of(info).name_view());
    said.version = info.version;
    said.hash_low = info.hash.low;
    said.hash_high = info.hash.high;
    return said;
}

Result<void, Failure> Session::open() {
    auto const* calls = find_channel("binder");
    auto const* bell = find_channel("binder.bell");
    if (calls == nullptr || bell == nullptr) return fail(Failure::Unreachable);
    bell_ = bell->endpoint;
    // Those of the creator's channels, and the first two, are not ours to take.
    auto const& env = environment();
    endpoints_taken_[0] |= 3;
    for (std::uint32_t i = 0; i < env.channel_count && i < abi::kChannelsMax; ++i)
        endpoints_taken_[env.channels[i].endpoint / 64 % (abi::kEndpointsMax / 64)] |=
            1ull << (env.channels[i].endpoint % 64);
    auto const woken = [](void* self, std::uint32_t, std::uint64_t) {
        static_cast<Session*>(self)->waiting_.wake_all();
    };
    if (!attach(bell_, {woken, this})) return fail(Failure::NoMemory);
    return client_.open({outgoing(*calls), incoming(*calls), calls->endpoint},
                        BindingShape::of(Binder::info, binder_slots));
}

std::uint32_t Session::take_endpoint() {
    enter_critical();
    std::uint32_t found = 0;
    for (auto n = dib().endpoint_count; n-- > 2 && found == 0;) {
        if ((endpoints_taken_[n / 64] >> (n % 64) & 1) == 0) found = n;
    }
    endpoints_taken_[found / 64] |= 1ull << (found % 64);
    leave_critical();
    return found;
}

void Session::give_endpoint(std::uint32_t n) {
    if (n == 0) return;
    sys::endpoint_close(0, n);
    enter_critical();
    endpoints_taken_[n / 64] &= ~(1ull << (n % 64));
    leave_critical();
}

bool Session::accept_rings(std::uint64_t owner, std::uint64_t requests, std::uint64_t replies,
                           bool writes_requests, std::int64_t (&stretches)[2]) {
    constexpr auto write = abi::kRead | abi::kWrite;
    accepting_.lock();
    stretches[0] = sys::stretch_accept(0, owner, requests, writes_requests ? write : abi::kRead);
    if (stretches[0] >= 0)
        stretches[1] = sys::stretch_accept(0, owner, replies, writes_requests ? abi::kRead : write);
    accepting_.unlock();
    return stretches[0] >= 0 && stretches[1] >= 0;
}

void Session::drop_rings(std::int64_t (&stretches)[2]) {
    for (auto& s : stretches) {
        if (s >= 0) sys::stretch_destroy(0, static_cast<std::uint64_t>(s));
        s = -1;
    }
}

// ---- the client's side ----

Result<void, Failure> Session::bind(Bound& bound, std::uint64_t offer, InterfaceInfo const& info,
                                    std::uint32_t slots, Instant until) {
    auto const granted = bound.granted_wanted_ != 0 ? bound.granted_wanted_ : info.granted_max;
    return bind_wanted(
        bound, offer,
        {identity_of(info), info.request_max, info.reply_max, slots, granted_pages(granted)},
        until);
}

Result<void, Failure> Session::bind_described(Bound& bound, std::uint64_t offer, Instant until) {
    auto const said = binder_.describe(offer);
    if (!said) return fail(failure_of(said.error()));
    return bind_wanted(bound, offer, {said->identity, 8, 0, 4, 0}, until);
}

Result<void, Failure> Session::bind_wanted(Bound& bound, std::uint64_t offer, Wanted const& wanted,
                                           Instant until) {
    if (bound.is_bound()) unbind(bound);
    auto const asked = binder_.bind(offer, wanted.identity, wanted.slots, wanted.granted);
    if (!asked) return fail(refused(wanted.identity.name.view(), asked.error()));
    if (asked->tag == Asked::Tag::Mismatch) {
        char text[256];
        log::line(describe_mismatch(named(wanted.identity), named(asked->mismatch), text));
        return fail(Failure::WrongInterface);
    }
    bound.binding_ = asked->binding;
    for (;;) {
        auto const rung = event_count(bell_);
        auto const end = binder_.collect(bound.binding_);
        auto why = Failure::None;
        if (!end) {
            why = failure_of(end.error());
        } else if (*end) {
            auto const done = complete(bound, **end, wanted);
            if (done) return {};
            why = done.error();
        } else {
            enter_critical();
            if (event_count(bell_) == rung && !waiting_.wait(until)) why = Failure::TimedOut;
            leave_critical();
        }
        if (why == Failure::None) continue;
        unbind(bound);
        return fail(why);
    }
}

Result<void, Failure> Session::complete(Bound& bound, ClientEnd const& end, Wanted const& wanted) {
    auto const shape = shape_of(end.shape);
    if (!shape.is_valid() || shape.request_bytes < wanted.request_max ||
        shape.reply_bytes < wanted.reply_max)
        return fail(Failure::BadMessage);
    if (!accept_rings(end.binder, end.requests, end.replies, true, bound.stretches_))
        return fail(Failure::NoMemory);
    auto const endpoint = take_endpoint();
    if (endpoint == 0) return fail(Failure::NoMemory);
    bound.endpoint_ = endpoint;
    // What the server says of its endpoint is true, or this fails.
    if (sys::endpoint_accept(0, endpoint, end.server, end.endpoint) < 0)
        return fail(Failure::PeerDead);
    bound.end_ = {{address_of(bound.stretches_[0]), shape.client_bytes()},
                  {address_of(bound.stretches_[1]), shape.server_bytes()},
                  endpoint};
    TRY_VOID(bound.client_.open(bound.end_, shape));
    bound.shape_ = shape;
    bound.server_ = end.server;
    // What this side gives is called over the reverse binding.
    bound.handles_.set_limits(reverse_body, reverse_body);
    bound.client_.set_handles(&bound.handles_);
    if (bound.giver_ != nullptr) {
        giving_.lock();
        bound.next_ = bounds_;
        bounds_ = &bound;
        giving_.unlock();
    }
    return {};
}

BindingEnd Session::end_of(Bound const& bound) const { return bound.end_; }

void Session::unbind(Bound& bound) {
    if (bound.giver_ != nullptr) {
        giving_.lock();
        for (auto** at = &bounds_; *at != nullptr; at = &(*at)->next_) {
            if (*at != &bound) continue;
            *at = bound.next_;
            break;
        }
        close_giver(*bound.giver_);
        giving_.unlock();
    }
    bound.client_.close();
    bound.handles_.end();
    give_endpoint(bound.endpoint_);
    bound.endpoint_ = 0;
    drop_rings(bound.stretches_);
    if (bound.binding_ != 0) (void)binder_.release(bound.binding_);
    bound.binding_ = 0;
}

Result<void, Failure> Session::bind_named(Bound& bound, std::string_view name,
                                          InterfaceInfo const& info, std::uint32_t slots,
                                          Instant until) {
    auto const found = binder_.find(name);
    if (!found) return fail(refused(name, found.error()));
    return bind(bound, *found, info, slots, until);
}

/// The server of one of our bindings wants to call objects that we have given it.
void Session::connect_reverse(ServerEnd const& wanted) {
    giving_.lock();
    auto* bound = bounds_;
    while (bound != nullptr && bound->binding_ != wanted.reverse_of) bound = bound->next_;
    auto const shape = shape_of(wanted.shape);
    bool done = false;
    if (bound != nullptr && bound->giver_->binding_ == 0 && shape.is_valid()) {
        auto& giver = *bound->giver_;
        giver.binding_ = wanted.binding;
        giver.endpoint_ = take_endpoint();
        bound->handles_.set_no_root();
        done =
            giver.endpoint_ != 0 &&
            accept_rings(wanted.binder, wanted.requests, wanted.replies, false, giver.stretches_) &&
            sys::endpoint_offer(0, giver.endpoint_, wanted.client) >= 0 &&
            giver.server_.open({{address_of(giver.stretches_[1]), shape.server_bytes()},
                                {address_of(giver.stretches_[0]), shape.client_bytes()},
                                giver.endpoint_},
                               shape, bound->handles_, *giver.backlog_, giver.mode_) &&
            binder_.accept(wanted.binding, giver.endpoint_);
        if (!done) close_giver(giver);
    } else {
        (void)binder_.release(wanted.binding);
    }
    giving_.unlock();
}

/// requires: giving_ is held
void Session::close_giver(Giver& giver) {
    giver.server_.close();
    give_endpoint(giver.endpoint_);
    giver.endpoint_ = 0;
    drop_rings(giver.stretches_);
    if (giver.binding_ != 0) (void)binder_.release(giver.binding_);
    giver.binding_ = 0;
}

// ---- the server's side ----

Result<void, Failure> Session::offer(Offered& offered, Offered::Options const& options) {
    offered.options_ = options;
    Limits limits;
    limits.clients = options.clients_max;
    limits.slots = options.slots;
    // Every object can also be asked for its description, a piece at a time.
    constexpr std::uint32_t question = 8, piece = 64;
    auto const& info = *offered.info_;
    limits.request_bytes = info.request_max < question ? question : info.request_max;
    limits.reply_bytes = info.reply_max < piece ? piece : info.reply_max;
    constexpr std::uint64_t calls = 4;
    limits.granted_bytes = granted_pages(options.granted_bytes != 0 ? options.granted_bytes
                                                                    : calls * info.granted_max);
    offering_.lock();
    auto const made = binder_.offer(options.name, identity_of(*offered.info_), limits);
    if (made) {
        offered.number_ = *made;
        offered.next_ = offers_;
        offers_ = &offered;
    }
    offering_.unlock();
    if (made) return {};
    if (made.error() == BinderError::NotPermitted)
        log::line("the name '", options.name, "' is reserved: this domain may not offer it");
    return fail(failure_of(made.error()));
}

void Session::serve() {
    for (;;) {
        auto const rung = event_count(bell_);
        serve_notices();
        enter_critical();
        if (event_count(bell_) == rung && !clients_gone_ && !ways_back_wanted_)
            (void)waiting_.wait(Instant::never());
        leave_critical();
    }
}

Result<void, Failure> Session::start_serving(std::uint64_t stack_pages) {
    auto* const stack = pages::take(stack_pages);
    auto const body = [](void* self) { static_cast<Session*>(self)->serve(); };
    if (stack == nullptr ||
        !server_.start(
            body, this,
            {.stack = stack, .stack_bytes = stack_pages * abi::kPageSize, .name = "serve"}))
        return fail(Failure::NoMemory);
    return {};
}

void Session::on_gone(void* self, CallServer&) {
    auto& client = *static_cast<ServedClient*>(self);
    client.gone = true;
    client.session->clients_gone_ = true;
    client.session->waiting_.wake_all();
}

void Session::end_gone() {
    while (clients_gone_) {
        clients_gone_ = false;
        for (auto* offered = offers_; offered != nullptr; offered = offered->next_) {
            for (auto* client = offered->clients_; client != nullptr;) {
                auto const& at = *client;
                client = client->next;
                if (at.gone) end(at.binding);
            }
        }
    }
}

void Session::serve_notices() {
    end_gone();
    for (;;) {
        auto const notice = binder_.next();
        if (!notice || notice->tag == Notice::Tag::Nothing) break;
        if (notice->tag != Notice::Tag::Connect)
            end(notice->ended);
        else if (notice->connect.reverse_of != 0)
            connect_reverse(notice->connect);
        else
            connect(notice->connect);
    }
    advance_ways_back();
}

void Session::advance_ways_back() {
    ways_back_wanted_ = false;
    for (auto* offered = offers_; offered != nullptr; offered = offered->next_) {
        if (!offered->options_.takes_handles) continue;
        for (auto* client = offered->clients_; client != nullptr; client = client->next) {
            if (client->back != nullptr && client->back->is_wanted) advance(*client);
        }
    }
}

/// One step further with a way back that is wanted; nobody is waited for.
void Session::advance(ServedClient& client) {
    auto& back = *client.back;
    if (!back.is_connected && !back.has_failed && !client.gone) {
        Shape shape;
        shape.slots = reverse_slots;
        shape.request_bytes = shape.reply_bytes = reverse_body;
        if (back.bound.binding_ == 0) {
            auto const asked = binder_.reverse(client.binding, shape);
            back.has_failed = !asked;
            if (asked) back.bound.binding_ = *asked;
        }
        if (!back.has_failed) {
            auto const end = binder_.collect(back.bound.binding_);
            back.has_failed = !end;
            if (end && !*end) return;  // the bell rings when there is an answer
            if (end) {
                auto const done =
                    complete(back.bound, **end, {{}, reverse_body, reverse_body, reverse_slots, 0});
                back.has_failed = !done;
                if (done) back.bound.client_.set_handles(&client.handles);
                back.is_connected = done.has_value();
            }
        }
        enter_critical();
        back.waiting.wake_all();
        leave_critical();
    }
    if (back.is_connected) client.handles.flush();
}

Result<void, Failure> WayBack::reach() {
    if (is_connected) return {};
    // An operation in place, or a closure: nobody may block there.
    if (state().rw->activations_on == 0) return fail(Failure::Busy);
    wanted();
    constexpr auto patience = Duration::s(1);
    auto const until = now() + patience;
    enter_critical();
    while (!is_connected && !has_failed && waiting.wait(until)) {
    }
    leave_critical();
    if (is_connected) return {};
    return fail(has_failed ? Failure::PeerDead : Failure::TimedOut);
}

bool WayBack::release(std::uint32_t number, std::uint32_t count) {
    if (has_failed) return true;
    return is_connected && bound.client().release(number, count);
}

void WayBack::wanted() {
    auto const was = enter();
    is_wanted = true;
    session->ways_back_wanted_ = true;
    session->waiting_.wake_all();
    leave(was);
}

void Session::connect(ServerEnd const& wanted) {
    offering_.lock();
    auto* offered = offers_;
    while (offered != nullptr && offered->number_ != wanted.offer) offered = offered->next_;
    offering_.unlock();
    if (offered == nullptr) {
        (void)binder_.release(wanted.binding);
        return;
    }
    auto* const client = take_client(*offered);
    if (client == nullptr) {
        (void)binder_.release(wanted.binding);
        return;
    }
    client->binding = wanted.binding;
    client->next = offered->clients_;
    offered->clients_ = client;
    ++offered->count_;
    if (!open_client(*offered, *client, wanted) ||
        !binder_.accept(wanted.binding, client->endpoint))
        end(wanted.binding);
}

/// Room for one client more; null: no memory, or too much of those that are gone is still held.
ServedClient* Session::take_client(Offered& offered) {
    for (auto** at = &parked_clients_; *at != nullptr;) {
        auto& parked = **at;
        if (!parked.handles.is_idle()) {
            at = &parked.next;
            continue;
        }
        *at = parked.next;
        --parked_count_;
        parked.next = free_clients_;
        free_clients_ = &parked;
    }
    if (parked_count_ >= offered.options_.clients_max) return nullptr;
    auto* client = free_clients_;
    if (client != nullptr) {
        free_clients_ = client->next;
    } else {
        constexpr auto page_count = (sizeof(ServedClient) + abi::kPageSize - 1) / abi::kPageSize;
        constexpr auto fit = page_count * abi::kPageSize / sizeof(ServedClient);
        auto* const memory = static_cast<ServedClient*>(pages::take(page_count));
        if (memory == nullptr) return nullptr;
        for (std::uint64_t i = 1; i < fit; ++i) {
            auto* const spare = new (memory + i) ServedClient;
            spare->next = free_clients_;
            free_clients_ = spare;
        }
        client = new (memory) ServedClient;
    }
    auto& options = offered.options_;
    if (options.takes_handles && client->back == nullptr) {
        auto* const memory = pages::take((sizeof(WayBack) + abi::kPageSize - 1) / abi::kPageSize);
        if (memory == nullptr) {
            client->next = free_clients_;
            free_clients_ = client;
            return nullptr;
        }
        client->back = new (memory) WayBack;
    }
    client->handles.set_imports({}, nullptr, nullptr);
    if (options.takes_handles) {
        auto& back = *client->back;
        back.session = this;
        back.client = client;
        back.is_wanted = back.is_connected = back.has_failed = false;
        client->handles.set_imports(back.imports, &back.bound.client_, &back);
    }
    client->handles.set_forwarding(options.mode == CallServer::Mode::Workers);
    client->handles.on_unreferenced(options.unreferenced);
    return client;
}

bool Session::open_client(Offered& offered, ServedClient& client, ServerEnd const& end) {
    auto const shape = shape_of(end.shape);
    if (!shape.is_valid() || shape.slots > offered.options_.slots ||
        !accept_rings(end.binder, end.requests, end.replies, false, client.stretches))
        return false;
    client.endpoint = take_endpoint();
    if (client.endpoint == 0 || sys::endpoint_offer(0, client.endpoint, end.client) < 0)
        return false;
    client.session = this;
    client.gone = false;
    auto* object = offered.object_;
    if (auto const& each = offered.options_.per_client; each.open != nullptr) {
        object = client.object = each.open(each.self, end.client);
        if (object == nullptr) return false;
    }
    client.handles.set_root(object, *offered.info_);
    client.server.on_gone({&Session::on_gone, &client});
    return client.server
        .open({{address_of(client.stretches[1]), shape.server_bytes()},
               {address_of(client.stretches[0]), shape.client_bytes()},
               client.endpoint},
              shape, client.handles, *offered.backlog_, offered.options_.mode)
        .has_value();
}

void Session::close_client(Offered& offered, ServedClient& client) {
    if (client.back != nullptr) {
        // Whoever waits for it waits no longer.
        enter_critical();
        client.back->has_failed = true;
        client.back->waiting.wake_all();
        leave_critical();
    }
    client.server.close();
    if (client.back != nullptr) unbind(client.back->bound);
    if (auto* const object = client.object; object != nullptr) {
        client.object = nullptr;
        offered.options_.per_client.closed(offered.options_.per_client.self, object);
    }
    give_endpoint(client.endpoint);
    client.endpoint = 0;
    drop_rings(client.stretches);
    (void)binder_.release(client.binding);
    client.binding = 0;
}

void Session::end(std::uint64_t binding) {
    for (auto* offered = offers_; offered != nullptr; offered = offered->next_) {
        for (auto** at = &offered->clients_; *at != nullptr; at = &(*at)->next) {
            auto& client = **at;
            if (client.binding != binding) continue;
            close_client(*offered, client);
            *at = client.next;
            --offered->count_;
            auto const idle = client.handles.is_idle();
            auto& list = idle ? free_clients_ : parked_clients_;
            if (!idle) ++parked_count_;
            client.next = list;
            list = &client;
            return;
        }
    }
    giving_.lock();
    for (auto* bound = bounds_; bound != nullptr; bound = bound->next_) {
        if (bound->giver_->binding_ != binding) continue;
        close_giver(*bound->giver_);
        giving_.unlock();
        return;
    }
    giving_.unlock();
    (void)binder_.release(binding);  // none of ours: nobody holds it for us either
}

}  // namespace nemesis::binder
