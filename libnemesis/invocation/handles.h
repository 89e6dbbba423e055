#pragma once
// Handles in messages: an object's handle becomes a number of somebody's table, and a number
// becomes a handle again.
//
// On the wire a handle says whose object it is. One that the sender owns, or has, is entered into
// the sender's table, and the receiver makes a maillon to a proxy for it; the calls go over the
// same connection. One that the receiver owns comes back as its number in the receiver's table and
// becomes the direct pointer again.

#include <cstdint>

#include "libnemesis/invocation/interface.h"
#include "libnemesis/invocation/maillon.h"
#include "libnemesis/marshal/codec.h"

namespace nemesis::invocation {

/// Whose table a wire handle's number is of.
enum class HandleOwner : std::uint32_t { Nobody = 0, Sender = 1, Receiver = 2 };

/// A handle in a message. shape: 16 bytes
struct WireHandle {
    HandleOwner owner = HandleOwner::Nobody;
    std::uint32_t number = 0;
    std::uint64_t hash = 0;  ///< low half of the interface's
};
static_assert(sizeof(WireHandle) == 16);

struct GrantedArea;

/// One side of a connection, as far as handles go. A call for each handle that travels.
class HandleTable {
public:
    /// Makes `handle` nameable for the peer. errors: NoMemory (table full), Unreachable
    [[nodiscard]] virtual Result<WireHandle, Failure> give(AnyMaillon handle,
                                                           InterfaceInfo const& info) = 0;
    /// What the peer named. errors: NoSuchObject, WrongInterface, NoMemory
    [[nodiscard]] virtual Result<AnyMaillon, Failure> take(WireHandle const& wire,
                                                           InterfaceInfo const& info) = 0;
    /// What was given once was not sent after all.
    virtual void take_back(WireHandle const&) {}
    /// What the peer has given, and nobody takes: the peer is told that it is dropped.
    virtual void refuse(WireHandle const&) {}
    /// The arguments of an operation that this is the table of could not all be taken: the others
    /// are refused. For generated dispatchers.
    virtual void refuse_untaken(InterfaceInfo const&, std::uint16_t, std::span<std::byte const>) {}
    /// The time-out of the call that a worker serves now, as its caller says it: for objects that
    /// have to wait for others themselves.
    virtual Instant until() const { return Instant::never(); }
    /// The peer's area for granted arguments (granted.h), or null.
    virtual GrantedArea* granted() { return nullptr; }

protected:
    ~HandleTable() = default;
};

/// The handles that one message gives, of which there are at most `handles_max`: taken back if it
/// was not sent, or the call certainly not made. For generated code. owner: borrows the table
template <std::uint32_t handles_max>
class Gifts final : public HandleTable {
public:
    explicit Gifts(HandleTable* table) : table_(table) {}
    Gifts(Gifts const&) = delete;
    Gifts& operator=(Gifts const&) = delete;

    /// What the message is written with; null: no handles travel.
    HandleTable* table() { return table_ != nullptr ? this : nullptr; }
    Result<WireHandle, Failure> give(AnyMaillon handle, InterfaceInfo const& info) override {
        if (count_ == handles_max) return fail(Failure::TooLong);
        auto const given = table_->give(handle, info);
        if (given) given_[count_++] = *given;
        return given;
    }
    Result<AnyMaillon, Failure> take(WireHandle const& wire, InterfaceInfo const& info) override {
        return table_->take(wire, info);
    }
    /// The message was not sent.
    [[gnu::noinline]] void take_all_back() {
        while (count_ != 0) table_->take_back(given_[--count_]);
    }
    /// The call has failed so.
    void failed(Failure why) {
        if (was_not_made(why)) take_all_back();
    }

private:
    HandleTable* table_;
    std::uint32_t count_ = 0;
    WireHandle given_[handles_max];
};

}  // namespace nemesis::invocation

namespace nemesis::marshal {

/// A handle: 16 bytes, no tail. An unset maillon travels as nobody's.
template <typename Interface>
struct Codec<invocation::Maillon<Interface>> {
    static constexpr std::uint32_t size = 16, align = 8;
    static constexpr std::uint64_t tail_max = 0;
    static bool put(Writer& w, std::uint32_t at, invocation::Maillon<Interface> const& value) {
        invocation::WireHandle wire;
        if (!(value == invocation::Maillon<Interface>())) {
            if (w.handles() == nullptr) return false;
            auto const given = w.handles()->give(value, Interface::info);
            if (!given) return false;
            wire = *given;
        }
        w.store(at, wire);
        return true;
    }
    static bool get(Reader& r, std::uint32_t at, invocation::Maillon<Interface>& value) {
        invocation::WireHandle wire;
        auto const first = r.load<std::uint64_t>(at);
        wire.owner = static_cast<invocation::HandleOwner>(static_cast<std::uint32_t>(first));
        wire.number = static_cast<std::uint32_t>(first >> 32);
        wire.hash = r.load<std::uint64_t>(at + 8);
        value = {};
        if (wire.owner == invocation::HandleOwner::Nobody) return true;
        if (r.handles() == nullptr) return false;
        auto const taken = r.handles()->take(wire, Interface::info);
        if (!taken) return false;
        value = invocation::Maillon<Interface>(*taken);
        return true;
    }
};

}  // namespace nemesis::marshal
