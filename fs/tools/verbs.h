#pragma once
// The verbs of pegasus_fs: each a function of a store (or of disks) and the command line.
// Results: 0 done; 1 it could not be done, with one line that says why; 2 wrong input.

#include <map>
#include <string>
#include <vector>

#include "fs/tools/access.h"

namespace nemesis::fs::tools {

/// The command line, checked against the verb's description.
struct Arguments {
    std::string verb;
    std::vector<std::string> disk;  // five paths, or none
    std::vector<std::string> rest;
    std::map<std::string, std::string> option;
    bool json = false;
    bool has(std::string const& name) const { return option.contains(name); }
    std::string text(std::string const& name, std::string const& otherwise = "") const;
    u64 number(std::string const& name, u64 otherwise) const;
    double decimal(std::string const& name, double otherwise) const;
};

/// One line on the error output (and with --json an object on the output); returns 1.
int complain(Arguments const& a, std::string const& text);
int complain(Arguments const& a, std::string const& path, Error e);
/// The same for wrong input; returns 2.
int refuse(Arguments const& a, std::string const& text);
/// Text in quotes for JSON.
std::string quoted(std::string const& text);
char const* text_of(Error e);
bool split(std::string const& path, std::string* parent, std::string* name);

// verbs_files.cpp
int list(StoreAccess& s, Arguments const& a);
int get(StoreAccess& s, Arguments const& a);
int put(StoreAccess& s, Arguments const& a);
int make_directory(StoreAccess& s, Arguments const& a);
int remove(StoreAccess& s, Arguments const& a);
/// The file of that name, and whether it is made by this; else the result of the verb.
int create_or_lookup(StoreAccess& s, Arguments const& a, std::string const& path, PnodeType type,
                     Attributes* out, bool* made);

// verbs_shelf.cpp
int migrate(StoreAccess& s, Arguments const& a);
int recall(StoreAccess& s, Arguments const& a);
/// Tells the user that data on the shelf are waited for, about how long; `ms` 0: not known.
void tell_wait(Arguments const& a, std::string const& path, u64 ms);

// verbs_streams.cpp
int record(StoreAccess& s, Arguments const& a);
int play(StoreAccess& s, Arguments const& a);

// verbs_store.cpp
int make(Arguments const& a);
int mount(Arguments const& a);
int check(Arguments const& a);
int salvage(Arguments const& a);
int simulate(Arguments const& a);
int status(StoreAccess& s, Arguments const& a);
int clean(StoreAccess& s, Arguments const& a);
int scrub(StoreAccess& s, Arguments const& a);
int fail(StoreAccess& s, Arguments const& a);
int replace(StoreAccess& s, Arguments const& a);

// calibrate.cpp
int calibrate(StoreAccess& s, Arguments const& a);

}  // namespace nemesis::fs::tools
