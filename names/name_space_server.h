#pragma once
// NameSpaceServer: a NameServer that answers out of a NameSpace of this domain. What serves a name
// space to other domains stands on it; in tests, and between parent and child in one program, it is
// mounted directly.

#include "names/name_server.h"
#include "names/name_space.h"

namespace nemesis::names {

/// Whether those who ask may change names.
enum class ServeRights : std::uint8_t { ReadOnly, ReadWrite };

/// See the head of this file. owner: borrows the name space
class NameSpaceServer final : public NameServer {
public:
    explicit NameSpaceServer(NameSpace& space, ServeRights rights = ServeRights::ReadOnly)
        : space_(space), rights_(rights) {}

    Result<Handle, NameError> resolve(std::string_view path, Request const& request) override {
        return space_.resolve(path, request);
    }
    Result<void, NameError> list(std::string_view path, std::string_view after, NameList& names,
                                 Request const& request) override {
        return space_.list(path, after, names, request);
    }
    Result<void, NameError> bind(std::string_view path, Handle handle, BindMode mode,
                                 Request const& request) override {
        if (rights_ == ServeRights::ReadOnly) return fail(NameError::ReadOnly);
        return space_.bind(path, handle, mode, request);
    }
    Result<void, NameError> make_directory(std::string_view path, Request const& request) override {
        if (rights_ == ServeRights::ReadOnly) return fail(NameError::ReadOnly);
        return space_.make_directory(path, request);
    }
    Result<void, NameError> unbind(std::string_view path, Request const& request) override {
        if (rights_ == ServeRights::ReadOnly) return fail(NameError::ReadOnly);
        return space_.unbind(path, request);
    }
    bool leads_to(NameSpace const& space, unsigned& steps) const override {
        return space_.leads_to(space, steps);
    }

private:
    NameSpace& space_;
    ServeRights rights_;
};

}  // namespace nemesis::names
