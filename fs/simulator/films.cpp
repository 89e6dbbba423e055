#include "fs/simulator/films.h"

#include <algorithm>

namespace nemesis::fs::simulator {
namespace {

constexpr i64 period_ns[film_streams] = {40'000'000, 25'000'000};

}  // namespace

ControlRecord film_control(u32 stream, u64 frame) {
    u32 const bytes = stream == 0 ? 5000 + static_cast<u32>(frame * 7919 % 6000) : 800;
    return {static_cast<i64>(frame) * period_ns[stream], bytes, frame % 12 == 0 ? frame_key : 0u};
}

std::string film_bytes(u32 stream, u64 frame) {
    std::string data(film_control(stream, frame).bytes, 0);
    for (std::size_t i = 0; i < data.size(); ++i) {
        data[i] = static_cast<char>((frame * 31 + i * 7 + i / 256 * 13 + stream * 101) & 0xFF);
    }
    return data;
}

u64 film_frames_before(u32 stream, i64 time_ns) {
    return static_cast<u64>((time_ns + period_ns[stream] - 1) / period_ns[stream]);
}

Error record_film_round(Client& client, u64 round) {
    for (u32 stream = 0; stream < film_streams; ++stream) {
        std::vector<ControlRecord> control;
        std::string data;
        i64 const from = static_cast<i64>(round) * film_round_ns;
        u64 const end = film_frames_before(stream, from + film_round_ns);
        for (u64 n = film_frames_before(stream, from); n < end; ++n) {
            control.push_back(film_control(stream, n));
            data += film_bytes(stream, n);
        }
        if (Error const e = client.record(stream, control, data); e != Error::None) return e;
    }
    return Error::None;
}

std::string judge_film(Client& client, std::string const (&path)[film_streams], FilmBounds b) {
    i64 past[film_streams] = {};  // all frames before it are there
    i64 last[film_streams] = {};  // the newest frame that is there
    bool any = false;
    i64 const fed = static_cast<i64>(b.rounds_most) * film_round_ns;
    for (u32 stream = 0; stream < film_streams; ++stream) {
        std::string const name = "film " + path[stream] + ": ";
        std::vector<IndexRecord> index;
        Error e = client.read_index(path[stream], &index);
        if (e == Error::NoEntry || e == Error::NotDirectory) continue;
        if (e != Error::None) return name + "index error " + std::to_string(static_cast<int>(e));
        any = true;
        u64 offset = 0;
        for (u64 n = 0; n < index.size(); ++n) {
            ControlRecord const want = film_control(stream, n);
            IndexRecord const& r = index[n];
            if (r.time_ns != want.time_ns || r.bytes != want.bytes || r.flags != want.flags ||
                r.offset != offset) {
                return name + "index is wrong at frame " + std::to_string(n);
            }
            std::string data;
            e = client.read(path[stream], offset, want.bytes, &data);
            if (e != Error::None || data != film_bytes(stream, n)) {
                return name + "bytes are wrong in frame " + std::to_string(n);
            }
            offset += want.bytes;
        }
        if (index.size() > film_frames_before(stream, fed)) return name + "frames from nowhere";
        u64 const least =
            film_frames_before(stream, static_cast<i64>(b.rounds_least) * film_round_ns);
        if (index.size() < least) {
            return name + std::to_string(index.size()) + " frames, promised " +
                   std::to_string(least);
        }
        past[stream] = film_control(stream, index.size()).time_ns;
        last[stream] = index.empty() ? -1 : index.back().time_ns;
        if (index.size() == film_frames_before(stream, fed)) past[stream] = fed;
    }
    if (!any) return b.rounds_least > 0 ? "the film is gone" : "";
    i64 const newest = std::max(last[0], last[1]);
    if (newest >= std::min(past[0], past[1])) return "the streams of a film end at different times";
    if (b.complete && std::min(past[0], past[1]) < fed) return "a film that was ended has no end";
    return "";
}

}  // namespace nemesis::fs::simulator
