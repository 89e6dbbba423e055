#pragma once
// A progress bar on the error output, if that is a terminal.

#include <chrono>
#include <string>

#include "fs/core/format.h"

namespace nemesis::fs::tools {

/// One long piece of work. units: `total` in whatever update() counts; 0: not known
class Progress {
public:
    Progress(std::string label, u64 total, bool bytes = false);
    ~Progress();
    void update(u64 done);

private:
    std::string label_;
    u64 total_;
    bool bytes_;
    bool shown_ = false;
    bool terminal_;
    std::chrono::steady_clock::time_point start_;
    std::chrono::steady_clock::time_point last_;
};

}  // namespace nemesis::fs::tools
