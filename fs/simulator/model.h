#pragma once
// The oracle's file system: the published meaning of each operation, on plain containers, written
// without looking at the core. A workload is a list of steps; the same list runs on a Client and on
// a Model, and the two must give the same errors and, at any prefix, the same dump.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fs/simulator/machine.h"

namespace nemesis::fs::simulator {

/// What a step does.
enum class StepKind : u8 {
    Create,
    Mkdir,
    Append,
    Overwrite,
    Truncate,
    Punch,
    Link,
    Symlink,
    Rename,
    Unlink,
    Rmdir,
    SetXattr,
    Fsync,
    Exchange,
    RemoveXattr,
    Clean,
    Checkpoint,
    Chmod,
    Settle,
    CreateStream,
    RecordStart,  // path and path2 as a set
    RecordRound,  // round number `length` of both
    RecordStop,
    Migrate,
    Recall,
    Beside,  // scrub and a cleaning pass begin, and go on beside the steps that follow
};

/// One step of a workload.
struct Step {
    StepKind kind = StepKind::Fsync;
    std::string path;
    std::string path2;  // rename and link: target; symlink: text; xattr: name=value
    u64 offset = 0;
    u64 length = 0;
    u8 fill = 'a';
};
/// The step as a person reads it.
std::string to_text(Step const& s);

class Model {
public:
    Error apply(Step const& s);
    std::string dump() const;
    struct Node {
        PnodeType type = PnodeType::File;
        u16 mode = 0644;
        u32 nlink = 1;
        std::string data;
        std::map<std::string, std::string> xattrs;
        std::map<std::string, std::shared_ptr<Node>> children;
    };
    Model();
    Model copy() const;
    std::shared_ptr<Node> find(std::string const& path, Error* error) const;

private:
    Error parent_of(std::string const& path, std::shared_ptr<Node>* d, std::string* name) const;
    Error rename(Step const& s, bool exchange);
    std::shared_ptr<Node> root_;
};

/// What a step writes: `length` bytes that tell where they belong.
std::string content(Step const& s);
Error apply(Client& client, Machine& machine, Step const& s);

}  // namespace nemesis::fs::simulator
