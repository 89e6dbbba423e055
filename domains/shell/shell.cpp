// shell: names, programs and calls from a line of text.
//
// With data "script" (commands, `peg shell -c`) it runs them and ends the machine with the code of
// the last one; else it is interactive on the serial line, the machine's keyboard, or both. Output
// goes to the kernel's log, as everybody's does, and to its strip of the screen, if it has one. Its
// names are its own: a name space with the domain manager's programs mounted at /programs, the
// services it is bound to in /services, and the system's names at /global. What it runs is given
// these names, or those below one directory, without the two that only the shell can use; a worker
// thread answers for them. With a region of the screen it has a console too, which is /console in
// these names: so what programs print is seen there.
#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include "domains/binder/session.h"
#include "domains/console/console.if.h"
#include "domains/console/console_output.h"
#include "domains/names/names_client.h"
#include "domains/names/served_names.h"
#include "domains/programs/programs.if.h"
#include "domains/shell/command_line.h"
#include "domains/shell/described_call.h"
#include "domains/shell/line_editor.h"
#include "domains/shell/terminal.h"
#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/invocation/call_client.h"
#include "libnemesis/media/strip.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"
#include "names/name_space.h"
#include "names/name_space_server.h"
#include "names/name_view.h"

namespace nemesis::shell {
namespace {

using invocation::CallClient;
using names::Handle;
using names::NameError;
using programs::ProgramsError;
using programs::ProgramsProxy;

/// What a handle's second word says in this domain's name space. Else: an offer of the binder's,
/// and the low half of its interface's hash.
enum Kind : std::uint64_t { kProgram = 1, kService = 2 };
bool is_offer(Handle const& h) { return h.function != kProgram && h.function != kService; }

constexpr std::string_view kGlobal = "global";
/// What nobody else can use is given to nobody.
constexpr std::string_view kKept[] = {"programs", "services"};
constexpr auto kPatience = Duration::s(2);  ///< with other domains

constexpr std::uint64_t kNamesBytes = 64 * 1024;
constexpr int kFailed = 1, kWrongUse = 2;

/// The shell's strip of the screen, as a terminal.
class Screen {
public:
    /// The strip that the display gives us; null if there is none.
    static std::unique_ptr<Screen> open() {
        if (find_channel("display") == nullptr) return nullptr;
        auto const strip = media::take_strip("display", now() + kPatience);
        return strip.bytes == 0 ? nullptr : std::make_unique<Screen>(strip.canvas);
    }
    explicit Screen(media::Canvas const& canvas)
        : canvas_(canvas),
          terminal_(static_cast<std::uint32_t>(canvas.width() / kCellWidth),
                    static_cast<std::uint32_t>(canvas.height() / kCellHeight)) {
        canvas_.fill(kGround);
    }
    /// Shows it when it returns. context: O(the strip's pixels)
    void write(std::string_view text) {
        terminal_.write(text);
        terminal_.refresh([&](std::uint32_t column, std::uint32_t row, Terminal::Cell cell) {
            canvas_.text(static_cast<std::int32_t>(column) * kCellWidth,
                         static_cast<std::int32_t>(row) * kCellHeight, {&cell.character, 1},
                         {.text = cell.has_cursor ? kGround : kText,
                          .ground = cell.has_cursor ? kText : kGround});
        });
    }

private:
    static constexpr media::Colour kText = 0xd8dee9, kGround = 0x101820;
    static constexpr std::int32_t kCellWidth = 8, kCellHeight = 16;

    media::Canvas canvas_;
    Terminal terminal_;
};

std::unique_ptr<Screen> screen;  ///< null: there is none. Of who has `printing`
Mutex printing;

/// Whoever reads it in the log finds it on the screen too. context: threads
void print(std::string_view text) {
    if (text.empty()) return;
    printing.lock();
    if (screen != nullptr) screen->write(text);
    sys::log(text);
    printing.unlock();
}

/// What programs print appears where the shell's own words do.
class ConsoleObject final : public console::Console {
public:
    Result<void, console::ConsoleError> write(std::string_view text) override {
        // The client could change it while it is shown.
        std::string const copy(text);
        print(copy);
        return {};
    }
};

std::string padded(std::string text, std::size_t width) {
    if (text.size() < width) text.resize(width, ' ');
    return text;
}
std::string right(std::string const& text, std::size_t width) {
    return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}

/// The domain manager's programs as names; handles are places in a table of this domain.
class ProgramNames final : public names::NameServer {
public:
    /// Asks for all of them: the archive's programs never change while the manager runs, and what
    /// several threads look at is better left alone.
    explicit ProgramNames(ProgramsProxy<CallClient>& manager) : manager_(manager) {
        (void)refresh();
    }

    std::string const* name(std::uint64_t reference) const {
        return reference >= 1 && reference <= known_.size() ? &known_[reference - 1] : nullptr;
    }

