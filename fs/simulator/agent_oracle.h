#pragma once
// The oracle of row 5: which states of the store the messages sent allow.
//
// It knows what each agent was asked (submitted), what it answered (done) and what it said to be
// durable, and nothing of server and store. It keeps all states that some order of the operations
// may have led to: an operation took effect once, between its submission and its answer, with the
// answer's outcome; one without an answer may have taken effect or not. No state left: a violation.
// Of each state it knows how it came about, so that after a power failure without a UPS the
// recovered store is looked for among the states before, back to what was promised.

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fs/core/format.h"
#include "fs/core/request.h"

namespace nemesis::fs::simulator {

inline constexpr u32 oracle_agents = 3;

/// One operation of an application. Files are named by numbers of the oracle's; 0: the root.
struct AgentStep {
    Op op = Op::Fsync;
    u32 file = 0;  // or directory
    u32 file2 = 0;
    std::string name;
    std::string name2;
    PnodeType type = PnodeType::File;
    u64 offset = 0;
    u64 length = 0;
    u8 fill = 'a';
    u32 made = 0;  // number of what Create or Symlink makes
    u16 mode = 0;  // SetAttributes
};
std::string to_text(AgentStep const& s);
/// The bytes that a Write, a Symlink or a SetXattr brings.
std::string bytes_of(AgentStep const& s);

/// What the application was told.
struct AgentOutcome {
    bool good = false;
    u32 found = 0;         // Lookup: number of the file
    std::string data;      // Read, ReadLink, GetXattr; ListXattr: each with a zero byte behind it;
                           // GetAttributes: facts_text(); ReadDirectory: names, '/' if one is a
                           // directory, ' ', in their order
    bool partial = false;  // only the error is known for certain
};
/// What is compared of a file's attributes.
std::string facts_text(PnodeType type, u16 mode, u32 links, u64 size);

/// The states that the messages allow; see above.
class AgentOracle {
public:
    AgentOracle();
    void submit(u32 agent, AgentStep const& step);
    /// Files that the agent's Lookup may find; some may be made by operations without an answer.
    std::vector<u32> could_find(u32 agent);
    /// False: no order of the operations explains it.
    bool done(u32 agent, AgentOutcome const& outcome);
    /// The agent was told that its first `count` changes are on disk.
    void durable(u32 agent, u64 count) { durable_[agent] = count; }
    /// Operations of the agent that were answered and changed something.
    u64 changes(u32 agent) const { return changes_[agent]; }
    /// The tree as Client::dump writes it. `rolled_back`: a power failure without UPS was between.
    /// False: the messages do not allow it. Else it is the state from now on, and the only one.
    /// requires: no agent goes on with a handle
    bool judge(std::string const& dump, bool rolled_back);
    /// The number of the file behind each path, in the state that was judged last.
    std::map<std::string, u32> judged_paths() const { return paths(*nodes_.front()->state); }
    /// One of the states that would do now, for messages.
    std::string one_state() const { return dump(*nodes_.front()->state, true); }
    /// In that state.
    bool is_directory(u32 file) const;
    /// In any of the states.
    bool exists(u32 file) const;

private:
    struct File {
        PnodeType type = PnodeType::File;
        u32 links = 0;
        std::shared_ptr<std::string const> data;  // of a symbolic link: its target
        u32 crc = 0;
        u16 mode = 0;
        std::map<std::string, std::string> xattrs;
        bool directory() const { return type == PnodeType::Directory; }
    };
    struct State {
        std::map<std::pair<u32, std::string>, u32> names;
        std::map<u32, File> files;
    };
    struct Node {  // a state, and how it came about
        std::shared_ptr<State const> state;
        std::vector<std::shared_ptr<Node const>> before;  // several orders may lead to it
        std::array<u64, oracle_agents>
            applied{};  // operations of each agent that have taken effect
        // Of the operation on its way: whether it has taken effect, and with which outcome.
        std::array<bool, oracle_agents> effective{};
        std::array<AgentOutcome, oracle_agents> outcome;
        u64 hash = 0;
    };
    using NodeRef = std::shared_ptr<Node>;

    static bool apply(State& s, AgentStep const& step, AgentOutcome* outcome);
    static std::map<std::string, u32> paths(State const& s);
    static std::string dump(State const& s, bool numbers = false);
    static u64 hash_of(Node const& n);
    void close();
    void settle(NodeRef const& n, u32 agent, bool answered, std::map<u64, NodeRef>* known) const;
    void take(std::map<u64, NodeRef> const& nodes);

    std::vector<NodeRef> nodes_;
    std::array<bool, oracle_agents> pending_{};
    std::array<AgentStep, oracle_agents> step_;
    std::array<u64, oracle_agents> changes_{};
    std::array<u64, oracle_agents> durable_{};
};

}  // namespace nemesis::fs::simulator
