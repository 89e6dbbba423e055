#pragma once
// The handles of one connection: what we have let the peer name (exports), and what the peer has
// let us name (imports, each with a proxy).
//
// An exported object stays referenced until the peer has released it as often as it was given, or
// the connection ends; then `unreferenced` is called (and at once if it cannot be given). A number
// means one object: when it is free again it comes back with another generation, so a stale one is
// an error. An imported object is one proxy, however often it was given; who keeps it has a Held
// (held.h), and when nobody has one any more the peer is told how often it was given. A handle that
// comes as an argument is borrowed until the operation returns; one that cannot be taken, for the
// table is full or the call not begun, is given back at once. When the connection ends, imports
// that somebody holds stay, dead, until he lets go: their place is nobody else's object meanwhile.
//
// A handle of the peer's own object goes back as its number and is the direct pointer there. A
// handle of a third domain's object is exported as the proxy it leads to, which forwards (and is
// held as long), if the owner allows that; else refused. Number 0 is the object that the connection
// was made for. Memory: two arrays of the owner's; when one is full, giving or taking fails with
// NoMemory, so what a peer can use up is its own. Context: as the transport's, O(entries); with a
// HandleLink also several threads and closures.

#include <cstdint>
#include <span>

#include "libnemesis/invocation/granted.h"
#include "libnemesis/invocation/handles.h"

namespace nemesis::invocation {

class ConnectionHandles;
struct Import;

/// An object that the peer can name.
struct Export {
    void* object = nullptr;  ///< null: free
    InterfaceInfo const* info = nullptr;
    std::uint64_t references = 0;
    std::uint32_t number = 0;     ///< index, and above it the generation
    Import* forwarded = nullptr;  ///< it is the proxy of this one, held while the peer can name it
};

/// An object of the peer that we can name. A maillon to it has the address of this as reference.
struct Import {
    InterfaceInfo const* info = nullptr;  ///< null: free
    ConnectionHandles* table = nullptr;
    std::uint32_t number = 0;      ///< in the peer's table
    std::uint32_t references = 0;  ///< how often it was given, and not released yet
    std::uint32_t held = 0;        ///< by Helds, by calls as results, by arguments
    std::uint32_t borrowed = 0;    ///< of these: by the arguments of the operation that runs
    bool dead = false;             ///< the connection has ended
    void* interface = nullptr;     ///< the proxy
    alignas(8) std::byte proxy[48];

    /// What a maillon to an import does: yields the proxy. errors: PeerDead, those of reach()
    static Result<void*, Failure> use(AnyMaillon& self);
};

/// What the owner of a connection does for its handles.
class HandleLink {
public:
    /// Keeps others of this domain out until `leave`, which wants what this returns. Nests.
    virtual std::uint64_t enter() = 0;
    virtual void leave(std::uint64_t was) = 0;
    /// Sees to it that calls of imported objects have a way. May block. errors: Busy (here nobody
    /// may block), PeerDead, Unreachable, TimedOut
    virtual Result<void, Failure> reach() = 0;
    /// Tells the peer that `count` references are given back. False: not now; flush() later.
    virtual bool release(std::uint32_t number, std::uint32_t count) = 0;
    /// The first imported handle is here, or something waits for flush().
    virtual void wanted() = 0;
    /// Whether the peer is known to be gone: without a call. False where only calls find out.
    virtual bool is_dead() const { return false; }

protected:
    HandleLink() = default;
    HandleLink(HandleLink const&) = default;
    HandleLink& operator=(HandleLink const&) = default;
    ~HandleLink() = default;
};

/// Refuses what the arguments of `operation` give, but for the first `taken` of the handles in
/// them. bound: O(body), times the handles in it
void refuse_handles(HandleTable& table, std::span<std::uint8_t const> description,
                    std::uint16_t operation, std::span<std::byte const> body,
                    std::uint32_t taken = 0);

/// One side's two tables. Invariant: a place is free, or its references are at least 1.
class ConnectionHandles final : public HandleTable {
public:
    static constexpr std::uint32_t exports_max = 256;

    /// Called when the peer can no longer name an object that was given to it.
    struct Unreferenced {
        void (*function)(void* self, void* object) = nullptr;
        void* self = nullptr;
    };

    /// requires: exports.size() <= exports_max
    ConnectionHandles(std::span<Export> exports, std::span<Import> imports, Transport* transport)
        : exports_(exports), imports_(imports), transport_(transport) {}
    ConnectionHandles(ConnectionHandles const&) = delete;
    ConnectionHandles& operator=(ConnectionHandles const&) = delete;

    /// The object for which the connection was made. requires: there is room for one
    void set_root(void* object, InterfaceInfo const& info) {
        exports_[0] = {.object = object, .info = &info, .references = 1};
    }
    /// A root of which every operation fails: for connections that carry only handles.
    void set_no_root();
    void on_unreferenced(Unreferenced hook) { hook_ = hook; }
    /// From now on the peer's handles are taken, called over `transport`, and released by `link`.
    /// requires: nothing is imported
    void set_imports(std::span<Import> imports, Transport* transport, HandleLink* link) {
        imports_ = imports;
        transport_ = transport;
        link_ = link;
    }
    /// Whether handles of third domains' objects are given, and calls forwarded. Only for who
    /// serves with workers: a forwarded call may have to wait.
    void set_forwarding(bool on) { forwards_ = on; }