    Result<Handle, NameError> resolve(std::string_view path, names::Request const&) override {
        TRY_VOID(refresh());
        for (std::size_t i = 0; i < known_.size(); ++i) {
            if (known_[i] == path) return Handle{i + 1, kProgram};
        }
        return fail(path.empty() ? NameError::IsADirectory : NameError::NotFound);
    }
    Result<void, NameError> list(std::string_view path, std::string_view after,
                                 names::NameList& names, names::Request const&) override {
        if (!path.empty()) return fail(NameError::NotFound);
        TRY_VOID(refresh());
        names.count = 0;
        names.more = false;
        for (auto const& one : known_) {
            if (one <= after) continue;
            if (names.count == names::NameList::entries_max) {
                names.more = true;
                break;
            }
            names.entries[names.count++].set(one, names::NameKind::Object);
        }
        return {};
    }
    Result<void, NameError> bind(std::string_view, Handle, names::BindMode,
                                 names::Request const&) override {
        return fail(NameError::ReadOnly);
    }
    Result<void, NameError> make_directory(std::string_view, names::Request const&) override {
        return fail(NameError::ReadOnly);
    }
    Result<void, NameError> unbind(std::string_view, names::Request const&) override {
        return fail(NameError::ReadOnly);
    }

private:
    Result<void, NameError> refresh() {
        if (!known_.empty()) return {};
        std::string last;
        for (;;) {
            auto const page = manager_.programs(last);
            if (!page) return fail(NameError::Unreachable);
            if (page->empty()) return {};
            for (auto const& one : *page) known_.emplace_back(one.view());
            last = known_.back();
        }
    }

    ProgramsProxy<CallClient>& manager_;
    std::vector<std::string> known_;
};

/// Keeps the shell's threads apart in its name space.
class MutexGate final : public names::Gate {
public:
    void enter() override { mutex_.lock(); }
    void leave() override { mutex_.unlock(); }

private:
    Mutex mutex_;
};

/// What programs are given of the shell's names: each directory that was ever given is one offer.
class GivenNames {
public:
    GivenNames(names::NameSpace& space, binder::Session& session)
        : session_(session), server_(space) {}

    /// The offer of the shell's console; 0: it cannot be made.
    std::uint64_t offer_console() {
        if (!start()) return 0;
        auto const offered = session_.offer(
            console_,
            {.clients_max = 32, .slots = 2, .mode = invocation::CallServer::Mode::Workers});
        return offered ? console_.number() : 0;
    }
    bool is_console(std::uint64_t offer) const { return offer == console_.number(); }

    /// The offer that serves what is below `root`. errors: in words
    Result<std::uint64_t, std::string> offer(std::string const& root) {
        for (auto const& one : given_)
            if (one->root == root) return one->offered.number();
        if (given_.size() == given_max) return fail(std::string("too many directories are given"));
        if (!start()) return fail(std::string("no memory to serve names"));
        auto one = std::make_unique<Given>(*this, root);
        auto const offered = session_.offer(
            one->offered,
            {.clients_max = 16, .slots = 2, .mode = invocation::CallServer::Mode::Workers});
        if (!offered) return fail(std::string(invocation::text(offered.error())));
        given_.push_back(std::move(one));
        return given_.back()->offered.number();
    }

private:
    static constexpr std::size_t given_max = 8;

    struct Given {
        Given(GivenNames& all, std::string path)
            : root(std::move(path)),
              view(all.server_, {.root = root, .kept = kKept, .is_given = is_offer}),
              served(view),
              offered(static_cast<name_service::Names*>(&served), name_service::Names::info,
                      all.backlog_) {}
        std::string root;
        names::NameView view;
        name_service::ServedNames served;
        binder::Offered offered;
    };

    bool start() {
        if (started_) return true;
        started_ =
            run(notices_, [](void* self) { static_cast<GivenNames*>(self)->session_.serve(); }) &&
            run(worker_, [](void* self) { static_cast<GivenNames*>(self)->backlog_.run(); });
        return started_;
    }
    bool run(Thread& thread, void (*body)(void*)) {
        constexpr std::uint64_t stack_pages = 16;
        auto* const stack = pages::take(stack_pages);
        return stack != nullptr &&
               thread.start(
                   body, this,
                   {.stack = stack, .stack_bytes = stack_pages * abi::kPageSize, .name = "names"});
    }

    binder::Session& session_;
    names::NameSpaceServer server_;
    invocation::Backlog backlog_;
    ConsoleObject shown_;
    binder::Offered console_{static_cast<console::Console*>(&shown_), console::Console::info,
                             backlog_};
    Thread notices_, worker_;
    bool started_ = false;
    std::vector<std::unique_ptr<Given>> given_;
};

class Shell {
public:
    Shell(CallClient& client, names::NameSpace& space, binder::Session* session)
        : client_(client), manager_(client), programs_(manager_), names_(space), session_(session) {
        (void)names_.make_directory("programs");
        (void)names_.make_directory("services");
        (void)names_.bind("services/programs", {1, kService});
        if (auto const id = names_.mount("programs", programs_))
            mounts_.emplace_back("programs", *id);
        if (session_ == nullptr) return;
        system_.emplace(*session_);
        given_.emplace(names_, *session_);
        (void)names_.make_directory(kGlobal);
        if (auto const id = names_.mount(kGlobal, *system_, {.accepts_names = true}))
            mounts_.emplace_back(kGlobal, *id);
    }

