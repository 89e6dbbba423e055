// fs_mutants: row 11 of the proof. Each mutant of core, agent and server (fs/core/mutant.h) is
// turned on in a process of its own, and rows 1 to 10 and 13 are run in short forms, the cheapest
// first, until one notices it.
//
// Noticed means that the row reports a violation or that an assertion fails. A crash or a run that
// does not end is none of the two, so the next row is tried. Every run is first made without a
// mutant: it must pass, or it proves nothing, and it tells which checks it comes to, so that a
// mutant is tried only where it can make a difference. The row fails if a mutant that is not listed
// as a survivor (mutant_table.cpp) survives, or a listed one is noticed.

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "fs/simulator/mutant_table.h"
#include "fs/simulator/rows.h"
#include "fs/simulator/tests_as_rows.h"
#include "libnemesis/base/assert.h"

namespace nemesis::fs {

MutantSwitch mutant_switch;

}  // namespace nemesis::fs

namespace nemesis::fs::simulator {
namespace {

/// When a run is made: always; always, for mutants of agents and servers, and never for others; of
/// the core, and never for others; unless it is to be quick; only when it is to be deep.
enum class When : u8 { Quick, Agents, Core, All, Deep };

/// A short form of a row. `seconds` of processor time are what it takes at most without a mutant.
struct Run {
    int row;
    u64 seed;
    u64 count;
    u32 seconds;
    When when;
};

constexpr Run runs[] = {
    {13, 1, 20000, 2, When::Quick},
    {2, 1, 2000, 3, When::Quick},
    {3, 1, 4, 2, When::Quick},
    {10, 1, 1, 2, When::Quick},
    {9, 1, 100, 2, When::Quick},
    {5, 1, 20, 3, When::Quick},
    {4, 2, 1, 2, When::Quick},
    {16, 1, 0, 3, When::Quick},
    {8, 1, 0, 4, When::Quick},
    {1, 1, 1, 12, When::Quick},
    {3, 2, 20, 6, When::Quick},
    {5, 2, 200, 15, When::Agents},
    {13, 2003, 380000, 25, When::All},
    {13, 3003, 280000, 20, When::All},
    {9, 2, 1000, 6, When::All},
    {10, 2, 6, 10, When::All},
    {4, 1, 0, 20, When::All},
    {2, 2, 20000, 20, When::All},
    {6, 1, 0, 30, When::Deep},
    {7, 1, 120, 40, When::Deep},
    {3, 3, 100, 20, When::Deep},
    {5, 3, 1000, 60, When::Deep},
    {1, 4, 30000, 40, When::Deep},
    {row_of_core_tests, 1, 0, 12, When::Core},
    {row_of_agents_tests, 1, 0, 8, When::Agents},
};

/// From here on mutants are in what agents and servers do, which few rows have.
constexpr Mutant first_of_agents = Mutant::MessageSum;
bool of_their_rows(Run const& run) { return run.row == 5 || run.row == row_of_agents_tests; }
constexpr std::size_t run_count = sizeof runs / sizeof runs[0];

enum class End : u8 { Passed, Violation, Assertion, Crash, Endless };

/// What one run came to.
struct Outcome {
    End end = End::Crash;
    u64 count = 0;
    u64 asked = 0;     // how often the check left out was come to
    std::string site;  // where it is
    std::string how;
    std::array<u64, MutantSwitch::words> seen{};  // checks that were come to
};

/// What a process tells of its run, in one piece.
struct Told {
    End end;
    u32 line;
    u64 count;
    u64 asked;
    u64 seen[MutantSwitch::words];
    char file[40];
    char how[400];
};

int answer = -1;  // the process's end of the pipe

void tell(End end, u64 count, char const* how) {
    Told t{};
    t.end = end;
    t.count = count;
    t.asked = mutant_switch.asked;
    t.line = mutant_switch.line;
    std::memcpy(t.seen, mutant_switch.seen, sizeof t.seen);
    if (char const* file = mutant_switch.file) {
        char const* const slash = std::strrchr(file, '/');
        std::snprintf(t.file, sizeof t.file, "%s", slash ? slash + 1 : file);
    }
    std::snprintf(t.how, sizeof t.how, "%s", how);
    if (write(answer, &t, sizeof t) != sizeof t) _exit(3);
}

/// The first line behind a word, or the first line.
std::string line_after(std::string const& text, char const* word) {
    std::size_t const at = text.find(word);
    std::size_t const from = at == std::string::npos ? 0 : at + std::strlen(word);
    return text.substr(from, text.find('\n', from) - from);
}

[[noreturn]] void run_in_process(Run const& run, Mutant mutant, u64 seeds) {
    rlimit const none{0, 0};
    setrlimit(RLIMIT_CORE, &none);
    rlimit const processor{run.seconds * 3 + 5, run.seconds * 3 + 7};
    setrlimit(RLIMIT_CPU, &processor);
    rlimit const memory{rlim_t{6} << 30, rlim_t{6} << 30};
    setrlimit(RLIMIT_AS, &memory);
    int const nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, 1);
    dup2(nowhere, 2);
    mutant_switch.on = mutant;
    RowOptions options;
    options.seed = run.seed + 1000 * seeds;
    options.count = run.count;
    bool const tests = run.row == row_of_core_tests || run.row == row_of_agents_tests;
    RowResult const r = tests ? run_tests_as_row(run.row) : run_row(run.row, options);
    tell(r.passed ? End::Passed : End::Violation, r.count,
         r.passed ? "" : line_after(r.text, "first violation: ").c_str());
    _exit(0);
}

/// A process that makes a run.
struct Process {
    pid_t id = 0;
    int pipe = -1;
    std::size_t job = 0;
};

Outcome outcome_of(Process const& p, int status) {
    Outcome o;
    Told t{};
    bool const told = read(p.pipe, &t, sizeof t) == sizeof t;
    close(p.pipe);
    if (told) {
        o.end = t.end;
        o.count = t.count;
        o.asked = t.asked;
        o.how = t.how;
        std::memcpy(o.seen.data(), t.seen, sizeof t.seen);
        if (t.file[0]) o.site = std::string(t.file) + ":" + std::to_string(t.line);
    } else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU) {
        o.end = End::Endless;
        o.how = "does not end";
    } else if (WIFSIGNALED(status)) {
        o.how = std::string("ended by ") + strsignal(WTERMSIG(status));
    } else {
        o.how = "ended without a word";
    }
    return o;
}

