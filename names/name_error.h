#pragma once
// NameError: why an operation on names did not succeed.

#include <cstdint>
#include <string_view>

namespace nemesis::names {

/// Each with its cause; `text` adds what the caller can do. The numbers are part of the protocol
/// between domains: new ones are added at the end.
enum class NameError : std::uint8_t {
    NotFound,        ///< no such name in any layer
    NotADirectory,   ///< a component before the last names an object
    IsADirectory,    ///< the name stands for a directory, where an object is wanted
    Exists,          ///< the name is taken
    NotEmpty,        ///< a directory with names in it
    InUse,           ///< a mount point, or what an alias shows
    BadName,         ///< empty component, "." or "..", or a control character
    TooLong,         ///< component, path or number of components beyond its maximum
    Full,            ///< no memory left in this name space
    Cycle,           ///< the name space would contain itself
    TooManyHops,     ///< the request passed through too many servers: they mount each other
    TooManyLayers,   ///< a union with all its layers taken, or all aliases
    Tangled,         ///< unions within unions need more steps than one resolution may take
    ReadOnly,        ///< no layer of the union takes new names, or the server refuses them
    DeadlinePassed,  ///< the deadline came before the server's answer
    Unreachable,     ///< the server behind a mount is gone or cannot be reached
    NoSuchMount,     ///< the mount has been taken away
    BadAnswer,       ///< the server's answer does not keep to the protocol
    BadHandle,       ///< {0, 0} is no object
    NotYours,        ///< the name was bound by somebody else
};
inline constexpr std::uint8_t name_errors = static_cast<std::uint8_t>(NameError::NotYours) + 1;

/// One sentence for people: cause and remedy. owner: static
constexpr std::string_view text(NameError error) {
    switch (error) {
        case NameError::NotFound:
            return "no such name";
        case NameError::NotADirectory:
            return "a part of the path names an object, not a directory";
        case NameError::IsADirectory:
            return "the name stands for a directory: list it, or go on";
        case NameError::Exists:
            return "the name is taken: unbind it first, or replace it";
        case NameError::NotEmpty:
            return "the directory has names in it: unbind them first";
        case NameError::InUse:
            return "a mount point or shown by an alias: unmount first";
        case NameError::BadName:
            return "components are not empty, not . or .., without control characters";
        case NameError::TooLong:
            return "at most 255 bytes a component, 1023 a path, 64 components";
        case NameError::Full:
            return "the name space's memory is used up: give it more";
        case NameError::Cycle:
            return "the name space would contain itself";
        case NameError::TooManyHops:
            return "name servers mount each other in a circle";
        case NameError::TooManyLayers:
            return "a union has 8 layers, a name space 64 aliases at most";
        case NameError::Tangled:
            return "unions within unions: take some away";
        case NameError::ReadOnly:
            return "nothing here takes new names: mount with accepts_names";
        case NameError::DeadlinePassed:
            return "no answer in time: try later, or allow more";
        case NameError::Unreachable:
            return "the server behind the mount is gone: mount it anew";
        case NameError::NoSuchMount:
            return "that mount has been taken away";
        case NameError::BadAnswer:
            return "the server's answer makes no sense: unmount it";
        case NameError::BadHandle:
            return "an empty handle names no object";
        case NameError::NotYours:
            return "somebody else has bound the name: choose another";
    }
    return "unknown name error";
}

}  // namespace nemesis::names
