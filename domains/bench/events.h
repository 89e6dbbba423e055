#pragma once
// The measurements that are taken both with few domains and with ten thousand.

#include <string_view>

namespace nemesis::bench {

void send_async(std::string_view metric);
void sync_roundtrip(std::string_view metric);
/// One unblock, one block, one dispatch.
void decision(std::string_view metric);

}  // namespace nemesis::bench
