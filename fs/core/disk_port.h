#pragma once
// What the core needs of its five disks, given by the caller: a simulator, image files, a driver.
//
// Commands complete in any order, never inside submit(): the caller reports each one later through
// Store::disk_done. A completed write is in the disk's cache; a completed flush means that every
// write completed before the flush was submitted survives a power failure. `data` stays valid until
// the completion, or until abandon() has returned for that disk.
//
// Where several servers can reach the same disks, each has a port of its own, and a disk belongs to
// the port with the highest generation that it has accepted. `Reserve` offers one: it is accepted
// if it is greater than any before, or again the one that this port has. From then on the disk
// refuses writes and flushes of all other ports, also those that were on their way (`Fenced`). A
// disk remembers it as long as its content. Where one process alone can have the disks, which the
// caller sees to in another way, `Reserve` is always good.

#include "fs/core/format.h"

namespace nemesis::fs {

enum class DiskOperation : u8 { Read, Write, Flush, Reserve };
enum class DiskStatus : u8 { Good, Error, Fenced };

/// One command to one disk: consecutive blocks, a buffer each.
struct DiskCommand {
    DiskOperation operation;
    u8 disk;          // position 0..4 of the caller's disks
    u32 tag;          // names the command in disk_done
    u64 block;        // first block on the disk; Reserve: the generation
    u32 count;        // blocks, 0 for a flush and a reservation
    u8* const* data;  // one buffer of block_bytes per block
};

/// The five disks as the caller provides them.
class DiskPort {
public:
    /// Blocks of the disk, 0 when there is none in that position.
    virtual u64 blocks(u32 disk) = 0;
    virtual void submit(DiskCommand const& command) = 0;
    /// Forget all commands of the disk: no buffer of theirs is touched after the return, and no
    /// completion follows.
    virtual void abandon(u32 disk) = 0;

protected:
    ~DiskPort() = default;
};

}  // namespace nemesis::fs
