// fs_simulate: the crash simulator as a program. `fs_simulate --row N [--seed S] [--count C]`
// reproduces any failure from its row and seed; every row prints its count and its rate.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "fs/simulator/rows.h"

int main(int argc, char** argv) {
    using namespace nemesis::fs::simulator;
    RowOptions options;
    int row = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        std::string const name = argv[i];
        nemesis::fs::u64 const value = std::strtoull(argv[i + 1], nullptr, 0);
        if (name == "--row")
            row = static_cast<int>(value);
        else if (name == "--seed")
            options.seed = value;
        else if (name == "--count")
            options.count = value;
        else if (name == "--length")
            options.length = static_cast<nemesis::fs::u32>(value);
        else {
            std::fprintf(stderr, "unknown option %s\n", argv[i]);
            return 2;
        }
    }
    RowResult const r = run_row(row, options);
    std::printf("%s\n", r.text.c_str());
    return r.passed ? 0 : 1;
}
