#pragma once
// Jobs: pieces of work with a deadline each, marked in the trace as they come and go.
//
// What is marked: the job's start with its number and deadline, its finish, and, when the domain
// itself finds that it was late, that. Everybody who reads the trace (the status domain, the host)
// can so judge every deadline, without the domain's own opinion. About 200 instructions a mark.

#include <cstdint>

#include "libnemesis/base/trace_format.h"
#include "libnemesis/base/units.h"
#include "libnemesis/clock.h"
#include "libnemesis/syscalls.h"

namespace nemesis::media {

/// One job. Begin it, do the work, finish it.
class Job {
public:
    /// Marks the start of job `number` that has to be finished by `deadline`.
    Job(std::uint64_t number, Instant deadline) : number_(number), deadline_(deadline) {
        mark(TraceKind::JobStart);
    }
    /// Marks the end; true if it was in time.
    bool finish() {
        mark(TraceKind::JobFinish);
        auto const in_time = now() <= deadline_;
        if (!in_time) mark(TraceKind::DeadlineMissed);
        return in_time;
    }
    /// The job will not be done: it counts as missed. For frames that are skipped.
    void give_up() { mark(TraceKind::DeadlineMissed); }

private:
    void mark(TraceKind kind) {
        sys::trace_mark(static_cast<std::uint64_t>(kind), number_,
                        static_cast<std::uint64_t>(deadline_.ns()));
    }
    std::uint64_t number_;
    Instant deadline_;
};

}  // namespace nemesis::media
