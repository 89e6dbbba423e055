// Goal: what an agent has cached is what the server has, however messages, pauses and restarts
// fall; and nobody waits for ever for an agent that says nothing. Method: a server on simulated
// disks and two agents, joined by a network that holds messages back when told to; time goes on
// step by step. Where a peer has to lie or to be slow in a way of its own, it is nothing but its
// messages.

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "fs/agent/agent.h"
#include "fs/server/alternate.h"
#include "fs/server/server.h"
#include "fs/simulator/machine.h"

namespace nemesis::fs::simulator {
namespace {

constexpr u32 agents = 2;

/// A server and two agents on one clock.
class Agents : public testing::Test, public ServerPort, public AlternatePort {
protected:
    struct Client final : AgentPort {
        Agents* test = nullptr;
        u32 index = 0;
        u64 incarnation = 0;
        std::vector<u8> memory;
        std::optional<Agent> agent;
        bool cut = false;         // nothing gets through, either way
        bool paused = false;      // it gets no time either
        bool deaf = false;        // recalls do not get through
        bool unanswered = false;  // nor answers to what it changes
        void send(u8 const* bytes, u32 length) override {
            if (!cut) test->to_server_.push_back({index, {bytes, bytes + length}});
        }
        void conflict(u64, Error) override { ++conflicts; }
        void send_to_alternative(u8 const* bytes, u32 length) override {
            test->to_alternate_.push_back({bytes, bytes + length});
        }
        u32 conflicts = 0;
    };

    void begin(ServerOptions options = {}, Options store = small_options(), u64 segments = 64) {
        options.sessions = agents;
        server_options_ = options;
        store_options_ = store;
        image_ = Image(blocks_for(segments));
        format(image_, pool_);
        start_server();
        for (u32 i = 0; i < agents; ++i) {
            client_[i].test = this;
            client_[i].index = i;
            start_agent(i);
        }
        pass(Duration::ms(100));
        for (Client& c : client_) ASSERT_TRUE(c.agent->active());
    }
    void start_server() {
        server_.reset();
        machine_.emplace(image_, pool_, memory_, store_options_);
        machine_->checks = false;
        machine_->now = now_;
        machine_->disks.set_now(now_);
        ASSERT_TRUE(machine_->mount());
        server_memory_.resize(Server::memory_needed(server_options_));
        Arena arena(server_memory_.data(), server_memory_.size());
        server_.emplace(arena, machine_->store(), *this, server_options_);
        server_->start(now_);
    }
    /// A second server with an array of its own.
    void start_alternate() {
        alternate_.reset();
        if (second_image_.blocks_per_disk == 0) {
            second_image_ = Image(blocks_for(64));
            format(second_image_, pool_, {.seed = 2});
        }
        second_machine_.emplace(second_image_, pool_, second_memory_);
        second_machine_->checks = false;
        second_machine_->now = now_;
        second_machine_->disks.set_now(now_);
        ASSERT_TRUE(second_machine_->mount());
        alternate_memory_.resize(Alternate::memory_needed({}));
        Arena arena(alternate_memory_.data(), alternate_memory_.size());
        alternate_.emplace(arena, second_machine_->store(), *this, AlternateOptions{});
        alternate_->start(now_);
    }
    void send_to_agent(u64 agent, u8 const* bytes, u32 length) override {
        to_agent_.push_back({static_cast<u32>(agent - 1), {bytes, bytes + length}});
    }
    void send_to_server(u8 const* bytes, u32 length) override {
        if (!alternate_cut_) to_server_.push_back({0, {bytes, bytes + length}});
    }
    void send_to_alternative(u8 const* bytes, u32 length) override {
        if (!alternate_cut_) to_alternate_.push_back({bytes, bytes + length});
    }
    void conflict(u64 agent, u64 number, Error error) override {
        EXPECT_NE(error, Error::None);
        conflicts_.emplace_back(agent, number);
    }
    void stop_server() {
        server_.reset();
        machine_.reset();
    }
    void stop_agent(u32 i) {
        client_[i].agent.reset();
        std::erase_if(to_agent_, [&](auto const& m) { return m.first == i; });
    }
    void start_agent(u32 i) {
        Client& c = client_[i];
        c.memory.resize(Agent::memory_needed(agent_options));
        Arena arena(c.memory.data(), c.memory.size());
        c.agent.emplace(arena, c, agent_options, i + 1, ++c.incarnation);
        c.agent->start(now_);
    }
    void send(u64 agent, u8 const* bytes, u32 length) override {
        Client const& c = client_[agent - 1];
        Received r;
        if (!read_message(bytes, length, &r)) return;
        bool const lost = c.cut || (c.deaf && r.header.kind == MessageKind::Recall) ||
                          (c.unanswered && r.header.kind == MessageKind::Answer);
        if (!lost) to_agent_.push_back({c.index, {bytes, bytes + length}});
    }
    /// All that can be done now.
    void settle() {
        for (u32 quiet = 0; quiet < 2;) {
            if (server_) {
                machine_->pump();
                server_->run();
            }
            ++quiet;
            if (alternate_) {
                second_machine_->pump();
                alternate_->run();
            }
            while (!to_alternate_.empty()) {
                std::vector<u8> const bytes = to_alternate_.front();
                to_alternate_.pop_front();
                if (alternate_) {
                    alternate_->receive(bytes.data(), static_cast<u32>(bytes.size()));
                }
                quiet = 0;
            }
            while (!to_server_.empty()) {
                auto const [who, bytes] = to_server_.front();
                to_server_.pop_front();
                if (server_) server_->receive(bytes.data(), static_cast<u32>(bytes.size()));
                quiet = 0;
            }
            for (std::size_t n = to_agent_.size(); n-- > 0;) {
                auto const [who, bytes] = to_agent_.front();
                to_agent_.pop_front();
                Client& c = client_[who];
                if (!c.agent) continue;
                if (c.paused) {
                    to_agent_.push_back({who, bytes});
                    continue;
                }
                c.agent->receive(bytes.data(), static_cast<u32>(bytes.size()), now_);
                quiet = 0;
            }
        }
        for (Client& c : client_) {
            if (c.agent) c.agent->check_invariants();
        }
    }
    void pass(Duration d) {
        Instant const end = now_ + d;
        while (now_ < end) {
            now_ = now_ + Duration::ms(50) < end ? now_ + Duration::ms(50) : end;
            if (server_) {
                machine_->now = now_;
                machine_->disks.set_now(now_);
                machine_->store().advance(now_);
                server_->advance(now_);
            }
            if (alternate_) {
                second_machine_->now = now_;
                second_machine_->disks.set_now(now_);
                second_machine_->store().advance(now_);
                alternate_->advance(now_);
            }
            for (Client& c : client_) {
                if (c.agent && !c.paused) c.agent->advance(now_);
            }
            settle();
        }
    }
    /// Submits and settles; the answer may be still to come.
    AgentRequest& ask(u32 who, AgentRequest r) {
        requests_.push_back(r);
        client_[who].agent->submit(requests_.back(), now_);
        settle();
        return requests_.back();
    }
    static AgentRequest request(Op op, std::string const& name = "",
                                FileHandle file = root_handle) {
        static std::deque<std::string> kept;
        AgentRequest r;
        r.op = op;
        r.file = file;
        kept.push_back(name);
        r.name = {kept.back().data(), static_cast<u32>(name.size())};
        return r;
    }
    AgentRequest& create(u32 who, std::string const& name) {
        return ask(who, request(Op::Create, name));
    }
    AgentRequest& lookup(u32 who, std::string const& name) {
        return ask(who, request(Op::Lookup, name));
    }
    AgentRequest& write(u32 who, FileHandle file, std::string const& text, u64 offset = 0) {
        AgentRequest r = request(Op::Write, "", file);
        texts_.push_back(text);
        r.offset = offset;
        r.length = text.size();
        r.buffer = reinterpret_cast<u8*>(texts_.back().data());
        return ask(who, r);
    }
    AgentRequest& read(u32 who, FileHandle file, u64 offset = 0, u64 length = 100) {
        AgentRequest r = request(Op::Read, "", file);
        texts_.push_back(std::string(length, 0));
        r.offset = offset;
        r.length = length;
        r.buffer = reinterpret_cast<u8*>(texts_.back().data());
        return ask(who, r);
    }
    static std::string text(AgentRequest const& r) {
        return r.done && r.error == Error::None
                   ? std::string(reinterpret_cast<char const*>(r.buffer), r.count)
                   : "error " + std::to_string(static_cast<int>(r.error));
    }
    std::string list(u32 who, u64* pages = nullptr) {
        std::string names;
        u64 cookie = 0;
        for (u32 n = 0; n < 1000; ++n) {
            AgentRequest r = request(Op::ReadDirectory);
            std::vector<u8> page(512);
            r.offset = cookie;
            r.length = page.size();
            r.buffer = page.data();
            AgentRequest const& a = ask(who, r);
            if (pages) ++*pages;
            if (!a.done || a.error != Error::None) return "error";
            for (u64 at = 0; at < a.count;) {
                DirectoryItem item;
                std::memcpy(&item, page.data() + at, sizeof item);
                names += std::string(reinterpret_cast<char*>(page.data() + at + sizeof item),
                                     item.name_length) +
                         " ";
                cookie = item.cookie;
                at += (sizeof item + item.name_length + 7) / 8 * 8;
            }
            if (a.end || a.count == 0) return names;
        }
        return "endless";
    }
    AgentStatistics const& statistics(u32 who) const { return client_[who].agent->statistics(); }
    /// A file with this content that agent 0 has made and both know; it is on disk.
    FileHandle shared(std::string const& name, std::string const& content, FileHandle* at_1) {
        FileHandle const f = create(0, name).result;
        EXPECT_TRUE(write(0, f, content).done);
        AgentRequest& sync = ask(0, request(Op::Fsync));
        pass(Duration::ms(300));
        EXPECT_TRUE(sync.done);
        *at_1 = lookup(1, name).result;
        return f;
    }

