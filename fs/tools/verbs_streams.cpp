// record and play: continuous data in and out, with its control stream.

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <thread>

#include "fs/tools/containers.h"
#include "fs/tools/progress.h"
#include "fs/tools/verbs.h"

namespace nemesis::fs::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char const* header_attribute = "user.pegasus.header";
constexpr char const* format_attribute = "user.pegasus.format";
constexpr u64 batch_bytes = 256 * 1024;
constexpr std::size_t batch_frames = 32;

Name name_of(std::string const& s) { return {s.data(), static_cast<u32>(s.size())}; }

Error set_attribute(StoreAccess& s, u64 pnode, std::string const& name, std::string const& value) {
    Request r = StoreAccess::request(Op::SetXattr, pnode);
    r.name = name_of(name);
    r.name2 = name_of(value);
    return s.call(r);
}

std::string attribute(StoreAccess& s, u64 pnode, std::string const& name) {
    char text[block_bytes];
    Request r = StoreAccess::request(Op::GetXattr, pnode);
    r.name = name_of(name);
    r.buffer = reinterpret_cast<u8*>(text);
    r.length = sizeof text;
    return s.call(r) == Error::None ? std::string(text, r.count) : "";
}

/// Why a set was not opened, in words that say what to do.
int complain_of_open(Arguments const& a, Request const& r, u64 asked, std::string const& path) {
    if (r.error == Error::NotSupported) {
        return complain(a,
                        "no guarantee without a disk model: run calibrate once, or give --rate 0");
    }
    if (r.error == Error::NoBandwidth) {
        return complain(a, "refused: " + std::to_string(asked) +
                               " bytes/s do not fit; the largest rate that does is " +
                               std::to_string(r.count) + " bytes/s");
    }
    if (r.error == Error::TooManyOpen) {
        return complain(a, "the owner has no room for more streams; mount with a larger --streams");
    }
    if (r.error == Error::Exists) {
        return complain(a, path + ": has a recording already; record to another name");
    }
    if (r.error == Error::Invalid) return complain(a, path + ": is no stream, or is named twice");
    return complain(a, path, r.error);
}

struct Input {
    std::unique_ptr<FrameSource> source;
    std::string path;
    u64 pnode = 0;
    std::string data;  // of the next frame
    ControlRecord next{};
    bool ended = false;
    std::string batch;
    std::vector<ControlRecord> control;
    u64 frames = 0;
    u64 bytes = 0;
};

Error send_batch(StoreAccess& s, u64 session, u32 stream, Input& in) {
    if (in.control.empty()) return Error::None;
    Request r = StoreAccess::request(Op::Record, 0);
    r.pnode2 = session;
    r.offset = stream;
    r.buffer = reinterpret_cast<u8*>(in.batch.data());
    r.length = in.batch.size();
    r.control = in.control.data();
    r.control_count = static_cast<u32>(in.control.size());
    Error const e = s.call(r);
    in.batch.clear();
    in.control.clear();
    return e;
}

/// Makes the streams; those of an earlier attempt that recorded nothing may be there.
int make_streams(StoreAccess& s, Arguments const& a, std::vector<Input>& inputs) {
    for (Input& in : inputs) {
        Attributes at;
        bool made = false;
        if (int const result = create_or_lookup(s, a, in.path, PnodeType::Stream, &at, &made)) {
            return result;
        }
        if (at.type != PnodeType::Stream) {
            return complain(a, in.path + ": is there and is no stream; record to another name");
        }
        in.pnode = at.pnode;
    }
    return 0;
}

/// Bytes a second that the stream needs at most over any second of it, from its index.
Error peak_rate(StoreAccess& s, u64 pnode, u64* rate) {
    std::vector<IndexRecord> index(4096);
    std::vector<IndexRecord> window;
    std::size_t first = 0;
    u64 sum = 0;
    *rate = 0;
    for (u64 at = 0;;) {
        Request r = StoreAccess::request(Op::ReadIndex, pnode);
        r.offset = at;
        r.buffer = reinterpret_cast<u8*>(index.data());
        r.length = index.size() * sizeof(IndexRecord);
        if (Error const e = s.call(r); e != Error::None) return e;
        u64 const n = r.count / sizeof(IndexRecord);
        if (n == 0) return Error::None;
        for (u64 i = 0; i < n; ++i) {
            window.push_back(index[i]);
            sum += index[i].bytes;
            while (window[first].time_ns + 1'000'000'000 <= index[i].time_ns) {
                sum -= window[first++].bytes;
            }
            *rate = std::max(*rate, sum);
        }
        window.erase(window.begin(), window.begin() + static_cast<i64>(first));
        first = 0;
        at += n;
    }
}

