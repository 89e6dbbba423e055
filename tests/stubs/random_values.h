#pragma once
// Random values of every type of tests/stubs/everything.if, for the property tests.

#include "libnemesis/base/random.h"
#include "tests/stubs/everything.if.h"

namespace nemesis::stubs_test {

namespace types = tests::everything;

template <typename T>
    requires std::is_integral_v<T>
void randomise(Random& random, T& value) {
    // Extremes as often as anything else.
    switch (random.below(4)) {
        case 0:
            value = 0;
            break;
        case 1:
            value = static_cast<T>(~0ull);
            break;
        default:
            value = static_cast<T>(random.next());
    }
}
inline void randomise(Random& random, bool& value) { value = random.below(2) == 1; }
template <typename T>
    requires std::is_floating_point_v<T>
void randomise(Random& random, T& value) {
    value = static_cast<T>(random.between(-1'000'000, 1'000'000)) / 8;
}
inline void randomise(Random& random, types::Colour& value) {
    constexpr types::Colour all[] = {types::Colour::Red, types::Colour::Green, types::Colour::Blue};
    value = all[random.below(3)];
}
inline void randomise(Random& random, types::Wide& value) {
    value = random.below(2) == 0 ? types::Wide::Low : types::Wide::High;
}
template <std::uint32_t max>
void randomise(Random& random, marshal::String<max>& value) {
    (void)value.resize(random.below(max + 1));
    for (std::uint32_t i = 0; i < value.size(); ++i)
        value.data()[i] = static_cast<char>(random.next());
}
template <std::uint32_t max>
void randomise(Random& random, marshal::Bytes<max>& value) {
    (void)value.resize(random.below(max + 1));
    for (auto& b : value.span()) b = static_cast<std::byte>(random.next());
}
template <typename T, std::uint32_t max>
void randomise(Random& random, marshal::Sequence<T, max>& value);
template <typename T, std::size_t count>
void randomise(Random& random, std::array<T, count>& value);
template <typename T>
void randomise(Random& random, std::optional<T>& value);

inline void randomise(Random& random, tests::base::Point& v) {
    randomise(random, v.x), randomise(random, v.y);
}
inline void randomise(Random& random, types::Scalars& v) {
    randomise(random, v.flag), randomise(random, v.a), randomise(random, v.b);
    randomise(random, v.c), randomise(random, v.d), randomise(random, v.e);
    randomise(random, v.f), randomise(random, v.g), randomise(random, v.h);
    randomise(random, v.single), randomise(random, v.real), randomise(random, v.colour);
    randomise(random, v.wide);
}
inline void randomise(Random& random, types::Label& v) {
    randomise(random, v.text), randomise(random, v.data), randomise(random, v.tags);
    randomise(random, v.weight);
}
inline void randomise(Random& random, types::Shape& v) {
    switch (random.below(5)) {
        case 0:
            v = types::Shape::make_nothing();
            return;
        case 1:
            v = types::Shape::make_dot({});
            return randomise(random, v.dot);
        case 2:
            v = types::Shape::make_line({});
            return randomise(random, v.line);
        case 3:
            v = types::Shape::make_label({});
            return randomise(random, v.label);
        default:
            v = types::Shape::make_colour({});
            return randomise(random, v.colour);
    }
}
inline void randomise(Random& random, types::Nested& v) {
    randomise(random, v.labels), randomise(random, v.pairs), randomise(random, v.shape);
    randomise(random, v.maybe), randomise(random, v.rows), randomise(random, v.names);
    randomise(random, v.flags);
}

template <typename T, std::uint32_t max>
void randomise(Random& random, marshal::Sequence<T, max>& value) {
    value.clear();
    for (auto left = random.below(max + 1); left > 0; --left) {
        T item{};
        randomise(random, item);
        (void)value.push_back(item);
    }
}
template <typename T, std::size_t count>
void randomise(Random& random, std::array<T, count>& value) {
    for (auto& item : value) randomise(random, item);
}
template <typename T>
void randomise(Random& random, std::optional<T>& value) {
    value.reset();
    if (random.below(2) == 0) return;
    value.emplace();
    randomise(random, *value);
}

template <typename T>
T random_value(Random& random) {
    T value{};
    randomise(random, value);
    return value;
}

}  // namespace nemesis::stubs_test