    /// From now on what programs print is shown, and not only logged.
    void show_programs() {
        if (!given_) return;
        auto const offer = given_->offer_console();
        if (offer != 0) (void)names_.bind(console::name, {offer, console::Console::info.hash.low});
    }
    int run_line(std::string_view line);
    std::vector<std::string> complete(std::string_view before);
    bool ended() const { return ended_; }
    void remember(std::vector<std::string> const* history) { history_ = history; }

private:
    struct Command {
        std::string_view name, use, what;
        std::size_t least, most;  ///< words after the name
        int (Shell::*run)(Words const&);
    };
    static std::span<Command const> commands();

    int complain(std::string const& why) {
        print(why + "\n");
        return kFailed;
    }
    int complain(NameError why, std::string const& path) {
        return complain(path + ": " + std::string(text(why)));
    }
    int complain(ProgramsError why);
    std::optional<std::uint64_t> id_of(std::string const& word);
    std::optional<std::string> program_of(std::string const& path);
    std::string absolute(std::string const& path) const {
        auto p = path;
        while (p.starts_with('/')) p.erase(0, 1);
        while (p.ends_with('/')) p.pop_back();
        return p;
    }

    int help(Words const&);
    int ls(Words const& words);
    int cat(Words const& words);
    int mkdir(Words const& words);
    int bind(Words const& words);
    int unbind(Words const& words);
    int mount(Words const& words);
    int unmount(Words const& words);
    int run(Words const& words);
    int wait(Words const& words);
    int wait_for(std::uint64_t id);
    int kill(Words const& words);
    int ps(Words const&);
    int top(Words const& words);
    int qos(Words const& words);
    int loader(Words const&);
    int call(Words const& words);
    int echo(Words const& words);
    int sleep(Words const& words);
    int history(Words const&);
    int exit(Words const& words);
    std::vector<programs::Status> all();
    /// The requests' deadline: another domain may never answer.
    static names::Request soon() { return {.deadline = now() + kPatience}; }
    /// An object that can be called, and what it says it can. errors: printed
    struct Callable {
        CallClient* client;
        std::vector<std::uint8_t> description;
    };
    std::optional<Callable> callable(std::string const& path, Handle const& handle);

