// Goal: what is migrated to the tertiary volume is given up on the disks, found again whole, and
// believed by its checksums only. Method: given a small store with a simulated jukebox, when data
// go there, come back, are deleted or changed by somebody else, then what is promised holds and the
// independent checker agrees.

#include <gtest/gtest.h>

#include <cstring>

#include "fs/check/check.h"
#include "fs/simulator/machine.h"

namespace nemesis::fs::simulator {
namespace {

constexpr u32 frame_bytes = 40'001;

class Tertiary : public testing::Test {
protected:
    void start(u64 segments = 96, Options options = small_options()) {
        image = Image(blocks_for(segments));
        format(image, pool);
        mount(options);
    }
    void mount(Options options = small_options()) {
        machine.emplace(image, pool, memory, options, &shelf);
        ASSERT_TRUE(machine->mount());
        client.emplace(*machine);
    }
    check::Report look(bool with_shelf = true) {
        return check::run(
            [&](u32 d, u64 n, u8* out) {
                u8 const* data = image.at(d, n);
                for (u32 i = 0; i < block_bytes; ++i) out[i] = data ? data[i] : 0;
                return true;
            },
            image.blocks_per_disk, with_shelf ? units_of(shelf) : nullptr);
    }
    std::string check() {
        check::Report const r = look();
        return r.clean ? "" : r.problems.front();
    }
    static std::string text(u64 bytes, u64 seed) {
        Random random(seed);
        std::string s(bytes, 0);
        for (char& c : s) c = static_cast<char>(random.next());
        return s;
    }
    void put(std::string const& path, std::string const& data) {
        ASSERT_EQ(client->create(path), Error::None);
        ASSERT_EQ(client->write(path, 0, data), Error::None);
    }
    std::string get(std::string const& path, Error expected = Error::None) {
        std::string out;
        EXPECT_EQ(client->read(path, 0, 64 << 20, &out), expected) << path;
        return out;
    }
    bool on_shelf(std::string const& path) {
        Attributes a;
        EXPECT_EQ(client->lookup(path, &a), Error::None);
        return a.on_shelf;
    }
    static std::string picture(u64 n) { return text(frame_bytes, n); }
    void record(std::string const& path, u32 frames) {
        ASSERT_EQ(client->create(path, PnodeType::Stream), Error::None);
        ASSERT_EQ(client->open_streams({path}), Error::None);
        for (u32 n = 0; n < frames; ++n) {
            ControlRecord const c{i64{n} * 40'000'000, frame_bytes, n % 12 == 0 ? frame_key : 0u};
            ASSERT_EQ(client->record(0, {c}, picture(n)), Error::None);
            if (n % 25 == 24) machine->later(Duration::s(1));
        }
        ASSERT_EQ(client->close_streams(), Error::None);
    }
    /// Given bytes of a unit that somebody has changed.
    void change(u64 unit, std::size_t at) {
        std::string s = *shelf.unit.at(unit);
        s[at] = static_cast<char>(s[at] ^ 1);
        shelf.unit[unit] = std::make_shared<std::string const>(s);
    }
    u64 free() { return machine->store().statistics().segments_free; }

