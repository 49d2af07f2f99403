// Runs the tests, each in a process of its own with a time limit.
//
//     tests             all
//     tests WORD        those whose promise has WORD in it
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "test.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define INSTRUMENTED 1
#else
#define INSTRUMENTED 0
#endif

namespace test {

namespace {

// Seconds for one test.
constexpr int limit = INSTRUMENTED ? 60 : 40;

std::vector<const entry *> &entries() {
    static std::vector<const entry *> all;
    return all;
}

[[noreturn]] void fail_system(const char *what) {
    fail("the harness", 0, std::string(what) + ": " + std::strerror(errno));
}

sockaddr_in loopback(const std::string &address) {
    const auto colon = address.rfind(':');
    if (address.substr(0, colon) != "127.0.0.1") fail("the harness", 0, address + " is not on 127.0.0.1");
    sockaddr_in made{};
    made.sin_family = AF_INET;
    made.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    made.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(colon + 1))));
    return made;
}

p2pmount::descriptor tcp() {
    p2pmount::descriptor fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (fd.get() < 0) fail_system("socket");
    return fd;
}

// Binds to a free port and tells the address.
std::string bind_free(const p2pmount::descriptor &fd) {
    sockaddr_in place = loopback("127.0.0.1:0");
    socklen_t size = sizeof place;
    auto *const generic = reinterpret_cast<sockaddr *>(&place);
    if (::bind(fd.get(), generic, size) != 0 || ::getsockname(fd.get(), generic, &size) != 0) fail_system("bind");
    return "127.0.0.1:" + std::to_string(ntohs(place.sin_port));
}

// Where a peer whose address this is would be; its id is that of a node which is gone.
std::string peer_at(const std::string &address) {
    const p2pmount::node somebody({{"listen.addresses", ""}});
    return "/ip4/127.0.0.1/tcp/" + address.substr(address.rfind(':') + 1) + "/p2p/" + somebody.peer_id();
}

bool connected(const p2pmount::descriptor &fd, const std::string &address) {
    const sockaddr_in to = loopback(address);
    return ::connect(fd.get(), reinterpret_cast<const sockaddr *>(&to), sizeof to) == 0;
}

}  // namespace

entry::entry(const char *of, body to_run) : promise(of), run(to_run) { entries().push_back(this); }

void fail(const char *file, int line, const std::string &what) {
    std::fprintf(stderr, "    %s:%d: %s\n", file, line, what.c_str());
    std::fflush(nullptr);
    ::_exit(1);
}

// ---- traffic ------------------------------------------------------------------------------------------------------

client::client(const std::string &address) : fd_(tcp()) {
    if (!connected(fd_, address)) fail_system(("connect to " + address).c_str());
    const timeval time{std::chrono::seconds(patience).count(), 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
}

void client::send(std::string_view bytes) const {
    while (!bytes.empty()) {
        const auto sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent < 0) fail_system("send");
        bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
}

void client::end() const {
    if (::shutdown(fd_.get(), SHUT_WR) != 0) fail_system("shutdown");
}

std::string client::receive(std::size_t count) const {
    std::string bytes(count, '\0');
    for (std::size_t have = 0; have < count;) {
        const auto got = ::recv(fd_.get(), &bytes[have], count - have, 0);
        if (got < 0) fail_system("recv");
        if (got == 0) fail("the harness", 0, "end of file after " + std::to_string(have) + " bytes");
        have += static_cast<std::size_t>(got);
    }
    return bytes;
}

std::string client::rest() const {
    std::string bytes;
    char part[1 << 16];
    for (;;) {
        const auto got = ::recv(fd_.get(), part, sizeof part, 0);
        if (got < 0) fail_system("recv");
        if (got == 0) return bytes;
        bytes.append(part, static_cast<std::size_t>(got));
    }
}

bool client::was_reset() const {
    char part[1 << 16];
    for (;;) {
        const auto got = ::recv(fd_.get(), part, sizeof part, 0);
        if (got == 0) return false;
        if (got < 0 && errno == ECONNRESET) return true;
        if (got < 0) fail_system("recv");
    }
}

server::server(std::function<void(client)> serve) : fd_(tcp()) {
    address_ = bind_free(fd_);
    if (::listen(fd_.get(), 128) != 0) fail_system("listen");
    accepting_ = std::thread([this, serve] {
        for (;;) {
            const int fd = ::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC);
            if (fd < 0) return;
            std::thread([serve, fd] { serve(client(fd)); }).detach();
        }
    });
}

