// tally_image: the code of a Tally as an image that its callers fetch (object_fetcher.h). Not a
// program: it is entered at nem_object, once for each object.
#include <new>

#include "domains/services/tally_object.h"

namespace {

using namespace nemesis;

class Fetched final : public services::TallyObject {};
alignas(Fetched) std::byte memory[sizeof(Fetched)];

}  // namespace

/// The object with this state, as `Tally*`; null: another interface, or no state of one.
extern "C" void* nem_object(std::byte const* state, std::uint64_t bytes,
                            std::uint64_t interface_low) {
    if (interface_low != services::Tally::info.hash.low) return nullptr;
    auto& object = *new (memory) Fetched;
    if (!object.make_from({state, bytes})) return nullptr;
    return static_cast<services::Tally*>(&object);
}