    BlockPool pool;
    Memory memory;
    Image image;
    Shelf shelf;
    std::optional<Machine> machine;
    std::optional<Client> client;
};

TEST_F(Tertiary, what_a_change_makes_come_back_can_be_migrated_again) {
    // Given a file that is there, when its end is cut off within a block, which makes all of it
    // come back, then it can be migrated as soon as that has ended.
    start();
    std::string const data = text(2'000'000, 9);
    put("b", data);
    ASSERT_EQ(client->migrate("b"), Error::None);
    ASSERT_EQ(client->fsync(), Error::None);
    mount();
    ASSERT_EQ(client->truncate("b", 5000), Error::None);
    EXPECT_EQ(client->migrate("b"), Error::None);
    EXPECT_EQ(get("b"), data.substr(0, 5000));
    EXPECT_EQ(check(), "");
}

TEST_F(Tertiary, a_file_gives_its_segments_up_and_is_read_again_across_mounts) {
    start();
    std::string const data = text(5'000'000, 1);
    put("f", data);
    ASSERT_TRUE(machine->sync());
    u64 const before = free();
    ASSERT_EQ(client->migrate("f"), Error::None);
    EXPECT_TRUE(on_shelf("f"));
    ASSERT_TRUE(machine->clean());
    EXPECT_GE(free(), before + 4);
    EXPECT_EQ(shelf.unit.size(), 5u);  // 1221 blocks, 248 to a unit
    check::Report const r = look();
    EXPECT_TRUE(r.clean) << r.problems.front();
    EXPECT_EQ(r.shelved, 1221u);
    EXPECT_EQ(r.units, 5u);
    EXPECT_EQ(look(false).shelved_unread, 1221u);
    mount();
    EXPECT_EQ(machine->store().units(), 5u);
    Instant const asked = machine->now;
    EXPECT_EQ(get("f"), data);
    EXPECT_GE(machine->now - asked, Jukebox::load);
    EXPECT_FALSE(on_shelf("f"));
    ASSERT_TRUE(machine->sync());
    EXPECT_EQ(check(), "");
    EXPECT_EQ(machine->store().damage_count(), 0u);
}

TEST_F(Tertiary, a_part_that_is_written_anew_is_not_taken_back_from_there) {
    start();
    std::string data = text(300'000, 2);
    put("f", data);
    ASSERT_EQ(client->migrate("f"), Error::None);
    std::string const more = text(4096 * 3, 3);
    ASSERT_EQ(client->write("f", 8192, more), Error::None);
    data.replace(8192, more.size(), more);
    ASSERT_EQ(client->write("f", 100'001, "x"), Error::None);  // waits for its recall
    data[100'001] = 'x';
    EXPECT_EQ(get("f"), data);
    ASSERT_EQ(client->migrate("f"), Error::None);
    ASSERT_EQ(client->truncate("f", 50'001), Error::None);
    data.resize(50'001);
    // A part of its unit is garbage now, and the unit stays.
    ASSERT_TRUE(machine->clean());
    EXPECT_EQ(check(), "");
    EXPECT_EQ(get("f"), data);
    ASSERT_TRUE(machine->clean());
    EXPECT_EQ(check(), "");
}

TEST_F(Tertiary, holes_cost_nothing_however_large_they_are) {
    start();
    put("f", text(5000, 1));
    ASSERT_EQ(client->truncate("f", u64{7} << 40), Error::None);
    ASSERT_EQ(client->write("f", (u64{5} << 40) + 123, "far"), Error::None);
    ASSERT_EQ(client->migrate("f"), Error::None);
    EXPECT_EQ(shelf.unit.size(), 1u);
    EXPECT_EQ(look().shelved, 0u);  // not flushed yet
    ASSERT_TRUE(machine->sync());
    EXPECT_EQ(look().shelved, 3u);
    EXPECT_EQ(check(), "");
    std::string out;
    EXPECT_EQ(client->read("f", (u64{5} << 40) + 120, 8, &out), Error::None);
    EXPECT_EQ(out, std::string("\0\0\0far\0\0", 8));
    ASSERT_EQ(client->recall("f"), Error::None);
    EXPECT_FALSE(on_shelf("f"));
}

TEST_F(Tertiary, what_changes_while_its_unit_is_written_stays) {
    start();
    std::string data = text(100'000, 1);
    put("f", data);
    Attributes a;
    ASSERT_EQ(client->lookup("f", &a), Error::None);
    Request out;
    out.op = Op::Migrate;
    out.pnode = a.pnode;
    machine->store().submit(out);
    machine->store().run();
    auto const until_disks_rest = [&] {
        while (machine->disks.busy()) {
            machine->disks.step();
            machine->store().run();
        }
    };
    until_disks_rest();
    ASSERT_TRUE(machine->jukebox.busy());
    std::string const changed = text(8192, 2);
    Request in;
    in.op = Op::Write;
    in.pnode = a.pnode;
    in.offset = 4096;
    in.length = changed.size();
    in.buffer = reinterpret_cast<u8*>(const_cast<char*>(changed.data()));
    machine->store().submit(in);
    machine->store().run();
    ASSERT_TRUE(in.done);
    data.replace(4096, changed.size(), changed);
    Request flush;
    flush.op = Op::Fsync;
    machine->store().submit(flush);
    machine->store().run();
    until_disks_rest();
    ASSERT_TRUE(flush.done && machine->jukebox.busy());
    // And one that is not on the disks yet when the unit is there.
    in.offset = 20'480;
    in.length = 10;
    machine->store().submit(in);
    machine->store().run();
    ASSERT_TRUE(in.done && machine->jukebox.busy());
    data.replace(20'480, 10, changed.substr(0, 10));
    machine->pump();
    ASSERT_TRUE(out.done);
    EXPECT_EQ(out.error, Error::None);
    ASSERT_TRUE(machine->sync());
    EXPECT_EQ(look().shelved, 25u - 3u);
    EXPECT_EQ(check(), "");
    EXPECT_EQ(get("f"), data);
}

TEST_F(Tertiary, what_is_deleted_goes_from_there_when_it_is_cleaned) {
    start();
    put("f", text(2'500'000, 1));
    put("g", text(200'000, 2));
    ASSERT_EQ(client->migrate("f"), Error::None);
    ASSERT_EQ(client->migrate("g"), Error::None);
    EXPECT_EQ(shelf.unit.size(), 4u);
    ASSERT_EQ(client->unlink("f"), Error::None);
    ASSERT_TRUE(machine->sync());
    EXPECT_EQ(check(), "");
    ASSERT_TRUE(machine->clean());
    EXPECT_EQ(shelf.unit.size(), 1u);
    EXPECT_EQ(machine->store().statistics().units_erased, 3u);
    EXPECT_EQ(check(), "");
    EXPECT_EQ(get("g"), text(200'000, 2));
}

TEST_F(Tertiary, a_film_is_refused_with_the_wait_and_plays_in_runs_after_its_recall) {
    start(128);
    record("v", 200);
    Options o = small_options();
    o.disk_model = {Duration::us(8333), Duration::ms(1), Duration::ms(16), 150'000'000};
    mount(o);
    u64 const before = free();
    ASSERT_EQ(client->migrate("v"), Error::None);
    ASSERT_TRUE(machine->clean());
    EXPECT_GE(free(), before + 7);
    EXPECT_EQ(check(), "");
    u64 wait = 0;
    EXPECT_EQ(client->open_streams({"v"}, stream_play, 90'000'000), Error::NoBandwidth);
    EXPECT_EQ(machine->store().statistics().recalled_blocks, 0u);
    ASSERT_EQ(client->open_streams({"v"}, stream_play, 1'500'000, 0, 1000, &wait), Error::OnShelf);
    EXPECT_GE(wait, 8000u);
    EXPECT_LE(wait, 16'000u);
    Instant const asked = machine->now;
    ASSERT_EQ(client->recall("v"), Error::None);
    u64 const took = static_cast<u64>((machine->now - asked).ns()) / 1'000'000;
    EXPECT_LE(took, wait);
    EXPECT_FALSE(on_shelf("v"));
    ASSERT_TRUE(machine->sync());
    EXPECT_EQ(check(), "");
    Attributes a;
    ASSERT_EQ(client->lookup("v", &a), Error::None);
    EXPECT_EQ(a.size, u64{200} * frame_bytes);
    u64 const loads = machine->store().statistics().stream_loads;
    ASSERT_EQ(client->open_streams({"v"}, stream_play, 1'500'000, 0, 1000, &wait), Error::None);
    std::string out;
    i64 time = 0;
    for (u64 n = 0; n < 200; ++n) {
        ASSERT_EQ(client->play(0, &out, &time), Error::None) << n;
        ASSERT_EQ(time, static_cast<i64>(n) * 40'000'000);
        ASSERT_EQ(out, picture(n)) << n;
    }
    EXPECT_GE(machine->store().statistics().stream_loads, loads + 8);
    ASSERT_EQ(client->close_streams(), Error::None);
    // It is in segments of its own again: it can go once more, and is deleted there.
    ASSERT_EQ(client->migrate("v"), Error::None);
    ASSERT_EQ(client->unlink("v"), Error::None);
    ASSERT_TRUE(machine->clean());
    ASSERT_TRUE(machine->clean());
    EXPECT_EQ(shelf.unit.size(), 0u);
    EXPECT_EQ(check(), "");
}

TEST_F(Tertiary, what_is_played_or_recorded_stays) {
    start(128);
    record("v", 25);
    ASSERT_EQ(client->open_streams({"v"}, stream_play), Error::None);
    EXPECT_EQ(client->migrate("v"), Error::Busy);
    ASSERT_EQ(client->close_streams(), Error::None);
    EXPECT_EQ(client->migrate(""), Error::Invalid);
    EXPECT_EQ(client->migrate("v"), Error::None);
}

TEST_F(Tertiary, a_changed_unit_is_damage_and_never_data) {
    start();
    std::string const data = text(2'500'000, 7);
    put("f", data);
    ASSERT_EQ(client->migrate("f"), Error::None);
    ASSERT_TRUE(machine->clean());
    Shelf const whole = shelf;
    Image const before = image;
    // A byte of a block, and one of the summary.
    for (std::size_t at : {std::size_t{5} * block_bytes + 77, std::size_t{200}}) {
        shelf = whole;
        change(1, at);
        mount();
        std::string out;
        EXPECT_EQ(client->read("f", 0, data.size(), &out), Error::Damaged) << at;
        EXPECT_GT(machine->store().damage_count(), 0u);
        // What came from other units is right.
        EXPECT_EQ(client->read("f", 0, 200 * block_bytes, &out), Error::None);
        EXPECT_EQ(out, data.substr(0, 200 * block_bytes));
        image = before;
        EXPECT_NE(check(), "");
    }
    // Another unit in its place, a short one, none.
    shelf = whole;
    std::swap(shelf.unit[0], shelf.unit[1]);
    mount();
    get("f", Error::Damaged);
    image = before;
    shelf = whole;
    shelf.unit[2] = std::make_shared<std::string const>("short");
    mount();
    get("f", Error::Damaged);
    image = before;
    shelf = whole;
    shelf.unit.erase(0);
    mount();
    get("f", Error::NoVolume);
    EXPECT_TRUE(on_shelf("f"));
    shelf = whole;
    mount();
    EXPECT_EQ(get("f"), data);
    ASSERT_TRUE(machine->sync());
    EXPECT_EQ(check(), "");
}

TEST_F(Tertiary, without_the_volume_data_there_are_a_named_error_and_all_else_works) {
    start();
    put("f", text(300'000, 1));
    put("g", text(300'000, 2));
    ASSERT_EQ(client->migrate("f"), Error::None);
    ASSERT_TRUE(machine->sync());
    Options o = small_options();
    o.tertiary = false;
    mount(o);
    get("f", Error::NoVolume);
    EXPECT_EQ(get("g"), text(300'000, 2));
    EXPECT_EQ(client->migrate("g"), Error::NoVolume);
    ASSERT_EQ(client->unlink("f"), Error::None);
    ASSERT_TRUE(machine->clean());
    EXPECT_EQ(shelf.unit.size(), 1u);
    EXPECT_EQ(check(), "");
    // The garbage is carried until the volume is there.
    mount();
    ASSERT_TRUE(machine->clean());
    EXPECT_EQ(shelf.unit.size(), 0u);
}

TEST_F(Tertiary, a_volume_that_fails_or_is_full_leaves_the_data_where_they_are) {
    start();
    std::string const data = text(2'500'000, 1);
    put("f", data);
    machine->jukebox.fails = true;
    EXPECT_EQ(client->migrate("f"), Error::NoVolume);
    EXPECT_FALSE(on_shelf("f"));
    machine->jukebox.fails = false;
    machine->jukebox.room = 1;
    EXPECT_EQ(client->migrate("f"), Error::NoSpace);
    EXPECT_EQ(shelf.unit.size(), 1u);
    EXPECT_EQ(get("f"), data);
    EXPECT_EQ(check(), "");
}

}  // namespace
}  // namespace nemesis::fs::simulator
