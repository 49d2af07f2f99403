// Calls in the background: their end, their error, their cancellation.
#include "test.hpp"

using p2pmount::event_kind;
using p2pmount::list_kind;
namespace status = p2pmount::status;

TEST("an operation ends with its result") {
    test::pair two;
    auto connecting = two.near.connect_async(two.far.address(), 10s);
    CHECK(connecting.wait(test::patience));
    connecting.get();
    connecting.get();
    two.near.connect(two.far.peer_id(), 0ms);

    auto forwarding = two.near.forward_async("test", "127.0.0.1:0", two.far.address(), {{"verify", true}});
    const p2pmount::mount made = forwarding.get();
    const test::client connection(made.address());
    connection.send("x");
    EQUAL(connection.receive(1), "x");
    HAS(THROWS(status::bad_handle, forwarding.get()).what(), "taken");
}

TEST("an operation ends with its error") {
    test::pair two;
    auto refused = two.near.forward_async("none", "127.0.0.1:0", two.far.address(), {{"verify", true}});
    const auto error = THROWS(status::protocol_refused, refused.get());
    HAS(error.what(), "none");
    THROWS(status::protocol_refused, refused.get());
    EQUAL(two.near.list(list_kind::forwards).size(), 1U);
}

TEST("wrong arguments throw at once, not at the end") {
    test::pair two;
    THROWS(status::bad_peer, two.near.connect_async("nobody", 10s));
    THROWS(status::address_in_use, two.near.forward_async("test", two.forward.address(), two.far.address()));
    THROWS(status::bad_option, two.near.forward_async("test", "127.0.0.1:0", two.far.address(), {{"threads", 1}}));
}

TEST("a time limit ends an operation, and waiting for it is limited, too") {
    const test::server silent(test::server::silent);
    p2pmount::node node({{"transports", "tcp"}});
    auto connecting = node.connect_async(test::silent_peer(silent), 300ms);
    CHECK(!connecting.wait(0ms));
    CHECK(!connecting.wait(10ms));
    CHECK(connecting.wait(test::patience));
    const auto error = THROWS(status::timed_out, connecting.get());
    CHECK(error.timed_out());
}

TEST("cancel ends an operation, from any thread, and nothing of it is left") {
    const test::server silent(test::server::silent);
    p2pmount::node node({{"transports", "tcp"}});
    const auto peer = test::silent_peer(silent);
    auto connecting = node.connect_async(peer, p2pmount::forever);
    std::thread waiting([&] { THROWS(status::cancelled, connecting.get()); });
    connecting.cancel();
    waiting.join();
    connecting.cancel();
    THROWS(status::cancelled, connecting.get());

    auto forwarding = node.forward_async("x", "127.0.0.1:0", peer, {{"verify", true}});
    forwarding.cancel();
    THROWS(status::cancelled, forwarding.get());
    CHECK(node.list(list_kind::forwards).empty());
}

TEST("several threads may wait for one end") {
    const test::server silent(test::server::silent);
    p2pmount::node node({{"transports", "tcp"}});
    auto connecting = node.connect_async(test::silent_peer(silent), p2pmount::forever);
    std::atomic<int> woken{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++)
        threads.emplace_back([&] {
            THROWS(status::cancelled, connecting.get());
            woken++;
        });
    connecting.cancel();
    for (auto &thread : threads) thread.join();
    EQUAL(woken, 4);
    CHECK(connecting.wait(0ms));
}

TEST("threads that wait for one close in the background all get its end, never an error of the queue") {
    for (int round = 0; round < 150; round++) {
        p2pmount::node node({{"transports", "tcp"}, {"listen.addresses", ""}});
        auto closing = node.close_async(0ms);
        std::vector<std::thread> threads;
        for (int i = 0; i < 6; i++) threads.emplace_back([&] { closing.get(); });
        for (auto &thread : threads) thread.join();
    }
}

TEST("all operations of a node share one queue") {
    const auto handles = [] { return p2pmount::list(list_kind::process)[0].integer("handles"); };
    const test::server silent(test::server::silent);
    p2pmount::node node({{"transports", "tcp"}});
    const auto peer = test::silent_peer(silent);
    const test::refusing_port nobody;
    const auto before = handles();
    {
        std::vector<p2pmount::operation<void>> running;
        for (int i = 0; i < 100; i++) running.push_back(node.connect_async(peer, p2pmount::forever));
        EQUAL(handles(), before + 100 + 1);
        // The ends of those that are gone are kept nowhere.
        for (int i = 0; i < 100; i++) THROWS(status::unreachable, node.connect_async(nobody.peer(), 10s).get());
        EQUAL(handles(), before + 100 + 1);
        p2pmount::node moved = std::move(node);
        running.push_back(moved.connect_async(peer, p2pmount::forever));
        EQUAL(handles(), before + 101 + 1);
        running.front().cancel();
        THROWS(status::cancelled, running.front().get());
    }
    EQUAL(handles(), before - 1);
}

