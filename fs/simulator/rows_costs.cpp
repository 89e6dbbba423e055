// Row 6, first half: what cleaning costs. Files of 32 KiB are overwritten whole, nine times of ten
// one of the hottest tenth, in a store that is three quarters full; after the store's capacity has
// been written so many times over, the blocks written are counted for as long again.

#include <chrono>
#include <cstdio>

#include "fs/check/check.h"
#include "fs/simulator/rows.h"

namespace nemesis::fs::simulator {
namespace {

/// Blocks written, parity excluded, for each block of new data.
struct Cost {
    double moved = 0;
    double metadata = 0;
    double summaries = 0;
    double padding = 0;
    double all() const { return 1 + moved + metadata + summaries + padding; }
};

/// What is written: whole files, or one block of them at a time with an fsync behind each.
enum class Writes { Files, BlocksSynced };

Cost write_cost(u32 percent_full, bool hot_and_cold, u32 capacities, u64 seed, std::string* problem,
                Writes writes = Writes::Files) {
    BlockPool pool;
    Memory memory;
    u64 const segments = 512;
    Image image(blocks_for(segments));
    format(image, pool);
    Options o;
    o.frames = 8192;
    o.garbage_ring = 32768;
    o.sort_entries = 131072;
    o.reserve_segments = 8;
    o.checkpoint_segments = 64;
    Machine m(image, pool, memory, o);
    m.disks.in_place = true;
    if (!m.mount()) *problem = "mount";
    Client c(m);
    Random random(seed);
    std::string const data(32768, 'd');
    u64 const files = segments * 252 * percent_full / 100 / 9;
    std::vector<u64> number(files);
    auto const overwrite = [&](u64 i, u64 offset = 0, u64 length = ~u64{0}) {
        Request r;
        r.op = Op::Write;
        r.pnode = number[i];
        r.offset = offset;
        r.length = length < data.size() ? length : data.size();
        r.buffer = reinterpret_cast<u8*>(const_cast<char*>(data.data()));
        if (!m.call(r) || r.error != Error::None) {
            *problem = "write: error " + std::to_string(static_cast<int>(r.error));
        }
    };
    for (u64 i = 0; i < files && problem->empty(); ++i) {
        std::string const name = "f" + std::to_string(i);
        Request r;
        r.op = Op::Create;
        r.pnode = root_directory;
        r.name = {name.data(), static_cast<u32>(name.size())};
        if (!m.call(r) || r.error != Error::None) *problem = "create";
        number[i] = r.attributes.pnode;
        overwrite(i);
    }
    u64 const rounds = segments * 256 / 8;
    Statistics before{};
    for (u32 capacity = 0; capacity < 2 * capacities && problem->empty(); ++capacity) {
        if (capacity == capacities) before = m.store().statistics();
        for (u64 i = 0; i < rounds && problem->empty(); ++i) {
            u64 const hot = files / 10;
            u64 const file =
                hot_and_cold && random.below(10) < 9 ? random.below(hot) : random.below(files);
            if (writes == Writes::Files) {
                overwrite(file);
                continue;
            }
            overwrite(file, random.below(data.size() / block_bytes) * block_bytes, block_bytes);
            if (!m.sync()) *problem = "fsync";
        }
    }
    Statistics const after = m.store().statistics();
    u64 const fresh = after.data_blocks - before.data_blocks;
    auto const part = [&](u64 Statistics::* what) {
        return fresh ? static_cast<double>(after.*what - before.*what) / static_cast<double>(fresh)
                     : 0;
    };
    Cost cost;
    cost.moved = part(&Statistics::moved_blocks);
    cost.metadata = part(&Statistics::metadata_blocks);
    cost.summaries = part(&Statistics::summary_blocks);
    cost.padding = part(&Statistics::padding_blocks);
    if (problem->empty() && c.fsync() != Error::None) *problem = "fsync";
    if (problem->empty()) {
        check::Report const r = check::run(
            [&](u32 disk, u64 n, u8* out) {
                u8 const* b = image.at(disk, n);
                for (u32 i = 0; i < block_bytes; ++i) out[i] = b ? b[i] : 0;
                return true;
            },
            image.blocks_per_disk);
        if (!r.clean) *problem = "check: " + r.problems.front();
    }
    return cost;
}

}  // namespace

RowResult row_write_cost(RowOptions const& o) {
    auto const start = std::chrono::steady_clock::now();
    RowResult r;
    std::string problem;
    u32 const capacities = o.count ? static_cast<u32>(o.count) : 5;
    Cost const cost = write_cost(75, true, capacities, o.seed, &problem);
    r.count = capacities;
    r.passed = problem.empty() && cost.all() > 1 && cost.all() <= 1.6;
    char text[300];
    std::snprintf(text, sizeof text,
                  "row 6, write cost at 75 %% full, 90/10, files of 32 KiB, after %u capacities: "
                  "%.3f (moved %.3f, nodes and pnodes %.3f, summaries %.3f, padding %.3f)",
                  capacities, cost.all(), cost.moved, cost.metadata, cost.summaries, cost.padding);
    r.text = text;
    // The long form has the curves, too. An fsync after each 4 KiB writes a row or two, so that an
    // eighth as many new blocks write as much.
    if (o.count > 0) {
        r.text += "\n  full   32 KiB: uniform   90/10   4 KiB and fsync: uniform   90/10";
    }
    u32 const percent_least = o.length > 2 ? o.length : 20;
    for (u32 percent = percent_least; percent <= 90; percent += 10) {
        if (o.count == 0 || !problem.empty()) break;
        std::snprintf(text, sizeof text, "\n  %2u %%", percent);
        r.text += text;
        for (Writes const writes : {Writes::Files, Writes::BlocksSynced}) {
            for (bool const hot : {false, true}) {
                Cost const at = write_cost(percent, hot, capacities, o.seed, &problem, writes);
                std::snprintf(text, sizeof text, "%*.3f",
                              hot                       ? 8
                              : writes == Writes::Files ? 17
                                                        : 26,
                              at.all());
                r.text += text;
                std::fprintf(stderr,
                             "%u %% full, %s, %s: %.3f (moved %.3f, nodes and pnodes %.3f, "
                             "summaries %.3f, padding %.3f)\n",
                             percent, hot ? "90/10" : "uniform",
                             writes == Writes::Files ? "32 KiB" : "4 KiB and fsync", at.all(),
                             at.moved, at.metadata, at.summaries, at.padding);
            }
        }
    }
    r.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    r.passed = r.passed && problem.empty();
    std::snprintf(text, sizeof text, "%s%.1f s", o.count ? "\n  " : ", ", r.seconds);
    r.text += text;
    if (!problem.empty()) r.text += "\nfirst violation: " + problem;
    return r;
}

}  // namespace nemesis::fs::simulator