    CallClient& client_;
    ProgramsProxy<CallClient> manager_;
    ProgramNames programs_;
    names::NameSpace& names_;
    binder::Session* session_;  ///< with the binder; null: there is none
    std::optional<name_service::SystemNames> system_;
    std::optional<GivenNames> given_;
    binder::Bound bound_;  ///< to the object that was called last, elsewhere
    std::vector<std::pair<std::string, names::MountId>> mounts_;
    std::vector<std::string> const* history_ = nullptr;
    bool ended_ = false;
    int exit_code_ = 0;
};

std::span<Shell::Command const> Shell::commands() {
    static constexpr Command all[] = {
        {"bind", "bind NEW EXISTING", "let NEW stand for what EXISTING does", 2, 2, &Shell::bind},
        {"call", "call OBJECT [OPERATION [ARGUMENT ...]]",
         "call it; without an operation: say what it has", 1, words_max, &Shell::call},
        {"cat", "cat PATH", "what is there", 1, 1, &Shell::cat},
        {"echo", "echo WORD ...", "say the words", 0, words_max, &Shell::echo},
        {"exit", "exit [CODE]", "end the shell", 0, 1, &Shell::exit},
        {"help", "help", "say this", 0, 0, &Shell::help},
        {"history", "history", "lines typed before", 0, 0, &Shell::history},
        {"kill", "kill ID", "end an instance, or dismiss one that has ended", 1, 1, &Shell::kill},
        {"loader", "loader", "what the loader has done", 0, 0, &Shell::loader},
        {"ls", "ls [PATH]", "names in a directory", 0, 1, &Shell::ls},
        {"mkdir", "mkdir PATH", "make a directory", 1, 1, &Shell::mkdir},
        {"mount", "mount PATH [DIRECTORY]",
         "the programs, a directory or names in /global at PATH too", 1, 2, &Shell::mount},
        {"ps", "ps", "instances that this shell has started", 0, 0, &Shell::ps},
        {"qos", "qos ID CONTRACT [WEIGHT]", "change a contract: 5ms/40ms, 5ms/40ms/20ms or spare",
         2, 3, &Shell::qos},
        {"run",
         "run [&] [contract=C] [weight=N] [memory=KIB] [may=fpu,create,contracts] [budget=KIB] "
         "[restart=failure|always] [names=DIRECTORY|none] PROGRAM [ARGUMENT ...]",
         "run it, with the shell's names or those below DIRECTORY; &: and do not wait", 1,
         words_max, &Shell::run},
        {"sleep", "sleep TIME", "wait", 1, 1, &Shell::sleep},
        {"top", "top [TIMES]", "who used how much in each second", 0, 1, &Shell::top},
        {"unbind", "unbind PATH", "take a name away", 1, 1, &Shell::unbind},
        {"unmount", "unmount PATH", "take a mount away", 1, 1, &Shell::unmount},
        {"wait", "wait ID", "until it has ended", 1, 1, &Shell::wait},
    };
    return all;
}

int Shell::run_line(std::string_view line) {
    auto const parsed = parse_line(line);
    if (!parsed) return complain(parsed.error());
    int code = 0;
    for (auto const& words : *parsed) {
        auto const all = commands();
        auto const at = std::ranges::find(all, words.front(), &Command::name);
        if (at == all.end()) {
            code = complain(words.front() + ": no such command; help lists them");
            continue;
        }
        auto const arguments = words.size() - 1;
        if (arguments < at->least || arguments > at->most) {
            print("use: " + std::string(at->use) + "\n");
            code = kWrongUse;
            continue;
        }
        code = (this->*at->run)(words);
        if (ended_) return exit_code_;
    }
    return code;
}

std::vector<std::string> Shell::complete(std::string_view before) {
    auto const blank = before.find_last_of(" ;");
    auto const word = blank == std::string_view::npos ? before : before.substr(blank + 1);
    std::vector<std::string> found;
    if (blank == std::string_view::npos) {
        for (auto const& command : commands()) {
            if (command.name.starts_with(word)) found.emplace_back(command.name);
        }
        return found;
    }
    auto const slash = word.rfind('/');
    auto const folder =
        slash == std::string_view::npos ? "" : std::string(word.substr(0, slash + 1));
    auto const part = slash == std::string_view::npos ? word : word.substr(slash + 1);
    names::NameList list;
    std::string after;
    do {
        if (!names_.list(absolute(folder), after, list, soon())) return found;
        for (auto const& entry : list.names()) {
            after = entry.name();
            if (!entry.name().starts_with(part)) continue;
            found.push_back(folder + std::string(entry.name()) +
                            (entry.kind == names::NameKind::Object ? "" : "/"));
        }
    } while (list.more && found.size() < 64);
    return found;
}

int Shell::complain(ProgramsError why) {
    std::string line;
    switch (why) {
        case ProgramsError::NotFound:
            return complain("no such instance or program");
        case ProgramsError::BadImage:
            line = "the image is refused";
            break;
        case ProgramsError::NotPermitted:
            line = "not permitted";
            break;
        case ProgramsError::NoRoom:
            line = "no room";
            break;
        case ProgramsError::ContractRefused:
            line = "refused";
            break;
        case ProgramsError::BadNames:
            line = "the name space is refused";
            break;
        default:
            return complain("the domain manager: " +
                            std::string(invocation::text(static_cast<invocation::Failure>(why))));
    }
    if (auto const reason = manager_.reason(); reason && reason->size() != 0)
        line += ": " + std::string(reason->view());
    return complain(line);
}

std::optional<std::uint64_t> Shell::id_of(std::string const& word) {
    auto const n = parse_number(word);
    if (!n) {
        (void)complain(n.error());
        return {};
    }
    // People say the low half; it names one instance at a time.
    for (auto const& status : all()) {
        if (status.id == *n || (status.id & 0xffff'ffff) == *n) return status.id;
    }
    (void)complain("no instance " + word + " of this shell");
    return {};
}

std::optional<std::string> Shell::program_of(std::string const& path) {
    auto const bare = path.find('/') == std::string::npos;
    auto const handle = names_.resolve(bare ? "programs/" + path : absolute(path), soon());
    if (!handle) {
        (void)complain(handle.error(), path);
        return {};
    }
    auto const* const name =
        handle->function == kProgram ? programs_.name(handle->reference) : nullptr;
    if (name == nullptr) {
        (void)complain(path + ": is no program");
        return {};
    }
    return *name;
}

int Shell::help(Words const&) {
    for (auto const& command : commands())
        print(std::string(command.use) + "\n        " + std::string(command.what) + "\n");
    return 0;
}

int Shell::ls(Words const& words) {
    auto const path = words.size() > 1 ? words[1] : "/";
    std::string after;
    names::NameList list;
    do {
        if (auto const done = names_.list(absolute(path), after, list, soon()); !done)
            return complain(done.error(), path);
        for (auto const& entry : list.names()) {
            after = entry.name();
            print(after + (entry.kind == names::NameKind::Object ? "\n" : "/\n"));
        }
    } while (list.more);
    return 0;
}

int Shell::cat(Words const& words) {
    auto const handle = names_.resolve(absolute(words[1]), soon());
    if (!handle) return complain(handle.error(), words[1]);
    if (handle->function != kProgram) {
        auto const object = callable(words[1], *handle);
        if (!object) return kFailed;
        print(describe(object->description));
        return 0;
    }
    auto const name = program_of(words[1]);
    if (!name) return kFailed;
    auto const first = manager_.read(*name, 0);
    if (!first) return complain(first.error());
    if (first->size >= 4 && first->data.view().bytes()[1] == std::byte{'E'}) {
        print(words[1] + ": a program, " + std::to_string(first->size) + " bytes of file\n");
        return 0;
    }
    for (std::uint64_t at = 0; at < first->size;) {
        auto const part = manager_.read(*name, at);
        if (!part) return complain(part.error());
        auto const bytes = part->data.span();
        if (bytes.empty()) break;
        print({reinterpret_cast<char const*>(bytes.data()), bytes.size()});
        at += bytes.size();
    }
    return 0;
}

int Shell::mkdir(Words const& words) {
    auto const done = names_.make_directory(absolute(words[1]), soon());
    return done ? 0 : complain(done.error(), words[1]);
}

int Shell::bind(Words const& words) {
    auto const handle = names_.resolve(absolute(words[2]), soon());
    if (!handle) return complain(handle.error(), words[2]);
    // What only this domain knows means nothing to others.
    if (absolute(words[1]).starts_with(std::string(kGlobal) + "/") && !is_offer(*handle))
        return complain(words[2] + ": only this shell can use it");
    auto const done = names_.bind(absolute(words[1]), *handle, names::BindMode::New, soon());
    return done ? 0 : complain(done.error(), words[1]);
}

int Shell::unbind(Words const& words) {
    auto const done = names_.unbind(absolute(words[1]), soon());
    return done ? 0 : complain(done.error(), words[1]);
}

int Shell::mount(Words const& words) {
    auto const path = absolute(words[1]);
    names::MountOptions const options{.order = names::LayerOrder::After};
    auto const what = words.size() == 2 ? "" : absolute(words[2]);
    auto elsewhere = options;
    auto const is_global =
        system_ && (what == kGlobal || what.starts_with(std::string(kGlobal) + "/"));
    if (is_global) {
        elsewhere.prefix = std::string_view(what).substr(std::min(what.size(), kGlobal.size() + 1));
        elsewhere.accepts_names = true;
    }
    auto const id = words.size() == 2 ? names_.mount(path, programs_, options)
                    : is_global       ? names_.mount(path, *system_, elsewhere)
                                      : names_.alias(path, what, options);
    if (!id) return complain(id.error(), words[1]);
    mounts_.emplace_back(path, *id);
    return 0;
}

int Shell::unmount(Words const& words) {
    auto const path = absolute(words[1]);
    for (auto i = mounts_.size(); i-- > 0;) {
        if (mounts_[i].first != path) continue;
        auto const done = names_.unmount(mounts_[i].second);
        mounts_.erase(mounts_.begin() + static_cast<std::ptrdiff_t>(i));
        return done ? 0 : complain(done.error(), words[1]);
    }
    return complain(words[1] + ": nothing is mounted there");
}

int Shell::run(Words const& words) {
    programs::Order order;
    order.contract = {0, 0, 0, 1};
    order.privileges = abi::kPrivilegeFpu;  // nearly everybody wants it; may=none takes it away
    order.frames = 512;
    order.budget = 0;
    order.stack_pages = 16;
    order.restart = programs::Restart::Never;
    order.names = 0;
    std::string given = "/";
    bool waits = true;
    std::size_t at = 1;
    for (; at < words.size(); ++at) {
        std::string_view const word = words[at];
        auto const equals = word.find('=');
        if (word == "&") {
            waits = false;
            continue;
        }
        if (equals == std::string_view::npos) break;
        auto const name = word.substr(0, equals), value = word.substr(equals + 1);
        Result<std::uint64_t, std::string> number = 0;
        if (name == "contract") {
            auto const contract = parse_contract(value);
            if (!contract) return complain(contract.error());
            order.contract.slice = contract->slice;
            order.contract.period = contract->period;
            order.contract.deadline = contract->deadline;
        } else if (name == "weight" || name == "memory" || name == "budget") {
            number = parse_number(value);
            if (!number) return complain(number.error());
            if (*number >= 1u << 31) return complain(std::string(word) + " is too much");
            auto const n = static_cast<std::uint32_t>(*number);
            (name == "weight"   ? order.contract.weight
             : name == "memory" ? order.frames
                                : order.budget) = name == "weight" ? n : n / 4;
        } else if (name == "restart" && (value == "failure" || value == "always")) {
            order.restart =
                value == "always" ? programs::Restart::Always : programs::Restart::OnFailure;
        } else if (name == "names") {
            given = value;
        } else if (name == "may") {
            order.privileges = 0;
            for (std::size_t i = 0; i <= value.size();) {
                auto const end = std::min(value.find(',', i), value.size());
                auto const one = value.substr(i, end - i);
                i = end + 1;
                if (one == "none") continue;
                if (one == "fpu")
                    order.privileges |= abi::kPrivilegeFpu;
                else if (one == "create")
                    order.privileges |= abi::kPrivilegeCreateDomains;
                else if (one == "contracts")
                    order.privileges |= abi::kPrivilegeControlContracts;
                else if (one == "kps")
                    order.privileges |= abi::kPrivilegeKps;
                else if (one == "machine")
                    order.privileges |= abi::kPrivilegeMachine;
                else
                    return complain("'" + std::string(one) +
                                    "' is no privilege that a program can have");
            }
        } else {
            return complain("'" + std::string(word) + "' is no option of run");
        }
    }
    if (at == words.size()) return complain("run: no program named");
    auto const program = program_of(words[at]);
    if (!program) return kFailed;
    std::string arguments;
    for (++at; at < words.size(); ++at) arguments += (arguments.empty() ? "" : " ") + words[at];
    if (!order.program.assign(*program) || !order.arguments.assign(arguments))
        return complain("the arguments are longer than 255 characters");
    if (given_ && given != "none") {
        auto const root = absolute(given);
        names::NameList list;
        if (auto const there = names_.list(root, "", list, soon()); !there)
            return complain(there.error(), given);
        auto const offer = given_->offer(root);
        if (!offer) return complain(offer.error());
        order.names = *offer;
    }
    auto const id = manager_.spawn(order);
    if (!id) return complain(id.error());
    if (waits) return wait_for(*id);
    print("instance " + std::to_string(*id & 0xffff'ffff) + "\n");
    return 0;
}

/// Waits, dismisses, and says how it ended if not well.
int Shell::wait_for(std::uint64_t id) {
    for (;;) {
        auto const result = manager_.wait(id, 200'000'000);
        if (!result) return complain(result.error());
        if (!result->ended) {
            // Others may be waiting already; then the answer came at once.
            Thread::sleep_until(now() + Duration::ms(5));
            continue;
        }
        (void)manager_.kill(id);
        auto const code = result->exit_code;
        if (code == 0) return 0;
        auto const low = static_cast<std::uint32_t>(code);
        print("instance " + std::to_string(id & 0xffff'ffff) + " ended with " +
              std::to_string(low) + "\n");
        return low == 0 || low > 255 ? 255 : static_cast<int>(low);
    }
}

int Shell::wait(Words const& words) {
    auto const id = id_of(words[1]);
    return id ? wait_for(*id) : kFailed;
}

int Shell::kill(Words const& words) {
    auto const id = id_of(words[1]);
    if (!id) return kFailed;
    auto const done = manager_.kill(*id);
    return done ? 0 : complain(done.error());
}

std::vector<programs::Status> Shell::all() {
    std::vector<programs::Status> result;
    std::uint64_t after = 0;
    for (;;) {
        auto const page = manager_.instances(after);
        if (!page || page->empty()) return result;
        for (auto const& status : *page) result.push_back(status);
        after = result.back().id & 0xffff'ffff;
    }
}

std::string contract_text(programs::Contract const& c) {
    if (c.slice == 0) return "spare weight " + std::to_string(c.weight);
    return time_text(c.slice) + " / " + time_text(c.period);
}

int Shell::ps(Words const&) {
    print(padded("id", 4) + padded("program", 16) + padded("phase", 10) + padded("contract", 20) +
          right("used", 12) + right("KiB", 8) + "  at\n");
    for (auto const& s : all()) {
        auto const phase = s.phase == programs::Phase::Running ? std::string("running")
                           : s.phase == programs::Phase::Waiting
                               ? std::string("waiting")
                               : "ended " + std::to_string(static_cast<std::uint32_t>(s.exit_code));
        char base[24];
        int n = 0;
        for (int shift = 44; shift >= 0; shift -= 4)
            base[n++] = "0123456789abcdef"[(s.base >> shift) & 15];
        print(padded(std::to_string(s.id & 0xffff'ffff), 4) +
              padded(std::string(s.program.view()), 16) + padded(phase, 10) +
              padded(contract_text(s.contract), 20) + right(time_text(s.used + s.spare), 12) +
              right(std::to_string(s.frames * 4), 8) + "  " +
              std::string(base, static_cast<std::size_t>(n)) +
              (s.restarts != 0 ? "  restarts " + std::to_string(s.restarts) : "") + "\n");
    }
    return 0;
}

int Shell::top(Words const& words) {
    auto const times =
        words.size() > 1 ? parse_number(words[1]) : Result<std::uint64_t, std::string>(1);
    if (!times) return complain(times.error());
    if (*times > 3600) return complain("3600 times at most");
    for (std::uint64_t i = 0; i < *times; ++i) {
        auto const before = all();
        auto const began = now();
        Thread::sleep_until(began + Duration::s(1));
        auto const elapsed = static_cast<std::uint64_t>((now() - began).ns());
        auto after = all();
        auto const used = [&](programs::Status const& s) {
            for (auto const& b : before) {
                if (b.id == s.id && b.restarts == s.restarts)
                    return s.used + s.spare - b.used - b.spare;
            }
            return s.used + s.spare;
        };
        std::ranges::sort(after, [&](auto const& a, auto const& b) { return used(a) > used(b); });
        print(padded("id", 4) + padded("program", 16) + right("%", 6) + "  contract\n");
        for (auto const& s : after) {
            auto const tenths = used(s) * 1000 / elapsed;
            print(padded(std::to_string(s.id & 0xffff'ffff), 4) +
                  padded(std::string(s.program.view()), 16) +
                  right(std::to_string(tenths / 10) + "." + std::to_string(tenths % 10), 6) + "  " +
                  contract_text(s.contract) + "\n");
        }
    }
    return 0;
}

int Shell::qos(Words const& words) {
    auto const id = id_of(words[1]);
    if (!id) return kFailed;
    auto const contract = parse_contract(words[2]);
    if (!contract) return complain(contract.error());
    auto const weight =
        words.size() > 3 ? parse_number(words[3]) : Result<std::uint64_t, std::string>(1);
    if (!weight) return complain(weight.error());
    auto const done =
        manager_.set_contract(*id, {contract->slice, contract->period, contract->deadline,
                                    static_cast<std::uint32_t>(*weight)});
    if (!done) return complain(done.error());
    if (done->accepted) return 0;
    return complain("the contract is refused; a slice of " + time_text(done->slice_that_fits) +
                    " would fit");
}

int Shell::loader(Words const&) {
    auto const c = manager_.counters();
    if (!c) return complain(c.error());
    print("loads " + std::to_string(c->loads) + ", at relocated places " + std::to_string(c->hits) +
          ", relocations " + std::to_string(c->relocations) + ", text frames made " +
          std::to_string(c->text_frames_made) + ", shared " +
          std::to_string(c->text_frames_shared) + "\n");
    return 0;
}

std::optional<Shell::Callable> Shell::callable(std::string const& path, Handle const& handle) {
    if (handle.function == kService) {
        auto const known = programs::Programs::info.description;
        return Callable{&client_, {known.begin(), known.end()}};
    }
    if (handle.function == kProgram || session_ == nullptr) {
        (void)complain(path + ": is no object that can be called");
        return {};
    }
    if (given_->is_console(handle.reference)) {
        (void)complain(path + ": is this shell's own; programs write there");
        return {};
    }
    auto const bound = session_->bind_described(bound_, handle.reference, now() + kPatience);
    auto why = bound ? invocation::Failure::None : bound.error();
    Callable object{&bound_.client(), {}};
    for (bool more = bound.has_value(); more && why == invocation::Failure::None;) {
        more = false;
        auto const room = object.client->begin(8);
        if (!room) {
            why = room.error();
            break;
        }
        auto const from = static_cast<std::uint64_t>(object.description.size());
        std::memcpy(room->body.data(), &from, sizeof(from));
        auto const reply = object.client->call(*room, {0, invocation::describe_operation},
                                               sizeof(from), now() + kPatience);
        if (!reply) {
            why = reply.error();
            break;
        }
        more = reply->status == 0 && !reply->body.empty() && from < 64 * 1024;
        auto const* const bytes = reinterpret_cast<std::uint8_t const*>(reply->body.data());
        if (more)
            object.description.insert(object.description.end(), bytes, bytes + reply->body.size());
        object.client->done(*reply);
    }
    if (why == invocation::Failure::None) return object;
    (void)complain(path + ": " + std::string(invocation::text(why)));
    return {};
}

int Shell::call(Words const& words) {
    auto const handle = names_.resolve(absolute(words[1]), soon());
    if (!handle) return complain(handle.error(), words[1]);
    auto const object = callable(words[1], *handle);
    if (!object) return kFailed;
    auto const& description = object->description;
    auto& client = *object->client;
    if (words.size() == 2) {
        print(describe(description));
        return 0;
    }
    auto const operation = find_operation(description, words[2]);
    if (!operation) return complain(operation.error());
    auto const body = encode_arguments(*operation, std::span(words).subspan(3));
    if (!body) return complain(body.error());
    auto const room = client.begin(static_cast<std::uint32_t>(body->size()));
    if (!room) return complain(std::string(invocation::text(room.error())));
    std::ranges::copy(*body, room->body.begin());
    auto const size = static_cast<std::uint32_t>(body->size());
    if (operation->is_announcement) {
        auto const sent = client.announce(*room, {0, operation->number}, size);
        return sent ? 0 : complain(std::string(invocation::text(sent.error())));
    }
    // Another domain may never answer; the manager's operations may take long.
    auto const until = is_offer(*handle) ? now() + kPatience : Instant::never();
    auto const reply = client.call(*room, {0, operation->number}, size, until);
    if (!reply) return complain(std::string(invocation::text(reply.error())));
    std::vector<std::byte> const copy(reply->body.begin(), reply->body.end());
    auto const status = reply->status;
    client.done(*reply);
    if (status != 0) return complain(error_text(*operation, status));
    auto const shown = decode_results(*operation, copy);
    if (!shown) return complain(shown.error());
    print(*shown);
    return 0;
}

int Shell::echo(Words const& words) {
    std::string line;
    for (std::size_t i = 1; i < words.size(); ++i) line += (i > 1 ? " " : "") + words[i];
    print(line + "\n");
    return 0;
}

int Shell::sleep(Words const& words) {
    auto const time = parse_time(words[1]);
    if (!time) return complain(time.error());
    if (*time > 3'600'000'000'000) return complain("an hour at most");
    Thread::sleep_until(now() + Duration::ns(static_cast<std::int64_t>(*time)));
    return 0;
}

int Shell::history(Words const&) {
    if (history_ == nullptr) return 0;
    for (auto const& line : *history_) print(line + "\n");
    return 0;
}

int Shell::exit(Words const& words) {
    auto const code =
        words.size() > 1 ? parse_number(words[1]) : Result<std::uint64_t, std::string>(0);
    if (!code) return complain(code.error());
    ended_ = true;
    exit_code_ = static_cast<int>(*code & 0xff);
    return exit_code_;
}

using Keys = RingSink<>;

/// The keys of the driver behind channel `name`, if there is one.
std::optional<Keys> keys_of(std::string_view name) {
    auto const* const channel = find_channel(name);
    if (channel == nullptr) return std::nullopt;
    auto const keys =
        Keys::create({.slots = 64, .slot_bytes = 8}, incoming(*channel), outgoing(*channel));
    if (keys) return *keys;
    print("shell: the channel '" + std::string(name) + "' is too small\n");
    return std::nullopt;
}

/// Lines of the serial port and the keyboard until the shell is told to end.
void interact(Shell& shell, std::span<Keys> sources) {
    LineEditor editor("nemesis> ", [&](std::string_view before) { return shell.complete(before); });
    shell.remember(&editor.history());
    print("The Nemesis shell; help lists its commands.\n");
    editor.begin();
    while (!shell.ended()) {
        std::uint64_t key = 0;
        bool any = false;
        for (auto& keys : sources) {
            while (keys.receive(std::as_writable_bytes(std::span(&key, 1)))) {
                any = true;
                auto const event = editor.feed(static_cast<char>(key));
                print(editor.take_output());
                if (event == LineEditor::Event::None) continue;
                if (event == LineEditor::Event::End) return;
                if (event == LineEditor::Event::Line) (void)shell.run_line(editor.line());
                if (shell.ended()) return;
                editor.begin();
                print(editor.take_output());
            }
        }
        print(editor.take_output());
        if (!any) Thread::sleep_until(now() + Duration::ms(5));
    }
}

}  // namespace
}  // namespace nemesis::shell

int main() {
    using namespace nemesis;
    using namespace nemesis::shell;
    auto const* const requests = find_channel("programs");
    auto const* const replies = find_channel("programs_r");
    if (requests == nullptr || replies == nullptr) {
        print("shell: no channel to the domain manager\n");
        return 1;
    }
    auto const client = std::make_unique<CallClient>();
    invocation::BindingEnd const end{outgoing(*requests), incoming(*replies), requests->endpoint};
    if (!client->open(end, invocation::BindingShape::of(programs::Programs::info))) {
        print("shell: the channels to the domain manager are too small\n");
        return 1;
    }
    auto* const memory = static_cast<std::byte*>(pages::take(kNamesBytes / abi::kPageSize));
    MutexGate gate;
    auto space = names::NameSpace::create({memory, kNamesBytes},
                                          static_cast<std::uint64_t>(now().ns()), &gate);
    if (memory == nullptr || !space) {
        print("shell: no memory for names\n");
        return 1;
    }
    auto const session = std::make_unique<binder::Session>();
    auto const knows_binder = session->open().has_value();
    // All have been started at once: the name server is soon there, if there is to be one.
    for (auto const latest = now() + Duration::ms(200); knows_binder && now() < latest;) {
        if (session->binder().find("names")) break;
        Thread::sleep_until(now() + Duration::ms(1));
    }
    Shell shell(*client, *space, knows_binder ? session.get() : nullptr);
    screen = Screen::open();
    if (screen != nullptr) shell.show_programs();
    int code = 0;
    if (auto const* const script = find_channel("script"); script != nullptr) {
        auto const bytes = incoming(*script);
        print("shell: begin\n");
        code = 0;
        std::string_view rest(reinterpret_cast<char const*>(bytes.data()), bytes.size());
        while (!rest.empty() && !shell.ended()) {
            auto const end_of_line = std::min(rest.find('\n'), rest.size());
            code = shell.run_line(rest.substr(0, end_of_line));
            rest.remove_prefix(std::min(end_of_line + 1, rest.size()));
        }
        print("shell: end " + std::to_string(code) + "\n");
    } else {
        std::vector<Keys> sources;
        for (auto const name : {"serial", "keyboard"})
            if (auto const keys = keys_of(name)) sources.push_back(*keys);
        if (!sources.empty()) interact(shell, sources);
        print("shell: end\n");
    }
    sys::machine_exit(code == 0 ? 0x10 : 0x11);
}
