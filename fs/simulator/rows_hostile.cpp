// Row 9, first half: disks that somebody wrote with right checksums and wrong content.

#include <chrono>
#include <cstdio>

#include "fs/simulator/mangle.h"
#include "fs/simulator/rows.h"

namespace nemesis::fs::simulator {

RowResult row_hostile_disks(RowOptions const& o) {
    auto const start = std::chrono::steady_clock::now();
    RowResult r;
    Mangled store(1);
    Random random(o.seed);
    u64 const count = o.count ? o.count : 2000;
    for (; r.count < count; ++r.count) {
        std::vector<Edit> edits(1 + random.below(4));
        for (Edit& e : edits) {
            e.block = static_cast<u32>(random.next());
            // Half of them in superblocks and checkpoints, and near the front of any block.
            if (random.chance(2)) e.block = static_cast<u32>(random.below(12));
            e.offset = static_cast<u16>(random.chance(2) ? random.below(24) : random.next());
            e.bits = static_cast<u8>(random.next());
            e.operation = static_cast<u8>(random.next());
            e.value = random.chance(2) ? random.below(300) : random.next() >> random.below(64);
        }
        store.run(edits);
    }
    r.passed = store.stuck == 0 && store.unordered == 0;
    r.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    char text[200];
    std::snprintf(text, sizeof text,
                  "row 9, hostile disks: %llu stores, %llu mounted, %llu read-only, %llu refused, "
                  "%llu requests without an answer, %.1f s, %.0f/s",
                  static_cast<unsigned long long>(r.count),
                  static_cast<unsigned long long>(store.mounted),
                  static_cast<unsigned long long>(store.read_only),
                  static_cast<unsigned long long>(store.refused),
                  static_cast<unsigned long long>(store.stuck), r.seconds,
                  static_cast<double>(r.count) / r.seconds);
    r.text = text;
    return r;
}

}  // namespace nemesis::fs::simulator
