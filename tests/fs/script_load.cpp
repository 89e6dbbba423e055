// Carries out file operations as a script says, in a machine whose power may go at any moment, and
// tells of each when it begins and when it has ended.
//
// usage: fs_script_load PORT DIRECTORY
//
// PORT is a virtio port: what was written to it the host has, whatever becomes of the machine. The
// script comes from it: lines "CLIENT VERB ARGUMENTS", then one "go". Each client is a thread,
// which does its lines one after the other. "b CLIENT N" goes out before its N-th line is begun, "e
// CLIENT N ERRNO" when it has returned, "done" at the end of all. What the operations should have
// led to only the host knows.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

int port = -1;

void tell(std::string const& line) {
    // One write is one buffer of the port: lines of several threads do not mix.
    if (::write(port, line.data(), line.size()) != static_cast<ssize_t>(line.size())) ::_exit(1);
}

/// A file that is open for one operation; errno when it could not be opened.
class Opened {
public:
    Opened(std::string const& path, int flags) : fd_(::open(path.c_str(), flags, 0644)) {
        if (fd_ < 0) error_ = errno;
    }
    Opened(Opened const&) = delete;
    Opened& operator=(Opened const&) = delete;
    ~Opened() {
        if (fd_ >= 0) ::close(fd_);
    }
    /// What `operation(fd)` failed with, 0 if it did not.
    template <typename Operation>
    int then(Operation operation) const {
        if (fd_ < 0) return error_;
        return operation(fd_) < 0 ? errno : 0;
    }

private:
    int fd_;
    int error_ = 0;
};

int result_of(int returned) { return returned < 0 ? errno : 0; }

/// The bytes of a write: words that hold its tag and their place in it.
std::vector<std::uint64_t> content(std::uint64_t tag, std::size_t bytes) {
    std::vector<std::uint64_t> words((bytes + 7) / 8);
    for (std::size_t i = 0; i < words.size(); ++i) words[i] = tag << 32 | i;
    return words;
}

/// A write that is cut short is an error here: the host counts on all of it.
int write_all(int fd, std::uint64_t tag, std::size_t bytes, long offset) {
    std::vector<std::uint64_t> const words = content(tag, bytes);
    ssize_t const done = ::pwrite(fd, words.data(), bytes, offset);
    if (done < 0 || static_cast<std::size_t>(done) == bytes) return done < 0 ? -1 : 0;
    errno = EIO;
    return -1;
}

int carry_out(std::string const& line) {
    std::istringstream in(line);
    std::string verb;
    std::string path;
    std::string other;
    std::uint64_t a = 0;
    std::uint64_t b = 0;
    std::uint64_t c = 0;
    in >> verb;
    if (verb == "run") {  // a command, whatever it prints is the machine's own business
        std::getline(in, other);
        int const status = std::system(other.c_str());
        return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
    }
    in >> path;
    char const* const p = path.c_str();
    if (verb == "mkdir") return result_of(::mkdir(p, 0755));
    if (verb == "rmdir") return result_of(::rmdir(p));
    if (verb == "unlink") return result_of(::unlink(p));
    if (verb == "create")
        return Opened(path, O_WRONLY | O_CREAT | O_EXCL).then([](int) { return 0; });
    if (verb == "fsync") return Opened(path, O_RDONLY).then([](int fd) { return ::fsync(fd); });
    if (verb == "link" || verb == "symlink" || verb == "rename") {
        in >> other;
        if (verb == "link") return result_of(::link(p, other.c_str()));
        if (verb == "symlink") return result_of(::symlink(p, other.c_str()));
        return result_of(std::rename(p, other.c_str()));
    }
    in >> a >> b >> c;
    if (verb == "truncate") return result_of(::truncate(p, static_cast<off_t>(a)));
    if (verb == "punch") {
        return Opened(path, O_WRONLY).then([&](int fd) {
            return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                               static_cast<off_t>(a), static_cast<off_t>(b));
        });
    }
    if (verb == "write") {
        return Opened(path, O_WRONLY).then([&](int fd) {
            return write_all(fd, c, b, static_cast<long>(a));
        });
    }
    return ENOSYS;
}

void run_client(std::string const& name, std::vector<std::string> const& lines) {
    for (std::size_t n = 0; n < lines.size(); ++n) {
        std::string const which = name + " " + std::to_string(n);
        tell("b " + which + "\n");
        int const error = carry_out(lines[n]);
        tell("e " + which + " " + std::to_string(error) + "\n");
    }
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 3 || (port = ::open(arguments[1], O_RDWR)) < 0 || ::chdir(arguments[2]) != 0) {
        return 1;
    }
    ::umask(0);
    std::map<std::string, std::vector<std::string>> scripts;
    std::string text;
    for (char piece[4096]; text.find("\ngo\n") == std::string::npos;) {
        ssize_t const n = ::read(port, piece, sizeof piece);
        if (n <= 0) return 1;
        text.append(piece, static_cast<std::size_t>(n));
    }
    std::istringstream in(text);
    for (std::string line; std::getline(in, line) && line != "go";) {
        std::size_t const space = line.find(' ');
        if (space != std::string::npos) {
            scripts[line.substr(0, space)].push_back(line.substr(space + 1));
        }
    }
    std::vector<std::thread> clients;
    for (auto const& [name, lines] : scripts) clients.emplace_back(run_client, name, lines);
    for (std::thread& client : clients) client.join();
    tell("done\n");
    return 0;
}