    /// The longest bodies that the connection carries: objects with longer ones are not given.
    void set_limits(std::uint32_t request_max, std::uint32_t reply_max) {
        request_max_ = request_max;
        reply_max_ = reply_max;
    }
    /// Whether objects with that interface can be called over this connection.
    bool carries(InterfaceInfo const& info) const {
        return info.request_max <= request_max_ && info.reply_max <= reply_max_;
    }
    Export const& root() const { return *exports_.data(); }  // set_root: there is one
    Instant until() const override { return until_; }
    void set_until(Instant until) { until_ = until; }
    /// Where the peer's granted arguments lie from now on; views of earlier ones are over.
    void set_granted(std::span<std::byte const> bytes) {
        granted_.bytes = bytes;
        ++granted_.calls;
    }

    /// What the peer means by `number`; null if nothing. The number is the peer's.
    Export const* find(std::uint32_t number) const {
        auto const index = number % exports_max;
        if (index >= exports_.size() || exports_[index].object == nullptr ||
            exports_[index].number != number)
            return nullptr;
        return &exports_[index];
    }

    Result<WireHandle, Failure> give(AnyMaillon handle, InterfaceInfo const& info) override;
    /// The receiver owns what it takes: see Held::adopt.
    Result<AnyMaillon, Failure> take(WireHandle const& wire, InterfaceInfo const& info) override {
        return take_as(wire, info, false);
    }
    void take_back(WireHandle const& wire) override {
        if (wire.owner == HandleOwner::Sender) released(wire.number, 1);
    }
    void refuse(WireHandle const& wire) override;
    /// An operation was not begun, or its arguments could not all be taken: what came with it and
    /// nobody has taken is refused. requires: before end_arguments()
    void refuse_untaken(InterfaceInfo const& info, std::uint16_t operation,
                        std::span<std::byte const> body) override;
    /// The same tables, for the arguments of an operation: what they take is borrowed until
    /// end_arguments().
    HandleTable& arguments() { return arguments_; }
    [[gnu::always_inline]] void end_arguments() {
        if (borrows_) [[unlikely]]
            give_borrowed_back();
    }

    /// One more, or one less, wants the object of this maillon, if it is an imported one.
    static void hold(AnyMaillon const& handle);
    static void let_go(AnyMaillon const& handle);
    /// Whether the domain that this handle came from is gone, so that no call through it can
    /// succeed; of others than imported ones false. Beyond a domain that forwards only a call
    /// finds out.
    static bool is_dead(AnyMaillon const& handle);
    /// Tells the peer what could not be told yet.
    void flush();

    /// The peer gives `count` references to `number` back; too many are all.
    void released(std::uint32_t number, std::uint64_t count);
    /// Gives up an imported handle, whoever holds it: for connections without a link. Yields what
    /// to tell the peer: its number, how often it was given. errors: NoSuchObject, it is none of
    /// this connection
    Result<Export, Failure> drop(AnyMaillon const& handle, std::uint32_t& number);
    /// The connection has ended: nothing is referenced any more, and proxies fail.
    void end();
    /// Whether nobody holds anything of this connection: its memory may serve another one.
    bool is_idle() const;

    std::uint32_t exported() const;
    std::uint32_t imported() const;

private:
    friend struct Import;
    class Arguments final : public HandleTable {
    public:
        explicit Arguments(ConnectionHandles& all) : all_(all) {}
        Result<WireHandle, Failure> give(AnyMaillon handle, InterfaceInfo const& info) override {
            return all_.give(handle, info);
        }
        Result<AnyMaillon, Failure> take(WireHandle const& wire,
                                         InterfaceInfo const& info) override {
            return all_.take_as(wire, info, true);
        }
        void take_back(WireHandle const& wire) override { all_.take_back(wire); }
        void refuse(WireHandle const& wire) override { all_.refuse(wire); }
        void refuse_untaken(InterfaceInfo const& info, std::uint16_t operation,
                            std::span<std::byte const> body) override {
            all_.refuse_untaken(info, operation, body);
        }
        Instant until() const override { return all_.until_; }
        GrantedArea* granted() override { return &all_.granted_; }

    private:
        ConnectionHandles& all_;
    };
    class Inside;

    Result<AnyMaillon, Failure> take_as(WireHandle const& wire, InterfaceInfo const& info,
                                        bool borrowed);
    void give_borrowed_back();
    void unheld(Import& i);
    void forget(Export& e);

    std::span<Export> exports_;
    std::span<Import> imports_;
    Transport* transport_;
    HandleLink* link_ = nullptr;
    Arguments arguments_{*this};
    Unreferenced hook_;
    std::uint32_t request_max_ = UINT32_MAX, reply_max_ = UINT32_MAX;
    Instant until_ = Instant::never();
    bool forwards_ = false;
    bool borrows_ = false;
    std::uint32_t taken_ = 0;  ///< handles, by the arguments of the operation that runs
    static constexpr std::uint32_t refused_max = 8;
    std::uint32_t refused_count_ = 0;
    std::uint32_t refused_[refused_max] = {};  ///< numbers, of which the peer must be told yet
    GrantedArea granted_;
};

}  // namespace nemesis::invocation
