#pragma once
// Where the C library's standard output and error go: the kernel's log, until a program says
// otherwise. Programs with a C runtime only (c_main.cpp).

#include <cstddef>
#include <string_view>

namespace nemesis {

/// Takes text, yields how much of it; the rest goes to the log. Called by any thread that writes.
using Output = std::size_t (*)(std::string_view text);
/// From now on. context: the program's first thread, before others write
void set_output(Output output);

}  // namespace nemesis
