#pragma once
// A tertiary volume as a directory of files, a unit each (docs/formats/fs_tertiary.md).
//
// One thread does what the core asks for. A unit goes to a file beside its place, which is flushed
// and renamed, and then the folder is flushed: a unit is there whole or not at all. What is got
// lies in the thread's own memory first and is copied under the store's lock.

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "fs/core/tertiary_port.h"

namespace nemesis::fs::tools {

/// A directory of files as the core's tertiary volume.
class DirectoryVolume final : public TertiaryPort {
public:
    ~DirectoryVolume() { stop(); }
    /// Makes the directory and its label for the store of that superblock.
    /// errors: text that says what to do
    static std::string make(std::string const& path, Superblock const& store, bool force);
    /// Finds the directory and looks at its label. errors: text
    std::string open(std::string const& path, Superblock const& store);
    /// Starts the thread; `done(status)` runs with `lock` held.
    void start(std::mutex& lock, std::function<void(TertiaryStatus status)> done);
    void stop();

    /// Those that its file system has room for, beside those that are there.
    u64 units() override;
    Duration wait(u64 units) override;
    void submit(TertiaryCommand const& command) override;

    /// The unit's summary and `blocks` blocks; false: it cannot be had.
    bool read(u64 number, u32 blocks, u8* out) const;
    std::string const& path() const { return path_; }

private:
    void serve();
    bool put(TertiaryCommand const& command) const;
    bool erase(u64 number) const;

    std::string path_;
    u64 highest_ = 0;  // number after the last one known to be there
    std::mutex lock_;
    std::condition_variable work_;
    bool ends_ = false;
    bool asked_ = false;
    TertiaryCommand command_{};
    std::thread thread_;
    std::mutex* store_lock_ = nullptr;
    std::function<void(TertiaryStatus)> done_;
};

}  // namespace nemesis::fs::tools
