// Goal: what ends is started again as its rule says, ever later and never later than `latest`.
#include "domains/manager/restart_policy.h"

#include <gtest/gtest.h>

namespace nemesis::manager {
namespace {

Instant at(std::int64_t ms) { return Instant() + Duration::ms(ms); }

TEST(RestartPolicy, TheRuleDecides) {
    RestartPolicy policy;
    EXPECT_FALSE(policy.ended(RestartRule::Never, 7, at(0), at(1)));
    EXPECT_FALSE(policy.ended(RestartRule::OnFailure, 0, at(0), at(1)));
    EXPECT_EQ(policy.restarts(), 0u);
    EXPECT_TRUE(policy.ended(RestartRule::OnFailure, 7, at(0), at(1)));
    EXPECT_TRUE(policy.ended(RestartRule::Always, 0, at(0), at(1)));
    EXPECT_EQ(policy.restarts(), 2u);
}

TEST(RestartPolicy, WhoEndsAtOnceIsTriedEverMoreSeldom) {
    RestartPolicy policy;
    auto now = at(5);
    std::int64_t const pauses[] = {10, 20, 40, 80, 160, 320, 640, 1000, 1000};
    for (auto const pause : pauses) {
        auto const next = policy.ended(RestartRule::Always, 1, now, now);
        ASSERT_TRUE(next);
        EXPECT_EQ((*next - now).ns(), Duration::ms(pause).ns());
        now = *next;
    }
    for (int i = 0; i < 100'000; ++i) {
        auto const next = policy.ended(RestartRule::Always, 1, now, now);
        ASSERT_EQ((*next - now).ns(), RestartPolicy::latest.ns());
        now = *next;
    }
}

TEST(RestartPolicy, WhoHasLivedForAWhileBeginsAnew) {
    RestartPolicy policy;
    for (int i = 0; i < 6; ++i) (void)policy.ended(RestartRule::Always, 1, at(0), at(1));
    auto const kept = *policy.ended(RestartRule::Always, 1, at(0), at(1'000));
    EXPECT_GT((kept - at(1'000)).ns(), RestartPolicy::soonest.ns());
    auto const anew = *policy.ended(RestartRule::Always, 1, at(2'000), at(3'001));
    EXPECT_EQ((anew - at(3'001)).ns(), RestartPolicy::soonest.ns());
}

}  // namespace
}  // namespace nemesis::manager
