// An echo server behind a node, and a client that talks to it through another.
//
//     echo server [name=value ...]
//     echo client [name=value ...] PEER
//
// The server prints its addresses; with them, comma separated, as PEER the client sends five messages and prints what
// comes back. The options are the node's. Both programs speak plain TCP to an address of their own machine.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>
#include <thread>

#include "common.hpp"

static const char protocol[] = "echo-protocol";

// The result of a system call, or its error.
static int checked(int result, const char *what) {
    if (result < 0) throw std::system_error(errno, std::generic_category(), what);
    return result;
}

// A socket and the address 127.0.0.1:`port`.
static p2pmount::descriptor tcp_socket(std::uint16_t port, sockaddr_in &address) {
    address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return p2pmount::descriptor(checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
}

static sockaddr *generic(sockaddr_in &address) { return reinterpret_cast<sockaddr *>(&address); }

static bool send_all(int fd, const char *bytes, std::size_t count) {
    while (count > 0) {
        const auto sent = ::send(fd, bytes, count, MSG_NOSIGNAL);
        if (sent < 0) return false;
        bytes += sent;
        count -= static_cast<std::size_t>(sent);
    }
    return true;
}

// Echoes until the client's end of file, then ends too: the descriptor is closed when it goes.
static void echo(const p2pmount::descriptor client) {
    char bytes[1 << 16];
    for (;;) {
        const auto count = ::recv(client.get(), bytes, sizeof bytes, 0);
        if (count <= 0 || !send_all(client.get(), bytes, static_cast<std::size_t>(count))) return;
    }
}

// Starts to echo on a free port, which it returns.
static std::uint16_t start_echo_server() {
    sockaddr_in address;
    p2pmount::descriptor listening = tcp_socket(0, address);
    socklen_t size = sizeof address;
    checked(::bind(listening.get(), generic(address), size), "bind");
    checked(::listen(listening.get(), 128), "listen");
    checked(::getsockname(listening.get(), generic(address), &size), "getsockname");
    std::thread([listening = std::move(listening)] {
        for (;;) {
            p2pmount::descriptor client(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
            if (client.get() < 0) {
                if (errno != EINTR && errno != ECONNABORTED) return;
                continue;
            }
            try {
                std::thread(echo, std::move(client)).detach();
            } catch (const std::system_error &) {
                // No thread can be had: the client is closed, others may have more luck.
            }
        }
    }).detach();
    return ntohs(address.sin_port);
}

static void server(const p2pmount::options &options) {
    p2pmount::node node = attempt("node", [&] { return p2pmount::node(options); });
    const std::string target = "127.0.0.1:" + std::to_string(start_echo_server());
    p2pmount::mount listener = attempt("listen", [&] { return node.listen(protocol, target); });
    print_node(node);
    std::cout << "ready" << std::endl;
    wait_for_quit();
    close_all(node, listener);
}

static void client(const p2pmount::options &options, const std::string &peer) {
    p2pmount::node node = attempt("node", [&] { return p2pmount::node(options); });
    // With verify the forward fails with a sentence, and not the first message, if the peer cannot be reached.
    p2pmount::mount forward =
        attempt("forward", [&] { return node.forward(protocol, "127.0.0.1:0", peer, {{"verify", true}}); });
    const std::string local = forward.address();

    sockaddr_in address;
    const p2pmount::descriptor connection =
        tcp_socket(static_cast<std::uint16_t>(std::stoi(local.substr(local.rfind(':') + 1))), address);
    checked(::connect(connection.get(), generic(address), sizeof address), "connect");
    for (int number = 1; number <= 5; number++) {
        const std::string message = "Hello, world! (" + std::to_string(number) + ")";
        if (!send_all(connection.get(), message.data(), message.size())) checked(-1, "send");
        std::cout << "sent: " << message << std::endl;
        std::string answer(message.size(), '\0');
        for (std::size_t have = 0; have < answer.size();) {
            const auto count = ::recv(connection.get(), &answer[have], answer.size() - have, 0);
            if (count < 0) checked(-1, "receive");
            if (count == 0) throw std::runtime_error("receive: the connection ended early");
            have += static_cast<std::size_t>(count);
        }
        std::cout << "received: " << answer << std::endl;
        if (answer != message) throw std::runtime_error("receive: the answer is not what was sent");
    }
    checked(::shutdown(connection.get(), SHUT_WR), "shutdown");
    close_all(node, forward);
}

int main(int argc, char **argv) {
    return run(argc, argv, [](arguments given) {
        const usage_error usage("usage: echo server [name=value ...]\n       echo client [name=value ...] PEER");
        if (given.empty()) throw usage;
        const std::string role = given[0];
        given.erase(given.begin());
        const p2pmount::options options = take_options(given);
        if (role == "server" && given.empty())
            server(options);
        else if (role == "client" && given.size() == 1)
            client(options, given[0]);
        else
            throw usage;
    });
}
