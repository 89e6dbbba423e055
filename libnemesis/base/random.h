#pragma once
// Random numbers for tests, simulators and back-off: the same seed gives the same numbers on every
// machine. Not for secrets. The generator is xoshiro256** (Blackman and Vigna, public domain), its
// state filled from a seed by SplitMix64, so that near seeds give unrelated sequences.

#include <bit>
#include <cstdint>

#include "libnemesis/base/assert.h"

namespace nemesis {

/// The seeding generator, also good as a mixing function for hashes. context: any, O(1)
class SplitMix {
public:
    constexpr explicit SplitMix(std::uint64_t seed) : state_(seed) {}

    constexpr std::uint64_t next() {
        std::uint64_t z = (state_ += 0x9E3779B97F4A7C15);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

private:
    std::uint64_t state_;
};

/// A seeded source of random numbers; also a standard uniform random bit generator.
class Random {
public:
    using result_type = std::uint64_t;

    constexpr explicit Random(std::uint64_t seed) {
        SplitMix mix(seed);
        for (std::uint64_t& word : state_) word = mix.next();
    }

    constexpr std::uint64_t next() {
        std::uint64_t const result = std::rotl(state_[1] * 5, 7) * 9;
        std::uint64_t const t = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= t;
        state_[3] = std::rotl(state_[3], 45);
        return result;
    }

    /// Each number below `bound` equally often. requires: bound > 0; context: any, O(1) on average
    constexpr std::uint64_t below(std::uint64_t bound) {
        ASSERT(bound > 0);
        std::uint64_t const unfair =
            -bound % bound;  // 2^64 mod bound: so many results are one too many
        for (;;) {
            std::uint64_t const r = next();
            if (r >= unfair) return r % bound;
        }
    }

    /// A number of [low, high]. requires: low <= high
    constexpr std::int64_t between(std::int64_t low, std::int64_t high) {
        ASSERT(low <= high);
        std::uint64_t const width =
            static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low) + 1;
        std::uint64_t const offset = width == 0 ? next() : below(width);
        return static_cast<std::int64_t>(static_cast<std::uint64_t>(low) + offset);
    }

    static constexpr std::uint64_t min() { return 0; }
    static constexpr std::uint64_t max() { return ~0ull; }
    constexpr std::uint64_t operator()() { return next(); }

private:
    std::uint64_t state_[4];
};

}  // namespace nemesis
