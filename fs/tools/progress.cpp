#include "fs/tools/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace nemesis::fs::tools {

Progress::Progress(std::string label, u64 total, bool bytes)
    : label_(std::move(label)),
      total_(total),
      bytes_(bytes),
      terminal_(::isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

Progress::~Progress() {
    if (shown_) std::fprintf(stderr, "\r\033[K");
}

void Progress::update(u64 done) {
    auto const now = std::chrono::steady_clock::now();
    if (!terminal_ || now - last_ < std::chrono::milliseconds(100)) return;
    last_ = now;
    shown_ = true;
    double const seconds = std::chrono::duration<double>(now - start_).count();
    std::string text = "\r\033[K" + label_;
    if (total_ > 0) {
        u64 const percent = std::min<u64>(100, done * 100 / total_);
        text += " [";
        for (u64 i = 0; i < 25; ++i) text += i * 4 < percent ? '#' : '.';
        text += "] " + std::to_string(percent) + " %";
    }
    char rate[64];
    if (bytes_) {
        std::snprintf(rate, sizeof rate, "  %.0f MB, %.1f MB/s", static_cast<double>(done) / 1e6,
                      static_cast<double>(done) / 1e6 / std::max(seconds, 0.001));
    } else {
        std::snprintf(rate, sizeof rate, "  %llu", static_cast<unsigned long long>(done));
    }
    std::fprintf(stderr, "%s%s", text.c_str(), rate);
}

}  // namespace nemesis::fs::tools
