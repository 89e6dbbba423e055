#pragma once
// Standard output and error of a program go to the console in the names that it was started with.
//
// Without a call of this, without a console in the names, and as soon as the console is dead, they
// go to the kernel's log, as everything else does. What is written while activations are off goes
// there too: nobody may block then. Programs with a C runtime only.
//
// context: threads; once, before the program writes

#include <cstdint>

#include "domains/binder/session.h"

namespace nemesis::console {

/// The name below a program's root.
inline constexpr std::string_view name = "console";

/// From now on, if there is a console. `session` is the program's own, and for ever. False: there
/// is none, or it cannot be reached.
bool write_to_console(binder::Session& session);
/// The same for programs that have no session themselves.
bool write_to_console();

}  // namespace nemesis::console
