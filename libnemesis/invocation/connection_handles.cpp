#include "libnemesis/invocation/connection_handles.h"

#include "libnemesis/invocation/handle_places.h"

namespace nemesis::invocation {
namespace {

Import* import_of(AnyMaillon const& handle) {
    return handle.function() == &Import::use ? static_cast<Import*>(handle.reference()) : nullptr;
}
AnyMaillon maillon_of(Import& i) { return AnyMaillon(&i, &Import::use); }

Served refuse(void*, std::uint16_t, std::span<std::byte const>, std::span<std::byte>,
              HandleTable*) {
    return served(Failure::NoSuchObject);
}
constinit InterfaceInfo const nothing = {
    .name = "nothing", .hash = {}, .description = {}, .dispatch = &refuse};

}  // namespace

/// The tables are this thread's, or closure's.
class ConnectionHandles::Inside {
public:
    explicit Inside(ConnectionHandles const& all)
        : link_(all.link_), was_(link_ != nullptr ? link_->enter() : 0) {}
    ~Inside() {
        if (link_ != nullptr) link_->leave(was_);
    }
    Inside(Inside const&) = delete;
    Inside& operator=(Inside const&) = delete;

private:
    HandleLink* link_;
    std::uint64_t was_;
};

Result<void*, Failure> Import::use(AnyMaillon& self) {
    auto& i = *static_cast<Import*>(self.reference());
    if (i.info == nullptr) return fail(Failure::NoSuchObject);
    if (i.dead) return fail(Failure::PeerDead);
    if (auto* const link = i.table->link_; link != nullptr) TRY_VOID(link->reach());
    return i.interface;
}

void ConnectionHandles::set_no_root() { set_root(this, nothing); }

Result<WireHandle, Failure> ConnectionHandles::give(AnyMaillon handle, InterfaceInfo const& info) {
    auto* const import = import_of(handle);
    void* interface = nullptr;
    if (import == nullptr) {
        interface = TRY(handle.resolve());
        if (interface == nullptr) return fail(Failure::Unreachable);
    }
    Inside const inside(*this);
    if (import != nullptr) {
        if (import->info == nullptr || import->dead) return fail(Failure::PeerDead);
        if (import->table == this)
            return WireHandle{HandleOwner::Receiver, import->number, info.hash.low};
        if (!forwards_) return fail(Failure::Refused);
        interface = import->interface;
    }
    // An object that was made to be given away, and cannot be, is wanted by nobody.
    auto const refuse_it = [&](Failure why) -> Result<WireHandle, Failure> {
        if (import == nullptr && hook_.function != nullptr) hook_.function(hook_.self, interface);
        return fail(why);
    };
    if (!carries(info)) return refuse_it(Failure::TooLong);
    Export* free = nullptr;
    for (std::uint32_t n = 1; n < exports_.size(); ++n) {
        auto& e = exports_[n];
        if (e.object == interface && e.info == &info) {
            ++e.references;
            return WireHandle{HandleOwner::Sender, e.number, info.hash.low};
        }
        if (e.object == nullptr && free == nullptr) free = &e;
    }
    if (free == nullptr) return refuse_it(Failure::NoMemory);
    auto const index = static_cast<std::uint32_t>(free - exports_.data());
    // The generation of the last object at this place, and one.
    auto const number = (free->number / exports_max + 1) * exports_max + index;
    *free = {interface, &info, 1, number, import};
    if (import != nullptr) ++import->held;
    return WireHandle{HandleOwner::Sender, number, info.hash.low};
}

Result<AnyMaillon, Failure> ConnectionHandles::take_as(WireHandle const& wire,
                                                       InterfaceInfo const& info, bool borrowed) {
    if (wire.hash != info.hash.low) return fail(Failure::WrongInterface);
    Inside const inside(*this);
    auto const taken = [&](Import& i) {
        ++i.held;
        if (borrowed) {
            ++i.borrowed;
            borrows_ = true;
            ++taken_;
        }
        return maillon_of(i);
    };
    if (wire.owner == HandleOwner::Receiver) {
        auto const* own = find(wire.number);
        if (own == nullptr) return fail(Failure::NoSuchObject);
        // One of an extension is as good only as that: the pointers differ in meaning.
        if (own->info->hash != info.hash) return fail(Failure::WrongInterface);
        if (borrowed) {
            borrows_ = true;
            ++taken_;
        }
        if (own->forwarded != nullptr) {
            // Somebody else's, lent for the length of this call by who exports it.
            if (!borrowed) ++own->forwarded->held;
            return maillon_of(*own->forwarded);
        }
        return AnyMaillon(own->object, nullptr);
    }
    if (wire.owner != HandleOwner::Sender) return fail(Failure::NoSuchObject);
    Import* free = nullptr;
    for (Import& i : imports_) {
        if (i.info == nullptr) {
            if (free == nullptr) free = &i;
        } else if (!i.dead && i.number == wire.number) {
            if (i.info->hash != info.hash) return fail(Failure::WrongInterface);
            if (i.references == UINT32_MAX || i.held == UINT32_MAX) return fail(Failure::NoMemory);
            ++i.references;
            return taken(i);
        }
    }
    if (free == nullptr || info.proxy_bytes > sizeof(free->proxy) || transport_ == nullptr)
        return fail(Failure::NoMemory);
    free->info = &info;
    free->table = this;
    free->number = wire.number;
    free->references = 1;
    free->held = free->borrowed = 0;
    free->dead = false;
    free->interface = info.make_proxy(free->proxy, *transport_, wire.number);
    if (link_ != nullptr) link_->wanted();
    return taken(*free);
}

/// Nobody wants it any more: its place is free when the peer has been told.
void ConnectionHandles::unheld(Import& i) {
    if (i.dead) {
        i.info = nullptr;
    } else if (link_ != nullptr) {
        if (link_->release(i.number, i.references))
            i.info = nullptr;
        else
            link_->wanted();
    }
}

void ConnectionHandles::give_borrowed_back() {
    Inside const inside(*this);
    borrows_ = false;
    taken_ = 0;
    for (Import& i : imports_) {
        if (i.info == nullptr || i.borrowed == 0) continue;
        i.held -= i.borrowed;
        i.borrowed = 0;
        if (i.held == 0) unheld(i);
    }
}

void ConnectionHandles::hold(AnyMaillon const& handle) {
    auto* const i = import_of(handle);
    if (i == nullptr || i->info == nullptr) return;
    Inside const inside(*i->table);
    ++i->held;
}

void ConnectionHandles::let_go(AnyMaillon const& handle) {
    auto* const i = import_of(handle);
    if (i == nullptr || i->info == nullptr) return;
    Inside const inside(*i->table);
    if (--i->held == 0) i->table->unheld(*i);
}

bool ConnectionHandles::is_dead(AnyMaillon const& handle) {
    auto const* const i = import_of(handle);
    if (i == nullptr || i->info == nullptr) return false;
    auto const* const link = i->table->link_;
    return i->dead || (link != nullptr && link->is_dead());
}

void ConnectionHandles::refuse(WireHandle const& wire) {
    Inside const inside(*this);
    if (wire.owner != HandleOwner::Sender || link_ == nullptr || link_->release(wire.number, 1))
        return;
    // Later; more than there is room for is dropped with the connection.
    if (refused_count_ < refused_max) refused_[refused_count_++] = wire.number;
    link_->wanted();
}

void ConnectionHandles::refuse_untaken(InterfaceInfo const& info, std::uint16_t operation,
                                       std::span<std::byte const> body) {
    refuse_handles(*this, info.description, operation, body, taken_);
}

void refuse_handles(HandleTable& table, std::span<std::uint8_t const> description,
                    std::uint16_t operation, std::span<std::byte const> body, std::uint32_t taken) {
    for (std::uint32_t seen = 0;;) {
        auto const places =
            find_some_handles(description, operation, BodyKind::Arguments, body, seen);
        if (!places || places->count == 0) return;
        seen += places->count;
        for (std::uint32_t i = 0; i < places->count; ++i) {
            auto const* const at = body.data() + places->at[i];
            auto const first = marshal::load_once<std::uint64_t>(at);
            WireHandle const wire{static_cast<HandleOwner>(static_cast<std::uint32_t>(first)),
                                  static_cast<std::uint32_t>(first >> 32), 0};
            if (wire.owner == HandleOwner::Nobody) continue;
            // They are taken in this order, up to the first that cannot be.
            if (taken != 0)
                --taken;
            else
                table.refuse(wire);
        }
    }
}

void ConnectionHandles::flush() {
    Inside const inside(*this);
    while (refused_count_ != 0) {
        if (link_ == nullptr || !link_->release(refused_[refused_count_ - 1], 1)) return;
        --refused_count_;
    }
    for (Import& i : imports_) {
        if (i.info == nullptr || i.held != 0 || i.dead || link_ == nullptr) continue;
        if (!link_->release(i.number, i.references)) return;
        i.info = nullptr;
    }
}

void ConnectionHandles::forget(Export& e) {
    auto const was = e;
    e = {.number = was.number};
    if (was.forwarded != nullptr)
        let_go(maillon_of(*was.forwarded));
    else if (was.object != nullptr && hook_.function != nullptr && &e != exports_.data())
        hook_.function(hook_.self, was.object);
}

void ConnectionHandles::released(std::uint32_t number, std::uint64_t count) {
    Inside const inside(*this);
    if (number == 0 || find(number) == nullptr) return;
    auto& e = exports_[number % exports_max];
    if (count < e.references)
        e.references -= count;
    else
        forget(e);
}

Result<Export, Failure> ConnectionHandles::drop(AnyMaillon const& handle, std::uint32_t& number) {
    auto* const i = import_of(handle);
    if (i == nullptr || i->info == nullptr || i->table != this) return fail(Failure::NoSuchObject);
    Export const told{.object = i->interface, .info = i->info, .references = i->references};
    number = i->number;
    i->info = nullptr;
    return told;
}

void ConnectionHandles::end() {
    Inside const inside(*this);
    for (Export& e : exports_) forget(e);
    borrows_ = false;
    refused_count_ = taken_ = 0;
    for (Import& i : imports_) {
        if (i.info == nullptr) continue;
        // What an operation that runs yet has borrowed is not waited for: it has no other holder.
        i.held -= i.borrowed;
        i.borrowed = 0;
        i.dead = true;
        if (i.held == 0) i.info = nullptr;
    }
}

bool ConnectionHandles::is_idle() const {
    for (Import const& i : imports_) {
        if (i.info != nullptr && i.held != 0) return false;
    }
    return true;
}

std::uint32_t ConnectionHandles::exported() const {
    std::uint32_t n = 0;
    for (Export const& e : exports_) n += e.object != nullptr ? 1 : 0;
    return n;
}
std::uint32_t ConnectionHandles::imported() const {
    std::uint32_t n = 0;
    for (Import const& i : imports_) n += i.info != nullptr ? 1 : 0;
    return n;
}

}  // namespace nemesis::invocation
