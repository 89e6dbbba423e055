#pragma once
// NameView: the part of a name server's names that somebody else is given: what is below one
// directory, without the parts that are kept, and without handles that mean nothing to others.
//
// What is not given is not there: NotFound, and no listing shows it. A view is read-only. Paths of
// those who ask are checked before they are compared, so that no other way of writing a path leads
// around what is kept. Source: PEG94 "Naming and Invocation": inherited, and partly shared.

#include <span>
#include <string_view>

#include "names/name_server.h"

namespace nemesis::names {

/// See the head of this file. context: as the server's; owner: borrows the server and all texts
class NameView final : public NameServer {
public:
    struct Options {
        /// The directory that is the view's root, as the server knows it.
        std::string_view root = {};
        /// Paths at the server that are not given, nor what is below them.
        std::span<std::string_view const> kept = {};
        /// Whether others can use a handle; none: they can use all.
        bool (*is_given)(Handle const& handle) = nullptr;
    };

    NameView(NameServer& all, Options const& options) : all_(all), options_(options) {}

    /// errors: those of the server; NotFound also for what is not given
    Result<Handle, NameError> resolve(std::string_view path, Request const& request) override;
    /// As NameServer's; asks the server for each name that stands for an object, if handles are
    /// looked at. errors: those of the server; context: O(names of the directory) requests
    Result<void, NameError> list(std::string_view path, std::string_view after, NameList& names,
                                 Request const& request) override;
    // Whoever has a view changes nothing. errors: ReadOnly
    Result<void, NameError> bind(std::string_view, Handle, BindMode, Request const&) override {
        return fail(NameError::ReadOnly);
    }
    Result<void, NameError> make_directory(std::string_view, Request const&) override {
        return fail(NameError::ReadOnly);
    }
    Result<void, NameError> unbind(std::string_view, Request const&) override {
        return fail(NameError::ReadOnly);
    }
    bool leads_to(NameSpace const& space, unsigned& steps) const override {
        return all_.leads_to(space, steps);
    }

private:
    /// A path at the server.
    struct Place {
        char bytes[path_bytes_max];
        std::size_t size = 0;
        std::string_view view() const { return {bytes, size}; }
        bool push(std::string_view names);
    };
    Result<void, NameError> place_of(std::string_view path, Place& place) const;
    bool is_kept(std::string_view place) const;
    bool gives(Place const& directory, NameEntry const& entry, Request const& request) const;

    NameServer& all_;
    Options options_;
};

}  // namespace nemesis::names