bool noticed(Outcome const& o) { return o.end == End::Violation || o.end == End::Assertion; }

/// A mutant on its way through the runs; or, without one, a run that has to pass.
struct Job {
    MutantFacts const* facts = nullptr;
    std::vector<std::size_t> order;  // of runs
    std::size_t next = 0;
    u64 seeds = 0;  // times that all runs were made, each time with other seeds
    u64 odd = 0;    // crashes and runs without an end
    std::string first_odd;
    u64 asked = 0;
    std::string site;
    u64 run_total = 0;
    std::optional<Outcome> caught;
    std::size_t caught_by = 0;
    bool running = false;
    bool ended = false;
};

struct Arguments {
    u64 count = 0;  // of mutants; 0: all
    u64 seed = 0;
    u64 seeds = 1;  // of each run
    u32 jobs = 2;
    bool quick = false;  // listed survivors: the cheap runs only
    bool cheap = false;  // all: the cheap runs only
    bool deep = false;   // the dear runs, too
    bool json = false;
    bool list = false;
    std::string only;
    u64 row = 0;  // runs of that row only; 0: of all
};

u64 today() {
    using namespace std::chrono;
    return static_cast<u64>(floor<days>(system_clock::now()).time_since_epoch().count());
}

std::vector<MutantFacts const*> chosen(Arguments const& a) {
    std::vector<MutantFacts const*> list;
    for (std::size_t i = 0; i < mutant_count; ++i) {
        std::string const name = std::string(",") + mutant_table[i].name + ",";
        bool const named = ("," + a.only + ",").find(name) != std::string::npos;
        if (a.only.empty() || named) list.push_back(&mutant_table[i]);
    }
    if (a.count == 0 || a.count >= list.size()) return list;
    // So many of them, spread over all files and kinds; successive seeds come to others.
    std::vector<MutantFacts const*> part;
    std::size_t const parts = (list.size() + a.count - 1) / a.count;
    for (std::size_t i = a.seed % parts; i < list.size(); i += parts) part.push_back(list[i]);
    return part;
}