    static constexpr AgentOptions agent_options{.log_operations = 4096,
                                                .log_bytes = 48 << 20,
                                                .cache = {8, 32, 32},
                                                .alternative_after = Duration::s(12)};
    Image second_image_;
    Memory second_memory_;
    std::optional<Machine> second_machine_;
    std::vector<u8> alternate_memory_;
    std::optional<Alternate> alternate_;
    bool alternate_cut_ = false;  // from the server
    std::deque<std::vector<u8>> to_alternate_;
    std::vector<std::pair<u64, u64>> conflicts_;
    BlockPool pool_;
    Memory memory_;
    Image image_;
    Options store_options_;
    ServerOptions server_options_;
    std::optional<Machine> machine_;
    std::vector<u8> server_memory_;
    std::optional<Server> server_;
    Client client_[agents];
    Instant now_ = Instant{} + Duration::s(1);
    std::deque<std::pair<u32, std::vector<u8>>> to_server_;
    std::deque<std::pair<u32, std::vector<u8>>> to_agent_;
    std::deque<AgentRequest> requests_;
    std::deque<std::string> texts_;
};

TEST_F(Agents, what_was_read_is_answered_again_without_the_server_until_another_changes_it) {
    begin();
    FileHandle at_1 = no_handle;
    FileHandle const f = shared("a", "before", &at_1);
    EXPECT_EQ(text(read(1, at_1)), "before");
    client_[1].cut = true;
    EXPECT_EQ(text(read(1, at_1)), "before");
    EXPECT_EQ(text(read(1, at_1, 3, 2)), "or");
    EXPECT_EQ(ask(1, request(Op::GetAttributes, "", at_1)).size, 6u);
    EXPECT_EQ(statistics(1).data, 2u);
    EXPECT_EQ(statistics(1).attributes, 1u);
    client_[1].cut = false;
    EXPECT_TRUE(write(0, f, "after!").done);
    EXPECT_EQ(statistics(1).recalls, 1u);
    AgentRequest const& r = read(1, at_1);
    pass(Duration::ms(300));
    EXPECT_EQ(text(r), "after!");
    EXPECT_EQ(statistics(1).data, 2u);
}

TEST_F(Agents, own_operations_change_the_copies_by_what_they_mean) {
    begin();
    lookup(0, "b");  // there is none
    std::string const before = list(0);
    EXPECT_EQ(before, ". .. ");
    FileHandle const f = create(0, "a").result;
    EXPECT_EQ(text(read(0, f)), "");
    write(0, f, std::string(5000, 'x'));
    u64 const asked = statistics(0).asked;
    client_[0].cut = true;
    EXPECT_EQ(text(read(0, f, 4990, 100)), std::string(10, 'x'));
    EXPECT_EQ(lookup(0, "a").result, f);
    EXPECT_EQ(list(0), ". .. a ");
    EXPECT_EQ(lookup(0, "c").error, Error::NoEntry);
    client_[0].cut = false;
    AgentRequest rename = request(Op::Rename, "a");
    rename.file2 = root_handle;
    rename.name2 = {"b", 1};
    EXPECT_TRUE(ask(0, rename).done);
    AgentRequest cut = request(Op::Truncate, "", f);
    cut.offset = 10;
    EXPECT_TRUE(ask(0, cut).done);
    EXPECT_EQ(list(0), ". .. b ");
    EXPECT_EQ(lookup(0, "a").error, Error::NoEntry);
    EXPECT_EQ(lookup(0, "b").result, f);
    EXPECT_EQ(statistics(0).asked, asked);
    AgentRequest const& r = read(0, f, 5, 100);  // the rename has taken the copy of the file
    EXPECT_EQ(text(r), std::string(5, 'x'));
    EXPECT_TRUE(ask(0, request(Op::Unlink, "b")).done);
    EXPECT_EQ(read(0, f).error, Error::Stale);
}

TEST_F(Agents, links_modes_and_attributes_go_through_the_server_and_survive_its_restart) {
    begin();
    auto const with = [&](Op op, std::string const& name, FileHandle file, std::string bytes) {
        AgentRequest r = request(op, name, file);
        texts_.push_back(std::move(bytes));
        r.length = texts_.back().size();
        r.buffer = reinterpret_cast<u8*>(texts_.back().data());
        return r;
    };
    auto const yields = [&](u32 who, Op op, std::string const& name, FileHandle file) {
        return text(ask(who, with(op, name, file, std::string(100, 0))));
    };
    FileHandle at_1 = no_handle;
    FileHandle const f = shared("a", "content", &at_1);
    EXPECT_EQ(ask(0, request(Op::GetAttributes, "", f)).mode, 0644);
    EXPECT_EQ(ask(1, request(Op::GetAttributes, "", at_1)).mode, 0644);
    // What another agent has a copy of is recalled before it is changed.
    AgentRequest mode = request(Op::SetAttributes, "", f);
    mode.flags = set_mode | set_mtime;
    mode.mode = 0600;
    mode.mtime_ns = 77;
    EXPECT_EQ(ask(0, mode).error, Error::None);
    EXPECT_EQ(statistics(1).recalls, 1u);
    EXPECT_EQ(ask(0, request(Op::GetAttributes, "", f)).mode, 0600);
    AgentRequest& link = ask(0, with(Op::Symlink, "l", root_handle, std::string(300, 'a') + "/b"));
    ASSERT_EQ(link.error, Error::None);
    EXPECT_EQ(ask(0, with(Op::SetXattr, "user.k", f, "value")).error, Error::None);
    EXPECT_EQ(ask(0, with(Op::SetXattr, "user.none", f, "")).error, Error::None);
    EXPECT_EQ(ask(0, with(Op::SetXattr, "user.k2", f, "v")).error, Error::None);
    EXPECT_EQ(ask(0, request(Op::RemoveXattr, "user.k2", f)).error, Error::None);
    EXPECT_EQ(ask(0, request(Op::RemoveXattr, "user.k2", f)).error, Error::NoData);
    AgentRequest once = with(Op::SetXattr, "user.k", f, "other");
    once.flags = xattr_create;
    EXPECT_EQ(ask(0, once).error, Error::Exists);
    // Only in the server's memory and the agent's log until here.
    start_server();
    pass(Duration::s(20));
    ASSERT_TRUE(client_[0].agent->active());
    EXPECT_TRUE(conflicts_.empty());
    AgentRequest& sync = ask(0, request(Op::Fsync));
    pass(Duration::ms(300));
    EXPECT_TRUE(sync.done);
    AgentRequest const& found = lookup(1, "l");
    ASSERT_EQ(found.error, Error::None);
    EXPECT_EQ(found.type, PnodeType::Symlink);
    EXPECT_EQ(yields(1, Op::ReadLink, "", found.result), std::string(100, 'a'));
    EXPECT_EQ(yields(1, Op::ReadLink, "", at_1), "error 22");
    EXPECT_EQ(yields(1, Op::GetXattr, "user.k", at_1), "value");
    EXPECT_EQ(yields(1, Op::GetXattr, "user.none", at_1), "");
    EXPECT_EQ(yields(1, Op::GetXattr, "user.k2", at_1), "error 61");
    EXPECT_EQ(yields(1, Op::ListXattr, "", at_1), std::string("user.k\0user.none\0", 17));
    EXPECT_EQ(ask(1, with(Op::GetXattr, "user.k", at_1, "")).count, 5u);
    EXPECT_EQ(ask(1, request(Op::GetAttributes, "", at_1)).mode, 0600);
    // Asked for without room for it, or too large to go into a message.
    EXPECT_EQ(text(ask(1, with(Op::GetXattr, "user.k", at_1, "abc"))), "error 7");
    AgentRequest large = with(Op::SetXattr, "user.k", f, std::string(message_data_max + 1, 'x'));
    EXPECT_EQ(ask(0, large).error, Error::Invalid);
    large.buffer = nullptr;
    large.length = 10;
    EXPECT_EQ(ask(0, large).error, Error::Invalid);
}

TEST_F(Agents, a_link_whose_answer_got_lost_is_known_wherever_others_have_moved_it) {
    begin();
    client_[0].paused = true;
    AgentRequest link = request(Op::Symlink, "l");
    texts_.emplace_back("target");
    link.length = 6;
    link.buffer = reinterpret_cast<u8*>(texts_.back().data());
    AgentRequest const& made = ask(0, link);
    ASSERT_FALSE(made.done);
    AgentRequest const& found = lookup(1, "l");
    pass(Duration::s(1));  // it is on disk before another sees it
    ASSERT_TRUE(found.done && found.error == Error::None);
    AgentRequest move = request(Op::Rename, "l");
    move.file2 = root_handle;
    move.name2 = {"m", 1};
    EXPECT_EQ(ask(1, move).error, Error::None);
    EXPECT_EQ(create(1, "l").error, Error::None);
    AgentRequest const& sync = ask(1, request(Op::Fsync));
    pass(Duration::ms(300));
    EXPECT_TRUE(sync.done);
    start_server();
    std::erase_if(to_agent_, [](auto const& m) { return m.first == 0; });
    client_[0].paused = false;
    pass(Duration::s(20));
    ASSERT_TRUE(made.done);
    AgentRequest target = request(Op::ReadLink, "", made.result);
    texts_.emplace_back(100, 0);
    target.length = 100;
    target.buffer = reinterpret_cast<u8*>(texts_.back().data());
    EXPECT_EQ(text(ask(0, target)), "target");
}

TEST_F(Agents, what_failed_without_an_answer_and_then_succeeds_is_not_taken_for_durable) {
    begin();
    create(1, "s");
    AgentRequest const& sync = ask(1, request(Op::Fsync));
    pass(Duration::ms(300));
    ASSERT_TRUE(sync.done);
    client_[0].unanswered = true;
    AgentRequest const& made = create(0, "s");  // there is one
    pass(Duration::s(8));
    ASSERT_FALSE(made.done);
    // Nothing is left to be written: so says the server.
    ASSERT_GT(client_[0].agent->durable(), client_[0].agent->acknowledged());
    ASSERT_EQ(ask(1, request(Op::Unlink, "s")).error, Error::None);
    AgentRequest const& again = ask(1, request(Op::Fsync));
    pass(Duration::ms(300));
    ASSERT_TRUE(again.done);
    client_[0].unanswered = false;
    start_server();
    for (u32 i = 0; i < 400 && !made.done; ++i) pass(Duration::ms(50));
    ASSERT_TRUE(made.done);
    ASSERT_EQ(made.error, Error::None);
    EXPECT_LT(client_[0].agent->durable(), client_[0].agent->acknowledged());
    start_server();
    pass(Duration::s(20));
    AgentRequest const& found = lookup(1, "s");
    pass(Duration::s(1));
    ASSERT_TRUE(found.done);
    EXPECT_EQ(found.error, Error::None);
    EXPECT_EQ(client_[0].conflicts, 0u);
}

TEST_F(Agents, that_there_is_no_such_name_is_recalled_when_there_is) {
    begin();
    EXPECT_EQ(lookup(1, "x").error, Error::NoEntry);
    EXPECT_EQ(lookup(1, "x").error, Error::NoEntry);
    EXPECT_EQ(statistics(1).absences, 1u);
    EXPECT_TRUE(create(0, "x").done);
    AgentRequest const& r = lookup(1, "x");
    pass(Duration::ms(300));
    EXPECT_EQ(r.error, Error::None);
    EXPECT_TRUE(r.done);
}

TEST_F(Agents,
       an_agent_that_cannot_be_reached_is_waited_for_until_its_lease_has_ended_and_no_longer) {
    begin();
    FileHandle at_1 = no_handle;
    FileHandle const f = shared("a", "before", &at_1);
    EXPECT_EQ(text(read(1, at_1)), "before");
    client_[1].cut = true;
    AgentRequest const& w = write(0, f, "after!");
    // As long as its copies are used the write waits; and that is not for ever.
    Instant const cut_at = now_;
    bool used_at_end = true;
    while (!w.done && now_ - cut_at < Duration::s(30)) {
        u64 const before = statistics(1).data;
        AgentRequest const& r = read(1, at_1);
        used_at_end = r.done && statistics(1).data > before;
        if (used_at_end) EXPECT_EQ(text(r), "before");
        pass(Duration::ms(50));
    }
    EXPECT_TRUE(w.done);
    EXPECT_FALSE(used_at_end);
    EXPECT_GE(now_ - cut_at, Duration::s(6));
    EXPECT_LE(now_ - cut_at, Duration::ms(10'100));
    EXPECT_EQ(statistics(1).voided, 1u);
}

TEST_F(Agents, an_agent_that_was_paused_past_its_lease_uses_none_of_its_copies) {
    begin();
    FileHandle at_1 = no_handle;
    FileHandle const f = shared("a", "before", &at_1);
    EXPECT_EQ(text(read(1, at_1)), "before");
    client_[1].paused = true;
    AgentRequest const& w = write(0, f, "after!");
    EXPECT_FALSE(w.done);
    pass(Duration::ms(10'100));
    EXPECT_TRUE(w.done);
    // The first that it hears of the time is with the application's request.
    client_[1].paused = false;
    to_agent_.clear();
    u64 const before = statistics(1).data;
    AgentRequest const& r = read(1, at_1);
    EXPECT_EQ(statistics(1).data, before);
    pass(Duration::ms(300));
    EXPECT_EQ(text(r), "after!");
}

TEST_F(Agents, a_lease_that_was_paused_over_is_not_taken_up_again_by_an_answer_of_before) {
    begin();
    FileHandle at_1 = no_handle;
    FileHandle const f = shared("a", "before", &at_1);
    pass(Duration::s(4));
    EXPECT_EQ(text(read(1, at_1)), "before");
    // Its answers are waiting for it when it goes on; its lease has ended meanwhile.
    client_[1].paused = true;
    client_[1].agent->advance(now_);
    AgentRequest const& w = write(0, f, "after!");
    pass(Duration::ms(10'100));
    EXPECT_TRUE(w.done);
    client_[1].paused = false;
    settle();
    AgentRequest const& r = read(1, at_1);
    pass(Duration::ms(300));
    EXPECT_EQ(text(r), "after!");
}

TEST_F(Agents, a_restarted_server_waits_for_the_leases_of_the_life_before) {
    ServerOptions o;
    o.absent_max = Duration::s(1);
    begin(o);
    FileHandle at_1 = no_handle;
    FileHandle const f = shared("a", "before", &at_1);
    pass(Duration::s(3));
    EXPECT_EQ(text(read(1, at_1)), "before");
    client_[1].cut = true;
    start_server();
    pass(Duration::ms(1500));
    AgentRequest const& w = write(0, f, "after!");
    for (u32 i = 0; i < 400 && !w.done; ++i) {
        u64 const before = statistics(1).data;
        AgentRequest const& r = read(1, at_1);
        if (r.done) EXPECT_EQ(text(r), "before");
        bool const used = statistics(1).data > before;
        pass(Duration::ms(50));
        EXPECT_FALSE(w.done && used) << "written while a copy was used";
    }
    EXPECT_TRUE(w.done);
    EXPECT_GE(statistics(1).data, 20u);
}

TEST_F(Agents, a_restarted_server_waits_no_longer_than_until_all_have_replayed) {
    begin();
    FileHandle at_1 = no_handle;
    FileHandle const f = shared("a", "before", &at_1);
    EXPECT_EQ(text(read(1, at_1)), "before");
    start_server();
    AgentRequest const& w = write(0, f, "after!");
    pass(Duration::s(4));  // a third of a lease until the other one notices
    EXPECT_TRUE(w.done);
    EXPECT_FALSE(server_->grace());
    EXPECT_EQ(statistics(1).voided, 0u);  // no lease has ended: the new session took the copies
    AgentRequest const& r = read(1, at_1);
    pass(Duration::ms(300));
    EXPECT_EQ(text(r), "after!");
}

TEST_F(Agents, who_lives_and_gives_nothing_back_is_heard_no_more_until_its_lease_has_ended) {
    begin();
    FileHandle at_1 = no_handle;
    FileHandle const f = shared("a", "before", &at_1);
    EXPECT_EQ(text(read(1, at_1)), "before");
    client_[1].deaf = true;
    AgentRequest const& w = write(0, f, "after!");
    Instant const begun = now_;
    while (!w.done && now_ - begun < Duration::s(60)) pass(Duration::ms(50));
    EXPECT_TRUE(w.done);
    EXPECT_LE(now_ - begun, Duration::s(21));  // two leases
    AgentRequest const& r = read(1, at_1);
    pass(Duration::s(1));
    EXPECT_EQ(text(r), "after!");
}

TEST_F(Agents, more_files_than_the_server_has_room_for_are_recalled_one_for_another) {
    ServerOptions o;
    o.holdings = 8;
    begin(o);
    std::vector<FileHandle> files;
    for (u32 i = 0; i < 12; ++i) {
        std::string const name = "f" + std::to_string(i);
        files.push_back(create(0, name).result);
        write(0, files.back(), name);
    }
    for (u32 round = 0; round < 3; ++round) {
        for (u32 i = 0; i < 12; ++i) {
            AgentRequest const& r = read(0, files[i]);
            pass(Duration::ms(50));
            EXPECT_EQ(text(r), "f" + std::to_string(i));
        }
    }
    EXPECT_GT(server_->recalls(), 0u);
    u64 const before = statistics(0).data;
    EXPECT_EQ(text(read(0, files[11])), "f11");
    EXPECT_EQ(text(read(0, files[11])), "f11");
    EXPECT_GT(statistics(0).data, before);
}

TEST_F(Agents, a_directory_larger_than_the_cache_is_listed_whole_each_time) {
    begin();
    std::vector<std::string> names;
    for (u32 i = 0; i < 60; ++i) {
        ASSERT_TRUE(create(0, "n" + std::to_string(100 + i)).done);
        if (i % 20 == 0) list(0);
    }
    for (u32 round = 0; round < 2; ++round) {
        std::string const all = list(0);
        for (u32 i = 0; i < 60; ++i) {
            std::string const name = " n" + std::to_string(100 + i) + " ";
            std::size_t const at = all.find(name);
            EXPECT_NE(at, std::string::npos) << name;
            EXPECT_EQ(all.find(name, at + 1), std::string::npos) << name;
        }
    }
}

TEST_F(Agents, most_of_what_dies_within_the_write_delay_reaches_no_disk_and_makes_no_garbage) {
    Options store = small_options();
    store.frames = 2048;
    store.garbage_ring = 8192;
    begin({}, store, 128);
    Random random(7);
    struct Dying {
        u32 who;
        std::string name;
        Instant at;
    };
    std::vector<Dying> dying;
    u64 doomed = 0;  // blocks of files that die
    // A file of 16 KiB each second, by turns; seven of ten die before they are 15 s old.
    Statistics const before = machine_->store().statistics();
    for (u32 i = 0; i < 600; ++i) {
        u32 const who = i % agents;
        std::string const name = "f" + std::to_string(i);
        FileHandle const f = create(who, name).result;
        ASSERT_TRUE(write(who, f, std::string(16384, 'w')).done);
        client_[who].agent->forget(f);
        if (random.below(10) < 7) {
            doomed += 4;
            dying.push_back(
                {who, name, now_ + Duration::ms(static_cast<i64>(random.below(15'000)))});
        }
        pass(Duration::s(1));
        std::erase_if(dying, [&](Dying const& d) {
            if (d.at > now_) return false;
            AgentRequest const& r = ask(d.who, request(Op::Unlink, d.name));
            EXPECT_TRUE(r.done && r.error == Error::None);
            return true;
        });
    }
    for (Dying const& d : dying) ask(d.who, request(Op::Unlink, d.name));
    ask(0, request(Op::Fsync));
    pass(Duration::s(1));
    Statistics const s = machine_->store().statistics();
    u64 const saved = s.never_written - before.never_written;
    EXPECT_GE(static_cast<double>(saved), 0.65 * static_cast<double>(doomed));
    // What has become garbage is only what of them was written all the same.
    u64 const live = 600 * 4 - doomed;
    u64 const written = s.data_blocks - before.data_blocks;
    std::printf("of %llu blocks %llu died, %llu of them in memory (%.0f %%); %llu written\n",
                600 * 4ull, static_cast<unsigned long long>(doomed),
                static_cast<unsigned long long>(saved),
                100.0 * static_cast<double>(saved) / static_cast<double>(doomed),
                static_cast<unsigned long long>(written));
    u64 const directory = 30 * 4;  // the root's blocks, at each flush
    EXPECT_LE(written, live + doomed * 35 / 100 + directory);
}

// --- disks that other servers can reach ----------------------------------------------------------

Options shared_disks() {
    Options o = small_options();
    o.shared = true;
    return o;
}

// Given a server that takes disks over, when all agents have replayed at once, then it still does
// nothing new for as long as the one before may speak.
TEST_F(Agents, a_server_that_takes_disks_over_waits_until_the_one_before_is_silent) {
    begin({}, shared_disks());
    EXPECT_TRUE(create(0, "a").done);
    Instant const taken = now_;
    start_server();
    pass(Duration::s(5));
    for (Client const& c : client_) EXPECT_TRUE(c.agent->active());
    AgentRequest const& r = create(0, "b");
    while (!r.done && now_ - taken < Duration::s(20)) pass(Duration::ms(50));
    EXPECT_TRUE(r.done);
    EXPECT_GE(now_ - taken, Duration::s(10));
    EXPECT_LE(now_ - taken, Duration::s(11));
}

// Given a server that was paused while another took its disks, when it goes on, then it says
// nothing, not even before the disks have told it.
TEST_F(Agents, a_server_that_does_not_know_whether_it_has_its_disks_is_silent) {
    begin({}, shared_disks());
    pass(Duration::s(5));
    to_agent_.clear();
    client_[1].agent->advance(now_ += Duration::ms(3'400));
    ASSERT_FALSE(to_server_.empty());
    std::vector<u8> const ping = to_server_.back().second;
    server_->advance(now_);
    server_->receive(ping.data(), static_cast<u32>(ping.size()));
    EXPECT_FALSE(to_agent_.empty());
    machine_->pump();
    Memory other_memory;
    Machine other(image_, pool_, other_memory, shared_disks());
    ASSERT_TRUE(other.mount());
    to_agent_.clear();
    now_ += Duration::ms(9'500);
    machine_->store().advance(now_);
    server_->advance(now_);
    server_->receive(ping.data(), static_cast<u32>(ping.size()));
    EXPECT_TRUE(to_agent_.empty());
    EXPECT_FALSE(server_->fenced());
    machine_->pump();
    EXPECT_TRUE(server_->fenced());
    server_->receive(ping.data(), static_cast<u32>(ping.size()));
    EXPECT_TRUE(to_agent_.empty());
}

// --- the alternative server ----------------------------------------------------------------------

ServerOptions with_alternative() {
    ServerOptions o;
    o.alternative = true;
    return o;
}

// Given an agent whose operations are in the server's memory and its own, when the server is lost
// and then the agent, then the alternative server hands them back, also those on a file that has
// another number now.
TEST_F(Agents, what_two_losses_would_cost_comes_back_from_the_alternative_server) {
    begin(with_alternative());
    start_alternate();
    for (u32 i = 0; i < 5; ++i) {
        FileHandle const f = create(0, "lost" + std::to_string(i)).result;
        EXPECT_TRUE(write(0, f, "content " + std::to_string(i)).done);
    }
    EXPECT_TRUE(ask(0, request(Op::Unlink, "lost0")).done);
    EXPECT_TRUE(create(1, "other").done);
    stop_server();
    EXPECT_FALSE(client_[0].agent->all_deposited());
    pass(Duration::s(14));
    EXPECT_TRUE(client_[0].agent->all_deposited());
    EXPECT_GT(alternate_->kept(), 0u);
    // It has them on its disks, not only in its memory.
    start_alternate();
    pass(Duration::ms(300));
    EXPECT_GT(alternate_->kept(), 0u);
    stop_agent(0);
    start_server();
    // Agent 1 replays first, and its file has the number that one of the others had.
    pass(Duration::s(4));
    EXPECT_TRUE(server_->grace());
    start_agent(0);
    pass(Duration::s(6));
    EXPECT_TRUE(client_[0].agent->active());
    EXPECT_EQ(alternate_->handed_back(), 11u);
    EXPECT_TRUE(conflicts_.empty());
    // The server has them on disk; agent 1 lives, and has its operation itself.
    EXPECT_EQ(alternate_->newest(1), 0u);
    EXPECT_EQ(alternate_->newest(2), incarnation_start(1) + 1);
    EXPECT_EQ(lookup(0, "lost0").error, Error::NoEntry);
    for (u32 i = 1; i < 5; ++i) {
        FileHandle const f = lookup(0, "lost" + std::to_string(i)).result;
        ASSERT_NE(f, no_handle);
        EXPECT_EQ(text(read(0, f)), "content " + std::to_string(i));
    }
    EXPECT_EQ(lookup(0, "other").error, Error::None);
}

TEST_F(Agents, a_hand_back_that_the_server_dies_in_begins_again) {
    begin(with_alternative());
    start_alternate();
    for (u32 i = 0; i < 5; ++i) {
        FileHandle const f = create(0, "lost" + std::to_string(i)).result;
        EXPECT_TRUE(write(0, f, "content " + std::to_string(i)).done);
    }
    stop_server();
    pass(Duration::s(14));
    stop_agent(0);
    start_server();
    pass(Duration::s(4));
    start_agent(0);
    // Some have been executed when it dies again, and none of that was on disk.
    u64 const some = alternate_->handed_back();
    for (u32 i = 0; i < 5000 && alternate_->handed_back() < some + 3; ++i) {
        now_ += Duration::ms(1);
        server_->advance(now_);
        client_[0].agent->advance(now_);
        second_machine_->pump();
        alternate_->advance(now_);
        if (!to_server_.empty()) {
            auto const m = to_server_.front();
            to_server_.pop_front();
            server_->receive(m.second.data(), static_cast<u32>(m.second.size()));
            machine_->pump();
            server_->run();
        }
        if (!to_alternate_.empty()) {
            auto const m = to_alternate_.front();
            to_alternate_.pop_front();
            alternate_->receive(m.data(), static_cast<u32>(m.size()));
            second_machine_->pump();
            alternate_->run();
        }
    }
    EXPECT_EQ(alternate_->handed_back(), some + 3);
    stop_server();
    to_server_.clear();
    to_alternate_.clear();
    start_server();
    pass(Duration::s(10));
    EXPECT_TRUE(conflicts_.empty());
    EXPECT_EQ(alternate_->kept(), 0u);
    for (u32 i = 0; i < 5; ++i) {
        AgentRequest const& r = lookup(0, "lost" + std::to_string(i));
        ASSERT_TRUE(r.done);
        ASSERT_NE(r.result, no_handle);
        EXPECT_EQ(text(read(0, r.result)), "content " + std::to_string(i));
    }
}

TEST_F(Agents, a_hand_back_that_the_server_dies_after_is_made_again) {
    begin(with_alternative());
    start_alternate();
    FileHandle const f = create(0, "lost").result;
    EXPECT_TRUE(write(0, f, "content").done);
    stop_server();
    pass(Duration::s(14));
    stop_agent(0);
    start_server();
    pass(Duration::s(4));
    start_agent(0);
    pass(Duration::ms(50));
    // It is not heard until all is executed again, and so not flushed for its sake.
    client_[0].cut = true;
    pass(Duration::s(3));
    EXPECT_EQ(alternate_->handed_back(), 2u);
    EXPECT_GT(alternate_->kept(), 0u);
    stop_server();
    start_server();
    client_[0].cut = false;
    pass(Duration::s(8));
    EXPECT_TRUE(client_[0].agent->active());
    EXPECT_EQ(alternate_->kept(), 0u);
    FileHandle const again = lookup(0, "lost").result;
    ASSERT_NE(again, no_handle);
    EXPECT_EQ(text(read(0, again)), "content");
}

// Given operations of a lost agent at an alternative server that the restarted server cannot reach,
// when the next incarnation has begun without them, then each of them is named as lost.
TEST_F(Agents, what_the_alternative_server_hands_back_too_late_is_named) {
    ServerOptions o = with_alternative();
    o.absent_max = Duration::s(12);
    begin(o);
    start_alternate();
    EXPECT_TRUE(create(0, "x").done);
    EXPECT_TRUE(create(0, "y").done);
    stop_server();
    pass(Duration::s(14));
    stop_agent(0);
    alternate_cut_ = true;
    start_server();
    start_agent(0);
    pass(Duration::s(20));
    EXPECT_FALSE(client_[0].agent->active());  // it waits for what may come
    pass(Duration::s(8));
    EXPECT_TRUE(client_[0].agent->active());
    EXPECT_TRUE(create(1, "x").done);
    EXPECT_TRUE(conflicts_.empty());
    alternate_cut_ = false;
    pass(Duration::s(3));
    ASSERT_EQ(conflicts_.size(), 2u);
    EXPECT_EQ(conflicts_[0], std::make_pair(u64{1}, incarnation_start(1) + 1));
    EXPECT_EQ(conflicts_[1], std::make_pair(u64{1}, incarnation_start(1) + 2));
    EXPECT_EQ(alternate_->kept(), 0u);
    EXPECT_EQ(alternate_->handed_back(), 0u);
}

// --- peers that are nothing but their messages ---------------------------------------------------

/// Three agents of messages at a server; a mount begins each time, so that nothing is in memory.
class Grants : public testing::Test, public ServerPort {
protected:
    void SetUp() override {
        image_ = Image(blocks_for(64));
        format(image_, pool_);
        start();
    }
    void start() {
        options_.sessions = 3;
        options_.holdings = 8;
        server_.reset();
        machine_.emplace(image_, pool_, memory_);
        machine_->checks = false;
        ASSERT_TRUE(machine_->mount());
        bytes_.resize(Server::memory_needed(options_));
        Arena arena(bytes_.data(), bytes_.size());
        server_.emplace(arena, machine_->store(), *this, options_);
        server_->start(machine_->now);
        for (u64 agent = 1; agent <= 3; ++agent) {
            say(agent, MessageKind::Hello);
            rest();
            session_[agent - 1] = last(agent, MessageKind::Welcome).session;
        }
        for (u64 agent = 1; agent <= 3; ++agent) say(agent, MessageKind::Replayed);
        rest();
    }
    void send(u64, u8 const* data, u32 length) override {
        Received r;
        ASSERT_TRUE(read_message(data, length, &r));
        got_.push_back(r.header);
    }
    void say(u64 agent, MessageKind kind, Message m = {}, std::string const& name = "") {
        m.kind = kind;
        m.agent = agent;
        m.incarnation = 1;
        m.session = session_[agent - 1];
        std::vector<u8> out(message_bytes_max);
        Name const n{name.data(), static_cast<u32>(name.size())};
        u32 const length = build_message(out.data(), m, n);
        server_->receive(out.data(), length);
    }
    void lookup(u64 agent, std::string const& name) {
        Message m;
        m.op = Op::Lookup;
        m.number = ++reads_;
        m.file = {root_directory, 0, 0};
        say(agent, MessageKind::Read, m, name);
    }
    u64 create(u64 agent, std::string const& name) {
        Message m;
        m.op = Op::Create;
        m.type = PnodeType::File;
        m.mode = 0644;
        m.number = incarnation_start(1) + ++changes_[agent - 1];
        m.file = {root_directory, 0, 0};
        say(agent, MessageKind::New, m, name);
        return m.number;
    }
    /// Until the disks are at rest.
    void rest() {
        for (u32 i = 0; i < 32; ++i) {
            machine_->pump();
            server_->run();
        }
    }
    Message last(u64 agent, MessageKind kind) const {
        Message found;
        for (Message const& m : got_) {
            if (m.agent == agent && m.kind == kind) found = m;
        }
        return found;
    }
    BlockPool pool_;
    Memory memory_;
    Image image_;
    ServerOptions options_;
    std::optional<Machine> machine_;
    std::vector<u8> bytes_;
    std::optional<Server> server_;
    std::vector<Message> got_;
    u64 session_[3] = {};
    u64 reads_ = 0;
    u64 changes_[3] = {};
};

TEST_F(Grants, are_not_given_of_what_another_is_about_to_change) {
    lookup(2, "y");
    rest();
    EXPECT_GT(last(2, MessageKind::Content).lease_ns, 0);
    create(1, "x");
    rest();
    Message const recall = last(2, MessageKind::Recall);
    ASSERT_EQ(recall.file.pnode, root_directory);
    EXPECT_EQ(last(1, MessageKind::Answer).number, 0u);  // it waits
    lookup(3, "y");
    rest();
    EXPECT_EQ(last(3, MessageKind::Content).error, static_cast<u32>(Error::NoEntry));
    EXPECT_EQ(last(3, MessageKind::Content).lease_ns, 0);
    Message back;
    back.number = recall.number;
    say(2, MessageKind::Recalled, back);
    rest();
    EXPECT_NE(last(1, MessageKind::Answer).number, 0u);
    lookup(3, "z");
    rest();
    EXPECT_GT(last(3, MessageKind::Content).lease_ns, 0);
}

TEST_F(Grants, are_not_given_of_what_is_being_recalled) {
    // Nine files, and room for eight.
    FileRef file[9];
    for (u32 i = 0; i < 9; ++i) {
        create(2, "f" + std::to_string(i));
        rest();
        file[i] = last(2, MessageKind::Answer).result;
    }
    auto const look = [&](FileRef f) {
        Message m;
        m.op = Op::GetAttributes;
        m.number = ++reads_;
        m.file = f;
        say(2, MessageKind::Read, m);
        rest();
        return last(2, MessageKind::Content).lease_ns > 0;
    };
    for (u32 i = 0; i < 8; ++i) EXPECT_TRUE(look(file[i]));
    EXPECT_FALSE(look(file[8]));
    Message const recall = last(2, MessageKind::Recall);
    EXPECT_FALSE(look(recall.file));
    Message back;
    back.number = recall.number;
    say(2, MessageKind::Recalled, back);
    EXPECT_TRUE(look(file[8]));
}

TEST_F(Grants, say_how_many_recalls_there_were_when_it_was_read) {
    create(1, "there");
    rest();
    say(1, MessageKind::Sync);
    rest();
    machine_->unmount();
    start();
    got_.clear();
    lookup(2, "y");  // waits for the disks
    create(1, "x");
    Message const recall = last(2, MessageKind::Recall);
    ASSERT_EQ(recall.number, 1u);
    ASSERT_EQ(last(2, MessageKind::Content).number, 0u);
    rest();
    ASSERT_EQ(last(2, MessageKind::Content).number, reads_);
    EXPECT_EQ(last(2, MessageKind::Content).serial, 0u);
}

TEST_F(Grants, say_how_far_the_agents_operations_were_when_it_was_read) {
    create(1, "there");
    rest();
    say(1, MessageKind::Sync);
    rest();
    machine_->unmount();
    start();
    got_.clear();
    lookup(2, "y");  // both wait for the same block
    u64 const number = create(2, "y");
    ASSERT_EQ(last(2, MessageKind::Content).number, 0u);
    rest();
    ASSERT_EQ(last(2, MessageKind::Answer).number, number);
    ASSERT_EQ(last(2, MessageKind::Content).error, static_cast<u32>(Error::NoEntry));
    EXPECT_LT(last(2, MessageKind::Content).applied, number);
}

/// A server of messages, in session 1 at first, that gives leases.
struct OnlyMessages final : AgentPort {
    explicit OnlyMessages(Duration alternative_after = {}) : out(message_bytes_max) {
        AgentOptions const options{.log_operations = 8,
                                   .log_bytes = 4096,
                                   .files = 8,
                                   .cache = {8, 16, 16},
                                   .alternative_after = alternative_after};
        bytes.resize(Agent::memory_needed(options));
        Arena arena(bytes.data(), bytes.size());
        agent.emplace(arena, *this, options, 1, 1);
        agent->start(now);
        say(MessageKind::Welcome, {});
        agent->advance(now);
        Message pong;
        pong.number = ping;
        say(MessageKind::Pong, pong);
        pong.number = ~u64{0};
        say(MessageKind::Pong, pong);
    }
    void send(u8 const* data, u32 length) override {
        Received r;
        ASSERT_TRUE(read_message(data, length, &r));
        last = r.header;
        if (last.kind == MessageKind::Ping) ping = last.number;
    }
    void send_to_alternative(u8 const* data, u32 length) override {
        Received r;
        ASSERT_TRUE(read_message(data, length, &r));
        deposits.push_back(r.header);
    }
    void conflict(u64, Error) override { ADD_FAILURE(); }
    /// Submits a creation; the number of its operation.
    u64 create(AgentRequest& r) {
        r.op = Op::Create;
        r.name = {"x", 1};
        agent->submit(r, now);
        EXPECT_EQ(last.kind, MessageKind::New);
        return last.number;
    }
    /// Answers that the operation has made the file.
    void made(u64 number, u64 pnode) {
        Message m;
        m.op = Op::Create;
        m.number = m.applied = number;
        m.result = {pnode, 1, 0};
        say(MessageKind::Answer, m);
    }
    void say(MessageKind kind, Message m, u8 const* data = nullptr, u32 length = 0) {
        m.kind = kind;
        m.agent = m.incarnation = 1;
        m.session = session;
        if (m.lease_ns == 0) m.lease_ns = kind == MessageKind::Welcome ? 10'000'000'000 : 0;
        if (m.applied == 0) m.applied = incarnation_start(1);
        agent->receive(out.data(), build_message(out.data(), m, {}, {}, data, length), now);
        agent->check_invariants();
    }
    /// Answers the read on its way with a file of one letter.
    void content(char letter, u64 applied, u64 serial, PnodeType type = PnodeType::File) {
        std::string const data(100, letter);
        Message m;
        m.number = last.number;
        m.op = last.op;
        m.applied = applied;
        m.serial = serial;
        m.lease_ns = 10'000'000'000;
        m.type = type;
        m.size = m.count = 100;
        say(MessageKind::Content, m, reinterpret_cast<u8 const*>(data.data()), 100);
    }
    std::string read() {
        texts.push_back(std::string(100, 0));
        requests.emplace_back();
        AgentRequest& r = requests.back();
        r.op = Op::Read;
        r.length = 100;
        r.buffer = reinterpret_cast<u8*>(texts.back().data());
        agent->submit(r, now);
        return r.done ? std::string(1, texts.back()[0]) : "";
    }
    std::vector<u8> bytes;
    std::vector<u8> out;
    Instant now = Instant{} + Duration::s(1);
    std::optional<Agent> agent;
    Message last;
    u64 session = 1;
    u64 ping = 0;
    std::vector<Message> deposits;
    std::deque<AgentRequest> requests;
    std::deque<std::string> texts;
};

TEST(Replay, has_what_failed_in_a_session_before_that_said_it_durable_and_then_succeeded) {
    OnlyMessages s;
    AgentRequest r;
    u64 const number = s.create(r);
    // It fails, the answer gets lost, and nothing is left to be written.
    Message said;
    said.applied = said.durable = number;
    s.say(MessageKind::Pong, said);
    EXPECT_FALSE(r.done);
    // The server's next life does not know of it, and there it succeeds.
    s.session = 2;
    s.say(MessageKind::Welcome, {});
    Message end;
    end.number = ~u64{0};
    s.say(MessageKind::Pong, end);
    ASSERT_EQ(s.last.kind, MessageKind::New);
    ASSERT_EQ(s.last.number, number);
    s.made(number, 20);
    ASSERT_TRUE(r.done);
    EXPECT_EQ(r.error, Error::None);
    EXPECT_LT(s.agent->durable(), number);
    // That dies, too, before it is on disk.
    s.session = 3;
    s.say(MessageKind::Welcome, {});
    EXPECT_EQ(s.last.kind, MessageKind::Replay);
    EXPECT_EQ(s.last.number, number);
}

TEST(Deposits, wait_until_the_replay_has_told_which_numbers_files_have_in_the_session) {
    OnlyMessages s(Duration::ms(500));
    AgentRequest r;
    u64 const number = s.create(r);
    s.made(number, 20);
    s.agent->advance(s.now += Duration::s(1));
    ASSERT_EQ(s.deposits.size(), 1u);
    EXPECT_EQ(s.deposits[0].session, 1u);
    EXPECT_EQ(s.deposits[0].result.pnode, 20u);
    // The server is back, and gone again before it has answered the replay.
    s.session = 2;
    s.say(MessageKind::Welcome, {});
    ASSERT_EQ(s.last.kind, MessageKind::Replay);
    s.agent->advance(s.now += Duration::s(1));
    EXPECT_EQ(s.deposits.size(), 1u);
    EXPECT_FALSE(s.agent->all_deposited());
    s.made(number, 21);
    s.agent->advance(s.now += Duration::s(1));
    ASSERT_EQ(s.deposits.size(), 2u);
    EXPECT_EQ(s.deposits[1].session, 2u);
    EXPECT_EQ(s.deposits[1].result.pnode, 21u);
}

TEST(Copies, are_not_made_of_what_a_recall_has_overtaken) {
    OnlyMessages s;
    EXPECT_EQ(s.read(), "");
    s.content('a', incarnation_start(1), 0);
    EXPECT_EQ(s.read(), "a");
    Message recall;
    recall.file.pnode = root_directory;
    recall.number = 1;
    s.say(MessageKind::Recall, recall);
    EXPECT_EQ(s.last.kind, MessageKind::Recalled);
    EXPECT_EQ(s.read(), "");
    recall.number = 2;
    s.last = {};
    s.agent->advance(s.now += Duration::ms(300));  // asks again
    ASSERT_EQ(s.last.kind, MessageKind::Read);
    Message const asked = s.last;
    s.say(MessageKind::Recall, recall);
    s.last = asked;
    s.content('b', incarnation_start(1), 1);  // of before the second recall
    EXPECT_EQ(s.read(), "");
}

TEST(Copies, are_not_made_of_what_the_next_answer_would_change_once_more) {
    OnlyMessages s;
    std::string text(100, 'm');
    AgentRequest w;
    w.op = Op::Write;
    w.length = 100;
    w.buffer = reinterpret_cast<u8*>(text.data());
    s.agent->submit(w, s.now);
    ASSERT_EQ(s.last.kind, MessageKind::New);
    u64 const number = s.last.number;
    // It was executed, its answer is late, and another has written since.
    EXPECT_EQ(s.read(), "");
    s.content('o', number, 0);
    Message answer;
    answer.number = answer.applied = number;
    answer.count = answer.size = 100;
    answer.type = PnodeType::File;
    s.say(MessageKind::Answer, answer);
    EXPECT_TRUE(w.done);
    EXPECT_NE(s.read(), "m");
}

TEST(Copies, are_not_made_of_what_lacks_an_own_operation) {
    OnlyMessages s;
    EXPECT_EQ(s.read(), "");
    Message const read = s.last;
    std::string text(100, 'm');
    AgentRequest w;
    w.op = Op::Write;
    w.length = 100;
    w.buffer = reinterpret_cast<u8*>(text.data());
    s.agent->submit(w, s.now);
    Message answer;
    answer.number = answer.applied = s.last.number;
    answer.count = answer.size = 100;
    answer.type = PnodeType::File;
    s.say(MessageKind::Answer, answer);
    ASSERT_TRUE(w.done);
    s.last = read;
    s.content('o', incarnation_start(1), 0);  // from before the write
    EXPECT_NE(s.read(), "o");
}

TEST(Copies, are_used_only_within_a_margin_of_the_lease) {
    OnlyMessages s;
    EXPECT_EQ(s.read(), "");
    s.content('a', incarnation_start(1), 0);
    s.now += Duration::ms(9'370);
    EXPECT_EQ(s.read(), "a");
    s.now += Duration::ms(10);  // 10 s less a sixteenth have passed
    EXPECT_EQ(s.read(), "");
}

TEST(Copies, are_used_for_a_lease_from_the_sending_of_the_ping) {
    OnlyMessages s;
    s.agent->advance(s.now += Duration::s(4));
    Message pong;
    pong.number = s.ping;
    s.now += Duration::s(5);
    s.say(MessageKind::Pong, pong);  // it was five seconds on its way
    EXPECT_EQ(s.read(), "");
    s.content('a', incarnation_start(1), 0);
    s.now += Duration::ms(4'370);
    EXPECT_EQ(s.read(), "a");
    s.now += Duration::ms(10);
    EXPECT_EQ(s.read(), "");
}

TEST(Copies, are_not_made_of_what_was_asked_for_in_a_lease_that_has_ended) {
    OnlyMessages s;
    EXPECT_EQ(s.read(), "");
    Message const read = s.last;
    s.agent->advance(s.now += Duration::s(10));
    Message pong;
    pong.number = s.ping;
    s.say(MessageKind::Pong, pong);
    s.last = read;
    s.content('a', incarnation_start(1), 0);
    EXPECT_EQ(s.read(), "");
    s.content('b', incarnation_start(1), 0);
    EXPECT_EQ(s.read(), "b");
}

TEST(Copies, ten_gigabytes_of_a_stream_put_no_block_of_a_file_out) {
    OnlyMessages s;
    EXPECT_EQ(s.read(), "");
    s.content('a', incarnation_start(1), 0);
    u32 const held = s.agent->cache().blocks_held();
    EXPECT_EQ(held, 1u);
    std::vector<u8> piece(message_data_max);
    std::vector<u8> buffer(message_data_max);
    AgentRequest find;
    find.op = Op::Lookup;
    find.name = {"film", 4};
    s.agent->submit(find, s.now);
    Message m;
    m.number = s.last.number;
    m.op = Op::Lookup;
    m.applied = incarnation_start(1);
    m.type = PnodeType::Stream;
    m.result = {77, 1, 0};
    s.say(MessageKind::Content, m);
    ASSERT_TRUE(find.done);
    constexpr u64 bytes = 10'000'000'000;
    for (u64 at = 0; at < bytes; at += message_data_max) {
        AgentRequest r;
        r.op = Op::Read;
        r.file = find.result;
        r.offset = at;
        r.length = buffer.size();
        r.buffer = buffer.data();
        s.agent->submit(r, s.now);
        ASSERT_FALSE(r.done);
        m = Message{};
        m.number = s.last.number;
        m.op = Op::Read;
        m.lease_ns = 10'000'000'000;
        m.applied = incarnation_start(1);
        m.type = PnodeType::Stream;
        m.size = bytes;
        s.say(MessageKind::Content, m, piece.data(), message_data_max);
        ASSERT_TRUE(r.done);
    }
    EXPECT_EQ(s.agent->cache().blocks_held(), held);
    EXPECT_EQ(s.read(), "a");
}

}  // namespace
}  // namespace nemesis::fs::simulator
