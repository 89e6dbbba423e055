// display: owns the frame buffer and gives it away in strips, one stretch for each client.
//
// Its argument names the strips: "CLIENT=FIRST_LINE,LINES" for each, where CLIENT is the name of
// the channel to that client. A strip is a stretch of its own over its lines (write-combining),
// offered to the client that asks for it (libnemesis/media/strip.h): the client's rights end with
// its lines, because the machine's page tables do. Strips must therefore begin and end on pages:
// 1024 pixels of 32 bits are a page a line; of strips that overlap only the first is made. After
// that the driver has nothing to do: no pixel passes through it.
#include <algorithm>
#include <span>

#include "kernel/abi/syscalls.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/channel.h"
#include "libnemesis/log/log.h"
#include "libnemesis/media/strip.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace nemesis {
namespace {

constexpr std::uint32_t kStripsMax = abi::kChannelsMax;

struct Screen {
    std::uint64_t physical;
    std::uint32_t width, height, pitch;
};

/// A strip and the channel behind which its client is.
struct StripRecord {
    abi::ChannelRecord const* channel;
    std::uint32_t first_line, lines;
    std::uint64_t stretch;
    bool usable;
    bool given;
};

std::uint64_t fact(abi::MachineInfo word) {
    return static_cast<std::uint64_t>(sys::machine_info(word));
}

std::uint32_t number(std::string_view& text) {
    std::uint32_t value = 0;
    while (!text.empty() && text[0] >= '0' && text[0] <= '9') {
        value = value * 10 + static_cast<std::uint32_t>(text[0] - '0');
        text.remove_prefix(1);
    }
    return value;
}

/// Reads "NAME=FIRST,LINES NAME=FIRST,LINES ...".
std::uint32_t read_strips(std::string_view text, StripRecord* strips) {
    std::uint32_t count = 0;
    while (!text.empty() && count < kStripsMax) {
        while (!text.empty() && text[0] == ' ') text.remove_prefix(1);
        std::size_t equals = 0;
        while (equals < text.size() && text[equals] != '=') ++equals;
        if (equals == text.size()) break;
        auto const name = text.substr(0, equals);
        text.remove_prefix(equals + 1);
        auto& s = strips[count];
        s = StripRecord{.channel = find_channel(name),
                        .first_line = number(text),
                        .lines = 0,
                        .stretch = 0,
                        .usable = false,
                        .given = false};
        if (!text.empty() && text[0] == ',') text.remove_prefix(1);
        s.lines = number(text);
        if (s.channel != nullptr) ++count;
    }
    return count;
}

/// Whether another strip, named before, has one of its lines: then neither has them to itself.
bool overlaps(StripRecord const& strip, std::span<StripRecord const> before) {
    return std::ranges::any_of(before, [&](StripRecord const& other) {
        return other.usable && strip.first_line < std::uint64_t{other.first_line} + other.lines &&
               other.first_line < std::uint64_t{strip.first_line} + strip.lines;
    });
}

/// Makes the stretch over a strip's lines.
void make_stretch(Screen const& screen, StripRecord& strip) {
    auto const begin = std::uint64_t{strip.first_line} * screen.pitch,
               bytes = std::uint64_t{strip.lines} * screen.pitch;
    auto const inside = strip.lines > 0 && strip.first_line < screen.height &&
                        strip.lines <= screen.height - strip.first_line;
    if (!inside || (screen.physical + begin) % abi::kPageSize != 0 || bytes % abi::kPageSize != 0) {
        log::line("strip ", strip.channel->name, ": not whole pages of this screen");
        return;
    }
    auto const made = sys::device_stretch(screen.physical + begin, bytes / abi::kPageSize,
                                          abi::kRead | abi::kWrite | abi::kWriteCombining);
    if (made < 0)
        return log::line("strip ", strip.channel->name, ": ", text(static_cast<abi::Error>(made)));
    strip.stretch = static_cast<std::uint64_t>(made);
    strip.usable = true;
}

/// Answers a client that has asked.
void serve(Screen const& screen, StripRecord& strip) {
    auto const* request = reinterpret_cast<media::StripRequest const*>(strip.channel->incoming);
    if (strip.given || __atomic_load_n(&request->magic, __ATOMIC_ACQUIRE) != media::strip_magic)
        return;
    auto const client = __atomic_load_n(&request->client, __ATOMIC_RELAXED);
    strip.given = true;
    auto& grant = *reinterpret_cast<media::StripGrant*>(strip.channel->outgoing);
    grant.refused =
        !strip.usable || sys::stretch_offer(0, strip.stretch, client, abi::kRead | abi::kWrite) < 0;
    if (grant.refused == 0) {
        grant.owner = dib().id;
        grant.stretch = strip.stretch;
        grant.address =
            static_cast<std::uint64_t>(sys::call(abi::Call::StretchAddress, 0, strip.stretch));
        grant.width = screen.width;
        grant.height = strip.lines;
        grant.pitch = screen.pitch;
    }
    __atomic_store_n(&grant.magic, media::strip_magic, __ATOMIC_RELEASE);
    sys::send(strip.channel->endpoint);
}

WaitQueue requests;
bool requested = false;

void on_request(void*, std::uint32_t, std::uint64_t) {
    requested = true;
    requests.wake_all();
}

StripRecord strips[kStripsMax];

}  // namespace
}  // namespace nemesis

extern "C" void nem_main(nemesis::abi::Environment const& environment) {
    using namespace nemesis;
    Screen const screen{
        .physical = fact(abi::MachineInfo::FrameBufferPhysical),
        .width = static_cast<std::uint32_t>(fact(abi::MachineInfo::FrameBufferWidth)),
        .height = static_cast<std::uint32_t>(fact(abi::MachineInfo::FrameBufferHeight)),
        .pitch = static_cast<std::uint32_t>(fact(abi::MachineInfo::FrameBufferPitch))};
    if (screen.physical == 0) log::line("no display: nothing will be seen");
    auto const count = read_strips(environment.arguments, strips);
    for (std::uint32_t i = 0; i < count; ++i) {
        if (screen.physical != 0 && overlaps(strips[i], {strips, i}))
            log::line("strip ", strips[i].channel->name, ": has lines of another strip");
        else if (screen.physical != 0)
            make_stretch(screen, strips[i]);
        attach(strips[i].channel->endpoint, Closure{on_request, nullptr});
    }
    for (;;) {
        for (std::uint32_t i = 0; i < count; ++i) serve(screen, strips[i]);
        enter_critical();
        while (!requested) requests.wait(Instant::never());
        requested = false;
        leave_critical();
    }
}