/// The runs for a mutant: first the one that noticed it before, then all from the cheapest on.
std::vector<std::size_t> order_of(MutantFacts const& m, Arguments const& a) {
    std::vector<std::size_t> order;
    bool const of_agents = m.mutant >= first_of_agents;
    for (std::size_t i = 0; i < run_count; ++i) {
        bool const its = a.row == 0 || a.row == static_cast<u64>(runs[i].row);
        if (its && m.row == runs[i].row && m.seed == runs[i].seed) order.push_back(i);
    }
    for (std::size_t i = 0; i < run_count; ++i) {
        bool const first = !order.empty() && order[0] == i;
        When const when = runs[i].when;
        bool const all = !a.cheap && !(a.quick && m.survives);
        bool const wanted = when == When::Quick || (when == When::Agents && of_agents) ||
                            (when == When::Core && !of_agents) || (when == When::All && all) ||
                            (when == When::Deep && a.deep);
        bool const short_enough = !(a.quick && m.survives) || runs[i].seconds <= 3;
        bool const its = a.row == 0 || a.row == static_cast<u64>(runs[i].row);
        if (!first && wanted && short_enough && its && (!of_agents || of_their_rows(runs[i])))
            order.push_back(i);
    }
    return order;
}

std::string json_text(std::string const& s) {
    std::string out = "\"";
    for (char c : s) {
        if (c == '"' || c == '\\') out += '\\';
        out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
    }
    return out + "\"";
}

/// Makes the runs of all jobs, several at a time, and tells of each mutant when it is through.
class Row {
public:
    explicit Row(Arguments const& a) : a_(a) {
        for (MutantFacts const* m : chosen(a)) {
            Job j;
            j.facts = m;
            j.order = order_of(*m, a);
            mutants_.push_back(j);
        }
    }

    bool run() {
        auto const start = std::chrono::steady_clock::now();
        if (!a_.json) {
            std::printf("row 11: %zu of %zu mutants, seed %llu\n", mutants_.size(), mutant_count,
                        static_cast<unsigned long long>(a_.seed));
        }
        // Without a mutant; the dear ones, unless all is asked for, when one has noticed something.
        for (std::size_t i = 0; i < run_count; ++i) {
            bool needed = false;
            for (Job const& j : mutants_) {
                needed = needed || std::find(j.order.begin(), j.order.end(), i) != j.order.end();
            }
            bool const many = !a_.quick && mutants_.size() > run_count;
            if (needed && (runs[i].when == When::Quick || many)) look_without(i, 0);
        }
        while (step()) {
        }
        for (Job j : mutants_) {
            std::erase_if(j.order, [&](std::size_t r) { return !comes_to(r, j.facts->mutant); });
            j.ended = j.order.empty();
            jobs_.push_back(j);
            if (j.ended) tell_of(jobs_.back());
        }
        while (step()) {
        }
        std::chrono::duration<double> const took = std::chrono::steady_clock::now() - start;
        return report(took.count());
    }

private:
    Run const& run_of(Job const& j) const { return runs[j.order[j.next]]; }

    bool step() {
        for (std::size_t i = 0; i < jobs_.size() && processes_.size() < a_.jobs; ++i) {
            if (!jobs_[i].running && !jobs_[i].ended) begin(i);
        }
        if (processes_.empty()) return false;
        int status = 0;
        pid_t const id = wait(&status);
        for (std::size_t i = 0; i < processes_.size(); ++i) {
            if (processes_[i].id != id) continue;
            Process const p = processes_[i];
            processes_.erase(processes_.begin() + static_cast<std::ptrdiff_t>(i));
            ended(jobs_[p.job], outcome_of(p, status));
            break;
        }
        return true;
    }

    void begin(std::size_t job) {
        Job& j = jobs_[job];
        int ends[2];
        if (pipe(ends) != 0) std::exit(2);
        std::fflush(stdout);
        pid_t const id = fork();
        if (id < 0) std::exit(2);
        if (id == 0) {
            close(ends[0]);
            answer = ends[1];
            run_in_process(run_of(j), j.facts ? j.facts->mutant : Mutant::None, j.seeds);
        }
        close(ends[1]);
        j.running = true;
        processes_.push_back({id, ends[0], job});
    }

