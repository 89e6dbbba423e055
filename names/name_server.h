#pragma once
// NameServer: a name space that answers requests, wherever it is: in this domain, behind a
// protected call, or on another machine. What is mounted is one of these.
//
// Every request carries its deadline and how many servers it may still pass through; a server that
// must ask another passes both on (with one hop less), so that servers that mount each other in a
// circle end with TooManyHops instead of never. Paths are relative to the server's root and are the
// caller's: the server checks them.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "libnemesis/base/result.h"
#include "libnemesis/base/units.h"
#include "names/handle.h"
#include "names/name_error.h"
#include "names/path.h"

namespace nemesis::names {

inline constexpr std::uint8_t hops_max = 16;

/// What a request allows. units: `deadline` absolute
struct Request {
    Instant deadline = Instant::never();
    std::uint8_t hops = hops_max;
};

/// What a name in a listing stands for: a mount point is a directory whose names come, at least in
/// part, from elsewhere.
enum class NameKind : std::uint8_t { Object, Directory, MountPoint };

/// One name of a listing.
struct NameEntry {
    NameKind kind = NameKind::Object;
    std::uint8_t length = 0;
    char bytes[component_bytes_max] = {};

    constexpr std::string_view name() const { return {bytes, length}; }
    /// requires: name.size() <= component_bytes_max
    constexpr void set(std::string_view name, NameKind k) {
        kind = k;
        length = static_cast<std::uint8_t>(name.size());
        for (std::size_t i = 0; i < name.size(); i++) bytes[i] = name[i];
    }
};

/// One page of a listing: names in order of their bytes, each once. `more`: ask again, after the
/// last of them.
struct NameList {
    static constexpr std::size_t entries_max = 15;
    std::uint32_t count = 0;
    bool more = false;
    NameEntry entries[entries_max];

    std::span<NameEntry const> names() const { return {entries, count}; }
};

/// What `bind` does with a name that is taken.
enum class BindMode : std::uint8_t { New, Replace };

class NameSpace;

/// See the head of this file. errors: each operation those of the same operation of NameSpace, and
/// DeadlinePassed, Unreachable, TooManyHops; context: threads; may block until the deadline
class NameServer {
public:
    virtual Result<Handle, NameError> resolve(std::string_view path, Request const& request) = 0;
    virtual Result<void, NameError> list(std::string_view path, std::string_view after,
                                         NameList& names, Request const& request) = 0;
    virtual Result<void, NameError> bind(std::string_view path, Handle handle, BindMode mode,
                                         Request const& request) = 0;
    virtual Result<void, NameError> make_directory(std::string_view path,
                                                   Request const& request) = 0;
    virtual Result<void, NameError> unbind(std::string_view path, Request const& request) = 0;

    /// Whether `space` can be reached through this server, as far as can be told without asking
    /// anybody; looks at `steps` mounts at most. For `mount`, which refuses such cycles at once.
    virtual bool leads_to(NameSpace const& space, unsigned& steps) const {
        static_cast<void>(space);
        static_cast<void>(steps);
        return false;
    }

protected:
    NameServer() = default;
    NameServer(NameServer const&) = default;
    NameServer& operator=(NameServer const&) = default;
    ~NameServer() = default;
};

/// A server whose names are only resolved: nothing is listed or changed. context: as NameServer's
class ReadOnlyNames : public NameServer {
public:
    Result<void, NameError> list(std::string_view, std::string_view, NameList& names,
                                 Request const&) override {
        names.count = 0;
        names.more = false;
        return {};
    }
    Result<void, NameError> bind(std::string_view, Handle, BindMode, Request const&) override {
        return fail(NameError::ReadOnly);
    }
    Result<void, NameError> make_directory(std::string_view, Request const&) override {
        return fail(NameError::ReadOnly);
    }
    Result<void, NameError> unbind(std::string_view, Request const&) override {
        return fail(NameError::ReadOnly);
    }

protected:
    ReadOnlyNames() = default;
    ReadOnlyNames(ReadOnlyNames const&) = default;
    ReadOnlyNames& operator=(ReadOnlyNames const&) = default;
    ~ReadOnlyNames() = default;
};

}  // namespace nemesis::names
