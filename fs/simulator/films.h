#pragma once
// Films: what the simulator records, and the oracle over what is found of it after a crash.
//
// A film is two streams whose frames are known from their number alone: pictures of some kilobytes
// every 40 ms, sound every 25 ms. The oracle reads index and data of what was recorded and knows
// only how many rounds had been handed over and how many were promised: what is there must be
// frames 0, 1, ... of each stream with the right times and bytes, cut at one time in both streams,
// and hold every frame of the rounds promised.

#include <string>
#include <vector>

#include "fs/simulator/machine.h"

namespace nemesis::fs::simulator {

inline constexpr u32 film_streams = 2;
inline constexpr i64 film_round_ns = 200'000'000;  // of the film, handed over in one round

/// What the control stream says of a frame.
ControlRecord film_control(u32 stream, u64 frame);
/// The bytes of a frame.
std::string film_bytes(u32 stream, u64 frame);
/// The first frame of the stream that is not before `time_ns`.
u64 film_frames_before(u32 stream, i64 time_ns);
/// Hands round `round` of the film to the client's session.
Error record_film_round(Client& client, u64 round);

/// What is known of a recording from the messages sent.
struct FilmBounds {
    u64 rounds_least = 0;   // promised
    u64 rounds_most = 0;    // handed over
    bool complete = false;  // the end was promised
};
/// An error text, or nothing. A film of which no stream is there is right when nothing is promised.
std::string judge_film(Client& client, std::string const (&path)[film_streams], FilmBounds bounds);

}  // namespace nemesis::fs::simulator
