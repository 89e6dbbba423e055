#pragma once
// HostStore: a mounted store on five image files or block devices of the host.
//
// The core is single-threaded; one lock guards it. Whoever has the lock submits and runs it: a
// caller with a request, a disk's thread with a completion, the clock's thread when time has come.
// A caller whose request waits for either sleeps until it is done. While it owns the disks it
// answers other commands through a control socket (control.h).

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "fs/tools/access.h"
#include "fs/tools/control.h"
#include "fs/tools/directory_volume.h"
#include "fs/tools/file_disks.h"

namespace nemesis::fs::tools {

/// A mounted store on FileDisks; any thread may call.
class HostStore final : public StoreAccess {
public:
    ~HostStore() override;
    /// Mounts. errors: text that says what to do, empty: mounted; `locked`: another owner has it
    std::string open(std::vector<std::string> const& paths, u32 streams, bool* locked);
    Error call(Request& r) override;
    StoreStatus order(Order what, u32 number, DiskModel model) override;
    bool close() override;
    void mounted_at(std::string const& where) { mounted_at_ = where; }
    Statistics statistics();

private:
    void step();
    void keep_time();
    void tell();
    void adopt_model();

    FileDisks disks_;
    DirectoryVolume volume_;
    std::string shelf_;  // where the volume should be
    std::mutex lock_;
    std::condition_variable moved_;
    std::unique_ptr<u8[]> memory_;
    std::optional<Store> store_;
    std::optional<ControlServer> control_;
    std::thread clock_;
    std::condition_variable wake_clock_;
    Instant clock_due_;
    bool ends_ = false;
    u32 streams_ = 0;
    DiskModel model_{};
    std::string mounted_at_;
};

/// The model of the disks as it is kept in the store: an extended attribute of the root directory.
inline constexpr char const* model_attribute = "user.pegasus.disk_model";
std::string model_text(DiskModel const& model);
bool parse_model(std::string const& text, DiskModel* model);

/// Writes superblocks and the first checkpoint. errors: text
/// `tertiary`: a directory to migrate data to, empty: none
std::string make_store(std::vector<std::string> const& paths, u64 bytes, bool force,
                       std::string const& tertiary, u64* usable);
/// The superblock of the highest generation; false: there is none.
bool newest_superblock(FileDisks& disks, Superblock* out);
/// Mounts at a directory until it is unmounted. `ready` runs once it can be used.
int mount_store(HostStore& store, std::string const& where, void (*ready)());
char const* text_of(Refusal r);

}  // namespace nemesis::fs::tools
