// Remote invocation under simulation: worlds of bad networks and rebooting nodes, one a seed.
//
//   remote_sim [--seeds N] [--from SEED] [--calm]     worlds SEED .. SEED+N-1
//   remote_sim --from SEED --trace                    one world, every event of it
#include <CLI/CLI.hpp>
#include <cstdio>

#include "tests/simulator/remote_world.h"

int main(int argc, char** argv) {
    using namespace nemesis::simulation;
    std::uint64_t seeds = 1000, from = 1;
    WorldOptions options;
    CLI::App app("Remote invocation under simulation");
    app.add_option("--seeds", seeds, "how many worlds");
    app.add_option("--from", from, "the first seed");
    app.add_flag("--calm", options.calm, "no reboots and no partitions");
    app.add_flag("--trace", options.trace, "one world, every event of it");
    CLI11_PARSE(app, argc, argv);
    if (options.trace) seeds = 1;
    WorldReport sum;
    for (std::uint64_t seed = from; seed < from + seeds; seed++) {
        WorldReport const r = run_world(seed, options);
        if (!r.wrong.empty()) {
            std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), r.wrong.c_str());
            return 1;
        }
        sum.calls += r.calls;
        sum.succeeded += r.succeeded;
        sum.not_made += r.not_made;
        sum.unknown += r.unknown;
        sum.announcements += r.announcements;
        sum.executed += r.executed;
        sum.handles += r.handles;
        sum.reboots += r.reboots;
        sum.datagrams += r.datagrams;
        sum.repeated += r.repeated;
        sum.duplicates += r.duplicates;
    }
    auto const show = [](char const* what, std::uint64_t n) {
        std::printf("%12llu %s\n", static_cast<unsigned long long>(n), what);
    };
    show("worlds", seeds);
    show("calls", sum.calls);
    show("succeeded", sum.succeeded);
    show("not made", sum.not_made);
    show("ended otherwise", sum.unknown);
    show("announcements", sum.announcements);
    show("requests executed", sum.executed);
    show("objects exported", sum.handles);
    show("reboots", sum.reboots);
    show("datagrams", sum.datagrams);
    show("repetitions", sum.repeated);
    show("duplicates met", sum.duplicates);
    return 0;
}
