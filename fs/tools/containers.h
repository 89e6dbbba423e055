#pragma once
// Containers that streams are recorded from: Y4M, MJPEG, WAV, or bytes with a control stream.
//
// A source yields frames: bytes and what the control stream says of them. What a container has
// before its first frame is its header; it is kept beside the stream, so that what is played begins
// with it at any frame. Input is read once from front to back, so a pipe will do.

#include <cstdio>
#include <memory>
#include <string>

#include "fs/core/format.h"

namespace nemesis::fs::tools {

/// How a source is read.
struct SourceOptions {
    std::string control;  // file of ControlRecords; empty: from the container
    double fps = 25;      // of MJPEG, which has no times
};

/// Frames of one input.
class FrameSource {
public:
    /// errors: null, and text that says what is wrong
    static std::unique_ptr<FrameSource> open(std::string const& path, SourceOptions const& options,
                                             std::string* problem);
    virtual ~FrameSource();
    /// The next frame. False: the end, or error() says what is wrong.
    virtual bool next(std::string* data, ControlRecord* control) = 0;
    std::string const& header() const { return header_; }
    std::string const& format() const { return format_; }
    std::string const& error() const { return error_; }
    /// Bytes of the input; 0: not known.
    u64 total() const { return total_; }
    u64 taken() const { return taken_; }

    static constexpr u64 frame_bytes_max = u64{1} << 26;

protected:
    bool read_exactly(std::string* out, u64 bytes);
    int read_byte();
    std::FILE* in_ = nullptr;
    std::string looked_at_;  // read already to find out what it is
    std::string header_;
    std::string format_;
    std::string error_;
    u64 total_ = 0;
    u64 taken_ = 0;
};

/// The header for playing `bytes` of a stream recorded with `header`; 0: the length is not known.
std::string header_for_length(std::string const& format, std::string header, u64 bytes);

}  // namespace nemesis::fs::tools
