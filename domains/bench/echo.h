#pragma once
// The object behind domains/bench/echo.if.

#include "domains/bench/echo.if.h"

namespace nemesis::bench {

class EchoObject final : public Echo {
public:
    Result<void, EchoError> null() override { return {}; }
    Result<std::array<std::uint64_t, 8>, EchoError> echo(
        std::array<std::uint64_t, 8> const& value) override {
        return value;
    }
    Result<std::uint64_t, EchoError> take(ByteView data) override {
        constexpr std::uint64_t words = 8, step = 512;
        if (!data.contains(0, (words - 1) * step + 8)) return fail(EchoError::BadMessage);
        std::uint64_t sum = 0;
        for (std::uint64_t i = 0; i < words; ++i) sum += *data.read<std::uint64_t>(i * step);
        return sum;
    }
    Result<std::uint64_t, EchoError> lend(invocation::GrantedView const& data) override {
        std::uint64_t sum = 0;
        for (std::uint64_t at = 0; at < data.size(); at += 512)
            sum += data.load<std::uint64_t>(at).value_or(0);
        return sum;
    }
    Result<void, EchoError> note(std::array<std::uint64_t, 8> const& value) override {
        ++count_;
        sum_ += value[0];
        return {};
    }
    Result<NotedResult, EchoError> noted() override { return NotedResult{count_, sum_}; }

private:
    std::uint64_t count_ = 0, sum_ = 0;
};

}  // namespace nemesis::bench
