#pragma once
// Maillons: handles to objects that may be anywhere.
//
// A maillon is a value of fixed size: an opaque reference, and a function that yields the interface
// when it is called with the maillon. m->operation(...) reads like a pointer. When the function is
// null the reference is the interface itself, and an inline test of two instructions goes straight
// to it. Otherwise the function may connect, start a service or fetch the object first; it may make
// the maillon direct (set_direct), so that the next call is as fast as a pointer. Whoever replaces
// the function is obeyed by the next call.
//
// If the function fails, the call fails: operator-> yields an implementation of which every
// operation returns that failure. A maillon that was never set fails with Unreachable.
// A maillon owns nothing; what keeps an object alive is a Held (handles.h).
// Source: PEG94 "Naming and Invocation".

#include <cstdint>

#include "libnemesis/base/result.h"
#include "libnemesis/invocation/interface.h"

namespace nemesis::invocation {

/// A maillon without its type. shape: 16 bytes: reference, function
class AnyMaillon {
public:
    /// Yields the pointer to the interface, and may change the maillon. errors: Failure
    using Function = Result<void*, Failure> (*)(AnyMaillon& self);

    constexpr AnyMaillon() : function_(&unset) {}
    constexpr AnyMaillon(void* reference, Function function)
        : reference_(reference), function_(function) {}

    void* reference() const { return reference_; }
    Function function() const { return function_; }
    bool is_direct() const { return function_ == nullptr; }
    /// From now on the reference is the interface.
    void set_direct(void* interface) {
        reference_ = interface;
        function_ = nullptr;
    }
    /// From the next call on `function` is asked.
    void set_function(void* reference, Function function) {
        reference_ = reference;
        function_ = function;
    }
    /// The interface, asked for now. errors: Failure of the function
    Result<void*, Failure> resolve() {
        if (function_ == nullptr) return reference_;
        return function_(*this);
    }

    friend constexpr bool operator==(AnyMaillon const&, AnyMaillon const&) = default;

protected:
    static Result<void*, Failure> unset(AnyMaillon&) { return fail(Failure::Unreachable); }

    void* reference_ = nullptr;
    Function function_ = nullptr;
};
static_assert(sizeof(AnyMaillon) == 16);

/// A handle to an object with interface `Interface` (generated code). Copying copies the reference.
template <typename Interface>
class Maillon : public AnyMaillon {
public:
    constexpr Maillon() = default;
    /// A handle to an object of this domain.
    constexpr Maillon(Interface* object) : AnyMaillon(object, nullptr) {}  // NOLINT: like a pointer
    constexpr Maillon(void* reference, Function function) : AnyMaillon(reference, function) {}
    /// requires: `any` is a handle to such an object
    explicit constexpr Maillon(AnyMaillon const& any) : AnyMaillon(any) {}

    /// The interface, or one of which every operation fails. context: as the function's
    [[gnu::always_inline]] Interface* operator->() {
        if (function_ == nullptr) [[likely]]
            return static_cast<Interface*>(reference_);
        return ask();
    }

private:
    [[gnu::noinline]] Interface* ask() {
        auto const found = function_(*this);
        return static_cast<Interface*>(
            found && *found != nullptr
                ? *found
                : Interface::info.failing(found ? Failure::Unreachable : found.error()));
    }
};

}  // namespace nemesis::invocation
