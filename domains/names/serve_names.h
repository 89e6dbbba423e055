#pragma once
// The system's name server as a function, for the program that is it (names_main.cpp) and for one
// that dies of its own accord, in tests (domains/services/mortal_names.cpp).

namespace nemesis::name_service {

/// Serves names until the domain ends; returns, with a line of the log, only if that cannot begin.
/// `arguments`: see the head of names.cpp. context: the main thread, activations on
void serve_names(char const* arguments);

}  // namespace nemesis::name_service
