// The directory, jobs, and the threads that do them.
#include "domains/remote/exports.h"

#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace nemesis::nodes {
namespace {

using namespace invocation;

constexpr std::uint32_t kSlots = 8;
constexpr auto kBindLongest = Duration::ms(500);

constexpr remote::InterfaceHash hash_of(InterfaceHash const& hash) { return {hash.low, hash.high}; }

}  // namespace

Result<void, Failure> Exports::open(std::span<std::string_view const> services) {
    if (services.size() > services_max) return fail(Failure::NoMemory);
    for (auto const name : services) entries_[entry_count_++].name = name;
    constexpr auto job_pages = request_bytes_max / abi::kPageSize;
    for (auto& job : jobs_) {
        job.request = static_cast<std::byte*>(pages::take(job_pages));
        job.reply = static_cast<std::byte*>(pages::take(job_pages));
        if (job.request == nullptr || job.reply == nullptr) return fail(Failure::NoMemory);
    }
    Critical const critical;
    auto const made =
        calls_->node().export_object(directory_tag, hash_of(Directory::info.hash), true);
    if (!made || *made != directory_number) return fail(Failure::NoMemory);
    return {};
}

/// Binds to the service as it is now: whatever interface it has is what others are told.
Result<void, Failure> Exports::bind(Entry& entry) {
    session_->unbind(entry.bound);
    auto& b = session_->binder();
    auto const offer = b.find(entry.name);
    if (!offer) return fail(Failure::Unreachable);
    auto const described = b.describe(*offer);
    if (!described) return fail(Failure::Unreachable);
    auto const& identity = described->identity;
    InterfaceInfo info;
    info.name = identity.name.view();
    info.version = identity.version;
    info.hash = {identity.hash_low, identity.hash_high};
    TRY_VOID(session_->bind(entry.bound, *offer, info, kSlots, now() + kBindLongest));
    auto const& shape = entry.bound.shape();
    if (shape.request_bytes > request_bytes_max || shape.reply_bytes > request_bytes_max) {
        session_->unbind(entry.bound);
        return fail(Failure::TooLong);
    }
    auto& said = entry.said;
    auto const same = entry.object != 0 && said.identity.hash_low == info.hash.low &&
                      said.identity.hash_high == info.hash.high;
    (void)said.identity.name.assign(info.name);
    said.identity.version = info.version;
    said.identity.hash_low = info.hash.low;
    said.identity.hash_high = info.hash.high;
    said.request_max = shape.request_bytes;
    said.reply_max = shape.reply_bytes;
    if (same) return {};
    // Another interface is another object: who holds the old number is told that it is gone.
    Critical const critical;
    if (entry.object != 0) calls_->node().remove_object(entry.object);
    entry.object = 0;
    auto const tag = static_cast<std::uint64_t>(&entry - entries_) + 1;
    auto const made = calls_->node().export_object(tag, hash_of(info.hash), true);
    if (!made) return fail(Failure::NoMemory);
    entry.object = said.object = *made;
    return {};
}

Result<Service, DirectoryError> Exports::find(std::string_view name) {
    Entry* entry = nullptr;
    for (std::uint32_t i = 0; i < entry_count_; ++i)
        if (entries_[i].name == name) entry = &entries_[i];
    if (entry == nullptr) return fail(DirectoryError::NoSuchService);
    finding_.lock();
    Result<void, Failure> done;
    if (!entry->bound.is_bound() || entry->bound.is_dead()) done = bind(*entry);
    auto const said = entry->said;
    finding_.unlock();
    if (done) return said;
    return fail(done.error() == Failure::Unreachable ? DirectoryError::NoSuchService
                                                     : static_cast<DirectoryError>(done.error()));
}

void Exports::on_request(remote::Incoming const& request) {
    Job* free = nullptr;
    for (auto& job : jobs_)
        if (job.state == Job::State::Free) free = &job;
    // An announcement has no token: nobody is told that it was not made.
    bool const has_reply = !(request.token == remote::CallToken{});
    auto const refuse = [&](remote::Status why) {
        if (has_reply) (void)calls_->node().reply(request.token, why, {}, {}, now());
    };
    if (request.bytes.size() > request_bytes_max) return refuse(remote::Status::TooLong);
    if (free == nullptr) return refuse(remote::Status::Busy);
    free->state = Job::State::Waiting;
    free->has_reply = has_reply;
    free->token = request.token;
    free->tag = request.tag;
    free->operation = request.operation;
    free->deadline = request.deadline;
    free->bytes = static_cast<std::uint32_t>(request.bytes.size());
    __builtin_memcpy(free->request, request.bytes.data(), request.bytes.size());
    (void)idle_.wake_one();
}

/// What has not begun is not done at all; what runs ends by itself, and its reply is refused.
void Exports::on_cancelled(remote::CallToken token) {
    for (auto& job : jobs_)
        if (job.state == Job::State::Waiting && job.has_reply && job.token == token)
            job.state = Job::State::Free;
}

/// requires: activations off
Exports::Job* Exports::next_job() {
    for (auto& job : jobs_)
        if (job.state == Job::State::Waiting) return &job;
    return nullptr;
}

Served Exports::pass_on(Entry& entry, Job& job) {
    auto& client = entry.bound.client();
    // Another thread may be giving the binding back, to make a new one: whether that has begun is
    // looked at in one step with taking a place in the ring. From then until done activations are
    // off anyway: the reply leaves the ring before anything else waits.
    Critical const critical;
    if (!entry.bound.is_bound() || entry.bound.is_dead()) return served(Failure::PeerDead);
    auto const out = client.begin(job.bytes);
    if (!out) return served(out.error());
    __builtin_memcpy(out->body.data(), job.request, job.bytes);
    CallTarget const target{0, job.operation};
    if (!job.has_reply) {
        (void)client.announce(*out, target, job.bytes);
        return {};
    }
    auto const in = client.call(*out, target, job.bytes, job.deadline);
    if (!in) return served(in.error());
    Served result{in->status, static_cast<std::uint32_t>(in->body.size())};
    if (in->body.size() > request_bytes_max)
        result = served(Failure::TooLong);
    else
        __builtin_memcpy(job.reply, in->body.data(), in->body.size());
    client.done(*in);
    return result;
}

Served Exports::serve(Job& job) {
    if (job.tag == directory_tag) {
        auto* const directory = static_cast<Directory*>(this);
        return Directory::info.dispatch(directory, job.operation, {job.request, job.bytes},
                                        {job.reply, request_bytes_max}, nullptr);
    }
    if (job.tag > entry_count_) return served(Failure::NoSuchObject);
    return pass_on(entries_[job.tag - 1], job);
}

void Exports::work() {
    enter_critical();
    for (;;) {
        auto* const job = next_job();
        if (job == nullptr) {
            (void)idle_.wait(Instant::never());
            continue;
        }
        job->state = Job::State::Running;
        leave_critical();
        auto const result = serve(*job);
        enter_critical();
        if (job->has_reply) {
            (void)calls_->node().reply(job->token, static_cast<remote::Status>(result.status),
                                       {job->reply, result.body_bytes}, {}, now());
            calls_->flush();
        }
        job->state = Job::State::Free;
    }
}

}  // namespace nemesis::nodes
