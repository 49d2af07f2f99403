// What the fragments of docs/cpp.md take for granted: scripts/cpp.sh puts each into a function after this and compiles
// it.
#include <poll.h>

#include <cstdint>
#include <iostream>
#include <map>
#include <p2pmount.hpp>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using p2pmount::event_kind;

void handle(const p2pmount::event &event);
void serve(int socket);

#define FRAGMENT(name) \
    void name([[maybe_unused]] p2pmount::node &node, [[maybe_unused]] p2pmount::event_queue &queue, \
              [[maybe_unused]] const std::string &peer, [[maybe_unused]] int my_socket)
