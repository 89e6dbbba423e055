#pragma once
// Inheritance: how a new domain's name space is made from its parent's, part by part: copied (from
// then on private to the child), shared (mounted: the parent is asked each time), or left out.
//
// Works on the parent's server, so parent and child may be different domains. What is a mount point
// at the parent is never copied but shared: its names belong to somebody else.
// Source: PEG94 "Naming and Invocation": inherited from a parent and at least partly shared.

#include <span>
#include <string_view>

#include "names/name_space.h"

namespace nemesis::names {

/// By convention, and only by that, the names that all domains share hang here.
inline constexpr std::string_view global_directory = "global";

/// What happens to a part of the parent's names.
enum class Inherit : std::uint8_t { Private, Shared, Nothing };

/// The rule for `path` and everything below it for which there is no other rule.
struct InheritRule {
    std::string_view path;
    Inherit how;
};

/// What a child gets if nobody says otherwise: /global shared, all else its own copy.
inline constexpr InheritRule conventional_rules[] = {{global_directory, Inherit::Shared}};

/// Fills the empty name space `child` from `parent`, which the child keeps if something is shared.
/// errors: those of the operations, Full above all; then `child` holds a part and is to be thrown
/// away; context: threads; O(names copied) requests; owner: `parent` outlives the child's mounts
[[nodiscard]] Result<void, NameError> inherit(NameSpace& child, NameServer& parent,
                                              std::span<InheritRule const> rules,
                                              Request const& request = {});

}  // namespace nemesis::names
