// The ends of a process and what comes before them: exceptions, static objects, fork.
#include <unistd.h>

#include <memory>
#include <stdexcept>

#include "test.hpp"

using p2pmount::list_kind;
namespace status = p2pmount::status;

TEST("an exception that passes live objects leaves nothing behind") {
    p2pmount::node().close();
    const auto handles = [] { return p2pmount::list(list_kind::process)[0].integer("handles"); };
    const auto before = handles();
    std::string address;
    try {
        test::pair two;
        address = two.forward.address();
        const test::client open(address);
        open.send("a");
        EQUAL(open.receive(1), "a");
        auto queue = two.near.events();
        auto connecting = two.near.connect_async(two.far.address(), p2pmount::forever);
        for (const auto &row : two.near.list(list_kind::streams)) throw std::logic_error("user code: " + row["kind"]);
    } catch (const std::logic_error &error) {
        EQUAL(error.what(), std::string("user code: stream"));
    }
    CHECK(test::is_free(address));
    EQUAL(handles(), before);
    EQUAL(p2pmount::list(list_kind::process)[0].integer("nodes"), 0);
}

TEST("an exception in a loop over events leaves the queue usable") {
    p2pmount::node node;
    auto queue = node.events(p2pmount::event_kind::mount);
    const auto mount = node.listen("a", "8080");
    try {
        for (const auto &event : queue) throw std::logic_error(event["state"]);
    } catch (const std::logic_error &error) {
        EQUAL(error.what(), std::string("listening"));
    }
    const auto other = node.listen("b", "8080");
    EQUAL(queue.next(test::patience).value()["protocol"], "/x/b");
}

// Live at exit; made in main, destroyed by exit().
static std::unique_ptr<test::pair> static_pair;
static std::unique_ptr<p2pmount::event_queue> static_queue;
static std::unique_ptr<test::client> static_client;
static std::unique_ptr<p2pmount::operation<void>> static_operation;

static void fill_static_objects() {
    static_pair = std::make_unique<test::pair>();
    static_queue = std::make_unique<p2pmount::event_queue>(static_pair->near.events());
    static_client = std::make_unique<test::client>(static_pair->forward.address());
    static_client->send("a");
    EQUAL(static_client->receive(1), "a");
    static_operation = std::make_unique<p2pmount::operation<void>>(static_pair->near.close_async(p2pmount::forever));
}

TEST("exit with live objects in static storage ends well and at once") { fill_static_objects(); }

TEST("exit while another thread waits for events ends well") {
    // Not freed on purpose: the thread uses it to the very end.
    static auto *const node = new p2pmount::node();
    static auto *const queue = new p2pmount::event_queue(node->events());
    std::atomic<bool> waiting{false};
    std::thread([&] {
        waiting = true;
        for (const auto &event : *queue) EQUAL(event["kind"], "nothing was to come");
    }).detach();
    while (!waiting) std::this_thread::yield();
}

TEST("a forked child gets errors from what it inherited, and its destructors end at once and close nothing") {
    fill_static_objects();
    auto two = std::make_unique<test::pair>();
    auto queue = std::make_unique<p2pmount::event_queue>(two->near.events());
    auto rows = std::make_unique<p2pmount::snapshot>(two->near.list(list_kind::forwards));
    auto operation = std::make_unique<p2pmount::operation<void>>(two->near.connect_async(two->far.address(), 10s));
    operation->wait();
    test::in_child([&] {
        THROWS(status::forked, two->near.peer_id());
        THROWS(status::forked, two->near.list(list_kind::node));
        THROWS(status::forked, two->near.connect_async(two->far.peer_id(), p2pmount::forever));
        THROWS(status::forked, two->near.close(p2pmount::forever));
        THROWS(status::forked, two->forward.close());
        THROWS(status::forked, two->forward.address());
        THROWS(status::forked, (*rows)[0]["kind"]);
        THROWS(status::forked, queue->next());
        THROWS(status::forked, queue->close());
        THROWS(status::forked, static_operation->wait());
        THROWS(status::forked, static_operation->cancel());
        THROWS(status::forked, operation->wait(0ms));
        THROWS(status::forked, operation->get());
        // The test pair's server joins a thread that the child does not have; the objects of the library alone go here.
        operation.reset();
        queue.reset();
        rows.reset();
        { const auto gone = std::move(two->forward); }
        { const auto gone = std::move(two->listener); }
        { const auto gone = std::move(two->near); }
        { const auto gone = std::move(two->far); }
        static_cast<void>(two.release());
        static_operation.reset();
        static_queue.reset();
        { const auto gone = std::move(static_pair->near); }
        static_cast<void>(static_pair.release());
        // A node of its own works.
        const test::pair own;
        own.echo_must_work();
    });
    two->echo_must_work();
    EQUAL(two->near.list(list_kind::forwards).size(), 1U);
    EQUAL((*rows)[0]["kind"], "forward");
    static_client->send("b");
    EQUAL(static_client->receive(1), "b");
}

TEST("a child that is forked while threads wait for operations is not held up by what they held") {
    const test::server silent(test::server::silent);
    auto node = std::make_unique<p2pmount::node>(p2pmount::options{{"transports", "tcp"}});
    const auto peer = test::silent_peer(silent);
    using operation = p2pmount::operation<void>;
    auto connecting = std::make_unique<operation>(node->connect_async(peer, p2pmount::forever));
    std::atomic<int> waiting{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; i++)
        threads.emplace_back([&] {
            waiting++;
            THROWS(status::cancelled, connecting->get());
        });
    while (waiting < 3) std::this_thread::sleep_for(1ms);
    CHECK(!connecting->wait(50ms));
    test::in_child([&] {
        THROWS(status::forked, connecting->wait());
        THROWS(status::forked, connecting->get());
        THROWS(status::forked, node->connect_async(peer, p2pmount::forever));
        THROWS(status::forked, node->close_async(0ms));
        connecting.reset();
        node.reset();
        static_cast<void>(new std::vector<std::thread>(std::move(threads)));
        // What the child does not have is not ended by it.
        ::_exit(0);
    });
    connecting->cancel();
    for (auto &thread : threads) thread.join();
}

// A node in static storage for good: a child that ends through exit() runs its destructor.
TEST("a forked child that just exits does not disturb its parent's static objects") {
    static p2pmount::node far;
    static p2pmount::node near;
    static const test::server *const service = new test::server();
    static p2pmount::mount listener = far.listen("test", service->address());
    static p2pmount::mount forward = near.forward("test", "127.0.0.1:0", far.address());
    static auto queue = near.events();
    const test::client open(forward.address());
    open.send("a");
    EQUAL(open.receive(1), "a");
    test::in_child([] {});
    open.send("b");
    EQUAL(open.receive(1), "b");
    CHECK(!test::is_free(forward.address()));
}
