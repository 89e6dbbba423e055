#include "fs/simulator/judge.h"

#include <algorithm>
#include <map>
#include <sstream>

#include "fs/simulator/films.h"

namespace nemesis::fs::simulator {
namespace {

std::string path_of(std::string const& line) { return line.substr(0, line.find(' ')); }

/// A name of a pnode that has others: which of them stands for it depends on which are there.
bool is_linked(std::string const& line) { return line.find(" =") != std::string::npos; }

bool meet(Rows const& a, Rows const& b) {
    return std::ranges::any_of(a, [&](u64 n) { return b.contains(n); });
}

/// Frames of the film that can be read are right.
std::string film_frames(Client& c) {
    for (u32 stream = 0; stream < film_streams; ++stream) {
        std::string const path = stream == 0 ? "v" : "w";
        std::vector<IndexRecord> index;
        if (c.read_index(path, &index) != Error::None) continue;
        for (u64 n = 0; n < index.size(); ++n) {
            std::string data;
            Error const e = c.read(path, index[n].offset, index[n].bytes, &data);
            if (e == Error::None && data != film_bytes(stream, n)) {
                return path + ": wrong bytes in frame " + std::to_string(n);
            }
        }
    }
    return "";
}

/// The sound, as it is played: it is never on the shelf. `beyond`: frames may be damaged.
std::string played(Client& c, u64 rounds, bool beyond) {
    Error e = c.open_streams({"w"}, stream_play);
    if (e != Error::None) return beyond ? "" : "it cannot be played";
    std::string problem;
    u64 const frames = film_frames_before(1, static_cast<i64>(rounds) * film_round_ns);
    for (u64 n = 0; n < frames && problem.empty(); ++n) {
        std::string data;
        i64 time = 0;
        e = c.play(0, &data, &time);
        if (e == Error::Damaged && beyond) continue;
        if (e != Error::None) {
            if (!beyond) problem = "frame " + std::to_string(n) + " cannot be played";
            break;
        }
        if (data != film_bytes(1, n)) problem = "wrong bytes are played";
    }
    c.close_streams();
    return problem;
}

}  // namespace

void find_rows(Image image, BlockPool& pool, Memory& memory, Written* written) {
    std::istringstream all(written->tree);
    for (std::string line; std::getline(all, line);) {
        Machine m(image, pool, memory);
        Rows mount;
        m.disks.record_reads(&mount);
        if (!m.mount()) return;
        written->mount.insert(mount.begin(), mount.end());
        Rows& rows = written->path[path_of(line)];
        m.disks.record_reads(&rows);
        Client c(m);
        std::string text;
        c.describe(path_of(line), &text);
    }
}

std::string judge_whole(Machine& m, Written const& w) {
    if (m.store().health() != Health::Mounted) return "it cannot be mounted for writing";
    Client c(m);
    std::string text;
    Error const e = c.dump(&text);
    if (e != Error::None) return "error " + std::to_string(static_cast<int>(e));
    if (text != w.tree) return "differs\n" + text + "-- model\n" + w.tree;
    std::string problem = played(c, w.film_rounds, false);
    if (problem.empty()) problem = judge_film(c, {"v", "w"}, {w.film_rounds, w.film_rounds, true});
    if (problem.empty() && m.store().damage_count()) problem = "damage is reported";
    return problem;
}

Honest judge_honest(Machine& m, Written const& w, Rows const* hit, std::string const& besides) {
    Honest h;
    std::map<std::string, std::string> want;
    std::istringstream all(w.tree);
    for (std::string line; std::getline(all, line);) want[path_of(line)] = line;
    Client c(m);
    std::string text;
    Error const e = c.dump(&text, true);
    if (e != Error::None) {
        h.problem = "the tree cannot be read, error " + std::to_string(static_cast<int>(e));
        return h;
    }
    std::map<std::string, std::string> read;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        std::string const path = path_of(line);
        if (path.starts_with(besides)) continue;
        read[path] = line;
        bool const named = line.substr(path.size()).starts_with(" damaged");
        if (named) ++h.damaged;
        if (!named && !is_linked(line) && !is_linked(want[path]) && want[path] != line) {
            h.problem = "wrong: " + line + "\n-- written: " + want[path];
            return h;
        }
    }
    h.whole = read == want;
    for (auto const& [path, line] : want) {
        auto const rows = w.path.find(path);
        if (!hit || rows == w.path.end() || is_linked(line)) continue;
        if (meet(*hit, rows->second) || read[path] == line) continue;
        h.problem = "not there, though nothing that it is read from is wrong: " + line;
        return h;
    }
    h.problem = played(c, w.film_rounds, true);
    if (h.problem.empty()) h.problem = film_frames(c);
    return h;
}

}  // namespace nemesis::fs::simulator
