// The example programs, and the program of docs/cpp.md, driven as a user would. They lie in the directory that the
// environment variable P2PMOUNT_CPP_PROGRAMS names.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <utility>

#include "test.hpp"

namespace {

// A running program with pipes for its input, output and complaints. It is killed with its object.
class program {
   public:
    program(const std::string &name, std::vector<std::string> arguments);
    program(program &&other) noexcept
        : pid_(std::exchange(other.pid_, -1)),
          input_(std::move(other.input_)),
          output_(std::move(other.output_)),
          complaints_(std::move(other.complaints_)),
          read_(std::move(other.read_)) {}
    ~program() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }

    void say(const std::string &line) const {
        const std::string bytes = line + "\n";
        EQUAL(::write(input_.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    }
    void end_input() { input_ = p2pmount::descriptor(); }

    // The next line; a program that ends instead, or takes too long, fails the test.
    std::string line();
    // The values of the lines `key value` up to the line "ready".
    std::vector<std::string> values(const std::string &key);
    // Lines up to the first for which `wanted` holds.
    void until(const std::function<bool(const std::string &)> &wanted) {
        while (!wanted(line())) continue;
    }
    // Everything that is still printed, after which the program ends with this status.
    std::string ends_with(int status);
    std::string complaints() const { return all(complaints_); }
    pid_t pid() const { return pid_; }

   private:
    bool more(int ms);
    static std::string all(const p2pmount::descriptor &from) {
        std::string text;
        char part[4096];
        for (ssize_t count; (count = ::read(from.get(), part, sizeof part)) > 0;)
            text.append(part, static_cast<std::size_t>(count));
        return text;
    }

    pid_t pid_ = -1;
    p2pmount::descriptor input_, output_, complaints_;
    std::string read_;
};

std::string joined(const std::vector<std::string> &parts) { return p2pmount::option_value(parts).text(); }

program::program(const std::string &name, std::vector<std::string> arguments) {
    const char *const directory = std::getenv("P2PMOUNT_CPP_PROGRAMS");
    if (directory == nullptr) test::fail(__FILE__, __LINE__, "P2PMOUNT_CPP_PROGRAMS is not set");
    const std::string path = std::string(directory) + "/" + name;
    int in[2], out[2], complaints[2];
    CHECK(::pipe2(in, O_CLOEXEC) == 0 && ::pipe2(out, O_CLOEXEC) == 0 && ::pipe2(complaints, O_CLOEXEC) == 0);
    arguments.insert(arguments.begin(), path);
    std::vector<char *> pointers;
    for (auto &argument : arguments) pointers.push_back(argument.data());
    pointers.push_back(nullptr);
    pid_ = ::fork();
    CHECK(pid_ >= 0);
    if (pid_ == 0) {
        ::dup2(in[0], 0);
        ::dup2(out[1], 1);
        ::dup2(complaints[1], 2);
        // Longer than any test.
        ::alarm(100);
        ::execv(path.c_str(), pointers.data());
        ::_exit(127);
    }
    for (const int fd : {in[0], out[1], complaints[1]}) ::close(fd);
    input_ = p2pmount::descriptor(in[1]);
    output_ = p2pmount::descriptor(out[0]);
    complaints_ = p2pmount::descriptor(complaints[0]);
}

bool program::more(int ms) {
    pollfd wanted{output_.get(), POLLIN, 0};
    if (::poll(&wanted, 1, ms) != 1) return false;
    char part[4096];
    const auto count = ::read(output_.get(), part, sizeof part);
    if (count <= 0) test::fail(__FILE__, __LINE__, "the program ended early: " + complaints());
    read_.append(part, static_cast<std::size_t>(count));
    return true;
}

std::string program::line() {
    std::size_t end;
    while ((end = read_.find('\n')) == std::string::npos)
        if (!more(20000)) test::fail(__FILE__, __LINE__, "the program prints no more lines");
    std::string line = read_.substr(0, end);
    read_.erase(0, end + 1);
    return line;
}

std::vector<std::string> program::values(const std::string &key) {
    std::vector<std::string> found;
    for (std::string next; (next = line()) != "ready";)
        if (next.compare(0, key.size() + 1, key + " ") == 0) found.push_back(next.substr(key.size() + 1));
    CHECK(!found.empty());
    return found;
}

std::string program::ends_with(int status) {
    const std::string text = read_ + all(output_);
    int how = 0;
    EQUAL(::waitpid(pid_, &how, 0), pid_);
    pid_ = -1;
    const std::string complained = complaints();
    if (!WIFEXITED(how) || WEXITSTATUS(how) != status)
        test::fail(__FILE__, __LINE__, "wait status " + std::to_string(how) + ": " + complained);
    return text + complained;
}

// Cells of a line of a table.
std::vector<std::string> cells(const std::string &line) {
    std::istringstream in(line);
    std::vector<std::string> found;
    for (std::string cell; in >> cell;) found.push_back(cell);
    return found;
}

}  // namespace

TEST("example tunnel: bytes and ends pass from forward to expose") {
    const test::server service;
    program expose("tunnel", {"expose", "transports=tcp", "cpp-demo", service.address(), "peers.allow=*"});
    const std::string peer = joined(expose.values("address"));
    program forward("tunnel", {"forward", "cpp-demo", "127.0.0.1:0", peer, "verify=true", "open.timeout=10s"});
    const std::string address = forward.values("listen").at(0);
    const std::string sent(3 << 20, 'x');
    const test::client connection(address);
    std::thread sending([&] {
        connection.send(sent);
        connection.end();
    });
    CHECK(connection.rest() == sent);
    sending.join();
    forward.say("quit");
    EQUAL(forward.ends_with(0), "");
    CHECK(test::is_free(address));
    expose.end_input();
    EQUAL(expose.ends_with(0), "");
}

TEST("example tunnel: wrong usage is status 2, an error of the library 1 with its sentence") {
    for (const auto &wrong : std::vector<std::vector<std::string>>{{},
                                                                   {"other"},
                                                                   {"expose"},
                                                                   {"expose", "transports=tcp", "x"},
                                                                   {"forward", "x", "8080"},
                                                                   {"expose", "x", "8080", "y"}})
        HAS(program("tunnel", wrong).ends_with(2), "usage: tunnel expose [name=value ...] PROTOCOL TARGET");
    EQUAL(program("tunnel", {"expose", "/foreign", "8080"}).ends_with(1).substr(0, 8), "listen: ");
    HAS(program("tunnel", {"expose", "no.such=1", "x", "8080"}).ends_with(1), "(P2P_ERROR_BAD_OPTION)");
    HAS(program("tunnel", {"forward", "x", "127.0.0.1:0", "nobody"}).ends_with(1), "(P2P_ERROR_BAD_PEER)");
}

TEST("example echo: five messages go there and back") {
    program server("echo", {"server", "transports=quic"});
    const std::string peer = joined(server.values("address"));
    std::string wanted;
    for (int number = 1; number <= 5; number++) {
        const std::string message = "Hello, world! (" + std::to_string(number) + ")\n";
        wanted.append("sent: ").append(message).append("received: ").append(message);
    }
    EQUAL(program("echo", {"client", peer}).ends_with(0), wanted);
    EQUAL(program("echo", {"client", "open.timeout=9s", peer}).ends_with(0), wanted);
    server.say("quit");
    EQUAL(server.ends_with(0), "");
    HAS(program("echo", {"client", "open.timeout=2s", peer}).ends_with(1), "forward: ");
    HAS(program("echo", {"client"}).ends_with(2), "usage: echo server");
}

// AddressSanitizer does not live without more memory.
#ifndef __SANITIZE_ADDRESS__
TEST("example echo: a client for whom no thread can be had is closed, and the next one is served") {
    // The stacks of threads that ask for no size of their own are that large: the library's are not.
    constexpr rlim_t stack = 256 << 20;
    rlimit limit{};
    CHECK(::getrlimit(RLIMIT_STACK, &limit) == 0);
    limit.rlim_cur = stack;
    CHECK(::setrlimit(RLIMIT_STACK, &limit) == 0);
    program server("echo", {"server", "transports=tcp"});
    const std::string peer = joined(server.values("address"));
    p2pmount::node node;
    node.connect(peer, test::patience);
    const auto forward = node.forward("echo-protocol", "127.0.0.1:0", peer);

    rlim_t pages = 0;
    std::ifstream("/proc/" + std::to_string(server.pid()) + "/statm") >> pages;
    CHECK(::prlimit(server.pid(), RLIMIT_AS, nullptr, &limit) == 0);
    const rlimit tight{pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + stack / 2, limit.rlim_max};
    CHECK(::prlimit(server.pid(), RLIMIT_AS, &tight, nullptr) == 0);
    EQUAL(test::client(forward.address()).rest(), "");
    CHECK(::prlimit(server.pid(), RLIMIT_AS, &limit, nullptr) == 0);

    const test::client next(forward.address());
    next.send("x");
    next.end();
    EQUAL(next.rest(), "x");
    server.end_input();
    EQUAL(server.ends_with(0), "");
}
#endif

TEST("example list: a stream appears, counts and goes, by events alone") {
    const test::server service;
    program expose("list", {"expose", "transports=tcp", "cpp-list", service.address()});
    const std::string peer = joined(expose.values("address"));
    program forward("list", {"forward", "cpp-list", "127.0.0.1:0", peer});
    const std::string address = forward.values("listen").at(0);

    EQUAL(joined(cells(expose.line())), "KIND,PROTOCOL,LISTEN,TARGET,STATE,STREAMS,STREAMS_TOTAL,BYTES_IN,BYTES_OUT");
    auto row = cells(expose.line());
    EQUAL(row.at(0) + " " + row.at(1) + " " + row.at(3) + " " + row.at(5),
          "listener /x/cpp-list " + service.address() + " 0");
    EQUAL(expose.line(), "");
    forward.until([&](const auto &line) { return line.find("forward  /x/cpp-list  " + address) == 0; });
    {
        const test::client connection(address);
        connection.send("12345");
        EQUAL(connection.receive(5), "12345");
        std::string before;
        forward.until([&](const auto &line) {
            // Once a second while the stream is open: the counters come by themselves.
            const auto shown = cells(line);
            if (shown.empty() || shown[0] != "stream") {
                before = line;
                return false;
            }
            EQUAL(joined(cells(before)), "KIND,ID,PROTOCOL,ORIGIN,TARGET,TRANSPORT,PATH,AGE_MS,BYTES_IN,BYTES_OUT");
            EQUAL(shown.at(2) + " " + shown.at(5) + " " + shown.at(6), "/x/cpp-list tcp direct");
            return shown.at(8) == "5" && shown.at(9) == "5";
        });
        expose.until([](const auto &line) {
            const auto shown = cells(line);
            return !shown.empty() && shown[0] == "stream" && shown.at(8) == "5" && shown.at(9) == "5";
        });
    }
    expose.until([](const auto &line) {
        const auto shown = cells(line);
        return shown.size() == 9 && shown[0] == "listener" && shown[5] == "0" && shown[6] == "1" && shown[8] == "5";
    });
    EQUAL(expose.line(), "");
    forward.say("something else");
    forward.say("quit");
    forward.ends_with(0);
    expose.end_input();
    expose.ends_with(0);
    HAS(program("list", {"expose"}).ends_with(2), "usage: list expose");
}

TEST("the program of docs/cpp.md works as printed") {
    const test::server service;
    program expose("docs", {service.address()});
    program forward("docs", {"127.0.0.1:0", expose.line()});
    const test::client connection(forward.line());
    connection.send("Hello, world!");
    connection.end();
    EQUAL(connection.rest(), "Hello, world!");
    forward.end_input();
    EQUAL(forward.ends_with(0), "");
    expose.end_input();
    EQUAL(expose.ends_with(0), "");
    HAS(program("docs", {"127.0.0.1:0", "nobody"}).ends_with(1), "peer");
}