TEST("a thread that stops waiting leaves the queue to the next, and takes the ends of others meanwhile") {
    const test::server silent(test::server::silent);
    p2pmount::node node({{"transports", "tcp"}});
    const auto peer = test::silent_peer(silent);
    auto never = node.connect_async(peer, p2pmount::forever);
    std::vector<p2pmount::operation<void>> running;
    for (int i = 0; i < 6; i++) running.push_back(node.connect_async(peer, p2pmount::forever));
    std::atomic<int> woken{0};
    std::vector<std::thread> threads;
    std::thread first([&] { CHECK(!never.wait(300ms)); });
    for (auto &each : running)
        threads.emplace_back([&] {
            CHECK(!each.wait(100ms));
            THROWS(status::cancelled, each.get());
            woken++;
        });
    std::this_thread::sleep_for(150ms);
    for (std::size_t i = 0; i < 3; i++) running[i].cancel();
    while (woken < 3) std::this_thread::sleep_for(1ms);
    CHECK(first.joinable());
    first.join();
    for (std::size_t i = 3; i < 6; i++) running[i].cancel();
    for (auto &thread : threads) thread.join();
    CHECK(!never.wait(0ms));
}

TEST("an assignment ends the operation that was there before") {
    const test::server silent(test::server::silent);
    p2pmount::node node({{"transports", "tcp"}});
    auto events = node.events(event_kind::operation);
    const auto peer = test::silent_peer(silent);
    auto running = node.connect_async(peer, p2pmount::forever);
    const auto before = static_cast<std::int64_t>(running.id());
    running = node.connect_async(peer, p2pmount::forever);
    const auto end = test::await(events, [](const auto &) { return true; });
    EQUAL(end.integer("operation"), before);
    EQUAL(end.integer("code"), status::cancelled);
    CHECK(!running.wait(0ms));
}

TEST("operations do not take each other's end") {
    test::pair two;
    std::vector<p2pmount::operation<p2pmount::mount>> running;
    for (int i = 0; i < 10; i++)
        running.push_back(
            two.near.forward_async(i % 2 == 0 ? "test" : "none", "127.0.0.1:0", two.far.address(), {{"verify", true}}));
    for (std::size_t i = 10; i-- > 0;) {
        if (i % 2 == 0)
            CHECK(!running[i].get().address().empty());
        else
            THROWS(status::protocol_refused, running[i].get());
    }
}

TEST("the end is an event, too, for loops that have their own queue") {
    test::pair two;
    auto events = two.near.events(event_kind::operation);
    auto connecting = two.near.connect_async(two.far.address(), 10s);
    const auto id = static_cast<std::int64_t>(connecting.id());
    const auto event = test::await(events, [&](const auto &each) { return each.integer("operation") == id; });
    EQUAL(event.integer("code"), status::ok);
    connecting.get();
}

TEST("an operation that is forgotten is cancelled, and a mount that nobody took is closed") {
    const test::server silent(test::server::silent);
    p2pmount::node node({{"transports", "tcp"}});
    auto events = node.events(event_kind::operation);
    const auto peer = test::silent_peer(silent);
    { const auto forgotten = node.connect_async(peer, p2pmount::forever); }
    EQUAL(test::await(events, [](const auto &) { return true; }).integer("code"), status::cancelled);

    test::pair two;
    for (int i = 0; i < 30; i++) {
        auto forgotten = two.near.forward_async("test", "127.0.0.1:0", two.far.address());
        if (i % 3 == 0) forgotten.wait();
        if (i % 3 == 1) std::this_thread::sleep_for(std::chrono::microseconds(i * 20));
    }
    // A cancelled one is undone in the background: its event says when.
    for (int i = 0; i < 1000 && two.near.list(list_kind::forwards).size() > 1; i++) std::this_thread::sleep_for(10ms);
    EQUAL(two.near.list(list_kind::forwards).size(), 1U);
}

TEST("a closed node ends its operations") {
    const test::server silent(test::server::silent);
    p2pmount::node node({{"transports", "tcp"}});
    auto connecting = node.connect_async(test::silent_peer(silent), p2pmount::forever);
    std::thread waiting([&] { THROWS(status::closed, connecting.get()); });
    node.close();
    waiting.join();
}

TEST("closing a node wakes a blocking call with closed") {
    std::atomic<bool> dialled{false};
    const test::server silent([&](test::client connection) {
        dialled = true;
        test::server::silent(std::move(connection));
    });
    p2pmount::node node({{"transports", "tcp"}});
    const auto peer = test::silent_peer(silent);
    std::thread waiting([&] { THROWS(status::closed, node.connect(peer, p2pmount::forever)); });
    while (!dialled) std::this_thread::sleep_for(1ms);
    node.close();
    waiting.join();
}

TEST("a node closes in the background, and cancelling ends the draining") {
    test::pair two;
    const test::client open(two.forward.address());
    open.send("a");
    EQUAL(open.receive(1), "a");
    auto closing = two.near.close_async(p2pmount::forever);
    CHECK(!closing.wait(50ms));
    open.send("b");
    EQUAL(open.receive(1), "b");
    closing.cancel();
    THROWS(status::cancelled, closing.get());
    CHECK(open.was_reset());
    two.far.close_async(10s).get();
    THROWS(status::bad_handle, two.far.peer_id());
}
