#pragma once
// Home: a domain where an object lives, or may come to live, while others hold handles to it.
//
// The object has a name that leads to the domain where it is. To move it, the domain where it is to
// be (fetch) takes its state from where it is: there its name is withdrawn, and then it answers
// NoSuchObject. The new home makes the object from the state, settles, and enters the name.
// Settling is the instant at which the object is at the other home: before it the old one has the
// object, if the new home dies; from then on the new one. If the old home dies between the two the
// new one has all there is, and keeps it. So an object dies only with the home where it is, and is
// never at two; what has been answered is in its state.
//
// Who calls meanwhile has at most one error for each move, NoSuchObject, of a call that was not
// made; his next one finds the object (name_service::ServiceHandle), when it waits until the move
// is done. Calls are served in place, so none is half done when the state is taken. Homes of one
// object trust each other: one that takes the state and lies has the object. Context: fetch, take
// and settle by a worker (they wait for names and for the other home). Source: PEG94 "Naming and
// Invocation".

#include <cstdint>
#include <span>
#include <string_view>

#include "domains/binder/session.h"
#include "domains/names/publish.h"
#include "domains/services/migrant.if.h"
#include "names/name_space.h"

namespace nemesis::services {

/// An object that can move. Its operations fail with NoSuchObject while !is_here(), and are served
/// in place.
class Resident {
public:
    bool is_here() const { return is_here_; }
    /// Its state, in `to`: how many bytes.
    virtual std::uint32_t save(std::span<std::byte, moved_max> to) = 0;
    /// Becomes what was saved. False: that is no state of such an object, and nothing has changed.
    virtual bool restore(std::span<std::byte const> state) = 0;

protected:
    Resident() = default;
    Resident(Resident const&) = delete;
    Resident& operator=(Resident const&) = delete;
    ~Resident() = default;

private:
    friend class Home;
    bool is_here_ = false;
};

/// See the head of this file. owner: the domain; everything given to it is for ever
class Home {
public:
    static constexpr std::uint32_t clients_max = 8;

    /// `name`: the object's, prepared or published by the caller.
    Home(binder::Session& session, names::NameSpace& space, Resident& resident,
         name_service::Publication& name)
        : session_(session), space_(space), resident_(resident), name_(name) {
        for (auto& visitor : visitors_) visitor.home = this;
    }
    Home(Home const&) = delete;
    Home& operator=(Home const&) = delete;

    /// The object begins its life here. requires: it is nowhere
    void begin();
    /// An object for each client, for the Offered of this home; to be served by workers.
    binder::Offered::PerClient per_client();

private:
    enum class Place : std::uint8_t { Elsewhere, Coming, Here, Taken };
    /// One client, as Migrant.
    struct Visitor final : Migrant {
        Home* home = nullptr;
        bool is_used = false;
        Result<marshal::Bytes<moved_max>, MigrantError> take() override {
            return home->take(*this);
        }
        Result<void, MigrantError> settle() override { return home->settle(*this); }
        Result<void, MigrantError> fetch(std::string_view from, std::uint64_t pause) override {
            return home->fetch(from, pause);
        }
    };

    Result<marshal::Bytes<moved_max>, MigrantError> take(Visitor& visitor);
    Result<void, MigrantError> settle(Visitor& visitor);
    Result<void, MigrantError> fetch(std::string_view from, std::uint64_t pause);
    Result<void, MigrantError> fetch_over(invocation::CallClient& other, std::uint64_t pause);
    void arrived();
    void leaves(Visitor& visitor);

    binder::Session& session_;
    names::NameSpace& space_;
    Resident& resident_;
    name_service::Publication& name_;
    Place place_ = Place::Elsewhere;
    Visitor* taker_ = nullptr;  ///< of Taken
    binder::Bound other_;       ///< the home that it comes from
    Visitor visitors_[clients_max];
};

}  // namespace nemesis::services
