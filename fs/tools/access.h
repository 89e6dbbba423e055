#pragma once
// StoreAccess: what a verb needs of a store, whoever owns the disks: this process (HostStore) or
// another one that is reached through its control socket (RemoteStore).

#include <memory>
#include <string>
#include <vector>

#include "fs/core/store.h"

namespace nemesis::fs::tools {

/// What the owner can be told to do; `number` is a disk where one is meant.
enum class Order : u32 { Status, Clean, Scrub, Fail, Replace, UseModel };

/// The owner's answer to an order: the state after it. Plain data, sent over the socket as it is.
struct StoreStatus {
    DiskState disk[disks] = {};
    Health health = Health::Unmounted;
    bool rebuilding = false;
    bool cleaning = false;
    bool scrubbing = false;
    bool accepted = false;  // the order could be carried out
    u32 damage_count = 0;
    u64 rebuild_cursor = 0;
    u64 scrub_cursor = 0;
    u32 process = 0;
    u32 streams_max = 0;
    DiskModel model{};
    Statistics statistics{};
    Store::Damage damage[Store::damage_max] = {};
    u64 units = 0;  // of the tertiary volume, ever written
    bool shelf_there = false;
    char shelf[256] = {};  // where the tertiary volume is; empty: the store has none
    char mounted_at[256] = {};
};

/// A store by its requests and orders.
class StoreAccess {
public:
    virtual ~StoreAccess() = default;
    /// Runs one request to its end. errors: as the request's; Damaged too when the owner is gone
    virtual Error call(Request& r) = 0;
    virtual StoreStatus order(Order what, u32 number = 0, DiskModel model = {}) = 0;
    /// Flushes and lets go of the disks. False: not cleanly.
    virtual bool close() = 0;

    /// The file of that path, components separated by '/'.
    Error lookup(std::string const& path, Attributes* out);
    /// A request with the caller's identity; the owner of the disks may do everything.
    static Request request(Op op, u64 pnode);
};

/// How a store is opened.
struct OpenOptions {
    u32 streams = 0;     // recorded or played at once
    bool owner = false;  // only as owner of the disks: never through another process
};

/// Opens the disks, or a connection to the process that owns them.
/// errors: text that says what to do
std::unique_ptr<StoreAccess> open_store(std::vector<std::string> const& paths,
                                        OpenOptions const& options, std::string* problem);

}  // namespace nemesis::fs::tools
