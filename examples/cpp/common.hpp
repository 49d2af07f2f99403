// What the example programs do alike: arguments, the lines they print, and how they say that something failed.
#ifndef COMMON_HPP
#define COMMON_HPP

#include <iostream>
#include <p2pmount.hpp>
#include <stdexcept>
#include <string>
#include <vector>

using arguments = std::vector<std::string>;

// Wrong usage: the text says what would be right.
struct usage_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Calls `call`. An error of the library gets `what` put before its sentence, and the name of its code behind.
template <class Call>
auto attempt(const std::string &what, Call call) {
    try {
        return call();
    } catch (const p2pmount::error &error) {
        throw std::runtime_error(what + ": " + error.what() + " (" + error.code_name() + ")");
    }
}

// Takes the leading `name=value` arguments away. What they may be is the library's business.
inline p2pmount::options take_options(arguments &from) {
    p2pmount::options options;
    auto each = from.begin();
    for (; each != from.end(); ++each) {
        const auto equals = each->find('=');
        if (equals == std::string::npos) break;
        options.set(each->substr(0, equals), each->substr(equals + 1));
    }
    from.erase(from.begin(), each);
    return options;
}

// A node, and one mount of it: what `tunnel` and `list` make of their arguments.
struct opened {
    p2pmount::node node;
    p2pmount::mount mount;
};

inline void print_node(const p2pmount::node &node) {
    std::cout << "peer " << node.peer_id() << std::endl;
    for (const std::string &address : node.addresses()) std::cout << "address " << address << std::endl;
}

//     expose  [name=value ...] PROTOCOL TARGET [name=value ...]
//     forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]
//
// Options before the protocol are the node's, those at the end are the mount's. Prints where the node can be reached,
// or where the forward listens.
inline opened open_mount(const std::string &program, arguments given) {
    const std::string usage = "usage: " + program +
                              " expose [name=value ...] PROTOCOL TARGET [name=value ...]\n       " + program +
                              " forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]";
    const bool expose = !given.empty() && given[0] == "expose";
    if (!expose && (given.empty() || given[0] != "forward")) throw usage_error(usage);
    given.erase(given.begin());
    const p2pmount::options node_options = take_options(given);

    const std::size_t count = expose ? 2 : 3;
    if (given.size() < count) throw usage_error(usage);
    const arguments names(given.begin(), given.begin() + static_cast<std::ptrdiff_t>(count));
    given.erase(given.begin(), given.begin() + static_cast<std::ptrdiff_t>(count));
    const p2pmount::options mount_options = take_options(given);
    if (!given.empty()) throw usage_error("\"" + given[0] + "\" is not an option of the form name=value\n" + usage);

    p2pmount::node node = attempt("node", [&] { return p2pmount::node(node_options); });
    if (expose) {
        p2pmount::mount listener = attempt("listen", [&] { return node.listen(names[0], names[1], mount_options); });
        print_node(node);
        return {std::move(node), std::move(listener)};
    }
    p2pmount::mount forward =
        attempt("forward", [&] { return node.forward(names[0], names[1], names[2], mount_options); });
    std::cout << "listen " << forward.address() << std::endl;
    return {std::move(node), std::move(forward)};
}

// Reads lines until "quit" or the end of the input.
inline void wait_for_quit() {
    std::string line;
    while (std::getline(std::cin, line) && line != "quit") continue;
}

// Closes the mount, then the node: streams that still run may finish, for at most two seconds.
inline void close_all(p2pmount::node &node, p2pmount::mount &mount) {
    attempt("close", [&] { mount.close(); });
    attempt("close", [&] { node.close(std::chrono::seconds(2)); });
}

// Runs `program` with the arguments of main and gives its exit status.
template <class Program>
int run(int argc, char **argv, Program program) {
    try {
        program(arguments(argv + 1, argv + argc));
        return 0;
    } catch (const usage_error &error) {
        std::cerr << error.what() << std::endl;
        return 2;
    } catch (const std::exception &error) {
        std::cerr << error.what() << std::endl;
        return 1;
    }
}

#endif