struct Output {
    std::string path;
    std::string file;
    std::FILE* out = nullptr;
    u64 pnode = 0;
    u64 rate = 0;
    std::string format;
    std::string header;
    std::vector<u8> frame = std::vector<u8>(1 << 20);
    u64 frame_bytes = 0;
    i64 time_ns = 0;
    bool have = false;
    bool ended = false;
    u64 frames = 0;
    u64 bytes = 0;
};

Error next_frame(StoreAccess& s, u64 session, u32 stream, Output& o) {
    for (;;) {
        Request r = StoreAccess::request(Op::PlayFrame, 0);
        r.pnode2 = session;
        r.offset = stream;
        r.buffer = o.frame.data();
        r.length = o.frame.size();
        Error const e = s.call(r);
        if (e == Error::Invalid && r.count > r.length && r.count <= FrameSource::frame_bytes_max) {
            o.frame.resize(r.count);
            continue;
        }
        if (e != Error::None) return e;
        o.frame_bytes = r.count;
        o.time_ns = r.time_ns;
        o.have = r.count > 0;
        o.ended = r.count == 0;
        return e;
    }
}

/// Paces by the times of frames, and counts those that come too late.
class Pace {
public:
    /// `ahead`: how long after the first frame is there it is shown; the segments of the rounds
    /// that follow come meanwhile.
    Pace(bool on, double speed, std::chrono::milliseconds ahead = std::chrono::milliseconds(0))
        : on_(on), speed_(std::abs(speed)), ahead_(ahead) {}
    void wait_for(i64 time_ns) {
        if (!on_) return;
        Clock::time_point const now = Clock::now();
        if (!begun_) {
            begun_ = true;
            first_ = time_ns;
            start_ = now + ahead_;
        }
        double const ns = std::abs(static_cast<double>(time_ns - first_)) / speed_;
        Clock::time_point const due = start_ + std::chrono::nanoseconds(static_cast<i64>(ns));
        if (now > due + std::chrono::milliseconds(20)) {
            ++late;
        } else {
            std::this_thread::sleep_until(due);
        }
    }
    u64 late = 0;

private:
    bool on_;
    double speed_;
    std::chrono::milliseconds ahead_;
    bool begun_ = false;
    i64 first_ = 0;
    Clock::time_point start_;
};

void close_session(StoreAccess& s, u64 session, Error* e) {
    Request r = StoreAccess::request(Op::CloseStreams, 0);
    r.pnode2 = session;
    Error const closed = s.call(r);
    if (*e == Error::None) *e = closed;
}

}  // namespace

