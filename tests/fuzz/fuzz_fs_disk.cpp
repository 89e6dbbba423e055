// Fuzz target for the store's disk format. An input is a byte that says what is done with the store
// once it is mounted, one that may take a disk away, and a list of edits of 16 bytes: each changes
// up to eight bytes of any block of a store that has every structure, and all checksums are made
// right again (fs/simulator/mangle.h). The store that mounts this may refuse it or find anything in
// it; every request must come back, and directories in order.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <vector>

#include "fs/simulator/mangle.h"

using namespace nemesis::fs;

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    static simulator::Mangled store(1);
    std::vector<simulator::Edit> edits;
    if (size < 2) return 0;
    // Not all at once: a mount with one part of the work takes a tenth of the time.
    using namespace simulator;
    static constexpr u8 work[] = {0,         use_walk,  use_play, use_change,
                                  use_clean, use_scrub, use_walk, use_change | use_clean};
    u8 const uses = work[data[0] % std::size(work)];
    u32 const absent = data[1];  // a disk; none if there is none of this number
    data += 2;
    size -= 2;
    for (; size >= 16 && edits.size() < 8; data += 16, size -= 16) {
        simulator::Edit e;
        std::memcpy(&e.block, data, 4);
        std::memcpy(&e.offset, data + 4, 2);
        e.bits = data[6];
        e.operation = data[7];
        std::memcpy(&e.value, data + 8, 8);
        edits.push_back(e);
    }
    store.run(edits, uses, absent);
    if (store.stuck > 0 || store.unordered > 0) std::abort();
    return 0;
}
