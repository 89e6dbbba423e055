#pragma once
// The handles of one connection: what we have let the peer name (exports), and what the peer has
// let us name (imports, each with a proxy).
//
// An exported object stays referenced until the peer has released it as often as it was given, or
// the connection ends; then `unreferenced` is called. An imported object is one proxy, however
// often it was given; `release` tells the peer how often. A handle of the peer's own object goes
// back as its number and is the direct pointer there. A handle that leads elsewhere is exported as
// what it leads to: calls of the peer are forwarded by our proxy. Number 0 is the object that the
// connection was made for. Memory: two arrays of the owner's; when one is full, giving or taking
// fails with NoMemory. context: as the transport's; O(entries)

#include <cstdint>
#include <span>

#include "libnemesis/invocation/handles.h"

namespace nemesis::invocation {

/// An object that the peer can name.
struct Export {
    void* object = nullptr;  ///< null: free
    InterfaceInfo const* info = nullptr;
    std::uint64_t references = 0;
};

/// An object of the peer that we can name.
struct Import {
    InterfaceInfo const* info = nullptr;  ///< null: free
    std::uint32_t number = 0;             ///< in the peer's table
    std::uint32_t references = 0;         ///< how often it was given
    void* interface = nullptr;            ///< the proxy
    alignas(8) std::byte proxy[48];
};

/// One side's two tables. Invariant: a slot is free, or its references are at least 1.
class ConnectionHandles final : public HandleTable {
public:
    /// Called when the peer can no longer name an object.
    struct Unreferenced {
        void (*function)(void* self, void* object) = nullptr;
        void* self = nullptr;
    };

    ConnectionHandles(std::span<Export> exports, std::span<Import> imports, Transport* transport)
        : exports_(exports), imports_(imports), transport_(transport) {}

    /// The object for which the connection was made. requires: there is room for one
    void set_root(void* object, InterfaceInfo const& info) { exports_[0] = {object, &info, 1}; }
    void on_unreferenced(Unreferenced hook) { hook_ = hook; }

    /// The longest bodies that the connection carries: objects with longer ones are not given.
    void set_limits(std::uint32_t request_max, std::uint32_t reply_max) {
        request_max_ = request_max;
        reply_max_ = reply_max;
    }
    /// Whether objects with that interface can be called over this connection.
    bool carries(InterfaceInfo const& info) const {
        return info.request_max <= request_max_ && info.reply_max <= reply_max_;
    }
    Export const& root() const { return exports_[0]; }
    /// The time-out of the call that a worker serves now, as its caller says it: for objects that
    /// have to wait for others themselves.
    Instant until() const { return until_; }
    void set_until(Instant until) { until_ = until; }

    /// What the peer means by `number`; null if nothing. The number is the peer's.
    Export const* find(std::uint32_t number) const {
        if (number >= exports_.size() || exports_[number].object == nullptr) return nullptr;
        return &exports_[number];
    }

    Result<WireHandle, Failure> give(AnyMaillon handle, InterfaceInfo const& info) override;
    Result<AnyMaillon, Failure> take(WireHandle const& wire, InterfaceInfo const& info) override;

    /// The peer gives `count` references to `number` back; too many are all.
    void released(std::uint32_t number, std::uint64_t count);
    /// Gives up an imported handle. Yields what to tell the peer: its number, how often it was
    /// given. errors: NoSuchObject, it is none of this connection
    Result<Export, Failure> drop(AnyMaillon const& handle, std::uint32_t& number);
    /// The connection has ended: nothing is referenced any more, and proxies fail.
    void end();

    std::uint32_t exported() const;
    std::uint32_t imported() const;

private:
    void forget(Export& e);

    std::span<Export> exports_;
    std::span<Import> imports_;
    Transport* transport_;
    Unreferenced hook_;
    std::uint32_t request_max_ = UINT32_MAX, reply_max_ = UINT32_MAX;
    Instant until_ = Instant::never();
};

}  // namespace nemesis::invocation