    void ended(Job& j, Outcome const& o) {
        j.running = false;
        ++j.run_total;
        j.asked += o.asked;
        if (j.site.empty()) j.site = o.site;
        if (noticed(o)) {
            j.caught = o;
            j.caught_by = j.order[j.next];
        } else if (o.end != End::Passed) {
            ++j.odd;
            if (j.first_odd.empty()) {
                j.first_odd = "row " + std::to_string(run_of(j).row) + " " + o.how;
            }
            if (!j.facts) j.caught = o;
        }
        bool through = j.caught || ++j.next == j.order.size();
        // What does not end in one row does not in the others.
        if (o.end == End::Endless && j.odd >= 3) through = true;
        if (through && !j.caught && j.seeds + 1 < a_.seeds && j.odd < 3) {
            ++j.seeds;
            j.next = 0;
            through = false;
        }
        if (!through) return;
        j.ended = true;
        if (!j.facts) {
            if (j.seeds == 0) seen_[j.order[0]] = o.seen;
            return;
        }
        if (j.caught) look_without(j.caught_by, j.seeds);
        tell_of(j);
    }

    /// Makes a run without a mutant, once.
    void look_without(std::size_t run, u64 seeds) {
        if (!looked_at_.insert({run, seeds}).second) return;
        Job j;
        j.order = {run};
        j.seeds = seeds;
        jobs_.push_back(j);
    }

    bool comes_to(std::size_t run, Mutant m) const {
        u32 const n = static_cast<u32>(m);
        bool const known = looked_at_.contains({run, 0});
        return !known || (seen_[run][n / 64] >> n % 64 & 1) != 0;
    }

    /// Whether it came out as listed; a deep run may notice what the others do not.
    bool right(Job const& j) const {
        bool const deep = j.caught && runs[j.caught_by].when == When::Deep;
        return deep || j.caught.has_value() == !j.facts->survives;
    }

    std::string result_of(Job const& j) const {
        if (j.caught) {
            Run const& r = runs[j.caught_by];
            return "caught by row " + std::to_string(r.row) + " seed " +
                   std::to_string(r.seed + 1000 * j.seeds) + " after " +
                   std::to_string(j.caught->count) + ": " + j.caught->how;
        }
        std::string s = "SURVIVES " + std::to_string(j.run_total) + " runs";
        s += j.asked ? ", come to " + std::to_string(j.asked) + " times" : ", never come to";
        if (j.odd) s += "; " + std::to_string(j.odd) + " odd ends, first: " + j.first_odd;
        return s;
    }

    void tell_of(Job const& j) {
        ++told_;
        MutantFacts const& m = *j.facts;
        if (a_.json) {
            std::fprintf(stderr, "%zu of %zu\r", told_, mutants_.size());
            return;
        }
        std::printf("[%3zu/%zu] %-22s %-8s %-18s %.140s\n", told_, mutants_.size(), m.name,
                    text_of(m.kind), j.site.empty() ? "-" : j.site.c_str(), result_of(j).c_str());
        if (m.survives) std::printf("          listed: %s\n", m.survives);
        if (!right(j)) {
            std::printf("          %s\n", m.survives ? "IS LISTED AS A SURVIVOR AND IS NONE"
                                                     : "IS NOT LISTED AS A SURVIVOR");
        }
        std::fflush(stdout);
    }

    bool report(double seconds) {
        u64 caught = 0;
        u64 wrong = 0;
        std::string items;
        std::string unsound;
        for (Job const& j : jobs_) {
            if (!j.facts) {
                Run const& r = runs[j.order[0]];
                if (j.caught) {
                    unsound += "row " + std::to_string(r.row) + " seed " +
                               std::to_string(r.seed + 1000 * j.seeds) +
                               " without a mutant: " + j.caught->how + "\n";
                }
                continue;
            }
            caught += j.caught ? 1 : 0;
            wrong += right(j) ? 0 : 1;
            if (!a_.json) continue;
            items += (items.empty() ? "" : ",\n") + std::string("{\"name\":\"") + j.facts->name +
                     "\",\"kind\":\"" + text_of(j.facts->kind) +
                     "\",\"what\":" + json_text(j.facts->what) + ",\"site\":" + json_text(j.site) +
                     ",\"caught\":" + (j.caught ? "true" : "false");
            if (j.caught) {
                Run const& r = runs[j.caught_by];
                items += ",\"row\":" + std::to_string(r.row) +
                         ",\"seed\":" + std::to_string(r.seed + 1000 * j.seeds) +
                         ",\"count\":" + std::to_string(j.caught->count) +
                         ",\"how\":" + json_text(j.caught->how);
            }
            items += ",\"runs\":" + std::to_string(j.run_total) +
                     ",\"asked\":" + std::to_string(j.asked) +
                     ",\"odd\":" + json_text(j.first_odd) + ",\"survives\":" +
                     (j.facts->survives ? json_text(j.facts->survives) : std::string("null")) + "}";
        }
        bool const passed = wrong == 0 && unsound.empty();
        if (a_.json) {
            std::printf(
                "{\"row\":11,\"seed\":%llu,\"passed\":%s,\"count\":%zu,\"caught\":%llu,"
                "\"unlisted\":%llu,\"seconds\":%.3f,\"unsound\":%s,\"mutants\":[%s]}\n",
                static_cast<unsigned long long>(a_.seed), passed ? "true" : "false",
                mutants_.size(), static_cast<unsigned long long>(caught),
                static_cast<unsigned long long>(wrong), seconds, json_text(unsound).c_str(),
                items.c_str());
        } else {
            std::printf(
                "row 11: %zu mutants, %llu caught, %llu survive; %llu not as listed; "
                "%.0f s\n%s",
                mutants_.size(), static_cast<unsigned long long>(caught),
                static_cast<unsigned long long>(mutants_.size() - caught),
                static_cast<unsigned long long>(wrong), seconds, unsound.c_str());
        }
        return passed;
    }

