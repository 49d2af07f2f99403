// What the tests of the C++ binding share. Each TEST runs in a process of its own, which is killed after its time: see
// main.cc. Everything that is used for traffic lies on 127.0.0.1.
#ifndef P2PMOUNT_CPP_TEST_HPP
#define P2PMOUNT_CPP_TEST_HPP

#include <atomic>
#include <chrono>
#include <functional>
#include <p2pmount.hpp>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace std::literals;

namespace test {

// How long anything may take that is expected to come. Generous: it is spent only by a test that fails.
inline constexpr auto patience = 20s;

using body = void (*)();

struct entry {
    entry(const char *promise, body run);

    const char *promise;
    body run;
};

// Tells where a test failed and ends its process, whichever thread this is.
[[noreturn]] void fail(const char *file, int line, const std::string &what);

inline std::string shown(const std::string &text) { return "\"" + text + "\""; }
inline std::string shown(std::string_view text) { return shown(std::string(text)); }
inline std::string shown(const char *text) { return shown(std::string(text)); }
template <class T>
std::string shown(const T &value) {
    std::ostringstream out;
    out << value;
    return out.str();
}

template <class Got, class Want>
void equal(const char *file, int line, const char *what, const Got &got, const Want &want) {
    if (!(got == want)) fail(file, line, std::string(what) + " is " + shown(got) + ", not " + shown(want));
}

// The error that `call` has to throw, with this code.
template <class Call>
p2pmount::error thrown(const char *file, int line, const char *what, p2p_status code, Call call) {
    try {
        call();
    } catch (const p2pmount::error &error) {
        if (error.code() != code)
            fail(file, line, std::string(what) + " threw " + error.code_name() + ": " + error.what());
        if (*error.what() == '\0') fail(file, line, std::string(what) + " threw an error without a sentence");
        return error;
    }
    fail(file, line, std::string(what) + " did not throw " + p2p_status_name(code));
}

#define TEST_NAME(a, b) a##b
#define TEST_UNIQUE(a, b) TEST_NAME(a, b)
// TEST("what is promised") { ... }
#define TEST(promise) TEST_WITH(TEST_UNIQUE(test_, __LINE__), promise)
#define TEST_WITH(name, promise) \
    static void name(); \
    static const ::test::entry TEST_NAME(name, _entry)(promise, name); \
    static void name()

#define CHECK(condition) \
    do { \
        if (!(condition)) ::test::fail(__FILE__, __LINE__, "not so: " #condition); \
    } while (0)
#define EQUAL(got, want) ::test::equal(__FILE__, __LINE__, #got, (got), (want))
#define HAS(text, part) ::test::contains(__FILE__, __LINE__, (text), (part))
// The error that the expression throws; its code has to be this one.
#define THROWS(code, ...) \
    ::test::thrown(__FILE__, __LINE__, #__VA_ARGS__, (code), [&] { static_cast<void>(__VA_ARGS__); })

inline void contains(const char *file, int line, const std::string &text, const std::string &part) {
    if (text.find(part) == std::string::npos) fail(file, line, shown(text) + " does not have " + shown(part));
}

// ---- traffic ------------------------------------------------------------------------------------------------------

// A TCP connection to 127.0.0.1. Every call has a time limit and fails the test when it passes.
class client {
   public:
    explicit client(const std::string &address);
    explicit client(int fd) : fd_(fd) {}
    client(client &&other) noexcept : fd_(std::move(other.fd_)) {}

    void send(std::string_view bytes) const;
    // "No more": the other direction stays open.
    void end() const;
    // Exactly this many bytes.
    std::string receive(std::size_t count) const;
    // All up to the end of file, which has to be a clean one.
    std::string rest() const;
    // Whether the connection ended with a reset rather than with an end of file.
    bool was_reset() const;
    int fd() const { return fd_.get(); }

   private:
    p2pmount::descriptor fd_;
};

// A server on a free port of 127.0.0.1; `serve` gets each connection on a thread of its own.
class server {
   public:
    explicit server(std::function<void(client)> serve = echo);
    ~server();

    const std::string &address() const { return address_; }
    // Echoes until the end of file, then ends its own direction.
    static void echo(client connection);
    // Says nothing until the client has gone.
    static void silent(client connection);

   private:
    p2pmount::descriptor fd_;
    std::string address_;
    std::thread accepting_;
};

// An address at which nobody listens and nobody else can: its port is taken as long as this lives.
class refusing_port {
   public:
    refusing_port();

    const std::string &address() const { return address_; }
    // The same as the address of a peer.
    std::string peer() const;

   private:
    p2pmount::descriptor fd_;
    std::string address_;
};

// Whether nothing accepts connections at the address.
bool is_free(const std::string &address);

// Two nodes: `near` forwards to the echo server that `far` exposes.
struct pair {
    explicit pair(const p2pmount::options &of_nodes = {});

    void echo_must_work() const;

    server service;
    p2pmount::node far;
    p2pmount::node near;
    p2pmount::mount listener;
    p2pmount::mount forward;
};

// The address of a peer that accepts connections and then says nothing.
std::string silent_peer(const server &silent);

// Waits for the first event for which `wanted` holds.
p2pmount::event await(p2pmount::event_queue &queue, const std::function<bool(const p2pmount::event &)> &wanted);

// ---- processes ----------------------------------------------------------------------------------------------------

// Runs `run` in a forked child, which then ends as a program ends (under a sanitizer at once: what the threads of the
// parent own would be counted as lost). The child has to end well and in time.
void in_child(const std::function<void()> &run);

}  // namespace test

#endif
