#pragma once
// Pictures for who runs the machine without a screen (`peg run --headless`): once a second, late in
// a frame, the machine stops itself with a line "@screenshot NAME TIME"; "@trace ADDRESS" says
// where the trace lies, "@stop trace" lets it be fetched a last time. tools/peg/run.py listens.
//
// For one domain of a machine, with the privilege of control_machine: the director, or init where
// there is none.

#include <cstdint>
#include <string_view>

#include "libnemesis/base/units.h"
#include "libnemesis/log/log.h"
#include "libnemesis/syscalls.h"

namespace nemesis {

class Pictures {
public:
    /// Says where the trace lies.
    static void begin() {
        say("@trace ",
            static_cast<std::uint64_t>(sys::machine_info(abi::MachineInfo::TraceAddress)));
    }
    /// When the next picture is due: all that is shown on time in the last frame of the second is.
    Instant due() const {
        return Instant() + Duration::s(static_cast<std::int64_t>(taken_ + 1)) - Duration::ms(3);
    }
    /// Stops the machine until its picture has been taken. context: threads
    void take(Instant now) {
        char name[] = "@screenshot second-000 ";
        for (auto n = taken_ + 1, i = std::uint64_t{21}; i > 18; n /= 10, --i)
            name[i] = static_cast<char>('0' + n % 10);
        say(name, static_cast<std::uint64_t>(now.ns()));
        sys::call(abi::Call::MachineExit, abi::kMachineStop);
        ++taken_;
    }
    /// Stops the machine until the trace has been fetched.
    static void end() {
        sys::log("@stop trace\n");
        sys::call(abi::Call::MachineExit, abi::kMachineStop);
    }

private:
    /// A line for the host, without the domain's name before it.
    static void say(std::string_view words, std::uint64_t number) {
        log::Line l;
        l.add(words).add(number).add("\n");
        sys::log(l.text());
    }

    std::uint64_t taken_ = 0;
};

}  // namespace nemesis