int record(StoreAccess& s, Arguments const& a) {
    if (a.rest.size() % 2 != 0) return refuse(a, "record takes pairs: INPUT PATH [INPUT PATH ...]");
    if (a.rest.size() / 2 > stream_set_max) return refuse(a, "a set has eight streams at most");
    if (a.has("control") && a.rest.size() > 2) {
        return refuse(a, "--control describes one input; record others without it");
    }
    std::vector<Input> inputs(a.rest.size() / 2);
    u64 total = 0;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        SourceOptions options;
        options.control = a.text("control");
        options.fps = a.decimal("fps", 25);
        if (!(options.fps >= 0.01 && options.fps <= 10000))
            return refuse(a, "--fps is out of range");
        std::string problem;
        inputs[i].source = FrameSource::open(a.rest[2 * i], options, &problem);
        if (!inputs[i].source) return complain(a, problem);
        inputs[i].path = a.rest[2 * i + 1];
        total += inputs[i].source->total();
    }
    if (int const r = make_streams(s, a, inputs); r != 0) return r;
    u64 const rate = a.number("rate", 0);
    std::vector<StreamAsk> asks;
    for (Input const& in : inputs) asks.push_back({in.pnode, rate});
    Request open = StoreAccess::request(Op::OpenStreams, 0);
    open.streams = asks.data();
    open.streams_count = static_cast<u32>(asks.size());
    if (s.call(open) != Error::None) {
        return complain_of_open(a, open, rate * asks.size(), inputs[0].path);
    }
    u64 const session = open.count;
    Error e = Error::None;
    for (Input& in : inputs) {
        in.ended = !in.source->next(&in.data, &in.next);
        if (e == Error::None) e = set_attribute(s, in.pnode, format_attribute, in.source->format());
        if (e == Error::None && !in.source->header().empty()) {
            e = set_attribute(s, in.pnode, header_attribute, in.source->header());
        }
    }
    Progress progress("record", total, true);
    Pace pace(a.has("realtime"), 1);
    u64 taken = 0;
    while (e == Error::None) {
        // The earliest frame of all inputs, so that the streams of the set go on together.
        Input* first = nullptr;
        for (Input& in : inputs) {
            if (!in.ended && (!first || in.next.time_ns < first->next.time_ns)) first = &in;
        }
        if (!first) break;
        pace.wait_for(first->next.time_ns);
        first->batch += first->data;
        first->control.push_back(first->next);
        first->bytes += first->data.size();
        taken += first->data.size();
        ++first->frames;
        first->ended = !first->source->next(&first->data, &first->next);
        bool const full = first->batch.size() >= batch_bytes ||
                          first->control.size() >= batch_frames || first->ended ||
                          a.has("realtime");
        if (full) e = send_batch(s, session, static_cast<u32>(first - inputs.data()), *first);
        progress.update(taken);
    }
    for (u32 i = 0; i < inputs.size() && e == Error::None; ++i) {
        e = send_batch(s, session, i, inputs[i]);
    }
    close_session(s, session, &e);
    if (e != Error::None) return complain(a, inputs[0].path, e);
    std::string json;
    for (Input const& in : inputs) {
        if (!in.source->error().empty()) {
            complain(a, in.path + ": " + in.source->error() + "; recorded up to there");
        }
        char text[160];
        std::snprintf(text, sizeof text, "\"format\":\"%s\",\"frames\":%llu,\"bytes\":%llu}",
                      in.source->format().c_str(), static_cast<unsigned long long>(in.frames),
                      static_cast<unsigned long long>(in.bytes));
        json += (json.empty() ? "" : ",") + ("{\"path\":" + quoted(in.path)) + "," + text;
        if (!a.json) {
            std::printf("%s: %llu frames, %llu bytes (%s)\n", in.path.c_str(),
                        static_cast<unsigned long long>(in.frames),
                        static_cast<unsigned long long>(in.bytes), in.source->format().c_str());
        }
    }
    if (a.json) std::printf("[%s]\n", json.c_str());
    return std::any_of(inputs.begin(), inputs.end(),
                       [](Input const& in) { return !in.source->error().empty(); })
               ? 1
               : 0;
}

