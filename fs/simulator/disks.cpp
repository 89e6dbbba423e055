#include "fs/simulator/disks.h"

#include <cmath>
#include <cstring>

#include "fs/core/store.h"

namespace nemesis::fs::simulator {

u8* BlockPool::take() {
    std::size_t const chunk = used_ / chunk_blocks;
    if (chunk == chunks_.size()) {
        chunks_.push_back(std::make_unique_for_overwrite<u8[]>(chunk_blocks * block_bytes));
    }
    return chunks_[chunk].get() + used_++ % chunk_blocks * block_bytes;
}

u64 Disks::blocks(u32 disk) { return faults.dead[disk] ? 0 : image_.blocks_per_disk; }

void Disks::submit(DiskCommand const& c) {
    Queued q{c.operation,
             c.disk,
             c.tag,
             c.block,
             c.count,
             std::vector<u8*>(c.data, c.data + c.count),
             trace_ ? trace_->size() : 0,
             now_};
    if (model.timed) {
        Instant const start = free_at_[c.disk] > now_ ? free_at_[c.disk] : now_;
        q.due = start + service_time(q) * i64{faults.slower[c.disk]} + faults.slow[c.disk];
        free_at_[c.disk] = q.due;
    }
    queue_.push_back(std::move(q));
}

Duration Disks::transfer_time(DiskModel const& model, u64 disk_blocks, u64 head, u64 block,
                              u64 count, u32 turn) {
    Duration t = Duration::ns(static_cast<i64>(count) * block_bytes * 1'000'000'000 /
                              static_cast<i64>(model.bytes_per_second));
    if (head != block) {
        double const distance = std::abs(static_cast<double>(block) - static_cast<double>(head)) /
                                static_cast<double>(disk_blocks);
        double const span = static_cast<double>((model.seek_max - model.seek_min).ns());
        t += model.seek_min + Duration::ns(static_cast<i64>(span * std::sqrt(distance)));
        t += model.rotation / 1000 * static_cast<i64>(turn);
    }
    return t;
}

Duration Disks::service_time(Queued const& q) {
    if (q.operation == DiskOperation::Flush) return model.rotation;
    if (q.operation == DiskOperation::Reserve) return Duration::us(100);
    u64& head = head_at_[q.disk];
    Duration const t = transfer_time(model, image_.blocks_per_disk, head, q.block, q.count,
                                     static_cast<u32>(turns_.below(1000)));
    head = q.block + q.count;
    return t;
}

void Disks::abandon(u32 disk) {
    std::erase_if(queue_, [&](Queued& q) { return q.disk == disk; });
}

Instant Disks::next_completion() const {
    Instant t = Instant::never();
    for (Queued const& q : queue_) t = q.due < t ? q.due : t;
    return t;
}

void Disks::execute(Queued& q, DiskStatus* status) {
    *status = DiskStatus::Good;
    if (commands[q.disk]++ >= faults.die_at_command[q.disk]) faults.dead[q.disk] = true;
    if (faults.dead[q.disk]) {
        *status = DiskStatus::Error;
        return;
    }
    switch (q.operation) {
        case DiskOperation::Read:
            ++reads;
            for (u32 i = 0; i < q.count; ++i) {
                ++blocks_read;
                u64 const n = q.block + i;
                if (rows_read_) rows_read_->insert(n);
                if (n >= image_.blocks_per_disk || faults.latent.contains(u64{q.disk} << 48 | n)) {
                    *status = DiskStatus::Error;
                    std::memset(q.data[i], 0xDB, block_bytes);
                    continue;
                }
                u8 const* data = image_.at(q.disk, n);
                if (data) {
                    std::memcpy(q.data[i], data, block_bytes);
                } else {
                    std::memset(q.data[i], 0, block_bytes);
                }
            }
            break;
        case DiskOperation::Reserve:
            if (q.block > image_.reserved[q.disk]) {
                image_.reserved[q.disk] = generation_[q.disk] = q.block;
            } else if (refused(q.disk) || generation_[q.disk] != q.block) {
                *status = DiskStatus::Fenced;
            }
            break;
        case DiskOperation::Write:
            if (refused(q.disk)) {
                *status = DiskStatus::Fenced;
                break;
            }
            ++writes;
            for (u32 i = 0; i < q.count; ++i) {
                ++blocks_written;
                u64 n = q.block + i;
                u64 const nth = block_writes[q.disk]++;
                if (!faults.lose_write.empty() &&
                    faults.lose_write.contains(u64{q.disk} << 48 | nth)) {
                    continue;
                }
                if (!faults.misdirect.empty()) {
                    auto const it = faults.misdirect.find(u64{q.disk} << 48 | nth);
                    if (it != faults.misdirect.end()) n += static_cast<u64>(it->second);
                }
                if (n >= image_.blocks_per_disk) {
                    *status = DiskStatus::Error;
                    continue;
                }
                if (in_place && image_.at(q.disk, n)) {
                    std::memcpy(const_cast<u8*>(image_.at(q.disk, n)), q.data[i], block_bytes);
                    continue;
                }
                u8* copy = pool_.take();
                std::memcpy(copy, q.data[i], block_bytes);
                if (trace_) {
                    trace_->push_back({EventKind::Write, q.disk, n, copy, image_.at(q.disk, n), 0});
                }
                image_.at(q.disk, n) = copy;
                if (!faults.latent.empty()) faults.latent.erase(u64{q.disk} << 48 | n);
            }
            break;
        case DiskOperation::Flush:
            if (refused(q.disk)) {
                *status = DiskStatus::Fenced;
                break;
            }
            ++flushes;
            // What had been written when the flush was submitted is durable now.
            if (trace_) {
                trace_->push_back(
                    {EventKind::FlushDone, q.disk, 0, nullptr, nullptr, q.submitted_at});
            }
            break;
    }
}

void Disks::step() {
    std::size_t pick = 0;
    if (model.timed) {
        for (std::size_t i = 1; i < queue_.size(); ++i) {
            if (queue_[i].due < queue_[pick].due) pick = i;
        }
        now_ = queue_[pick].due;
    } else if (random_) {
        pick = random_->below(queue_.size());
    }
    Queued q = std::move(queue_[pick]);
    queue_.erase(queue_.begin() + static_cast<std::ptrdiff_t>(pick));
    DiskStatus status{};
    execute(q, &status);
    store_->disk_done(q.tag, status);
}

}  // namespace nemesis::fs::simulator
