#pragma once
// Held: a handle that keeps its object alive.
//
// As long as a Held exists, the owner of the object knows that somebody can name it; when the last
// one of a domain goes, the owner is told. A handle that comes as an argument is borrowed: who
// wants it after the operation has returned makes a Held of it. One that comes as a result belongs
// to the caller: Held::adopt. Handles of this domain's own objects are not counted. Context:
// threads and closures.

#include <utility>

#include "libnemesis/invocation/connection_handles.h"

namespace nemesis::invocation {

/// See the head of this file.
template <typename Interface>
class Held {
public:
    Held() = default;
    explicit Held(Maillon<Interface> const& handle) : handle_(handle) {
        ConnectionHandles::hold(handle_);
    }
    /// Takes over what a call has yielded.
    static Held adopt(Maillon<Interface> const& result) {
        Held h;
        h.handle_ = result;
        return h;
    }
    Held(Held const& other) : Held(other.handle_) {}
    Held(Held&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    Held& operator=(Held other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Held() { ConnectionHandles::let_go(handle_); }

    Maillon<Interface> const& maillon() const { return handle_; }
    Interface* operator->() { return handle_.operator->(); }
    /// Whether the domain that the handle came from is gone (ConnectionHandles::is_dead); no call
    /// is made.
    bool is_dead() const { return ConnectionHandles::is_dead(handle_); }
    explicit operator bool() const { return !(handle_ == Maillon<Interface>()); }

private:
    Maillon<Interface> handle_;
};

}  // namespace nemesis::invocation
