// mismatch_probe: a client of an interface that the other node speaks in another version. Binding
// must fail, and the log must name both. Exits with 0 if it is so.
#include <new>

#include "domains/node/mismatch/tiles.if.h"
#include "domains/node/service_names.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;

struct Everything {
    binder::Session session;
    node::NodeNames b{session, "b"};
    binder::Bound bound;
};

}  // namespace

extern "C" void nem_main(abi::Environment const&) {
    auto* const memory = pages::take(sizeof(Everything) / abi::kPageSize + 1);
    if (memory == nullptr) sys::exit(1);
    auto& all = *new (memory) Everything;
    if (!all.session.open()) sys::exit(2);
    for (int tries = 0; tries < 50; ++tries) {
        auto const found = all.b.resolve("filter", {.deadline = now() + Duration::ms(200)});
        if (!found) {
            Thread::sleep_until(now() + Duration::ms(50));
            continue;
        }
        auto const bound =
            all.session.bind(all.bound, found->reference, tiles::Filter::info, 4, Instant::never());
        sys::exit(!bound && bound.error() == invocation::Failure::WrongInterface ? 0 : 3);
    }
    sys::exit(4);
}