int play(StoreAccess& s, Arguments const& a) {
    if (a.rest.size() > 1 && a.rest.size() % 2 != 0) {
        return refuse(a, "play takes PATH [FILE], or pairs: PATH FILE PATH FILE ...");
    }
    std::size_t const count = (a.rest.size() + 1) / 2;
    if (count > stream_set_max) return refuse(a, "a set has eight streams at most");
    double const speed = a.decimal("speed", 1);
    if (!(std::abs(speed) >= 0.001 && std::abs(speed) <= 1000)) {
        return refuse(a, "--speed is from 0.001 to 1000, negative for backwards");
    }
    double const at = a.decimal("at", speed < 0 ? 1e9 : 0);
    if (!(at >= 0 && at <= 1e9)) return refuse(a, "--at is in seconds from the start");
    bool const realtime = a.has("realtime");
    std::vector<Output> outputs(count);
    std::vector<StreamAsk> asks;
    u64 asked = 0;
    for (std::size_t i = 0; i < count; ++i) {
        Output& o = outputs[i];
        o.path = a.rest[2 * i];
        o.file = a.rest.size() > 2 * i + 1 ? a.rest[2 * i + 1] : "-";
        if (a.json && o.file == "-") return refuse(a, "play --json needs a file for the data");
        Attributes attributes;
        if (Error const e = s.lookup(o.path, &attributes); e != Error::None) {
            return complain(a, o.path, e);
        }
        if (attributes.type != PnodeType::Stream) {
            return complain(a, o.path + ": is no stream; use get");
        }
        o.pnode = attributes.pnode;
        o.format = attribute(s, o.pnode, format_attribute);
        o.header = attribute(s, o.pnode, header_attribute);
        o.rate = a.number("rate", 0);
        if (realtime && !a.has("rate")) {
            if (Error const e = peak_rate(s, o.pnode, &o.rate); e != Error::None) {
                return complain(a, o.path, e);
            }
        }
        asked += o.rate;
        asks.push_back({o.pnode, o.rate});
    }
    Request open = StoreAccess::request(Op::OpenStreams, 0);
    open.flags = stream_play;
    open.streams = asks.data();
    open.streams_count = static_cast<u32>(asks.size());
    open.time_ns = static_cast<i64>(at * 1e9);
    open.speed = static_cast<i32>(std::lround(speed * 1000));
    auto const begin = Clock::now();
    Error opened = s.call(open);
    if (opened == Error::OnShelf) {
        // All of it is on the disks before the first frame is shown.
        tell_wait(a, outputs[0].path, open.count);
        for (Output const& o : outputs) {
            Request r = StoreAccess::request(Op::Recall, o.pnode);
            if (Error const e = s.call(r); e != Error::None) return complain(a, o.path, e);
        }
        opened = s.call(open);
    }
    if (opened != Error::None) return complain_of_open(a, open, asked, outputs[0].path);
    u64 const session = open.count;
    Error e = Error::None;
    std::string problem;
    for (Output& o : outputs) {
        o.out = o.file == "-" ? stdout : std::fopen(o.file.c_str(), "wb");
        if (!o.out) {
            problem = o.file + ": " + std::strerror(errno);
            break;
        }
        std::fwrite(o.header.data(), 1, o.header.size(), o.out);
    }
    u64 const most = a.number("frames", ~u64{0});
    Progress progress("play " + outputs[0].path, 0, true);
    Pace pace(realtime, speed, std::chrono::milliseconds(asked > 0 ? 2000 : 0));
    double delay = -1;
    u64 played = 0;
    i64 first_ns = -1;
    i64 last_ns = -1;
    while (problem.empty() && e == Error::None && outputs[0].frames < most) {
        Output* next = nullptr;
        for (std::size_t i = 0; i < count && e == Error::None; ++i) {
            Output& o = outputs[i];
            if (!o.have && !o.ended) e = next_frame(s, session, static_cast<u32>(i), o);
            if (e != Error::None) problem = o.path + ": " + text_of(e);
            if (!o.have) continue;
            bool const before =
                next && (speed > 0 ? o.time_ns < next->time_ns : o.time_ns > next->time_ns);
            if (!next || before) next = &o;
        }
        if (!next || !problem.empty()) break;
        if (first_ns < 0) first_ns = next->time_ns;
        last_ns = next->time_ns;
        pace.wait_for(next->time_ns);
        if (delay < 0) delay = std::chrono::duration<double>(Clock::now() - begin).count();
        if (std::fwrite(next->frame.data(), 1, next->frame_bytes, next->out) != next->frame_bytes) {
            problem = next->file + ": " + std::strerror(errno);
        }
        next->have = false;
        ++next->frames;
        next->bytes += next->frame_bytes;
        played += next->frame_bytes;
        progress.update(played);
    }
    Error closed = Error::None;
    close_session(s, session, &closed);
    u64 frames = 0;
    for (Output& o : outputs) {
        frames += o.frames;
        if (!o.out) continue;
        std::string const header = header_for_length(o.format, o.header, o.bytes);
        if (header != o.header && std::fseek(o.out, 0, SEEK_SET) == 0) {
            std::fwrite(header.data(), 1, header.size(), o.out);
        }
        bool const good = o.out == stdout ? std::fflush(o.out) == 0 : std::fclose(o.out) == 0;
        if (!good && problem.empty()) problem = o.file + ": " + std::strerror(errno);
    }
    if (!problem.empty()) return complain(a, problem);
    char text[300];
    char const* const form =
        a.json ? "{\"frames\":%llu,\"bytes\":%llu,\"late\":%llu,\"rate\":%llu,"
                 "\"start_delay_s\":%.3f,\"first_s\":%.3f,\"last_s\":%.3f}\n"
               : "%llu frames, %llu bytes, %llu late, %llu bytes/s guaranteed, "
                 "first frame after %.3f s, from %.3f s to %.3f s of the stream\n";
    std::snprintf(text, sizeof text, form, static_cast<unsigned long long>(frames),
                  static_cast<unsigned long long>(played),
                  static_cast<unsigned long long>(pace.late),
                  static_cast<unsigned long long>(asked), std::max(delay, 0.0),
                  static_cast<double>(first_ns) / 1e9, static_cast<double>(last_ns) / 1e9);
    std::fputs(text, outputs[0].file == "-" ? stderr : stdout);
    return 0;
}

}  // namespace nemesis::fs::tools
