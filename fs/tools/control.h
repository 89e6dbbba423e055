#pragma once
// The control socket: how other commands reach the process that owns a store's disks.
//
// A Unix socket whose abstract name is the store's number, so nothing is left behind in any folder
// when the owner ends. Only the owner's user and root are served. Both ends are the same program:
// a connection begins with the sizes of the structures, and another version is refused. Messages
// are a header and a payload of stated length; the owner checks all lengths and never trusts them.

#include <atomic>
#include <list>
#include <string>
#include <thread>

#include "fs/tools/access.h"

namespace nemesis::fs::tools {

/// The abstract name of the store's socket; empty: no superblock is readable on any of the disks.
std::string control_name(std::vector<std::string> const& paths);

/// The owner's end: a thread that accepts, and one for each connection.
class ControlServer {
public:
    ControlServer(StoreAccess& store, std::string name) : store_(store), name_(std::move(name)) {}
    ~ControlServer() { stop(); }
    bool start();
    /// Takes no new connection, and waits until those there are have ended.
    void stop();

private:
    void accept_all();
    struct Connection {
        std::thread thread;
        std::atomic<bool> ended = false;
    };
    void serve(int fd);
    StoreAccess& store_;
    std::string name_;
    int listener_ = -1;
    std::thread acceptor_;
    std::list<Connection> connections_;
};

/// The other end.
class RemoteStore final : public StoreAccess {
public:
    ~RemoteStore() override;
    /// False: nobody answers at that name.
    bool connect(std::string const& name);
    Error call(Request& r) override;
    StoreStatus order(Order what, u32 number, DiskModel model) override;
    bool close() override { return !gone_; }

private:
    int fd_ = -1;
    bool gone_ = false;
};

}  // namespace nemesis::fs::tools
