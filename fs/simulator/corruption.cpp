#include "fs/simulator/corruption.h"

#include <algorithm>
#include <cstring>

#include "fs/check/check.h"
#include "fs/simulator/explorer.h"
#include "fs/simulator/judge.h"

namespace nemesis::fs::simulator {
namespace {

constexpr u64 segments = 96;
constexpr u64 film_rounds = 60;

/// How a block is wrong.
enum class Wrong : u8 { Flipped, Zeroed, Swapped, RolledBack };
constexpr Wrong ways[] = {Wrong::Flipped, Wrong::Zeroed, Wrong::Swapped, Wrong::RolledBack};
/// What else is wrong in the row.
enum class Second : u8 { Corrupt, Unreadable, DiskGone };
constexpr Second seconds[] = {Second::Corrupt, Second::Unreadable, Second::DiskGone};
/// What is done before the store is read.
enum class Before : u8 { Nothing, Scrub, Work };
constexpr Before befores[] = {Before::Nothing, Before::Scrub, Before::Work};

class Corruption {
public:
    Corruption(BlockPool& pool, Memory& memory, Random& random)
        : pool_(pool), memory_(memory), random_(random) {}

    std::string run(bool everywhere, u64* cases, std::string* text) {
        std::string problem = make();
        for (Wrong way : ways) {
            for (u32 disk = 0; disk < disks && problem.empty(); ++disk) {
                problem = one_of_each_row(way, [&](u64) { return disk; }, 0);
            }
            if (problem.empty()) {
                problem = one_of_each_row(
                    way, [&](u64) { return static_cast<u32>(random_.below(disks)); },
                    everywhere ? 40 : 2);
            }
        }
        if (problem.empty()) {
            find_rows(image_, pool_, memory_, &written_);
            problem = everywhere ? seconds_everywhere() : sample_of_seconds();
        }
        *cases += cases_;
        *text += std::to_string(live_.size()) + " blocks of " +
                 std::to_string(live_.size() * block_bytes >> 20) + " MiB in use, " +
                 std::to_string(repaired_) + " repairs, " + std::to_string(pairs_) +
                 " with a second fault (of " + std::to_string(stores_) + " stores " +
                 std::to_string(whole_) + " whole, " + std::to_string(read_only_) + " read-only, " +
                 std::to_string(refused_) + " refused; " + std::to_string(named_) +
                 " files named), ";
        return problem;
    }

private:
    using Block = std::pair<u32, u64>;  // disk, number

    /// A film, files, trees of two levels, directories of several blocks, attributes, links;
    /// cleaned, and with a part written degraded and rebuilt.
    std::string make() {
        image_ = previous_ = Image(blocks_for(segments));
        Model model;
        format(image_, pool_);
        std::vector<Step> steps = base_steps();
        for (u32 i = 0; i < 100; ++i) {
            std::string const name = "d/file-with-a-long-name-" + std::to_string(i);
            steps.push_back({StepKind::Create, name, "", 0, 0, 'a'});
            steps.push_back({StepKind::Append, name, "", 0, 60000, static_cast<u8>('a' + i % 20)});
            if (i % 10 == 0) steps.push_back({StepKind::SetXattr, name, "user.x=y", 0, 0, 'a'});
            if (i % 8 == 7) steps.push_back({});
        }
        steps.push_back({StepKind::Create, "big", "", 0, 0, 'a'});
        for (u32 i = 2; i < 36; ++i) {
            steps.push_back(
                {StepKind::Append, "big", "", 0, 900000, static_cast<u8>('a' + i % 20)});
            steps.push_back({});
        }
        for (u32 i = 0; i < 30; ++i) {
            std::string const name = "d/file-with-a-long-name-" + std::to_string(i * 3);
            steps.push_back({StepKind::Unlink, name, "", 0, 0, 'a'});
        }
        steps.push_back({StepKind::CreateStream, "v", "", 0, 0, 'a'});
        steps.push_back({StepKind::CreateStream, "w", "", 0, 0, 'a'});
        steps.push_back({StepKind::RecordStart, "v", "w", 0, 0, 'a'});
        for (u64 i = 0; i < film_rounds; ++i) {
            steps.push_back({StepKind::RecordRound, "", "", 0, i, 'a'});
            if (i == film_rounds / 2) steps.push_back({StepKind::Clean, "", "", 0, 0, 'a'});
        }
        steps.push_back({StepKind::RecordStop, "", "", 0, 0, 'a'});
        steps.push_back({});

        Machine m(image_, pool_, memory_);
        if (!m.mount()) return "mount";
        Client c(m);
        for (Step const& s : steps) {
            if (apply(c, m, s) != model.apply(s)) return to_text(s);
            if (s.kind == StepKind::Clean) previous_ = image_;
        }
        m.store().fail_disk(1);
        m.pump();
        Step const s{StepKind::Overwrite, "b", "", 0, 40000, 'Z'};
        if (apply(c, m, s) != model.apply(s) || !m.sync()) return "degraded";
        for (u64 n = 0; n < image_.blocks_per_disk; ++n) image_.at(1, n) = nullptr;
        if (!m.store().replace_disk(1, 1)) return "replace";
        m.store().run();
        if (!m.wait(&Store::rebuilding)) return "rebuild";
        if (!m.unmount()) return "unmount";
        for (u32 d = 0; d < disks; ++d) {
            for (u64 n = segments_start; n + 1 < image_.blocks_per_disk; ++n) {
                if (image_.at(d, n)) live_.emplace_back(d, n);
            }
        }
        for (u64 i = live_.size(); i-- > 1;) std::swap(live_[i], live_[random_.below(i + 1)]);
        written_.tree = model.dump();
        written_.film_rounds = film_rounds;
        return check_clean(image_);
    }

