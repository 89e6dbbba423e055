#pragma once
// Result<T, E>: what a function returns that can fail, and TRY, which passes a failure on.
//
// Used where exceptions are off (kernel, arch, base, activation handlers). A Result must be looked
// at: it is std::expected under one name, and the functions that return it are [[nodiscard]].

#include <expected>
#include <utility>

namespace nemesis {

template <typename T, typename E>
using Result = std::expected<T, E>;

template <typename E>
constexpr std::unexpected<E> fail(E e) {
    return std::unexpected<E>(std::move(e));
}

}  // namespace nemesis

/// Yields the value of a Result, or returns its error from the enclosing function.
/// Uses the statement-expression extension, which clang and gcc both have.
#define TRY(expression)                                                 \
    ({                                                                  \
        auto&& try_result_ = (expression);                              \
        if (!try_result_) [[unlikely]]                                  \
            return ::std::unexpected(::std::move(try_result_).error()); \
        *::std::move(try_result_);                                      \
    })

/// As TRY, for a Result<void, E>.
#define TRY_VOID(expression)                                            \
    do {                                                                \
        auto&& try_result_ = (expression);                              \
        if (!try_result_) [[unlikely]]                                  \
            return ::std::unexpected(::std::move(try_result_).error()); \
    } while (0)
