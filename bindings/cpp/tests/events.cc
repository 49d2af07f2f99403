// Events are pulled: range-for, next(), a descriptor.
#include <fcntl.h>
#include <poll.h>

#include "test.hpp"

using p2pmount::event_kind;
namespace status = p2pmount::status;

static bool readable(const p2pmount::descriptor &fd, int ms = 0) {
    pollfd wanted{fd.get(), POLLIN, 0};
    return ::poll(&wanted, 1, ms) == 1;
}

TEST("range-for gives each event and ends when the node is closed") {
    test::pair two;
    std::vector<std::string> seen;
    auto events = two.near.events(event_kind::stream_opened | event_kind::stream_closed | event_kind::node);
    std::thread reader([&] {
        for (auto &event : events) {
            CHECK(event.integer("event") > 0 && event.integer("sequence") > 0 && event.integer("time_ms") > 0);
            if (event.is(event_kind::node)) {
                EQUAL(event["kind"], "node");
                seen.push_back(event["state"]);
            } else {
                seen.push_back(event["kind"]);
                if (event.kind() == event_kind::stream_closed) EQUAL(event["reason"], "finished");
            }
        }
    });
    auto watch = two.near.events(event_kind::stream_closed);
    two.echo_must_work();
    test::await(watch, [](const auto &) { return true; });
    two.near.close();
    reader.join();
    EQUAL(seen.size(), 4U);
    EQUAL(seen[0] + ", " + seen[1] + ", " + seen[2] + ", " + seen[3], "stream opened, stream closed, closing, closed");
    CHECK(events.ended());
}

TEST("range-for over a temporary queue works, and leaving it early leaves nothing behind") {
    p2pmount::node node;
    const auto handles = [] { return p2pmount::list(p2pmount::list_kind::process)[0].integer("handles"); };
    const auto before = handles();
    // The queue is made by the loop: whatever happens before that is not for it.
    std::atomic<bool> stop{false};
    std::thread busy([&] {
        while (!stop) {
            node.listen("x", "8080").close();
            std::this_thread::sleep_for(1ms);
        }
    });
    for (const auto &event : node.events(event_kind::all)) {
        EQUAL(event["kind"], "mount");
        break;
    }
    stop = true;
    busy.join();
    EQUAL(handles(), before);
}

TEST("next waits as long as it is told, and tells no event from no event any more") {
    p2pmount::node node;
    auto queue = node.events(event_kind::mount);
    CHECK(!queue.next(0ms));
    const auto before = std::chrono::steady_clock::now();
    CHECK(!queue.next(30ms));
    CHECK(std::chrono::steady_clock::now() - before >= 30ms);
    CHECK(!queue.ended());
    const auto mount = node.listen("x", "8080");
    const auto event = queue.next();
    EQUAL(event->integer("mount"), static_cast<std::int64_t>(mount.handle()));
    EQUAL((*event)["protocol"], "/x/x");
    node.close();
    // What was queued at the close can still be read.
    EQUAL(queue.next().value()["state"], "closed");
    CHECK(!queue.next());
    CHECK(queue.ended());
    CHECK(!queue.next(p2pmount::forever));
}

TEST("closing the queue or the node wakes a loop that waits in it") {
    for (const bool by_node : {true, false}) {
        p2pmount::node node;
        auto queue = node.events(event_kind::stream_opened);
        std::atomic<bool> waiting{false};
        std::thread reader([&] {
            waiting = true;
            for (const auto &event : queue) EQUAL(event["kind"], "nothing was to come");
        });
        while (!waiting) std::this_thread::yield();
        by_node ? node.close() : queue.close();
        reader.join();
        CHECK(queue.ended());
    }
}

TEST("a loop over a queue that was closed before ends at once") {
    p2pmount::node node;
    auto queue = node.events();
    queue.close();
    for (const auto &event : queue) EQUAL(event["kind"], "nothing was to come");
    CHECK(queue.ended());
}

TEST("several threads take from one queue, each event goes to one") {
    p2pmount::node node;
    auto queue = node.events(event_kind::mount);
    std::atomic<int> taken{0};
    std::vector<std::thread> readers;
    for (int i = 0; i < 4; i++)
        readers.emplace_back([&] {
            for (const auto &event : queue) taken += event["state"] == "closed" ? 1 : 0;
        });
    for (int i = 0; i < 100; i++) node.listen("x", "8080").close();
    node.close();
    for (auto &reader : readers) reader.join();
    EQUAL(taken, 100);
}

TEST("the descriptor is readable exactly while events wait or the queue has ended") {
    p2pmount::node node;
    auto queue = node.events(event_kind::mount | event_kind::node);
    const auto fd = queue.fd();
    CHECK((::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((::fcntl(fd.get(), F_GETFL) & O_NONBLOCK) != 0);
    CHECK(!readable(fd));
    auto mount = node.listen("x", "8080");
    CHECK(readable(fd, 10000));
    CHECK(queue.next(0ms).has_value());
    CHECK(!readable(fd));
    mount.close();
    CHECK(readable(fd, 10000));
    while (queue.next(0ms)) continue;
    CHECK(!queue.ended());
    CHECK(!readable(fd));
    node.close();
    CHECK(readable(fd, 10000));
    while (queue.next(0ms)) continue;
    CHECK(queue.ended());
    CHECK(readable(fd));
}

TEST("a descriptor is closed with its object, unless it was released") {
    const p2pmount::node node;
    const auto queue = node.events();
    auto fd = queue.fd();
    const int number = fd.get();
    p2pmount::descriptor moved = std::move(fd);
    EQUAL(moved.get(), number);
    moved = p2pmount::descriptor();
    EQUAL(::fcntl(number, F_GETFD), -1);
    auto second = queue.fd();
    const int released = second.release();
    second = p2pmount::descriptor();
    CHECK(::fcntl(released, F_GETFD) >= 0);
    ::close(released);
}

TEST("an overflow is told, and events of unknown kinds are just rows") {
    test::pair two;
    auto small = two.near.events(event_kind::stream_opened | event_kind::stream_closed, {{"queue.capacity", 2}});
    auto watch = two.near.events(event_kind::stream_closed);
    for (int i = 0; i < 4; i++) {
        two.echo_must_work();
        test::await(watch, [](const auto &) { return true; });
    }
    const auto overflow = test::await(small, [](const auto &event) { return event.is(event_kind::overflow); });
    EQUAL(overflow.integer("count"), 6);
    CHECK(!overflow.is(event_kind::all) && !overflow.is(static_cast<event_kind>(1U << 20)));
}

TEST("events say what was refused and why") {
    test::pair two;
    auto events = two.far.events(event_kind::target_refused);
    const test::refusing_port nobody;
    const auto dead = two.far.listen("dead", nobody.address());
    const auto forward = two.near.forward("dead", "127.0.0.1:0", two.far.address());
    CHECK(test::client(forward.address()).was_reset());
    const auto event = test::await(events, [](const auto &) { return true; });
    EQUAL(event.integer("code"), status::target_refused);
    HAS(event["message"], nobody.address());
}
