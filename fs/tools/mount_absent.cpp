// In place of mount.cpp where libfuse3 is not installed.
#include <cstdio>

#include "fs/tools/host_store.h"

namespace nemesis::fs::tools {

int mount_store(HostStore&, std::string const&, void (*)()) {
    std::fprintf(stderr,
                 "pegasus_fs: built without libfuse3; install libfuse3-dev and build again\n");
    return 1;
}

}  // namespace nemesis::fs::tools
