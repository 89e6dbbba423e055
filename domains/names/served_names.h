#pragma once
// ServedNames: names of this domain for others, over names.if: what a parent gives its child.
//
// Any NameServer can be served; a NameView (names/name_view.h) of the own name space says what of
// it. All clients see the same and change nothing: requests about changes fail with ReadOnly or as
// the server has it. Where the answer needs another server, this domain asks it, on the time of a
// worker and at most `patience` long; so two that mount each other cost a request its patience, and
// no more. Source: PEG94 "Naming and Invocation".

#include "domains/binder/session.h"
#include "domains/names/names.if.h"
#include "names/name_server.h"

namespace nemesis::name_service {

/// See the head of this file. context: workers (CallServer::Mode::Workers); owner: borrows the
/// server
class ServedNames final : public Names {
public:
    explicit ServedNames(names::NameServer& server, Duration patience = Duration::s(1))
        : server_(server), patience_(patience) {}
    ServedNames(ServedNames const&) = delete;
    ServedNames& operator=(ServedNames const&) = delete;

    Result<Found, NamesError> resolve(std::string_view path) override;
    Result<Listed, NamesError> list(std::string_view path, std::string_view after) override;
    Result<Changed, NamesError> bind(std::string_view path, Target const& target,
                                     bool replace) override;
    Result<Changed, NamesError> make_directory(std::string_view path) override;
    Result<Changed, NamesError> unbind(std::string_view path) override;
    /// There is no share of anybody's: all numbers are 0.
    Result<RoomResult, NamesError> room() override { return RoomResult{0, 0, 0, 0}; }

private:
    names::Request request() const;

    names::NameServer& server_;
    Duration patience_;
};

}  // namespace nemesis::name_service
