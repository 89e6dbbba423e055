#pragma once
// The measurements that are taken both with few domains and with ten thousand.

#include <cstdint>
#include <string_view>

namespace nemesis::bench {

void send_async(std::string_view metric);
void sync_roundtrip(std::string_view metric);
/// One unblock, one block, one dispatch.
void decision(std::string_view metric);
/// What a job needs beside its loop: found out at the first call, when there is room. units:
/// instructions
std::uint64_t job_overhead();
/// Three tasks that ask for all they were promised, for `seconds`; rows that begin with `metric`.
void three_tasks(std::string_view metric, std::int64_t seconds);

}  // namespace nemesis::bench
