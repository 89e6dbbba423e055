#pragma once
// Time quantities: Duration and Instant, both in nanoseconds.
//
// Bare integers never stand for a time. The only arithmetic offered is the one that means
// something: Instant - Instant = Duration, Instant + Duration = Instant. All operations are
// constexpr, never allocate, and may be used by kernel, user domains and host tests alike.
// Values are signed 64-bit counts of ns; 2^63 ns are 292 years, so no check for overflow is made
// on sums of real times. `Instant::never()` is the largest value: "no time-out".

#include <compare>
#include <cstdint>

namespace nemesis {

/// A length of time. units: ns, may be negative.
class Duration {
public:
    constexpr Duration() = default;
    static constexpr Duration ns(std::int64_t n) { return Duration(n); }
    static constexpr Duration us(std::int64_t n) { return Duration(n * 1'000); }
    static constexpr Duration ms(std::int64_t n) { return Duration(n * 1'000'000); }
    static constexpr Duration s(std::int64_t n) { return Duration(n * 1'000'000'000); }
    static constexpr Duration max() { return Duration(INT64_MAX); }
    constexpr std::int64_t ns() const { return ns_; }

    constexpr auto operator<=>(Duration const&) const = default;
    constexpr Duration operator+(Duration d) const { return Duration(ns_ + d.ns_); }
    constexpr Duration operator-(Duration d) const { return Duration(ns_ - d.ns_); }
    constexpr Duration operator-() const { return Duration(-ns_); }
    constexpr Duration operator*(std::int64_t k) const { return Duration(ns_ * k); }
    constexpr Duration operator/(std::int64_t k) const { return Duration(ns_ / k); }
    constexpr std::int64_t operator/(Duration d) const { return ns_ / d.ns_; }
    constexpr Duration operator%(Duration d) const { return Duration(ns_ % d.ns_); }
    constexpr Duration& operator+=(Duration d) {
        ns_ += d.ns_;
        return *this;
    }
    constexpr Duration& operator-=(Duration d) {
        ns_ -= d.ns_;
        return *this;
    }

private:
    explicit constexpr Duration(std::int64_t n) : ns_(n) {}
    std::int64_t ns_ = 0;
};

/// A point in time. units: ns since the machine started, absolute.
class Instant {
public:
    constexpr Instant() = default;
    static constexpr Instant ns(std::int64_t n) { return Instant(n); }
    static constexpr Instant never() { return Instant(INT64_MAX); }
    constexpr std::int64_t ns() const { return ns_; }

    constexpr auto operator<=>(Instant const&) const = default;
    constexpr Instant operator+(Duration d) const { return Instant(ns_ + d.ns()); }
    constexpr Instant operator-(Duration d) const { return Instant(ns_ - d.ns()); }
    constexpr Duration operator-(Instant i) const { return Duration::ns(ns_ - i.ns_); }
    constexpr Instant& operator+=(Duration d) {
        ns_ += d.ns();
        return *this;
    }

private:
    explicit constexpr Instant(std::int64_t n) : ns_(n) {}
    std::int64_t ns_ = 0;
};

}  // namespace nemesis
