// rpc_callee: serves null calls, in place, and notes how busy this machine was between two of them.
#include <new>

#include "domains/binder/session.h"
#include "domains/node/busy_meter.h"
#include "domains/node/rpc_bench.if.h"
#include "libnemesis/log/log.h"

namespace {

using namespace nemesis;

class CalleeObject final : public rpc_bench::Callee {
public:
    Result<void, rpc_bench::CalleeError> null() override {
        auto const busy = meter_.look();
        if (count_++ != 0) (void)busy_.push_back(busy);  // before the first there is nothing
        return {};
    }
    Result<void, rpc_bench::CalleeError> clear() override {
        busy_.clear();
        count_ = 0;
        return {};
    }
    Result<marshal::Sequence<std::uint32_t, rpc_bench::samples_max>, rpc_bench::CalleeError>
    samples() override {
        return busy_;
    }

private:
    node::BusyMeter meter_;
    std::uint64_t count_ = 0;
    marshal::Sequence<std::uint32_t, rpc_bench::samples_max> busy_;
};

/// All that lives as long as the domain: no destructors are ever run.
struct Everything {
    CalleeObject object;
    invocation::Backlog backlog;
    binder::Session session;
    binder::Offered offered{static_cast<rpc_bench::Callee*>(&object), rpc_bench::Callee::info,
                            backlog};
};
alignas(Everything) std::byte memory[sizeof(Everything)];
Thread server;
alignas(16) std::byte server_stack[32 * 1024];

}  // namespace

extern "C" void nem_main(abi::Environment const&) {
    auto& all = *new (memory) Everything;
    if (!all.session.open()) return log::line("no binder");
    if (!all.session.offer(all.offered, {.name = "callee", .slots = 4}))
        return log::line("the binder does not take the offer");
    auto const work = [](void* self) { static_cast<invocation::Backlog*>(self)->run(); };
    if (!server.start(work, &all.backlog,
                      {.stack = server_stack, .stack_bytes = sizeof(server_stack)}))
        return log::line("no context slot for the worker");
    all.session.serve();
}