    static std::string check_clean(Image const& image) {
        check::Report const r = check::run(
            [&](u32 disk, u64 block, u8* out) {
                u8 const* data = image.at(disk, block);
                for (u32 i = 0; i < block_bytes; ++i) out[i] = data ? data[i] : 0;
                return true;
            },
            image.blocks_per_disk);
        return r.clean ? std::string() : "check: " + r.problems.front();
    }

    /// What stands in place of the block. shape: block_bytes of the pool
    u8 const* wrong(Wrong way, Block at) {
        auto const [disk, n] = at;
        u8* const b = pool_.take();
        auto const copy = [&](u8 const* from) {
            if (from) {
                std::memcpy(b, from, block_bytes);
            } else {
                std::memset(b, 0, block_bytes);
            }
        };
        switch (way) {
            case Wrong::Flipped:
                copy(image_.at(disk, n));
                b[random_.below(block_bytes)] ^= static_cast<u8>(1u << random_.below(8));
                break;
            case Wrong::Zeroed:
                copy(nullptr);
                break;
            case Wrong::Swapped: {
                auto const [disk2, n2] = live_[random_.below(live_.size())];
                copy(image_.at(disk2, n2));
                break;
            }
            case Wrong::RolledBack:
                copy(previous_.at(disk, n));
                break;
        }
        return b;
    }

    /// One block of each row is wrong, on the disk that `disk_of` says: read, and scrubbed; and in
    /// `crashes` states that a loss of power leaves while scrub mends.
    template <class DiskOf>
    std::string one_of_each_row(Wrong way, DiskOf disk_of, u32 crashes) {
        std::size_t const mark = pool_.mark();
        Image broken = image_;
        for (u64 n = segments_start; n + 1 < broken.blocks_per_disk; ++n) {
            u32 const disk = disk_of(n);
            if (!image_.at(disk, n)) continue;
            broken.at(disk, n) = wrong(way, {disk, n});
            ++cases_;
        }
        std::string problem;
        {
            Image read = broken;
            Machine m(read, pool_, memory_);
            problem = m.mount() ? judge_whole(m, written_) : "mount refused";
        }
        std::vector<Event> trace;
        Image scrubbed = broken;
        if (problem.empty()) {
            Machine m(scrubbed, pool_, memory_);
            m.disks.record(&trace);
            if (!m.mount()) problem = "mount before scrub";
            if (problem.empty() && !m.scrub()) problem = "scrub hangs";
            m.sync();
            if (m.store().damage_count()) problem = "scrub finds damage beyond redundancy";
            repaired_ += m.store().statistics().repaired;
        }
        if (problem.empty()) problem = check_clean(scrubbed);
        for (u32 i = 0; i < crashes && problem.empty(); ++i) {
            std::size_t const inner = pool_.mark();
            std::size_t const end = random_.below(trace.size() + 1);
            Image state = broken;
            for (std::size_t e = 0; e < end; ++e) {
                if (trace[e].kind != EventKind::Write) continue;
                state.at(trace[e].disk, trace[e].block) = trace[e].data;
            }
            {
                Machine m(state, pool_, memory_);
                if (!m.mount()) problem = "mount refused after a loss of power in scrub";
                if (problem.empty() && i % 2 && !m.scrub()) problem = "the second scrub hangs";
                if (problem.empty()) problem = judge_whole(m, written_);
                if (!problem.empty()) problem += ", power lost while scrub mends";
            }
            pool_.back_to(inner);
        }
        pool_.back_to(mark);
        if (problem.empty()) return "";
        return "blocks wrong in way " + std::to_string(static_cast<int>(way)) + ": " + problem;
    }

