#include "libnemesis/invocation/call_batch.h"

namespace nemesis::invocation {

Failure CallBatch::refill(std::uint32_t body_max) {
    auto& client = client_;
    if (client.batch_ != nullptr || !client.open_ || client.dead_ || body_max > client.body_bytes_)
        [[unlikely]]
        return refill_slowly(body_max);
    return take();
}

Failure CallBatch::refill_slowly(std::uint32_t body_max) {
    // This settles the client's batch, whichever it is.
    if (auto const why = client_.make_ready(body_max, 0); why != Failure::None) return why;
    return take();
}

inline Failure CallBatch::take() {
    auto& client = client_;
    auto const taken = client.requests_.take_rows();
    if (!taken) [[unlikely]]
        return broken();
    if (taken->count == 0) [[unlikely]]
        return Failure::Busy;
    at_ = taken->first;
    left_ = taken->count;
    begin_ = taken->begin;
    rest_ = taken->rest;
    taken_ = left_ + rest_;
    slot_bytes_ = client.requests_.slot_bytes();
    room_ = client.body_bytes_ + 1;
    client.batch_ = this;
    return Failure::None;
}

Failure CallBatch::broken() {
    client_.peer_died();
    return Failure::BadMessage;
}

void CallBatch::turn() {
    at_ = begin_;
    left_ = rest_;
    rest_ = 0;
    if (left_ == 0) room_ = 0;
}

void CallBatch::settle() {
    auto const written = taken_ - left_ - rest_;
    room_ = 0;
    client_.batch_ = nullptr;
    client_.requests_.publish_taken(written);
    unsent_ += written;
}

Result<CallBatch::Incoming, Failure> CallBatch::call(Outgoing const& outgoing, CallTarget target,
                                                     std::uint32_t bytes, Instant until) {
    // The slot of `outgoing` is the next one when those before it are published.
    settle();
    if (client_.requests_.free_slots_now().value_or(0) == 0) [[unlikely]]
        return fail(broken());
    unsent_ = 0;  // the call's event is theirs too
    return client_.call(outgoing, target, bytes, until);
}

void CallBatch::send(bool donate) {
    auto& client = client_;
    if (client.batch_ == this) settle();
    if (unsent_ == 0) return;
    unsent_ = 0;
    if (client.open_ && !client.dead_) client.tell(donate);
}

}  // namespace nemesis::invocation
