#pragma once
// The one implementation of Tally: in the service, and fetched from it.

#include "domains/services/tally.if.h"
#include "libnemesis/state.h"

namespace nemesis::services {

/// A Tally that has been made from a state, and can be left. context: one caller at a time
class TallyObject : public Tally {
public:
    static constexpr std::uint64_t state_bytes = sizeof(std::uint64_t);

    /// False: that is no state of a Tally.
    bool make_from(std::span<std::byte const> state) {
        if (state.size() != state_bytes) return false;
        __builtin_memcpy(&sum_, state.data(), state_bytes);
        away_ = false;
        return true;
    }

    Result<CodeResult, CodedError> code(std::uint64_t) override {
        return fail(CodedError::NoSuchOperation);
    }
    Result<marshal::Bytes<state_max>, MobileError> leave() override {
        if (away_) return fail(MobileError::Away);
        away_ = true;
        std::byte bytes[state_bytes];
        __builtin_memcpy(bytes, &sum_, state_bytes);
        marshal::Bytes<state_max> state;
        (void)state.assign(bytes);
        return state;
    }
    Result<std::uint64_t, TallyError> add(std::uint64_t n) override {
        if (away_) return fail(TallyError::NoSuchObject);
        return sum_ += n;
    }
    Result<std::uint64_t, TallyError> place() override {
        if (away_) return fail(TallyError::NoSuchObject);
        return dib().id;
    }

protected:
    ~TallyObject() = default;

private:
    std::uint64_t sum_ = 0;
    bool away_ = false;
};

}  // namespace nemesis::services