    /// Blocks `first` of one disk are wrong, and with each of them its row has a second fault.
    std::string with_second(Wrong way, Second second, Before before,
                            std::vector<Block> const& first) {
        std::size_t const mark = pool_.mark();
        Image broken = image_;
        FaultPlan faults;
        Rows hit;
        u32 const disk = first.front().first;
        auto const other = [&] { return (disk + 1 + static_cast<u32>(random_.below(4))) % disks; };
        u32 const gone = other();
        if (second == Second::DiskGone) faults.dead[gone] = true;
        for (auto const& at : first) {
            u64 const n = at.second;
            hit.insert(n);
            broken.at(disk, n) = wrong(way, at);
            u32 const d = other();
            if (second == Second::Corrupt) {
                broken.at(d, n) = wrong(ways[random_.below(std::size(ways))], {d, n});
            } else if (second == Second::Unreadable) {
                faults.latent.insert(u64{d} << 48 | n);
            }
            ++cases_;
            ++pairs_;
        }
        ++stores_;
        std::string const problem = judge_beyond(broken, faults, before, hit);
        pool_.back_to(mark);
        if (problem.empty()) return "";
        std::string what = "first " + std::to_string(static_cast<int>(way)) + ", second " +
                           std::to_string(static_cast<int>(second)) + ", before " +
                           std::to_string(static_cast<int>(before)) + ", disk " +
                           std::to_string(disk) + ", rows";
        for (auto const& at : first) what += " " + std::to_string(at.second);
        return what + ": " + problem;
    }

    /// Mounts what is beyond redundancy, does what comes before, and reads.
    std::string judge_beyond(Image& broken, FaultPlan const& faults, Before before,
                             Rows const& hit) {
        bool const mount_hit =
            std::ranges::any_of(hit, [&](u64 n) { return written_.mount.contains(n); });
        if (before == Before::Work) {
            Machine m(broken, pool_, memory_);
            m.disks.faults = faults;
            if (m.mount() && m.store().health() == Health::Mounted) {
                // What cannot be read stays as it is, wherever its segment goes.
                Client c(m);
                if (!m.clean()) return "cleaning hangs";
                if (c.create("later") != Error::None && !mount_hit) return "it takes no new file";
                c.write("later", 0, std::string(200'000, 'l'));
                c.fsync();
                if (!m.unmount()) return "unmount";
            }
        }
        Machine m(broken, pool_, memory_);
        m.disks.faults = faults;
        if (!m.mount()) {
            ++refused_;
            return mount_hit ? "" : "mount refused, though nothing that it reads is wrong";
        }
        bool const writable = m.store().health() == Health::Mounted;
        if (!writable) ++read_only_;
        if (!writable && !mount_hit)
            return "read-only, though nothing that the mount reads is wrong";
        bool const scrubbed = before == Before::Scrub && writable;
        if (scrubbed && !m.scrub()) return "scrub hangs";
        u32 const found = m.store().damage_count();
        Honest const h = judge_honest(m, written_, mount_hit ? nullptr : &hit, "later");
        if (h.whole) ++whole_;
        named_ += h.damaged;
        if (h.problem.empty() && scrubbed && !found && !h.whole) {
            return "scrub finds nothing, and files are damaged";
        }
        return h.problem;
    }

    std::string sample_of_seconds() {
        std::string problem;
        for (u32 i = 0; i < 36 && problem.empty(); ++i) {
            u32 const disk = static_cast<u32>(random_.below(disks));
            std::vector<Block> first;
            u64 const most = i % 2 ? 2 : 30;
            for (std::size_t n = random_.below(live_.size() / 2); first.size() < most; ++n) {
                if (live_[n].first == disk) first.push_back(live_[n]);
            }
            problem = with_second(ways[i % 4], seconds[i % 3], befores[i / 3 % 3], first);
        }
        return problem;
    }

    /// Every live block, in each way, with each second fault.
    std::string seconds_everywhere() {
        std::string problem;
        u32 turn = 0;
        for (u32 disk = 0; disk < disks; ++disk) {
            std::vector<Block> all;
            std::ranges::copy_if(live_, std::back_inserter(all),
                                 [&](Block const& b) { return b.first == disk; });
            for (Wrong way : ways) {
                for (Second second : seconds) {
                    for (std::size_t at = 0; at < all.size() && problem.empty();) {
                        std::size_t const most = random_.chance(4) ? 4 : 40;
                        std::size_t const end = std::min(all.size(), at + most);
                        problem = with_second(way, second, befores[turn++ % 3],
                                              {all.begin() + static_cast<std::ptrdiff_t>(at),
                                               all.begin() + static_cast<std::ptrdiff_t>(end)});
                        at = end;
                    }
                }
            }
        }
        return problem;
    }

    BlockPool& pool_;
    Memory& memory_;
    Random& random_;
    Image image_;
    Image previous_;  // as it was after half of the film
    std::vector<Block> live_;
    Written written_;
    u64 cases_ = 0;
    u64 pairs_ = 0;
    u64 repaired_ = 0;
    u64 stores_ = 0;
    u64 whole_ = 0;
    u64 read_only_ = 0;
    u64 refused_ = 0;
    u64 named_ = 0;
};

}  // namespace

std::string corrupt_blocks(BlockPool& pool, Memory& memory, Random& random, bool everywhere,
                           u64* cases, std::string* text) {
    std::size_t const mark = pool.mark();
    std::string const problem = Corruption(pool, memory, random).run(everywhere, cases, text);
    pool.back_to(mark);
    return problem;
}

}  // namespace nemesis::fs::simulator
