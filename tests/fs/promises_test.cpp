// Goal: each published promise of the file store by itself. Method: given a small store on
// simulated disks, when something is done, then what is promised holds.

#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "fs/agent/agent.h"
#include "fs/check/check.h"
#include "fs/core/crc32c.h"
#include "fs/server/server.h"
#include "fs/simulator/mangle.h"
#include "fs/simulator/model.h"

namespace nemesis::fs::simulator {
namespace {

class Promises : public testing::Test {
protected:
    void start(u64 segments = 64, Options options = small_options()) {
        image = Image(blocks_for(segments));
        format(image, pool);
        mount(options);
    }
    void mount(Options options = small_options()) {
        machine.emplace(image, pool, memory, options);
        machine->disks.in_place = in_place;
        ASSERT_TRUE(machine->mount());
        client.emplace(*machine);
    }
    std::string check() {
        check::Report const r = check::run(
            [&](u32 d, u64 n, u8* out) {
                u8 const* data = image.at(d, n);
                if (data)
                    std::memcpy(out, data, block_bytes);
                else
                    std::memset(out, 0, block_bytes);
                return true;
            },
            image.blocks_per_disk);
        return r.clean ? "" : r.problems.front();
    }
    BlockPool pool;
    Memory memory;
    Image image;
    bool in_place = false;  // no earlier image is looked at
    std::optional<Machine> machine;
    std::optional<Client> client;
};

TEST(Crc32c, is_the_published_polynomial) {
    EXPECT_EQ(crc32c("123456789", 9), 0xE3069283u);
    std::vector<u8> block(block_bytes);
    for (u32 i = 0; i < block_bytes; ++i) block[i] = static_cast<u8>(i * 7 + i / 256);
    EXPECT_EQ(crc32c_block(block.data()), crc32c(block.data(), block_bytes));
    EXPECT_EQ(crc32c_block_in_lanes(block.data()), crc32c(block.data(), block_bytes));
}

// Given blocks of which one byte alone is not zero, when the checksum is taken by whatever this
// processor has, then each byte has the weight that taking them one by one gives it.
TEST(Crc32c, counts_each_byte_of_a_block) {
    std::vector<u8> block(block_bytes), there(block_bytes);
    for (u32 i = 0; i < block_bytes; ++i) {
        block[i] = static_cast<u8>(1u << i % 8);
        u32 const want = crc32c(block.data(), block_bytes);
        EXPECT_EQ(crc32c_block(block.data()), want) << i;
        EXPECT_EQ(crc32c_block_before_copy(block.data(), there.data(), there.data()), want) << i;
        EXPECT_EQ(crc32c_block_in_lanes(block.data()), want) << i;
        block[i] = 0;
    }
    EXPECT_EQ(there, block);
}

// Given blocks at every alignment of source and target to 64 bytes, when they are copied, then the
// copy is the block, its checksum is that of the bytes one by one, and nothing beside it changes.
TEST(Crc32c, is_that_of_the_block_that_is_copied) {
    Random random(20);
    for (u32 to = 1; to <= 64; ++to) {
        u32 const from = to * 7 % 64;
        std::vector<u8> source(block_bytes + 64);
        for (u8& b : source) b = static_cast<u8>(random.below(256));
        std::vector<u8> const before(block_bytes + 66, 0xEE);
        std::vector<u8> want = before;
        std::memcpy(want.data() + to, source.data() + from, block_bytes);
        u32 const crc = crc32c(source.data() + from, block_bytes);
        std::vector<u8> target = before;
        EXPECT_EQ(copy_block(target.data() + to, source.data() + from, target.data()), crc);
        EXPECT_EQ(target, want) << "to " << to << " from " << from;
        target = before;
        EXPECT_EQ(copy_block_in_lanes(target.data() + to, source.data() + from), crc);
        EXPECT_EQ(target, want) << "in lanes, to " << to << " from " << from;
    }
}

TEST_F(Promises, options_that_do_not_fit_together_are_refused_and_named) {
    image = Image(blocks_for(64));
    format(image, pool);
    auto const refused = [&](auto change) {
        Options o = small_options();
        change(o);
        Machine m(image, pool, memory, o);
        bool const mounted = m.mount();
        EXPECT_EQ(mounted, o.problem() == nullptr);
        return !mounted && m.store().refusal() == Refusal::BadOptions;
    };
    EXPECT_FALSE(refused([](Options&) {}));
    EXPECT_TRUE(refused([](Options& o) { o.garbage_ring = 2 * o.frames + 2047; }));
    EXPECT_FALSE(refused([](Options& o) { o.garbage_ring = 2 * o.frames + 2048; }));
    // With this one a change would wait for a checkpoint for ever, each of which leaves an entry.
    EXPECT_TRUE(refused([](Options& o) { o.garbage_ring = o.frames + 1025; }));
    EXPECT_TRUE(refused([](Options& o) { o.frames = 63; }));
    EXPECT_TRUE(refused([](Options& o) { o.partials = 0; }));
    EXPECT_TRUE(refused([](Options& o) { o.sort_entries = 255; }));
    EXPECT_TRUE(refused([](Options& o) { o.media_run = 0; }));
    EXPECT_TRUE(refused([](Options& o) { o.media_run = stream_run_max + 1; }));
    EXPECT_TRUE(refused([](Options& o) { o.media_reserve_percent = 100; }));
    EXPECT_TRUE(refused([](Options& o) { o.media_round = Duration::ns(0); }));
}

TEST_F(Promises, a_store_with_the_least_ring_takes_operations_and_cleans) {
    Options o = small_options();
    o.garbage_ring = 2 * o.frames + 2048;
    start(64, o);
    for (int round = 0; round < 40; ++round) {
        std::string const name = "f" + std::to_string(round % 7);
        client->create(name);
        ASSERT_EQ(client->write(name, 0, std::string(100'000, 'a')), Error::None) << round;
        if (round % 3 == 0) {
            ASSERT_EQ(client->unlink(name), Error::None);
        }
    }
    ASSERT_TRUE(machine->clean());
    ASSERT_EQ(client->fsync(), Error::None);
    EXPECT_EQ(check(), "");
}

TEST_F(Promises, two_bad_blocks_of_a_row_are_an_error_and_never_wrong_data) {
    start();
    ASSERT_EQ(client->create("f"), Error::None);
    // More than the cache, so that its beginning has to be read.
    for (u64 at = 0; at < 4'000'000; at += 50'000) {
        ASSERT_EQ(client->write("f", at, std::string(50'000, static_cast<char>('a' + at % 23))),
                  Error::None);
    }
    ASSERT_EQ(client->fsync(), Error::None);
    for (u32 d : {1u, 2u}) {
        for (u64 n = segments_start; n < image.blocks_per_disk - 1; ++n) {
            if (!image.at(d, n)) continue;
            u8* const bad = pool.take();
            std::memcpy(bad, image.at(d, n), block_bytes);
            bad[100] ^= 4;
            image.at(d, n) = bad;
        }
    }
    u32 damaged = 0;
    for (u64 at = 0; at < 2'000'000; at += 50'000) {
        std::string out;
        Error const e = client->read("f", at, 50'000, &out);
        if (e == Error::None) {
            EXPECT_EQ(out, std::string(50'000, static_cast<char>('a' + at % 23))) << at;
        } else {
            EXPECT_EQ(e, Error::Damaged) << at;
            ++damaged;
        }
    }
    EXPECT_GT(damaged, 0u);
}

// Given a file on the disks of which one block, or two of a row, are another file's, when it is
// read, then these bytes are never in the reader's memory, not even while the request is under way
// or when it fails.
TEST_F(Promises, what_has_not_its_checksum_never_comes_into_the_memory_of_who_reads) {
    for (u32 wrong = 1; wrong <= 2; ++wrong) {
        start();
        ASSERT_EQ(client->create("f"), Error::None);
        ASSERT_EQ(client->write("f", 0, std::string(300'000, 'a')), Error::None);
        ASSERT_EQ(client->fsync(), Error::None);
        mount();
        for (u32 d = 1; d <= wrong; ++d) {
            for (u64 n = segments_start; n < image.blocks_per_disk - 1; ++n) {
                bool const data = image.at(d, n) && image.at(d, n)[0] == 'a' &&
                                  image.at(d, n)[block_bytes - 1] == 'a';
                if (!data) continue;
                u8* const secret = pool.take();
                std::memset(secret, 'Z', block_bytes);
                image.at(d, n) = secret;
            }
        }
        Attributes a;
        ASSERT_EQ(client->lookup("f", &a), Error::None);
        std::string buffer(300'000, '.');
        Request r;
        r.op = Op::Read;
        r.pnode = a.pnode;
        r.length = buffer.size();
        r.buffer = reinterpret_cast<u8*>(buffer.data());
        ASSERT_TRUE(machine->call(r));
        EXPECT_EQ(r.error, wrong == 1 ? Error::None : Error::Damaged);
        EXPECT_EQ(buffer.find('Z'), std::string::npos) << wrong << " wrong";
        if (wrong == 1) {
            EXPECT_EQ(buffer, std::string(300'000, 'a'));
            EXPECT_GT(machine->store().statistics().repaired, 0u);
        }
    }
}

// Given data written in long stretches, of which some is then written over, cut off or deleted,
// when it is flushed, then rows that were made when their blocks came are in the log, and the
// parity of each row is that of its blocks: the checker says so, and all is there without a disk.
TEST_F(Promises, rows_made_when_their_blocks_came_have_the_parity_of_what_is_written) {
    u64 ahead = 0;
    for (u64 seed = 1; seed <= 12; ++seed) {
        start();
        Random random(seed);
        std::string want[3];
        char next = 'a';
        for (u32 i = 0; i < 60; ++i) {
            u32 const n = static_cast<u32>(random.below(3));
            std::string const name(1, static_cast<char>('f' + n));
            std::string& text = want[n];
            Attributes a;
            if (client->lookup(name, &a) != Error::None) {
                ASSERT_EQ(client->create(name), Error::None);
            }
            u64 const what = random.below(10);
            if (what == 0) {
                text.resize(random.below(text.size() + 1));
                ASSERT_EQ(client->truncate(name, text.size()), Error::None);
            } else if (what == 1) {
                text.clear();
                ASSERT_EQ(client->unlink(name), Error::None);
            } else if (what == 2) {
                ASSERT_EQ(client->fsync(), Error::None);
            } else {
                u64 const at = what < 6 ? text.size() / block_bytes * block_bytes
                                        : random.below(text.size() + 1);
                u64 const length =
                    what < 8 ? 4 * block_bytes + random.below(80'000) : random.below(6'000);
                std::string const data(length, next);
                next = next == 'z' ? 'a' : static_cast<char>(next + 1);
                if (text.size() < at + length) text.resize(at + length);
                text.replace(at, length, data);
                ASSERT_EQ(client->write(name, at, data), Error::None);
            }
        }
        ASSERT_EQ(client->fsync(), Error::None);
        ahead += machine->store().statistics().rows_ahead;
        EXPECT_EQ(check(), "") << "seed " << seed;
        mount();
        u32 const lost = static_cast<u32>(seed % columns);
        machine->store().fail_disk(lost);
        machine->disks.faults.dead[lost] = true;
        for (u32 n = 0; n < 3; ++n) {
            std::string out;
            std::string const name(1, static_cast<char>('f' + n));
            Attributes a;
            if (client->lookup(name, &a) != Error::None) continue;
            ASSERT_EQ(client->read(name, 0, want[n].size(), &out), Error::None);
            EXPECT_TRUE(out == want[n]) << "seed " << seed << " file " << name;
        }
    }
    EXPECT_GT(ahead, 200u);
}

TEST_F(Promises, an_open_unlinked_file_is_readable_until_released_and_gone_after) {
    start();
    ASSERT_EQ(client->create("f"), Error::None);
    ASSERT_EQ(client->write("f", 0, "hello"), Error::None);
    u64 number = 0;
    ASSERT_EQ(client->hold("f", &number), Error::None);
    ASSERT_EQ(client->unlink("f"), Error::None);
    std::string out;
    EXPECT_EQ(client->read_number(number, 0, 5, &out), Error::None);
    EXPECT_EQ(out, "hello");
    ASSERT_EQ(client->fsync(), Error::None);
    EXPECT_EQ(check(), "");
    ASSERT_EQ(client->release(number), Error::None);
    EXPECT_EQ(client->read_number(number, 0, 5, &out), Error::Stale);
    ASSERT_EQ(client->fsync(), Error::None);
    EXPECT_EQ(check(), "");
}

TEST_F(Promises, a_crash_with_an_open_unlinked_file_leaves_no_trace_of_it) {
    start();
    ASSERT_EQ(client->create("f"), Error::None);
    ASSERT_EQ(client->write("f", 0, std::string(50000, 'x')), Error::None);
    u64 number = 0;
    ASSERT_EQ(client->hold("f", &number), Error::None);
    ASSERT_EQ(client->unlink("f"), Error::None);
    ASSERT_EQ(client->fsync(), Error::None);
    mount();
    ASSERT_TRUE(machine->sync());
    std::string out;
    EXPECT_EQ(client->read_number(number, 0, 5, &out), Error::Stale);
    EXPECT_EQ(check(), "");
}

TEST_F(Promises, a_write_of_no_bytes_changes_nothing_wherever_it_is) {
    start();
    Model model;
    for (Step const& s : {Step{StepKind::Create, "f", "", 0, 0, 'a'},
                          Step{StepKind::Overwrite, "f", "", 13126, 0, 'b'},
                          Step{StepKind::Append, "f", "", 0, 0, 'c'}}) {
        ASSERT_EQ(apply(*client, *machine, s), Error::None) << to_text(s);
        ASSERT_EQ(model.apply(s), Error::None) << to_text(s);
    }
    Attributes a;
    ASSERT_EQ(client->lookup("f", &a), Error::None);
    EXPECT_EQ(a.size, 0u);
    std::string text;
    ASSERT_EQ(client->dump(&text), Error::None);
    EXPECT_EQ(text, model.dump());
}

TEST_F(Promises, files_reach_eight_tebibytes_with_holes) {
    start();
    ASSERT_EQ(client->create("f"), Error::None);
    u64 const far = u64{8} << 40;
    ASSERT_EQ(client->write("f", far - 3, "end"), Error::None);
    ASSERT_EQ(client->write("f", 5, "begin"), Error::None);
    ASSERT_EQ(client->fsync(), Error::None);
    mount();
    Attributes a;
    ASSERT_EQ(client->lookup("f", &a), Error::None);
    EXPECT_EQ(a.size, far);
    std::string out;
    ASSERT_EQ(client->read("f", far - 6, 100, &out), Error::None);
    EXPECT_EQ(out, std::string(3, 0) + "end");
    ASSERT_EQ(client->read("f", u64{4} << 40, 4096, &out), Error::None);
    EXPECT_EQ(out, std::string(4096, 0));
    ASSERT_EQ(client->truncate("f", 7), Error::None);
    ASSERT_EQ(client->truncate("f", 12), Error::None);
    ASSERT_EQ(client->read("f", 5, 100, &out), Error::None);
    EXPECT_EQ(out, std::string("be") + std::string(5, 0));
    ASSERT_EQ(client->fsync(), Error::None);
    EXPECT_EQ(check(), "");
}

TEST_F(Promises, deleting_a_large_file_writes_a_constant_number_of_blocks_also_when_full) {
    start(96);
    ASSERT_EQ(client->create("big"), Error::None);
    for (u32 i = 0; i < 40; ++i) {
        ASSERT_EQ(client->write("big", u64{i} << 20, std::string(1 << 20, 'b')), Error::None);
    }
    ASSERT_EQ(client->create("fill"), Error::None);
    Error e = Error::None;
    for (u64 i = 0; e == Error::None; ++i)
        e = client->write("fill", i << 16, std::string(1 << 16, 'f'));
    ASSERT_EQ(e, Error::NoSpace);
    ASSERT_EQ(client->fsync(), Error::None);
    u64 const before = machine->disks.blocks_written + machine->disks.blocks_read;
    ASSERT_EQ(client->unlink("big"), Error::None);
    ASSERT_EQ(client->fsync(), Error::None);
    EXPECT_LT(machine->disks.blocks_written + machine->disks.blocks_read - before, 40u);
    u64 const free_before = machine->store().statistics().segments_free;
    ASSERT_TRUE(machine->clean());
    ASSERT_TRUE(machine->clean());
    EXPECT_GT(machine->store().statistics().segments_free, free_before + 30);
    EXPECT_EQ(check(), "");
}

TEST_F(Promises, a_directory_of_many_entries_keeps_its_cookies_while_it_changes) {
    Options o = small_options();
    o.frames = 4096;
    o.garbage_ring = 32768;
    start(256, o);
    ASSERT_EQ(client->mkdir("d"), Error::None);
    Attributes d;
    ASSERT_EQ(client->lookup("d", &d), Error::None);
    u32 const many = 20000;
    auto const in_d = [&](Op op, u32 i) {
        std::string const name = "entry-" + std::to_string(i);
        Request r;
        r.op = op;
        r.pnode = d.pnode;
        r.name = {name.data(), static_cast<u32>(name.size())};
        EXPECT_TRUE(machine->call(r));
        return r.error;
    };
    for (u32 i = 0; i < many; ++i) ASSERT_EQ(in_d(Op::Create, i), Error::None) << i;
    // Half of the walk, then every third entry goes and new ones come, then the rest of the walk.
    std::set<std::string> seen;
    u64 cookie = 0;
    std::vector<u8> buffer(4096);
    u32 calls = 0;
    for (;;) {
        Request r;
        r.op = Op::ReadDirectory;
        r.pnode = d.pnode;
        r.offset = cookie;
        r.buffer = buffer.data();
        r.length = buffer.size();
        ASSERT_TRUE(machine->call(r));
        ASSERT_EQ(r.error, Error::None);
        if (r.count == 0) break;
        for (u64 at = 0; at < r.count;) {
            DirectoryItem item;
            std::memcpy(&item, buffer.data() + at, sizeof item);
            std::string const name(reinterpret_cast<char*>(buffer.data() + at + sizeof item),
                                   item.name_length);
            EXPECT_TRUE(seen.insert(name).second) << "twice: " << name;
            cookie = item.cookie;
            at += (sizeof item + item.name_length + 7) / 8 * 8;
        }
        if (++calls == 100) {
            for (u32 i = 0; i < many; i += 3) ASSERT_EQ(in_d(Op::Unlink, i), Error::None);
            for (u32 i = 0; i < 3000; ++i) ASSERT_EQ(in_d(Op::Create, many + i), Error::None);
        }
    }
    for (u32 i = 0; i < many; ++i) {
        if (i % 3) EXPECT_TRUE(seen.contains("entry-" + std::to_string(i))) << i;
    }
    ASSERT_EQ(client->fsync(), Error::None);
    EXPECT_EQ(check(), "");
}

TEST_F(Promises, a_walk_from_a_cookie_behind_all_entries_is_at_its_end) {
    start();
    for (char const* name : {"a", "b", "c"}) ASSERT_EQ(client->create(name), Error::None);
    std::vector<u8> buffer(4096);
    for (u64 cookie : {key_last, key_last + 1, ~u64{0} - 1, ~u64{0}}) {
        Request r;
        r.op = Op::ReadDirectory;
        r.pnode = root_directory;
        r.offset = cookie;
        r.buffer = buffer.data();
        r.length = buffer.size();
        ASSERT_TRUE(machine->call(r));
        EXPECT_EQ(r.error, Error::None);
        EXPECT_EQ(r.count, 0u) << cookie;
    }
}

TEST(HostileDisks, a_key_of_all_ones_in_a_directory_makes_no_walk_of_a_directory_go_round) {
    Mangled store(1);
    u16 const key_of_the_first_entry = 16 / 8;
    u32 directories = 0;
    for (u32 place = 0; place < store.places(); ++place) {
        if (!store.is_directory(place)) continue;
        ++directories;
        store.run({{place, key_of_the_first_entry, 7, 0, ~u64{0}}});
    }
    EXPECT_GT(directories, 3u);
    EXPECT_EQ(store.unordered, 0u);
    EXPECT_EQ(store.stuck, 0u);
    EXPECT_GT(store.mounted, 0u);
}

TEST(HostileDisks, whatever_a_word_of_a_checkpoint_says_the_free_segments_are_counted_right) {
    Mangled store(1);
    u32 const first = Mangled::first_checkpoint_place;
    // Both heads, their next segments and rows; each is made the same as each other.
    constexpr u16 head = offsetof(Checkpoint, head) / 8;
    for (u16 word = head; word < head + 2 * sizeof(LogHead) / 8; ++word) {
        for (u64 segment = 0; segment < store.segments(); ++segment) {
            store.run({{first, word, 0, 0, segment}, {first + 1, word, 0, 0, segment}}, use_change);
        }
    }
    EXPECT_EQ(store.stuck, 0u);
    EXPECT_GT(store.mounted, 0u);
}

TEST(HostileDisks, a_checkpoint_with_more_pnodes_than_the_store_has_room_for_is_none) {
    Mangled store(1);
    u16 const field = offsetof(Checkpoint, pnode_count) / 8;
    u32 const first = Mangled::first_checkpoint_place;
    auto const both = [&](u64 count) {
        return store.run({{first, field, 7, 0, count}, {first + 1, field, 7, 0, count}});
    };
    EXPECT_EQ(both(pnodes_max(store.segments())), Health::Mounted);
    for (u64 count : {u64{0}, u64{first_pnode - 1}, pnodes_max(store.segments()) + 1, u64{1} << 48,
                      u64{1} << 63, ~u64{0}}) {
        EXPECT_EQ(both(count), Health::Refused) << count;
    }
}

Options shared_options() {
    Options o = small_options();
    o.shared = true;
    return o;
}

TEST_F(Promises, a_store_whose_disks_are_taken_over_makes_nothing_durable) {
    start(64, shared_options());
    ASSERT_EQ(client->create("a"), Error::None);
    ASSERT_EQ(client->fsync(), Error::None);
    ASSERT_EQ(client->create("b"), Error::None);
    Memory other_memory;
    Machine other(image, pool, other_memory, shared_options());
    ASSERT_TRUE(other.mount());
    Client there(other);
    u64 const durable = machine->store().durable_group();
    EXPECT_NE(client->fsync(), Error::None);
    EXPECT_EQ(machine->store().durable_group(), durable);
    EXPECT_TRUE(machine->store().fenced());
    Attributes a;
    EXPECT_EQ(there.lookup("a", &a), Error::None);
    EXPECT_EQ(there.lookup("b", &a), Error::NoEntry);
    EXPECT_EQ(there.create("c"), Error::None);
    EXPECT_EQ(there.fsync(), Error::None);
    EXPECT_FALSE(other.store().fenced());
    // It says so when it is asked, too, and the one that has them is told that it has.
    other.store().renew();
    other.pump();
    EXPECT_FALSE(other.store().fenced());
    ASSERT_TRUE(other.unmount());
    EXPECT_EQ(check(), "");
}

TEST_F(Promises, a_store_that_asks_notices_that_its_disks_are_taken_over) {
    start(64, shared_options());
    machine->store().renew();
    machine->pump();
    EXPECT_FALSE(machine->store().fenced());
    Memory other_memory;
    Machine other(image, pool, other_memory, shared_options());
    ASSERT_TRUE(other.mount());
    EXPECT_FALSE(machine->store().fenced());
    machine->store().renew();
    machine->pump();
    EXPECT_TRUE(machine->store().fenced());
}

// Given one store that works and another that is being mounted from the same disks, when the first
// loses a disk and makes a file durable at any step of that, then it was refused, or the other one
// has the file and knows of the disk.
TEST_F(Promises, disks_that_are_taken_over_are_read_as_they_are_then) {
    u32 good = 0;
    u32 refused = 0;
    for (u32 steps = 0; steps < 300 && refused < 20; ++steps) {
        start(64, shared_options());
        ASSERT_EQ(client->create("a"), Error::None);
        ASSERT_EQ(client->fsync(), Error::None);
        Memory other_memory;
        Machine other(image, pool, other_memory, shared_options());
        other.store().mount(other.now, 0);
        other.store().run();
        for (u32 i = 0; i < steps && other.disks.busy(); ++i) {
            other.disks.step();
            other.store().run();
        }
        machine->store().fail_disk(2);
        machine->pump();
        bool const durable = client->create("y") == Error::None && client->fsync() == Error::None;
        (durable ? good : refused) += 1;
        other.pump();
        ASSERT_EQ(other.store().health(), Health::Mounted);
        Client there(other);
        Attributes a;
        EXPECT_EQ(there.lookup("a", &a), Error::None);
        if (!durable) continue;
        EXPECT_EQ(there.lookup("y", &a), Error::None) << steps;
        EXPECT_EQ(other.store().disk_state(2), DiskState::Dead) << steps;
    }
    EXPECT_GT(good, 10u);
    EXPECT_EQ(refused, 20u);
}

/// Agents that are nothing but their messages.
struct Agents final : ServerPort {
    static constexpr ServerOptions options{.sessions = 2, .touched = 64};
    explicit Agents(Machine& m)
        : machine(m), bytes(std::make_unique<u8[]>(Server::memory_needed(options))) {
        Arena arena(bytes.get(), Server::memory_needed(options));
        server.emplace(arena, machine.store(), *this, options);
        server->start(machine.now);
    }
    void send(u64, u8 const* data, u32 length) override {
        Received r;
        ASSERT_TRUE(read_message(data, length, &r));
        got.push_back(r.header);
    }
    /// Says it and waits until the server and its disks are at rest. The last message that came.
    Message say(MessageKind kind, u64 agent, Message m = {}, Name name = {}, Name name2 = {}) {
        m.kind = kind;
        m.agent = agent;
        m.incarnation = 1;
        m.session = session[agent - 1];
        std::vector<u8> out(message_bytes_max);
        u32 const length = build_message(out.data(), m, name, name2);
        got.clear();
        server->receive(out.data(), length);
        for (u32 i = 0; i < 64; ++i) {
            machine.pump();
            server->run();
        }
        Message last;
        for (Message const& g : got) {
            if (g.agent == agent) last = g;
        }
        if (last.kind == MessageKind::Welcome) session[agent - 1] = last.session;
        return last;
    }
    Machine& machine;
    std::unique_ptr<u8[]> bytes;
    std::optional<Server> server;
    std::vector<Message> got;
    u64 session[2] = {};
};

TEST_F(Promises, an_agent_without_an_answer_learns_what_it_made_though_another_has_moved_it) {
    start();
    u64 const first = incarnation_start(1) + 1;
    FileRef made;
    {
        Agents a(*machine);
        for (u64 agent : {1, 2}) {
            ASSERT_EQ(a.say(MessageKind::Hello, agent).kind, MessageKind::Welcome);
            a.say(MessageKind::Replayed, agent);
        }
        Message m;
        m.number = first;
        m.op = Op::Create;
        m.type = PnodeType::File;
        m.mode = 0644;
        m.file = {root_directory, 0, 0};
        Message const answer = a.say(MessageKind::New, 1, m, {"a", 1});
        ASSERT_EQ(answer.error, 0u);
        made = answer.result;
        ASSERT_NE(made.pnode, 0u);
        m.op = Op::Rename;
        m.file2 = m.file;
        ASSERT_EQ(a.say(MessageKind::New, 2, m, {"a", 1}, {"b", 1}).error, 0u);
        a.say(MessageKind::Sync, 2);
        m.op = Op::Create;
        m.number = first + 1;
        ASSERT_EQ(a.say(MessageKind::New, 2, m, {"a", 1}).error, 0u);
        a.say(MessageKind::Sync, 2);
    }
    // Once from the log, and once from a checkpoint.
    for (u32 life = 0; life < 2; ++life) {
        mount();
        Agents a(*machine);
        Message const welcome = a.say(MessageKind::Hello, 1);
        ASSERT_EQ(welcome.kind, MessageKind::Welcome);
        EXPECT_EQ(welcome.applied, first);
        EXPECT_EQ(welcome.result.pnode, made.pnode);
        EXPECT_EQ(welcome.result.generation, made.generation);
        Message const other = a.say(MessageKind::Hello, 2);
        EXPECT_EQ(other.applied, first + 1);
        EXPECT_NE(other.result.pnode, made.pnode);
        ASSERT_TRUE(machine->unmount());
    }
    EXPECT_EQ(check(), "");
}

/// A server that is nothing but its messages, in session 1.
struct AServer final : AgentPort {
    static constexpr AgentOptions options{
        .log_operations = 8, .log_bytes = 4096, .files = 8, .cache = {}, .alternative_after = {}};
    AServer() : bytes(std::make_unique<u8[]>(Agent::memory_needed(options))) {
        Arena arena(bytes.get(), Agent::memory_needed(options));
        agent.emplace(arena, *this, options, 1, 1);
        agent->start(Instant{});
    }
    void send(u8 const* data, u32 length) override {
        Received r;
        ASSERT_TRUE(read_message(data, length, &r));
        got.push_back(r.header);
    }
    void conflict(u64, Error) override { ADD_FAILURE(); }
    void say(MessageKind kind, u64 number = 0, u64 durable = 0) {
        Message m;
        m.kind = kind;
        m.agent = m.incarnation = m.session = 1;
        m.number = number;
        m.durable = durable;
        m.applied = incarnation_start(1);
        m.result = {first_pnode + 5, 1, 0};
        std::vector<u8> out(message_bytes_max);
        agent->receive(out.data(), build_message(out.data(), m), Instant{});
        agent->check_invariants();
    }
    std::unique_ptr<u8[]> bytes;
    std::optional<Agent> agent;
    std::vector<Message> got;
};

TEST(HostileServer, greeting_again_within_a_session_makes_no_agent_repeat_what_was_answered) {
    AServer s;
    s.say(MessageKind::Welcome);
    s.say(MessageKind::Pong, ~u64{0});
    ASSERT_TRUE(s.agent->active());
    AgentRequest create;
    create.op = Op::Create;
    create.name = {"a", 1};
    s.agent->submit(create, Instant{});
    u64 const first = incarnation_start(1) + 1;
    s.say(MessageKind::Answer, first);
    ASSERT_TRUE(create.done);
    AgentRequest other = create;
    s.agent->submit(other, Instant{});
    s.say(MessageKind::Unknown);
    s.got.clear();
    s.say(MessageKind::Welcome);
    // What it may say at any time, also that all is on disk.
    s.say(MessageKind::Pong, 0, first);
    s.agent->advance(Instant{} + Duration::s(1));
    for (Message const& m : s.got) EXPECT_NE(m.kind, MessageKind::Replay);
    s.say(MessageKind::Pong, ~u64{0});
    EXPECT_TRUE(s.agent->active());
    s.say(MessageKind::Answer, first + 1);
    EXPECT_TRUE(other.done);
}

TEST_F(Promises, most_of_what_dies_within_the_write_delay_never_reaches_a_disk) {
    Options o = small_options();
    o.frames = 2048;
    o.garbage_ring = 8192;
    start(128, o);
    u64 written = 0;
    Random random(7);
    std::vector<std::pair<std::string, Instant>> dies;
    // A file of 16 KiB every second; seven of ten die before they are 30 s old.
    for (u32 i = 0; i < 600; ++i) {
        std::string const name = "f" + std::to_string(i);
        ASSERT_EQ(client->create(name), Error::None);
        ASSERT_EQ(client->write(name, 0, std::string(16384, 'w')), Error::None);
        written += 4;
        if (random.below(10) < 7) {
            dies.emplace_back(name,
                              machine->now + Duration::ms(static_cast<i64>(random.below(15000))));
        }
        machine->later(Duration::s(1));
        std::erase_if(dies, [&](auto const& d) {
            if (d.second > machine->now) return false;
            EXPECT_EQ(client->unlink(d.first), Error::None);
            return true;
        });
    }
    ASSERT_EQ(client->fsync(), Error::None);
    Statistics const s = machine->store().statistics();
    RecordProperty("never_written_blocks", static_cast<int>(s.never_written));
    // 70 % of the files die; of their blocks most died in memory.
    EXPECT_GT(static_cast<double>(s.never_written), 0.65 * 0.7 * static_cast<double>(written));
}

TEST_F(Promises, permissions_hold_with_supplementary_groups) {
    start();
    ASSERT_EQ(client->create("f", PnodeType::File, 0640), Error::None);
    Attributes a;
    ASSERT_EQ(client->lookup("f", &a), Error::None);
    Request own;
    own.op = Op::SetAttributes;
    own.pnode = a.pnode;
    own.flags = set_uid | set_gid;
    own.attributes.uid = 100;
    own.attributes.gid = 200;
    ASSERT_TRUE(machine->call(own));
    u32 const groups[] = {7, 200};
    Request r;
    r.op = Op::Truncate;
    r.pnode = a.pnode;
    r.who.checked = true;
    r.who.uid = 101;
    r.who.gid = 1;
    r.who.groups = groups;
    r.who.group_count = 2;
    ASSERT_TRUE(machine->call(r));
    EXPECT_EQ(r.error, Error::AccessDenied);  // the group may read only
    ASSERT_EQ(client->chmod("f", 0660), Error::None);
    ASSERT_TRUE(machine->call(r));
    EXPECT_EQ(r.error, Error::None);
    r.who.group_count = 1;
    ASSERT_TRUE(machine->call(r));
    EXPECT_EQ(r.error, Error::AccessDenied);
}

TEST_F(Promises, two_lost_disks_give_errors_and_never_wrong_data) {
    start();
    Model model;
    for (u32 i = 0; i < 20; ++i) {
        for (Step const& s : {Step{StepKind::Create, "f" + std::to_string(i), "", 0, 0, 'a'},
                              Step{StepKind::Append, "f" + std::to_string(i), "", 0, 30000,
                                   static_cast<u8>('a' + i)}}) {
            ASSERT_EQ(apply(*client, *machine, s), model.apply(s));
        }
    }
    ASSERT_TRUE(machine->unmount());
    machine.emplace(image, pool, memory);
    machine->disks.faults.dead[1] = machine->disks.faults.dead[3] = true;
    bool const mounted = machine->mount();
    client.emplace(*machine);
    if (mounted) {
        EXPECT_EQ(machine->store().health(), Health::ReadOnly);
        EXPECT_EQ(client->create("new"), Error::ReadOnly);
        for (u32 i = 0; i < 20; ++i) {
            std::string out;
            Error const e = client->read("f" + std::to_string(i), 0, 30000, &out);
            if (e == Error::None) {
                Step const s{StepKind::Append, "", "", 0, 30000, static_cast<u8>('a' + i)};
                EXPECT_EQ(out, content(s));
            }
        }
    }
}

TEST_F(Promises, cleaning_frees_wholly_dead_segments_without_reading_them) {
    Options o = small_options();
    start(128, o);
    ASSERT_EQ(client->create("keep"), Error::None);
    ASSERT_EQ(client->create("f"), Error::None);
    for (u32 i = 0; i < 40; ++i) {
        ASSERT_EQ(client->write("f", u64{i} << 20, std::string(1 << 20, 'f')), Error::None);
    }
    ASSERT_EQ(client->fsync(), Error::None);
    ASSERT_EQ(client->unlink("f"), Error::None);
    ASSERT_TRUE(machine->clean());
    Statistics const s = machine->store().statistics();
    EXPECT_GT(s.segments_dead, 30u);
    EXPECT_LT(s.moved_blocks, 300u);
    EXPECT_EQ(check(), "");
}

/// Given a store as full as it may be, when one block after the other is changed and flushed by
/// itself, so that half of each segment is summaries and padding, then there is always space.
TEST_F(Promises, small_flushes_in_a_full_store_find_space) {
    in_place = true;
    start(128);
    u32 const files = 2850;
    std::string const data(32'768, 'd');
    for (u32 i = 0; i < files; ++i) {
        ASSERT_EQ(client->create("f" + std::to_string(i)), Error::None);
        ASSERT_EQ(client->write("f" + std::to_string(i), 0, data), Error::None) << i;
    }
    Random random(1);
    for (u32 n = 0; n < 12'000; ++n) {
        std::string const name = "f" + std::to_string(random.below(files));
        u64 const offset = random.below(8) * block_bytes;
        ASSERT_EQ(client->write(name, offset, std::string(block_bytes, 'c')), Error::None) << n;
        ASSERT_EQ(client->fsync(), Error::None);
    }
    EXPECT_EQ(check(), "");
}

/// Given a small store that is half full and a pass that finds nothing to gain, when files are
/// overwritten while it runs until no space is left, then what became garbage meanwhile is cleaned.
TEST_F(Promises, what_becomes_garbage_while_a_pass_runs_is_space) {
    Options o = small_options();
    o.frames = 8192;  // memory takes much until a checkpoint, for which the pass waits
    o.garbage_ring = 65'536;
    o.reserve_segments = 16;
    o.clean_threshold = 32;
    start(62, o);
    u32 const files = 240;
    for (u32 i = 0; i < files; ++i) {
        ASSERT_EQ(client->create("f" + std::to_string(i)), Error::None);
        ASSERT_EQ(client->write("f" + std::to_string(i), 0, std::string(131'072, 'd')),
                  Error::None);
    }
    ASSERT_TRUE(machine->sync());
    ASSERT_TRUE(machine->clean());
    machine->store().clean();
    machine->store().run();
    ASSERT_TRUE(machine->store().cleaning());
    // As far as the checkpoint at which it takes up its entries.
    Statistics const before = machine->store().statistics();
    while (machine->store().statistics().checkpoints == before.checkpoints) {
        ASSERT_TRUE(machine->disks.busy());
        machine->disks.step();
        machine->store().run();
    }
    for (u32 n = 0; n < 1000; ++n) {
        std::string const name = "f" + std::to_string(n * 7 % files);
        ASSERT_EQ(client->write(name, n / files % 2 * 65'536, std::string(65'536, 'c')),
                  Error::None)
            << n;
    }
    EXPECT_GT(machine->store().statistics().segments_cleaned, before.segments_cleaned + 20);
    EXPECT_EQ(check(), "");
}

/// Given a rebuild under way and segments that are half garbage, when a pass is wanted, then it
/// does not wait until the rebuild ends, though both need the same memory.
TEST_F(Promises, a_cleaning_pass_goes_before_a_rebuild) {
    start(128);
    for (u32 i = 0; i < 80; ++i) {
        std::string const name = "f" + std::to_string(i);
        ASSERT_EQ(client->create(name), Error::None);
        ASSERT_EQ(client->write(name, 0, std::string(600'000, 'f')), Error::None);
    }
    ASSERT_TRUE(machine->sync());
    for (u32 i = 0; i < 80; i += 2) {
        ASSERT_EQ(client->unlink("f" + std::to_string(i)), Error::None);
    }
    ASSERT_TRUE(machine->sync());
    machine->store().fail_disk(1);
    machine->pump();
    ASSERT_TRUE(machine->store().replace_disk(1, 1));
    machine->store().clean();
    machine->store().run();
    ASSERT_TRUE(machine->store().cleaning() && machine->store().rebuilding());
    // The segments are free; that the pass has ended is said two checkpoints later.
    while (machine->store().statistics().segments_cleaned < 30 && machine->disks.busy()) {
        machine->disks.step();
        machine->store().run();
    }
    EXPECT_GE(machine->store().statistics().segments_cleaned, 30u);
    EXPECT_TRUE(machine->store().rebuilding());
    EXPECT_GT(machine->store().statistics().moved_blocks, 1000u);
    ASSERT_TRUE(machine->wait(&Store::rebuilding));
    EXPECT_EQ(check(), "");
}

/// Given two names of one file, when one is renamed onto the other, which changes nothing, then
/// that it was done is durable after the write delay, as everything is.
TEST_F(Promises, what_changes_nothing_else_is_durable_after_the_write_delay_too) {
    start(64);
    ASSERT_EQ(client->create("a"), Error::None);
    ASSERT_EQ(client->link("a", "b"), Error::None);
    ASSERT_TRUE(machine->sync());
    machine->store().checkpoint();  // so that none is due later
    machine->pump();
    u64 const group = machine->store().durable_group();
    ASSERT_EQ(client->rename("a", "b"), Error::None);
    machine->later(Duration::s(10));
    EXPECT_EQ(machine->store().durable_group(), group);
    machine->later(Duration::s(31));
    EXPECT_GT(machine->store().durable_group(), group);
}

/// Given a store whose garbage file is lost, with a deleted large file and overwritten ones in it,
/// when it is scrubbed, then every block is live or garbage again, and cleaning frees them.
TEST_F(Promises, scrub_finds_garbage_whose_entries_are_lost) {
    start(128);
    for (char const* name : {"keep", "big", "f"}) ASSERT_EQ(client->create(name), Error::None);
    for (u32 i = 0; i < 24; ++i) {
        ASSERT_EQ(client->write("big", u64{i} << 20, std::string(1 << 20, 'b')), Error::None);
    }
    for (u32 i = 0; i < 12; ++i) {
        ASSERT_EQ(client->write("f", 0, std::string(600'000, static_cast<char>('a' + i))),
                  Error::None);
        ASSERT_EQ(client->write("keep", u64{i} << 16, std::string(1 << 16, 'k')), Error::None);
        ASSERT_EQ(client->fsync(), Error::None);
    }
    ASSERT_EQ(client->unlink("big"), Error::None);
    ASSERT_TRUE(machine->sync());
    machine->store().checkpoint();
    machine->pump();
    ASSERT_TRUE(machine->unmount());
    ASSERT_EQ(check(), "");
    u64 const free = machine->store().statistics().segments_free;
    for (u64 slot : checkpoint_slot) {
        for (u32 d = 0; d < disks; ++d) {
            u8* const block = pool.take();
            std::memcpy(block, image.at(d, slot), block_bytes);
            Checkpoint& c = *reinterpret_cast<Checkpoint*>(block);
            ASSERT_GT(c.root[garbage_file].size, 0u);
            c.root[garbage_file] = TreeRoot{};
            c.crc = 0;
            c.crc = crc32c(&c, block_bytes);
            image.at(d, slot) = block;
        }
    }
    EXPECT_NE(check(), "");
    mount();
    ASSERT_TRUE(machine->scrub());
    EXPECT_GT(machine->store().statistics().garbage_found, 1000u);
    ASSERT_TRUE(machine->sync());
    EXPECT_EQ(check(), "");
    ASSERT_TRUE(machine->clean());
    EXPECT_GE(machine->store().statistics().segments_free, free + 24);
    EXPECT_EQ(check(), "");
    // Nothing is lost now: nothing is found, also when a pass takes the sort buffer meanwhile.
    u64 const found = machine->store().statistics().garbage_found;
    machine->store().scrub();
    for (u32 i = 0; i < 60 && machine->disks.busy(); ++i) {
        machine->disks.step();
        machine->store().run();
    }
    ASSERT_TRUE(machine->clean());
    ASSERT_TRUE(machine->wait(&Store::scrubbing));
    EXPECT_EQ(machine->store().statistics().garbage_found, found);
    std::string out;
    EXPECT_EQ(client->read("f", 0, 1 << 20, &out), Error::None);
    EXPECT_EQ(out, std::string(600'000, 'l'));
    EXPECT_EQ(client->read("keep", 11 << 16, 1 << 16, &out), Error::None);
    EXPECT_EQ(out, std::string(1 << 16, 'k'));
}

class Streams : public Promises {
protected:
    /// Records `seconds` of one stream at 25 pictures a second of `bytes` each.
    void record(std::string const& path, u32 seconds, u32 bytes) {
        ASSERT_EQ(client->create(path, PnodeType::Stream), Error::None);
        ASSERT_EQ(client->open_streams({path}), Error::None);
        for (u32 n = 0; n < seconds * 25; ++n) {
            ASSERT_EQ(client->record(0, {control(n, bytes)}, picture(n, bytes)), Error::None);
            if (n % 25 == 24) machine->later(Duration::s(1));
        }
        ASSERT_EQ(client->close_streams(), Error::None);
    }
    static ControlRecord control(u64 n, u32 bytes) {
        return {static_cast<i64>(n) * 40'000'000, bytes, n % 12 == 0 ? frame_key : 0u};
    }
    static std::string picture(u64 n, u32 bytes) {
        std::string p(bytes, static_cast<char>('A' + n % 50));
        std::memcpy(p.data(), &n, sizeof n);
        return p;
    }
    /// Frame n by the index alone.
    std::string frame(std::string const& path, u64 n) {
        std::vector<IndexRecord> index;
        std::string out;
        if (client->read_index(path, &index) != Error::None || n >= index.size()) return "none";
        if (client->read(path, index[n].offset, index[n].bytes, &out) != Error::None)
            return "error";
        return out;
    }
};

TEST_F(Streams, each_frame_is_found_by_the_index_across_segments_and_mounts) {
    start(96);
    record("v", 10, 40001);
    EXPECT_EQ(check(), "");
    mount();
    std::vector<IndexRecord> index;
    ASSERT_EQ(client->read_index("v", &index), Error::None);
    ASSERT_EQ(index.size(), 250u);
    for (u64 n : {0u, 1u, 24u, 25u, 26u, 130u, 248u, 249u}) {
        EXPECT_EQ(index[n].time_ns, static_cast<i64>(n) * 40'000'000);
        EXPECT_EQ(frame("v", n), picture(n, 40001)) << n;
    }
    Attributes a;
    ASSERT_EQ(client->lookup("v", &a), Error::None);
    EXPECT_EQ(a.size, 250u * 40001);
}

TEST_F(Streams, what_does_not_fit_its_control_records_is_refused) {
    start();
    ASSERT_EQ(client->create("v", PnodeType::Stream), Error::None);
    ASSERT_EQ(client->create("f"), Error::None);
    EXPECT_EQ(client->open_streams({"f"}), Error::Invalid);
    EXPECT_EQ(client->open_streams({"v", "v"}), Error::Invalid);
    EXPECT_EQ(client->write("v", 0, "x"), Error::Invalid);
    ASSERT_EQ(client->open_streams({"v"}), Error::None);
    u64 const session = client->session;
    EXPECT_EQ(client->open_streams({"v"}), Error::Busy);
    client->session = session;
    EXPECT_EQ(client->record(0, {control(0, 10)}, picture(0, 11)), Error::Invalid);
    EXPECT_EQ(client->record(1, {control(0, 10)}, picture(0, 10)), Error::Invalid);
    EXPECT_EQ(client->record(0, {}, ""), Error::Invalid);
    ASSERT_EQ(client->record(0, {control(5, 10)}, picture(5, 10)), Error::None);
    EXPECT_EQ(client->record(0, {control(5, 10)}, picture(5, 10)), Error::Invalid);
    client->session = 7;
    EXPECT_EQ(client->record(0, {control(6, 10)}, picture(6, 10)), Error::Invalid);
    client->session = session;
    ASSERT_EQ(client->close_streams(), Error::None);
    EXPECT_EQ(client->open_streams({"v"}), Error::Exists);
    EXPECT_EQ(frame("v", 0), picture(5, 10));
}

TEST_F(Streams, deleting_a_film_writes_a_constant_number_of_blocks_and_cleaning_never_reads_it) {
    u64 written[2] = {};
    for (u32 i = 0; i < 2; ++i) {
        start(160);
        record("v", i == 0 ? 8 : 64, 40001);
        Statistics const before = machine->store().statistics();
        ASSERT_EQ(client->unlink("v"), Error::None);
        ASSERT_EQ(client->fsync(), Error::None);
        written[i] = machine->store().statistics().blocks_written - before.blocks_written;
        EXPECT_EQ(check(), "");
        u64 const free = machine->store().statistics().segments_free;
        u64 const reads = machine->disks.blocks_read;
        ASSERT_TRUE(machine->clean());
        Statistics const after = machine->store().statistics();
        EXPECT_GE(after.segments_free, free + (i == 0 ? 7 : 60));
        // Less than a block for each of its megabytes, by far less than the film.
        EXPECT_LT(machine->disks.blocks_read - reads, 400u);
        EXPECT_EQ(check(), "");
    }
    EXPECT_EQ(written[0], written[1]);
    EXPECT_LE(written[1], 8u);
}

TEST_F(Streams, a_film_survives_the_loss_of_a_disk_while_it_is_recorded_and_a_rebuild) {
    start(96);
    ASSERT_EQ(client->create("v", PnodeType::Stream), Error::None);
    ASSERT_EQ(client->open_streams({"v"}), Error::None);
    auto const round = [&](u32 r) {
        for (u32 n = r * 25; n < r * 25 + 25; ++n) {
            ASSERT_EQ(client->record(0, {control(n, 30000)}, picture(n, 30000)), Error::None);
        }
        machine->later(Duration::s(1));
    };
    round(0);
    round(1);
    machine->store().fail_disk(2);
    round(2);
    for (u64 n = 0; n < image.blocks_per_disk; ++n) image.at(2, n) = nullptr;
    ASSERT_TRUE(machine->store().replace_disk(2, 2));
    round(3);
    ASSERT_TRUE(machine->wait(&Store::rebuilding));
    round(4);
    ASSERT_EQ(client->close_streams(), Error::None);
    EXPECT_EQ(check(), "");
    // The rebuilt disk now stands in for another one.
    mount();
    machine->store().fail_disk(0);
    machine->pump();
    for (u64 n = 0; n < 125; n += 7) EXPECT_EQ(frame("v", n), picture(n, 30000)) << n;
    EXPECT_EQ(machine->store().damage_count(), 0u);
}

TEST_F(Streams, play_goes_to_the_exact_frame_and_on_at_any_speed_also_backwards) {
    start(96);
    record("v", 10, 40001);
    mount();
    auto const at = [](u64 n) { return static_cast<i64>(n) * 40'000'000; };
    ASSERT_EQ(client->open_streams({"v"}, stream_play, 0, at(100) + 39'999'999), Error::None);
    std::string out;
    i64 time = 0;
    auto const follows = [&](u64 first, i64 step, u32 count) {
        for (u32 i = 0; i < count; ++i) {
            u64 const n = first + static_cast<u64>(step * i64{i});
            ASSERT_EQ(client->play(0, &out, &time), Error::None);
            ASSERT_EQ(time, at(n));
            ASSERT_EQ(out, picture(n, 40001));
        }
    };
    follows(100, 1, 60);
    ASSERT_EQ(client->seek(at(200), -1000), Error::None);
    follows(200, -1, 60);
    ASSERT_EQ(client->seek(at(77), 1000), Error::None);
    follows(77, 1, 1);
    ASSERT_EQ(client->seek(at(3), -1000), Error::None);
    follows(3, -1, 4);
    ASSERT_EQ(client->play(0, &out, &time), Error::None);
    EXPECT_EQ(out, "");
    // Eight times as fast, either way: in order, right, over all of the film.
    for (i32 speed : {8000, -8000}) {
        ASSERT_EQ(client->seek(speed > 0 ? 0 : at(249), speed), Error::None);
        i64 before = speed > 0 ? -1 : at(1000);
        u32 shown = 0;
        for (;; ++shown) {
            ASSERT_EQ(client->play(0, &out, &time), Error::None);
            if (out.empty()) break;
            ASSERT_EQ(out, picture(static_cast<u64>(time / 40'000'000), 40001));
            ASSERT_TRUE(speed > 0 ? time > before : time < before);
            before = time;
        }
        EXPECT_GE(shown, 8u);
        EXPECT_LE(shown, 33u);
    }
    EXPECT_EQ(client->close_streams(), Error::None);
}

TEST_F(Streams, a_session_that_is_closed_leaves_nothing_behind_for_the_next_one) {
    start(96);
    record("v", 4, 40001);
    record("w", 4, 3000);
    mount();
    Attributes v;
    Attributes w;
    ASSERT_EQ(client->lookup("v", &v), Error::None);
    ASSERT_EQ(client->lookup("w", &w), Error::None);
    ASSERT_EQ(client->open_streams({"v"}, stream_play), Error::None);
    // A frame is waited for, the session is closed and another one opened, all at once.
    std::vector<u8> buffer(64 * 1024);
    Request frame;
    frame.op = Op::PlayFrame;
    frame.pnode2 = client->session;
    frame.buffer = buffer.data();
    frame.length = buffer.size();
    Request close;
    close.op = Op::CloseStreams;
    close.pnode2 = client->session;
    StreamAsk const ask{w.pnode, 0};
    Request open;
    open.op = Op::OpenStreams;
    open.flags = stream_play;
    open.streams = &ask;
    open.streams_count = 1;
    for (Request* r : {&frame, &close, &open}) machine->store().submit(*r);
    machine->pump();
    EXPECT_TRUE(frame.done && close.done && open.done);
    EXPECT_EQ(frame.error, Error::Invalid);
    EXPECT_EQ(close.error, Error::None);
    ASSERT_EQ(open.error, Error::None);
    client->session = open.count;
    std::string out;
    i64 time = 0;
    ASSERT_EQ(client->play(0, &out, &time), Error::None);
    EXPECT_EQ(out, picture(0, 3000));
}

TEST_F(Streams, playing_leaves_the_cache_to_files_and_needs_only_four_of_five_disks) {
    start(96);
    record("v", 10, 40001);
    for (u32 lost = 0; lost < disks; ++lost) {
        mount();
        machine->disks.faults.latent.clear();
        for (u64 n = segments_start; n < image.blocks_per_disk; ++n) {
            machine->disks.faults.latent.insert(u64{lost} << 48 | n);
        }
        ASSERT_EQ(client->open_streams({"v"}, stream_play), Error::None);
        std::string out;
        i64 time = 0;
        for (u64 n = 0; n < 250; ++n) {
            ASSERT_EQ(client->play(0, &out, &time), Error::None);
            ASSERT_EQ(out, picture(n, 40001)) << n;
        }
        EXPECT_EQ(client->close_streams(), Error::None);
        EXPECT_EQ(machine->store().damage_count(), 0u);
    }
}

TEST_F(Streams, a_wrong_block_of_a_film_is_made_from_the_others_while_it_plays) {
    start(96);
    record("v", 6, 40001);
    for (u32 disk = 0; disk < disks; ++disk) {
        mount();
        Image const sound = image;
        // Every block of one disk, in turn one bit off.
        for (u64 n = segments_start; n < image.blocks_per_disk; ++n) {
            if (!image.at(disk, n)) continue;
            u8* b = pool.take();
            std::memcpy(b, image.at(disk, n), block_bytes);
            b[n % block_bytes] ^= 4;
            image.at(disk, n) = b;
        }
        ASSERT_EQ(client->open_streams({"v"}, stream_play), Error::None);
        std::string out;
        i64 time = 0;
        for (u64 n = 0; n < 150; ++n) {
            ASSERT_EQ(client->play(0, &out, &time), Error::None);
            ASSERT_EQ(out, picture(n, 40001)) << n;
        }
        EXPECT_EQ(client->close_streams(), Error::None);
        machine.reset();
        image = sound;
    }
}

TEST_F(Streams, a_column_that_comes_late_and_in_part_changes_nothing_that_was_made_good) {
    start(96);
    record("v", 4, 40001);
    for (u32 disk = 0; disk < disks; ++disk) {
        mount();
        machine->disks.model.timed = true;
        machine->disks.faults.slower[disk] = 40;
        for (u64 n = segments_start; n < image.blocks_per_disk; n += 3) {
            machine->disks.faults.latent.insert(u64{disk} << 48 | n);
        }
        ASSERT_EQ(client->open_streams({"v"}, stream_play), Error::None);
        std::string out;
        i64 time = 0;
        for (u64 n = 0; n < 100; ++n) {
            ASSERT_EQ(client->play(0, &out, &time), Error::None);
            ASSERT_EQ(out, picture(n, 40001)) << n << " of " << disk;
            machine->later(Duration::ms(100));
        }
        EXPECT_EQ(client->close_streams(), Error::None);
    }
}

TEST(Admission, the_bound_is_no_less_than_the_sum_of_its_parts_and_the_answer_fits_exactly) {
    fs::DiskModel const m{Duration::us(11111), Duration::ms(2), Duration::ms(18), 5'000'000};
    Duration const round = Duration::ms(1900);
    EXPECT_EQ(square_root(0), 0u);
    EXPECT_EQ(square_root(99), 9u);
    EXPECT_EQ(square_root(100), 10u);
    // One request alone: a full turn each for it and what is under way, two sweeps, two transfers.
    EXPECT_GE(round_time(m, {1, 1, 0}), Duration::us(2 * 11111 + 2 * 18000 + 2 * 52428));
    StreamShape const shape{false, 1, 20'000};
    RoundLoad load{};
    u32 streams = 0;
    for (;; ++streams) {
        RoundLoad const one = load_of(500'000, round, shape);
        if (!fits(m, load + one, round, 20)) break;
        load = load + one;
    }
    EXPECT_GE(streams, 10u);
    u64 const rate = largest_rate(m, {5, 5, 10}, round, 20, shape);
    RoundLoad const most = load_of(rate, round, shape);
    RoundLoad const more = load_of(rate + 1, round, shape);
    EXPECT_TRUE(fits(m, RoundLoad{5, 5, 10} + most, round, 20));
    EXPECT_FALSE(fits(m, RoundLoad{5, 5, 10} + more, round, 20));
    EXPECT_FALSE(fits(fs::DiskModel{}, {1, 1, 0}, round, 20));
    // A share that divides its run never crosses a border; any other may.
    EXPECT_EQ(requests_of(3, 1), 3u);
    EXPECT_EQ(requests_of(2, 4), 1u);
    EXPECT_EQ(requests_of(3, 4), 2u);
    EXPECT_EQ(requests_of(8, 4), 2u);
    EXPECT_EQ(requests_of(9, 4), 4u);
}

/// Frames larger than a segment, runs of segments, at a guaranteed rate and backwards.
TEST_F(Streams, frames_of_several_segments_play_in_runs_at_a_guaranteed_rate) {
    start(192);
    Options o = small_options();
    o.media_streams = 4;
    o.media_run = 4;
    o.media_round = Duration::s(1);
    o.disk_model = {Duration::us(8333), Duration::ms(1), Duration::ms(16), 150'000'000};
    mount(o);
    u64 const frames = 25;
    record("v", 1, 2'500'001);
    std::string out;
    i64 time = 0;
    auto const at = [](u64 n) { return static_cast<i64>(n) * 40'000'000; };
    u64 fitting = 0;
    EXPECT_EQ(client->open_streams({"v"}, stream_play, 9'000'000, 0, 1000, &fitting),
              Error::NoBandwidth);
    EXPECT_LT(fitting, 9'000'000u);
    for (u64 const rate : {0u, 1'500'000u, 3'500'000u}) {
        ASSERT_EQ(client->open_streams({"v"}, stream_play, rate), Error::None);
        for (u64 n = 0; n < frames; ++n) {
            ASSERT_EQ(client->play(0, &out, &time), Error::None) << n;
            ASSERT_EQ(time, at(n));
            ASSERT_EQ(out, picture(n, 2'500'001)) << n;
        }
        ASSERT_EQ(client->seek(at(frames - 1), -1000), Error::None);
        for (u64 n = frames; n-- > 0;) {
            ASSERT_EQ(client->play(0, &out, &time), Error::None) << n;
            ASSERT_EQ(out, picture(n, 2'500'001)) << n;
        }
        ASSERT_EQ(client->close_streams(), Error::None);
    }
    EXPECT_EQ(machine->store().damage_count(), 0u);
}

/// Given file reads that wait at every disk, when a stream of guaranteed rate needs a segment, then
/// the segment is read before them.
TEST_F(Streams, what_is_guaranteed_passes_what_waits_at_the_disks_already) {
    start(128);
    record("v", 40, 20'000);
    u32 const files = 80;
    std::string const data(200'000, 'f');
    for (u32 i = 0; i < files; ++i) {
        ASSERT_EQ(client->create("f" + std::to_string(i)), Error::None);
        ASSERT_EQ(client->write("f" + std::to_string(i), 0, data), Error::None);
    }
    ASSERT_TRUE(machine->unmount());
    Options o = small_options();
    o.frames = 4096;
    o.garbage_ring = 16384;
    o.media_run = 1;
    o.media_round = Duration::ms(400);
    o.disk_model = {Duration::us(11111), Duration::ms(2), Duration::ms(18), 5'000'000};
    mount(o);
    machine->disks.model = {true, Duration::us(11111), Duration::ms(2), Duration::ms(18),
                            5'000'000};
    std::string out;
    i64 time = 0;
    ASSERT_EQ(client->open_streams({"v"}, stream_play, 500'000), Error::None);
    ASSERT_EQ(client->play(0, &out, &time), Error::None);
    std::vector<std::vector<u8>> buffer(files, std::vector<u8>(data.size()));
    std::vector<Request> reads(files);
    for (u32 i = 0; i < files; ++i) {
        Attributes a;
        ASSERT_EQ(client->lookup("f" + std::to_string(i), &a), Error::None);
        reads[i].op = Op::Read;
        reads[i].pnode = a.pnode;
        reads[i].buffer = buffer[i].data();
        reads[i].length = data.size();
    }
    for (Request& r : reads) machine->store().submit(r);
    machine->store().run();
    i64 const far = 900 * i64{40'000'000};
    ASSERT_EQ(client->seek(far, 1000), Error::None);
    ASSERT_EQ(client->play(0, &out, &time), Error::None);
    EXPECT_EQ(time, far);
    u32 done = 0;
    for (Request const& r : reads) done += r.done;
    EXPECT_LT(done, files / 2) << "of " << files;
    machine->pump();
    for (Request const& r : reads) EXPECT_TRUE(r.done);
}

TEST_F(Streams, a_rate_is_refused_without_a_model_and_beyond_it_with_the_largest_that_fits) {
    start(96);
    record("v", 4, 20000);
    EXPECT_EQ(client->open_streams({"v"}, stream_play, 500'000), Error::NotSupported);
    Options o = small_options();
    o.media_streams = 40;
    o.media_round = Duration::ms(1900);
    o.disk_model = {Duration::us(11111), Duration::ms(2), Duration::ms(18), 5'000'000};
    mount(o);
    u32 admitted = 0;
    u64 fitting = 0;
    Error e = Error::None;
    while (admitted < 40 && e == Error::None) {
        e = client->open_streams({"v"}, stream_play, 500'000, 0, 1000, &fitting);
        admitted += e == Error::None;
    }
    EXPECT_EQ(e, Error::NoBandwidth);
    EXPECT_GE(admitted, 10u);
    EXPECT_LT(fitting, 500'000u);
    client->session = 1;
    EXPECT_EQ(client->close_streams(), Error::None);
    EXPECT_EQ(client->open_streams({"v"}, stream_play, 500'000), Error::None);
}

}  // namespace
}  // namespace nemesis::fs::simulator
