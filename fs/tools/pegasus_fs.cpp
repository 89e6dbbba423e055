// pegasus_fs: a Pegasus store on five image files or block devices, from the command line.
//
// One process owns the disks (a lock on each image) and answers the other commands through a
// control socket; a command that finds no owner opens the disks itself. This file has the table of
// verbs; wrong input is told in one line and ends with 2.

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "fs/tools/verbs.h"

namespace nemesis::fs::tools {

std::string Arguments::text(std::string const& name, std::string const& otherwise) const {
    auto const i = option.find(name);
    return i == option.end() ? otherwise : i->second;
}
u64 Arguments::number(std::string const& name, u64 otherwise) const {
    auto const i = option.find(name);
    return i == option.end() ? otherwise : std::strtoull(i->second.c_str(), nullptr, 0);
}
double Arguments::decimal(std::string const& name, double otherwise) const {
    auto const i = option.find(name);
    return i == option.end() ? otherwise : std::strtod(i->second.c_str(), nullptr);
}

std::string quoted(std::string const& text) {
    std::string out = "\"";
    for (char c : text) {
        if (static_cast<unsigned char>(c) < 32) {
            char code[8];
            std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(c));
            out += code;
            continue;
        }
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + '"';
}

char const* text_of(Error e) {
    switch (e) {
        case Error::Damaged:
            return "damaged beyond redundancy, or the owner of the disks has ended";
        case Error::NoSpace:
            return "no space is left; delete files, or run clean";
        case Error::ReadOnly:
            return "the store is read-only: more is lost than redundancy covers";
        case Error::NoBandwidth:
            return "the guarantee would not hold";
        case Error::Busy:
            return "is being recorded, played, moved or changed by another command";
        case Error::OnShelf:
            return "is on the shelf; recall it first";
        case Error::NoVolume:
            return "the shelf is not there or does not answer; status says where it should be";
        default:
            return std::strerror(static_cast<int>(e));
    }
}

int complain(Arguments const& a, std::string const& text) {
    std::fprintf(stderr, "pegasus_fs: %s\n", text.c_str());
    if (a.json) std::printf("{\"error\":%s}\n", quoted(text).c_str());
    return 1;
}

int complain(Arguments const& a, std::string const& path, Error e) {
    return complain(a, (path.empty() ? "/" : path) + ": " + text_of(e));
}

int refuse(Arguments const& a, std::string const& text) {
    complain(a, text);
    return 2;
}

bool split(std::string const& path, std::string* parent, std::string* name) {
    std::string trimmed = path;
    while (!trimmed.empty() && trimmed.back() == '/') trimmed.pop_back();
    std::size_t const slash = trimmed.rfind('/');
    *parent = slash == std::string::npos ? "" : trimmed.substr(0, slash);
    *name = slash == std::string::npos ? trimmed : trimmed.substr(slash + 1);
    return !name->empty();
}

namespace {

enum class Takes { Nothing, Number, Bytes, Decimal, Text };

struct Option {
    char const* name;
    Takes takes;
    char const* help;
};

struct Verb {
    char const* name;
    char const* operands;  // after the five disks
    std::size_t least;
    std::size_t most;
    bool disks;
    int (*on_disks)(Arguments const&);
    int (*on_store)(StoreAccess&, Arguments const&);
    char const* help;
    std::vector<Option> options;
};

std::vector<Verb> const& verbs() {
    static constexpr std::size_t pairs = 2 * stream_set_max;
    static std::vector<Verb> const table = {
        {"mkfs",
         "",
         0,
         0,
         true,
         make,
         nullptr,
         "make a store, and say how much it holds",
         {{"size", Takes::Bytes,
           "bytes of each disk; makes or resizes image files (1G, 500M, ...)"},
          {"force", Takes::Nothing, "overwrite what the disks hold"},
          {"tertiary", Takes::Text,
           "directory of the shelf, where migrate puts what is not used"}}},
        {"mount",
         "DIRECTORY",
         1,
         1,
         true,
         mount,
         nullptr,
         "mount through FUSE; ends cleanly on unmount and on signals",
         {{"foreground", Takes::Nothing, "do not go to the background"},
          {"streams", Takes::Number, "streams recorded or played at once (16)"}}},
        {"ls", "[PATH]", 0, 1, true, nullptr, list, "list a directory", {}},
        {"get",
         "PATH [FILE]",
         1,
         2,
         true,
         nullptr,
         get,
         "copy a file out, to the output without FILE",
         {}},
        {"put", "FILE PATH", 2, 2, true, nullptr, put, "copy a file in; - is the input", {}},
        {"mkdir", "PATH", 1, 1, true, nullptr, make_directory, "make a directory", {}},
        {"rm", "PATH", 1, 1, true, nullptr, remove, "remove a file or an empty directory", {}},
        {"migrate",
         "PATH [PATH ...]",
         1,
         64,
         true,
         nullptr,
         migrate,
         "put a file's or stream's data on the shelf; of a directory, all below it",
         {{"cold", Takes::Number, "only what has not been changed or read for so many seconds"}}},
        {"recall",
         "PATH [PATH ...]",
         1,
         64,
         true,
         nullptr,
         recall,
         "bring data back from the shelf; reading a file does it, too",
         {}},
        {"record",
         "INPUT PATH [INPUT PATH ...]",
         2,
         pairs,
         true,
         nullptr,
         record,
         "record Y4M, MJPEG or WAV, from files or - ; several as one set",
         {{"rate", Takes::Bytes, "bytes a second to guarantee for each stream (0: none)"},
          {"realtime", Takes::Nothing, "take frames at their times"},
          {"fps", Takes::Decimal, "pictures a second of MJPEG (25)"},
          {"control", Takes::Text, "file with the control stream of an input of any format"}}},
        {"play",
         "PATH [FILE] [PATH FILE ...]",
         1,
         pairs,
         true,
         nullptr,
         play,
         "write a stream out, or a set, to the output without FILE",
         {{"at", Takes::Decimal, "seconds from the start (0; backwards: the end)"},
          {"speed", Takes::Decimal, "times the recorded speed (1); negative: backwards"},
          {"frames", Takes::Number, "end after so many frames of the first stream"},
          {"realtime", Takes::Nothing, "at the frames' times, guaranteed; counts late frames"},
          {"rate", Takes::Bytes, "bytes a second to guarantee (with --realtime: what it needs)"}}},
        {"status", "", 0, 0, true, nullptr, status, "disks, space, owner, guarantees, damage", {}},
        {"clean", "", 0, 0, true, nullptr, clean, "make free segments out of garbage", {}},
        {"scrub", "", 0, 0, true, nullptr, scrub, "read all that is live and mend it", {}},
        {"fail", "N", 1, 1, true, nullptr, fail, "declare disk N (0 to 4) dead", {}},
        {"replace",
         "N",
         1,
         1,
         true,
         nullptr,
         replace,
         "rebuild disk N on the image in its place, blank or stale",
         {}},
        {"calibrate",
         "",
         0,
         0,
         true,
         nullptr,
         calibrate,
         "measure the disks and keep their model: without it no rate is guaranteed",
         {}},
        {"check",
         "",
         0,
         0,
         true,
         check,
         nullptr,
         "prove the store sound, by an independent reader",
         {}},
        {"salvage",
         "",
         0,
         0,
         true,
         salvage,
         nullptr,
         "copy out what can be read of a store, also beyond redundancy",
         {{"to", Takes::Text, "an empty or new directory"}}},
        {"simulate",
         "",
         0,
         0,
         false,
         simulate,
         nullptr,
         "run a row of the proof (fs/README.md)",
         {{"row", Takes::Number, "number of the row"},
          {"seed", Takes::Number, "what everything follows from (1)"},
          {"count", Takes::Number,
           "states, workloads or seconds, as the row says (its short form)"},
          {"length", Takes::Number,
           "steps of a workload in row 1 (2); 3: row 3 loses each disk at every command"}}},
    };
    return table;
}

void print_verb(Verb const& v, std::FILE* out) {
    std::fprintf(out, "  %s %s%s%s\n        %s\n", v.name, v.disks ? "DISKS" : "",
                 v.disks && v.operands[0] ? " " : "", v.operands, v.help);
    for (Option const& o : v.options) {
        static char const* const forms[] = {"", " N", " BYTES", " X", " FILE"};
        std::string const left = std::string("--") + o.name + forms[static_cast<int>(o.takes)];
        std::fprintf(out, "        %-18s %s\n", left.c_str(), o.help);
    }
}

void print_help() {
    std::printf(
        "usage: pegasus_fs VERB [DISK0 DISK1 DISK2 DISK3 DISK4] [OPERANDS] [OPTIONS]\n"
        "A Pegasus store on five image files or block devices. While one process has the disks, "
        "for\ninstance a mount, other commands go through it.\n"
        "every verb takes --json (results as JSON on the output) and --help\n");
    for (Verb const& v : verbs()) print_verb(v, stdout);
    std::printf("exit codes: 0 done; 1 not, and one line says why; 2 wrong input\n");
}

/// Checks the text of an option, and writes sizes out as numbers. False: it is wrong.
bool sound(Takes takes, std::string* text) {
    if (takes == Takes::Text) return !text->empty();
    char* end = nullptr;
    errno = 0;
    if (takes == Takes::Decimal) {
        double const value = std::strtod(text->c_str(), &end);
        return end != text->c_str() && *end == 0 && errno == 0 && std::isfinite(value);
    }
    if (text->empty() || (*text)[0] < '0' || (*text)[0] > '9') return false;
    u64 value = std::strtoull(text->c_str(), &end, 0);
    if (errno != 0) return false;
    if (takes == Takes::Bytes && *end) {
        static char const* const units = "KMGT";
        char const* const unit = std::strchr(units, *end);
        if (!unit || end[1] != 0) return false;
        for (long i = 0; i <= unit - units; ++i) {
            if (value > ~u64{0} / 1000) return false;
            value *= 1000;
        }
        *text = std::to_string(value);
        return true;
    }
    return *end == 0;
}

int run(int argc, char** argv) {
    Arguments a;
    std::vector<std::string> words(argv + 1, argv + argc);
    for (std::string const& w : words) a.json = a.json || w == "--json";
    if (words.empty()) return refuse(a, "no verb is given; pegasus_fs --help lists them");
    if (words[0] == "--help" || words[0] == "-h") {
        print_help();
        return 0;
    }
    Verb const* verb = nullptr;
    for (Verb const& v : verbs()) {
        if (words[0] == v.name) verb = &v;
    }
    if (!verb) return refuse(a, "unknown verb " + words[0] + "; pegasus_fs --help lists them");
    a.verb = words[0];
    for (std::size_t i = 1; i < words.size(); ++i) {
        std::string const& w = words[i];
        if (w == "--json") continue;
        if (w == "--help" || w == "-h") {
            print_verb(*verb, stdout);
            return 0;
        }
        if (!w.starts_with("--")) {
            a.rest.push_back(w);
            continue;
        }
        Option const* option = nullptr;
        for (Option const& o : verb->options) {
            if (w.substr(2) == o.name) option = &o;
        }
        if (!option) return refuse(a, a.verb + " has no option " + w);
        std::string value;
        if (option->takes != Takes::Nothing) {
            if (i + 1 == words.size()) return refuse(a, w + " needs a value");
            value = words[++i];
            if (!sound(option->takes, &value))
                return refuse(a, w + ": " + value + " is no value for it");
        }
        a.option[option->name] = value;
    }
    if (verb->disks) {
        if (a.rest.size() < disks) {
            return refuse(a, a.verb + " needs the five disks of a store, " +
                                 std::to_string(a.rest.size()) + " given");
        }
        a.disk.assign(a.rest.begin(), a.rest.begin() + disks);
        a.rest.erase(a.rest.begin(), a.rest.begin() + disks);
        for (u32 i = 0; i < disks; ++i) {
            for (u32 k = 0; k < i; ++k) {
                if (a.disk[i] == a.disk[k]) return refuse(a, a.disk[i] + " is given twice");
            }
        }
    }
    if (a.rest.size() < verb->least || a.rest.size() > verb->most) {
        return refuse(a, a.verb + " takes " + (verb->disks ? "five disks" : "nothing") +
                             (verb->operands[0] ? std::string(" and ") + verb->operands : ""));
    }
    if (a.verb == "simulate" && !a.has("row")) return refuse(a, "simulate needs --row N");
    if (a.verb == "fail" || a.verb == "replace") {
        std::string const& n = a.rest[0];
        if (n.size() != 1 || n[0] < '0' || n[0] > '4') {
            return refuse(a, n + " is no disk's number, which is 0 to 4");
        }
    }
    if (verb->on_disks) return verb->on_disks(a);
    OpenOptions options;
    bool const streams =
        a.verb == "record" || a.verb == "play" || a.verb == "recall" || a.verb == "get";
    if (streams) options.streams = stream_set_max;
    std::string problem;
    std::unique_ptr<StoreAccess> const store = open_store(a.disk, options, &problem);
    if (!store) return complain(a, problem);
    int const result = verb->on_store(*store, a);
    if (!store->close() && result == 0) {
        return complain(a, "the store could not be closed cleanly; mount again to recover it");
    }
    return result;
}

}  // namespace
}  // namespace nemesis::fs::tools

int main(int argc, char** argv) { return nemesis::fs::tools::run(argc, argv); }
