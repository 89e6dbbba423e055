// Fuzz target for the store's disk format. An input is a list of edits of 16 bytes: each changes up
// to eight bytes of any block of a store that has every structure, and all checksums are made right
// again (fs/simulator/mangle.h). The store that mounts this may refuse it or find anything in it;
// every request must come back, and directories in order.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "fs/simulator/mangle.h"

using namespace nemesis::fs;

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    static simulator::Mangled store(1);
    std::vector<simulator::Edit> edits;
    for (; size >= 16 && edits.size() < 8; data += 16, size -= 16) {
        simulator::Edit e;
        std::memcpy(&e.block, data, 4);
        std::memcpy(&e.offset, data + 4, 2);
        e.bits = data[6];
        e.operation = data[7];
        std::memcpy(&e.value, data + 8, 8);
        edits.push_back(e);
    }
    store.run(edits);
    if (store.stuck > 0 || store.unordered > 0) std::abort();
    return 0;
}
