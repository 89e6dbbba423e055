#pragma once
// RestartPolicy: whether, and when, a domain that has ended is started again.
//
// One for each domain that somebody looks after: init for those of the manifest, the domain manager
// for instances. The first restart comes `soonest` after the end, each further one twice as long
// after it, at most `latest`; who has lived longer than `latest` begins anew. So a program that
// ends at once costs its parent one start in `latest`, for ever. Hardware free; no system calls.

#include <cstdint>
#include <optional>

#include "libnemesis/base/units.h"

namespace nemesis::manager {

/// After which ends a domain is started again.
enum class RestartRule : std::uint8_t {
    Never = 0,
    OnFailure = 1,  ///< when its exit code is not 0, a fault among them
    Always = 2,
};

/// See the head of this file.
class RestartPolicy {
public:
    static constexpr auto soonest = Duration::ms(10), latest = Duration::ms(1'000);

    /// The domain has ended: when it is to be started again, or never. units: absolute
    std::optional<Instant> ended(RestartRule rule, std::uint64_t exit_code, Instant started,
                                 Instant at) {
        if (rule == RestartRule::Never || (rule == RestartRule::OnFailure && exit_code == 0))
            return std::nullopt;
        if (at - started > latest) failures_ = 0;
        auto pause = soonest;
        for (std::uint32_t i = 0; i < failures_ && pause < latest; ++i) pause = pause * 2;
        if (pause < latest) ++failures_;
        ++restarts_;
        return at + (pause < latest ? pause : latest);
    }
    /// How often it has been started again.
    std::uint32_t restarts() const { return restarts_; }

private:
    std::uint32_t failures_ = 0;  ///< in a row
    std::uint32_t restarts_ = 0;
};

}  // namespace nemesis::manager
