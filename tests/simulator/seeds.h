#pragma once
// Which seeds a simulation's test tries that are new each day: chance says, or who looks into what
// it has found.

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>

namespace nemesis::simulation {

/// Seeds from `from` on.
struct Seeds {
    std::uint64_t from = 0, count = 0;
    std::string text;  ///< "VARIABLE=FROM,COUNT", which runs them again

    /// As the environment's `variable` says ("FROM,COUNT"); without it `count` from anywhere.
    static Seeds of_today(std::string const& variable, std::uint64_t count) {
        auto const* const asked = std::getenv(variable.c_str());
        auto const said =
            asked != nullptr ? std::string(asked)
                             : std::to_string(std::random_device()()) + "," + std::to_string(count);
        auto const comma = said.find(',');
        return {std::stoull(said), std::stoull(said.substr(comma + 1)), variable + "=" + said};
    }
};

}  // namespace nemesis::simulation
