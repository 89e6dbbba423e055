#pragma once
// The one implementation of Digest, for servers in the machine and on the host.

#include "domains/calls/digest.if.h"

namespace nemesis::calls {

/// Does what digest.if says, and keeps the last view: longer than it may be used. context: as its
/// server calls it
class DigestObject final : public Digest {
public:
    Result<std::uint64_t, DigestError> sum(invocation::GrantedView const& data) override {
        last_ = data;
        if (during != nullptr) during(self);
        return sum_of(data);
    }
    Result<std::uint64_t, DigestError> sum_both(invocation::GrantedView const& first, std::uint32_t,
                                                invocation::GrantedView const& second) override {
        last_ = second;
        return sum_of(first) + sum_of(second);
    }
    Result<bool, DigestError> readable() override {
        std::byte one[1];
        return last_.copy(0, one) || last_.load<std::uint8_t>(0).has_value();
    }

    /// Called within `sum`, before it reads.
    void (*during)(void* self) = nullptr;
    void* self = nullptr;

private:
    static std::uint64_t sum_of(invocation::GrantedView const& data) {
        std::uint64_t sum = 0;
        for (std::uint64_t at = 0; at + 8 <= data.size(); at += 8)
            sum += data.load<std::uint64_t>(at).value_or(0);
        return sum;
    }
    invocation::GrantedView last_;
};

}  // namespace nemesis::calls
