// lookup: what a program finds in the names that it was started with.
//
// Each argument is one step: PATH says what the path stands for, NEW=PATH lets NEW stand for it in
// the program's own names, +MS waits so many milliseconds, NAME/ lists the directory. The exit code
// is how many steps failed.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "domains/console/console_output.h"
#include "domains/names/own_names.h"
#include "libnemesis/clock.h"
#include "libnemesis/threads/thread.h"

namespace {

using namespace nemesis;
using names::NameError;

names::Request soon() { return {.deadline = now() + Duration::s(2)}; }

bool say(std::string const& path, NameError why) {
    auto const reason = text(why);
    std::printf("%s: %.*s\n", path.c_str(), static_cast<int>(reason.size()), reason.data());
    return false;
}

bool list(names::NameSpace& space, std::string path) {
    path.pop_back();
    std::string after, line = path + "/:";
    names::NameList page;
    do {
        if (auto const done = space.list(path, after, page, soon()); !done)
            return say(path, done.error());
        for (auto const& entry : page.names()) line += " " + (after = entry.name());
    } while (page.more);
    std::printf("%s\n", line.c_str());
    return true;
}

bool step(names::NameSpace& space, std::string const& word) {
    if (word.starts_with('+')) {
        Thread::sleep_until(now() + Duration::ms(std::atoi(word.c_str() + 1)));
        return true;
    }
    if (word.ends_with('/')) return list(space, word);
    auto const equals = word.find('=');
    auto const path = equals == std::string::npos ? word : word.substr(equals + 1);
    auto const found = space.resolve(path, soon());
    if (!found) return say(path, found.error());
    if (equals == std::string::npos) {
        std::printf("%s: an object\n", path.c_str());
        return true;
    }
    auto const name = word.substr(0, equals);
    auto const bound = space.bind(name, *found, names::BindMode::New, soon());
    return bound ? true : say(name, bound.error());
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<std::byte> memory(names::NameTree::bytes_for(200));
    auto space = names::NameSpace::create(memory, static_cast<std::uint64_t>(now().ns()));
    auto const session = std::make_unique<binder::Session>();
    if (!space || !session->open()) return 255;
    (void)console::write_to_console(*session);
    name_service::OwnNames own(*session);
    if (auto const opened = own.open(*space, names::conventional_rules, soon()); !opened) {
        (void)say("names", opened.error());
        return 254;
    }
    int failed = 0;
    for (int i = 1; i < argc; ++i) failed += step(*space, argv[i]) ? 0 : 1;
    return failed;
}
