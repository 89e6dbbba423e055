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
    entry.kind = TRY(relay_->kind_of(info.hash.low));
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
    if (free == nullptr) {
        if (has_reply) {
            // Read and not changed.
            auto* const bytes = const_cast<std::byte*>(request.bytes.data());
            drop(request.tag, {.peer = request.token.peer,
                               .operation = request.operation,
                               .body = {bytes, request.bytes.size()}});
        }
        return refuse(remote::Status::Busy);
    }
    free->state = Job::State::Waiting;
    free->has_reply = has_reply;
    free->is_cancelled = false;
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
            job.is_cancelled = true;
}

/// requires: activations off
Exports::Job* Exports::next_job() {
    for (auto& job : jobs_)
        if (job.state == Job::State::Waiting) return &job;
    return nullptr;
}

Exports::Entry* Exports::entry_of(std::uint64_t tag) {
    return tag != directory_tag && tag <= entry_count_ ? &entries_[tag - 1] : nullptr;
}

HandleRelay::Request Exports::request_of(Job& job) {
    return {.peer = job.token.peer,
            .operation = job.operation,
            .has_reply = job.has_reply,
            .until = job.deadline,
            .body = {job.request, job.bytes},
            .reply = {job.reply, request_bytes_max}};
}

/// A request that is not made: what has come with it is not wanted.
void Exports::drop(std::uint64_t tag, HandleRelay::Request const& request) {
    if (auto* const entry = entry_of(tag); entry != nullptr && entry->kind != nullptr)
        relay_->refuse(*entry->kind, request);
    else
        relay_->refuse_near(tag, request);
}

HandleRelay::Answer Exports::pass_on(Entry& entry, HandleRelay::Request const& request) {
    // Another thread may be giving the binding back, to make a new one: then the call fails, for
    // its end is closed, or open anew, whenever a place in its ring is taken.
    if (!entry.bound.is_bound() || entry.bound.is_dead() || entry.kind == nullptr) {
        drop(static_cast<std::uint64_t>(&entry - entries_) + 1, request);
        return {served(Failure::PeerDead)};
    }
    return relay_->pass_in(*entry.kind, entry.bound.client(), 0, request);
}

HandleRelay::Answer Exports::serve(Job& job) {
    auto const request = request_of(job);
    if (job.tag == directory_tag) {
        auto* const directory = static_cast<Directory*>(this);
        return {Directory::info.dispatch(directory, job.operation, request.body, request.reply,
                                         nullptr)};
    }
    if (auto* const entry = entry_of(job.tag)) return pass_on(*entry, request);
    return relay_->pass_in_near(job.tag, request);
}

void Exports::work() {
    enter_critical();
    for (;;) {
        auto* const job = next_job();
        if (job == nullptr) {
            calls_->flush_late();
            (void)idle_.wait(Instant::never());
            continue;
        }
        calls_->flush();
        job->state = Job::State::Running;
        leave_critical();
        if (job->is_cancelled) {
            drop(job->tag, request_of(*job));
            enter_critical();
            job->state = Job::State::Free;
            continue;
        }
        auto const answer = serve(*job);
        enter_critical();
        if (job->has_reply) {
            Gifts gifts;
            auto const result = relay_->give(answer, request_of(*job), gifts);
            if (!calls_->node().reply(job->token, static_cast<remote::Status>(result.status),
                                      {job->reply, result.body_bytes}, gifts.span(), now()))
                relay_->take_back(gifts);
        }
        job->state = Job::State::Free;
    }
}

}  // namespace nemesis::nodes