server::~server() {
    // Wakes accept().
    ::shutdown(fd_.get(), SHUT_RDWR);
    accepting_.join();
}

void server::echo(client connection) {
    char part[1 << 16];
    const int fd = connection.fd();
    for (;;) {
        const auto got = ::recv(fd, part, sizeof part, 0);
        // A client that was reset is no failure of the test that resets it.
        if (got < 0) return;
        if (got == 0) break;
        for (std::size_t sent = 0; sent < static_cast<std::size_t>(got);) {
            const auto more = ::send(fd, part + sent, static_cast<std::size_t>(got) - sent, MSG_NOSIGNAL);
            if (more < 0) return;
            sent += static_cast<std::size_t>(more);
        }
    }
    ::shutdown(fd, SHUT_WR);
}

void server::silent(client connection) {
    pollfd wanted{connection.fd(), POLLRDHUP, 0};
    ::poll(&wanted, 1, -1);
}

refusing_port::refusing_port() : fd_(tcp()), address_(bind_free(fd_)) {}

std::string refusing_port::peer() const { return peer_at(address_); }

bool is_free(const std::string &address) { return !connected(tcp(), address); }

pair::pair(const p2pmount::options &of_nodes)
    : far(of_nodes),
      near(of_nodes),
      listener(far.listen("test", service.address())),
      forward(near.forward("test", "127.0.0.1:0", far.address())) {}

void pair::echo_must_work() const {
    const client connection(forward.address());
    connection.send("Hello, world!");
    connection.end();
    EQUAL(connection.rest(), "Hello, world!");
}

std::string silent_peer(const server &silent) { return peer_at(silent.address()); }

p2pmount::event await(p2pmount::event_queue &queue, const std::function<bool(const p2pmount::event &)> &wanted) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    for (;;) {
        auto event = queue.next(deadline - std::chrono::steady_clock::now());
        if (!event) fail("the harness", 0, "the event that was awaited did not come");
        if (wanted(*event)) return *std::move(event);
    }
}

// ---- processes ----------------------------------------------------------------------------------------------------

void in_child(const std::function<void()> &run) {
    // AddressSanitizer's allocator stays locked in a child that is forked while another thread allocates.
    if (INSTRUMENTED) std::this_thread::sleep_for(500ms);
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child < 0) fail_system("fork");
    if (child == 0) {
        ::alarm(limit / 2);
        run();
        if (INSTRUMENTED) ::_exit(0);
        std::exit(0);
    }
    int how = 0;
    if (::waitpid(child, &how, 0) != child) fail_system("waitpid");
    if (!WIFEXITED(how) || WEXITSTATUS(how) != 0)
        fail("the harness", 0,
             WIFSIGNALED(how) ? "the child was ended by signal " + std::to_string(WTERMSIG(how))
                              : "the child ended with status " + std::to_string(WEXITSTATUS(how)));
}

namespace {

// Runs one test in a process of its own, which ends through exit() as a program does. Whether it kept its promise.
bool run(const entry &test) {
    std::printf("  %s\n", test.promise);
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child < 0) fail_system("fork");
    if (child == 0) {
        try {
            test.run();
        } catch (const std::exception &error) {
            fail("the test", 0, std::string("threw: ") + error.what());
        }
        std::exit(0);
    }
    int how = 0;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(limit);
    pid_t ended;
    while ((ended = ::waitpid(child, &how, WNOHANG)) == 0) {
        if (std::chrono::steady_clock::now() > deadline) {
            std::fprintf(stderr, "    hangs: still running after %d s, killed\n", limit);
            ::kill(child, SIGKILL);
            ::waitpid(child, &how, 0);
            return false;
        }
        std::this_thread::sleep_for(2ms);
    }
    if (ended < 0) fail_system("waitpid");
    if (WIFSIGNALED(how)) std::fprintf(stderr, "    ended by signal %d\n", WTERMSIG(how));
    if (WIFEXITED(how) && WEXITSTATUS(how) != 0) std::fprintf(stderr, "    status %d\n", WEXITSTATUS(how));
    return WIFEXITED(how) && WEXITSTATUS(how) == 0;
}

}  // namespace

}  // namespace test

int main(int argc, char **argv) {
    ::setenv("P2PMOUNT_NETWORK", "local", 1);
    int passed = 0;
    int failed = 0;
    for (const test::entry *each : test::entries()) {
        if (argc > 1 && std::strstr(each->promise, argv[1]) == nullptr) continue;
        (test::run(*each) ? passed : failed)++;
    }
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed == 0 && passed > 0 ? 0 : 1;
}