    Arguments const a_;
    std::vector<Job> mutants_;
    std::deque<Job> jobs_;  // some are added while others are looked at
    std::size_t told_ = 0;
    std::vector<Process> processes_;
    std::set<std::pair<std::size_t, u64>> looked_at_;
    std::array<std::array<u64, MutantSwitch::words>, run_count> seen_{};  // without a mutant
};

int list_all() {
    for (std::size_t i = 0; i < mutant_count; ++i) {
        MutantFacts const& m = mutant_table[i];
        std::printf("%-22s %-8s %s\n", m.name, text_of(m.kind), m.what);
        if (m.survives) std::printf("    survives: %s\n", m.survives);
    }
    return 0;
}

int usage() {
    std::fprintf(
        stderr,
        "usage: fs_mutants [--count N] [--seed S] [--seeds N] [--jobs N] [--only NAME,...]\n"
        "                  [--row N] [--tenth] [--quick] [--cheap] [--deep] [--list] [--json]\n");
    return 2;
}

}  // namespace
}  // namespace nemesis::fs::simulator

/// An assertion is one way of noticing a mutant: said to the process that has asked.
void nemesis::assertion_failed(char const* condition, char const* file, int line) {
    using namespace nemesis::fs::simulator;
    std::string const how =
        std::string(file) + ":" + std::to_string(line) + ": assertion failed: " + condition;
    if (answer < 0) {
        std::fprintf(stderr, "%s\n", how.c_str());
        std::abort();
    }
    tell(End::Assertion, 0, how.c_str());
    _exit(0);
}

int main(int argc, char** argv) {
    using namespace nemesis::fs::simulator;
    Arguments a;
    bool seeded = false;
    for (int i = 1; i < argc; ++i) {
        std::string const name = argv[i];
        if (name == "--json") {
            a.json = true;
        } else if (name == "--quick") {
            a.quick = true;
        } else if (name == "--cheap") {
            a.cheap = true;
        } else if (name == "--deep") {
            a.deep = true;
        } else if (name == "--list") {
            a.list = true;
        } else if (name == "--tenth") {
            a.count = (mutant_count + 9) / 10;
        } else if (i + 1 == argc) {
            return usage();
        } else if (name == "--only") {
            a.only = argv[++i];
        } else {
            char* rest = nullptr;
            nemesis::fs::u64 const value = std::strtoull(argv[++i], &rest, 0);
            if (*rest || rest == argv[i]) return usage();
            if (name == "--count") {
                a.count = value;
            } else if (name == "--seed") {
                a.seed = value;
                seeded = true;
            } else if (name == "--seeds") {
                a.seeds = std::clamp<nemesis::fs::u64>(value, 1, 1000);
            } else if (name == "--row") {
                a.row = value;
            } else if (name == "--jobs") {
                a.jobs = static_cast<nemesis::fs::u32>(std::clamp<nemesis::fs::u64>(value, 1, 64));
            } else {
                return usage();
            }
        }
    }
    if (a.list) return list_all();
    if (!seeded) a.seed = today();
    Row row(a);
    return row.run() ? 0 : 1;
}
