#pragma once
// OwnNames: the name space that a domain starts with.
//
// A parent that starts a domain may name a root: an offer of names.if that serves what the domain
// is given (served_names.h). Then the domain's names are inherited from it, part by part as
// names/inheritance.h says: by convention /global is shared, so that what the parent sees there is
// seen at once, and all else is the domain's own copy. A name that is not given is not there. With
// no root the domain has the system's names at /global, and nothing else.
//
// The name space is the domain's own in either case: what it binds there nobody else sees. Source:
// PEG94 "Naming and Invocation": "every process starts up with a built-in name space".

#include <span>

#include "domains/names/names_client.h"
#include "names/inheritance.h"

namespace nemesis::name_service {

/// See the head of this file. owner: the domain, and it is for ever: the name space borrows it
class OwnNames {
public:
    explicit OwnNames(binder::Session& session) : session_(session) {}
    OwnNames(OwnNames const&) = delete;
    OwnNames& operator=(OwnNames const&) = delete;

    /// Fills the empty `space`. Once. errors: those of names::inherit; Unreachable: the root, or
    /// the binder, does not answer (then the space holds a part, and is to be thrown away);
    /// context: a thread; O(names copied) calls
    [[nodiscard]] Result<void, names::NameError> open(
        names::NameSpace& space,
        std::span<names::InheritRule const> rules = names::conventional_rules,
        names::Request const& request = {});

    /// Whether a parent has named a root. requires: open has been called
    bool is_given() const { return root_ != 0; }
    /// The root, to be passed on to children: the offer's number; 0: none.
    std::uint64_t root() const { return root_; }

private:
    binder::Session& session_;
    std::uint64_t root_ = 0;
    SystemNames server_{session_};
};

}  // namespace nemesis::name_service
