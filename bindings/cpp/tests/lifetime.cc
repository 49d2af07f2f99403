// Objects close themselves, in any order; what is used too late is an error.
#include "test.hpp"

using p2pmount::list_kind;
namespace status = p2pmount::status;

static_assert(!std::is_copy_constructible_v<p2pmount::node> && std::is_nothrow_move_constructible_v<p2pmount::node>);
static_assert(!std::is_copy_constructible_v<p2pmount::mount> && std::is_nothrow_move_constructible_v<p2pmount::mount>);
static_assert(!std::is_copy_assignable_v<p2pmount::node> && std::is_nothrow_move_assignable_v<p2pmount::node>);
static_assert(!std::is_copy_assignable_v<p2pmount::mount> && std::is_nothrow_move_assignable_v<p2pmount::mount>);
static_assert(!std::is_copy_constructible_v<p2pmount::event_queue>);
static_assert(std::is_nothrow_move_constructible_v<p2pmount::event_queue>);
static_assert(!std::is_copy_constructible_v<p2pmount::operation<void>>);
static_assert(std::is_nothrow_move_constructible_v<p2pmount::operation<void>>);
static_assert(!std::is_copy_constructible_v<p2pmount::descriptor>);
static_assert(std::is_nothrow_destructible_v<p2pmount::node> && std::is_nothrow_destructible_v<p2pmount::mount>);
static_assert(std::is_nothrow_destructible_v<p2pmount::operation<p2pmount::mount>>);

static std::int64_t handles() { return p2pmount::list(list_kind::process)[0].integer("handles"); }

TEST("every object gives its handle back") {
    p2pmount::node().close();
    const auto before = handles();
    {
        test::pair two;
        two.echo_must_work();
        auto queue = two.near.events();
        const auto rows = two.near.list(list_kind::forwards);
        const auto again = rows;
        const auto value = two.near.get("open.timeout");
        auto first = queue.next(0ms);
        auto connecting = two.near.connect_async(two.far.address(), 5s);
        connecting.get();
        auto forwarding = two.near.forward_async("test", "127.0.0.1:0", two.far.address());
        forwarding.wait();
        p2pmount::options options{{"verify", true}};
        const auto other = two.near.forward("test", "127.0.0.1:0", two.far.address(), options);
        p2pmount::node moved = std::move(two.near);
    }
    EQUAL(handles(), before);
}

TEST("an error in the middle of an options set gives its handle back") {
    p2pmount::node node;
    const auto before = handles();
    for (int i = 0; i < 10; i++) THROWS(status::bad_option, p2pmount::node({{"verify", true}, {"no.such", 1}}));
    EQUAL(handles(), before);
}

TEST("closing twice does nothing the second time") {
    test::pair two;
    two.forward.close();
    two.forward.close();
    auto queue = two.near.events();
    queue.close();
    queue.close();
    two.near.close();
    two.near.close(1s);
    // With the node its mounts are closed, too.
    two.far.close();
    two.listener.close();
}

TEST("what is used after its close throws bad_handle") {
    test::pair two;
    auto queue = two.near.events();
    auto closed = two.near.forward("test", "127.0.0.1:0", two.far.address());
    closed.close();
    THROWS(status::bad_handle, closed.address());
    THROWS(status::bad_handle, closed.list(list_kind::forwards));
    THROWS(status::bad_handle, closed.set("reconnect", false));
    two.near.close();
    THROWS(status::bad_handle, two.near.peer_id());
    THROWS(status::bad_handle, two.near.address());
    THROWS(status::bad_handle, two.near.addresses());
    THROWS(status::bad_handle, two.near.listen("x", "8080"));
    THROWS(status::bad_handle, two.near.forward("x", "127.0.0.1:0", two.far.address()));
    THROWS(status::bad_handle, two.near.forward_async("x", "127.0.0.1:0", two.far.address()));
    THROWS(status::bad_handle, two.near.connect(two.far.address(), 1s));
    THROWS(status::bad_handle, two.near.connect_async(two.far.address(), 1s));
    THROWS(status::bad_handle, two.near.close_async(1s));
    THROWS(status::bad_handle, two.near.close_all());
    THROWS(status::bad_handle, two.near.close_stream(0));
    THROWS(status::bad_handle, two.near.list(list_kind::node));
    THROWS(status::bad_handle, two.near.events());
    THROWS(status::bad_handle, two.near.set("open.timeout", 1s));
    THROWS(status::bad_handle, two.near.get("open.timeout"));
    THROWS(status::bad_handle, two.forward.address());
    queue.close();
    THROWS(status::bad_handle, queue.fd());
}

TEST("what was moved away throws bad_handle, and never acts on the process") {
    p2pmount::node node;
    p2pmount::mount mount = node.listen("x", "8080");
    auto queue = node.events();
    auto closing = node.connect_async("/ip4/127.0.0.1/tcp/1/p2p/" + p2pmount::node().peer_id(), 5s);
    const p2pmount::node kept = std::move(node);
    const p2pmount::mount kept_mount = std::move(mount);
    const auto kept_queue = std::move(queue);
    const auto kept_closing = std::move(closing);
    // NOLINTBEGIN: the point is to use them.
    HAS(THROWS(status::bad_handle, node.list(list_kind::process)).what(), "moved");
    THROWS(status::bad_handle, node.set("log.level", "off"));
    THROWS(status::bad_handle, node.get("log.level"));
    THROWS(status::bad_handle, node.peer_id());
    THROWS(status::bad_handle, mount.list(list_kind::process));
    THROWS(status::bad_handle, mount.set("log.level", "off"));
    THROWS(status::bad_handle, mount.get("log.level"));
    THROWS(status::bad_handle, queue.next(0ms));
    THROWS(status::bad_handle, queue.fd());
    THROWS(status::bad_handle, closing.cancel());
    THROWS(status::bad_handle, closing.wait(0ms));
    node.close();
    mount.close();
    queue.close();
    // NOLINTEND
    EQUAL(kept_mount.address(), "127.0.0.1:8080");
    EQUAL(kept.list(list_kind::listeners).size(), 1U);
}

TEST("an assignment closes what was there before") {
    test::pair two;
    const std::string address = two.forward.address();
    two.forward = two.near.forward("test", "127.0.0.1:0", two.far.address());
    CHECK(test::is_free(address));
    two.echo_must_work();
    const std::string second = two.forward.address();
    two.near = p2pmount::node();
    CHECK(test::is_free(second));
    EQUAL(two.near.list(list_kind::forwards).size(), 0U);
}

TEST("the end of a mount frees its port, and of a released one only the end of its node") {
    test::pair two;
    std::string address = two.forward.address();
    { const p2pmount::mount gone = std::move(two.forward); }
    CHECK(test::is_free(address));
    {
        p2pmount::mount kept = two.near.forward("test", "127.0.0.1:0", two.far.address());
        address = kept.address();
        CHECK(kept.release() != 0);
    }
    CHECK(!test::is_free(address));
    two.near.close();
    CHECK(test::is_free(address));
}

TEST("mounts, queues, rows and operations may outlive their node") {
    auto node = std::make_unique<p2pmount::node>();
    const auto mount = node->listen("x", "127.0.0.1:8080");
    auto queue = node->events();
    const auto rows = node->list(list_kind::listeners);
    auto row = std::make_unique<p2pmount::row>(node->list(list_kind::node)[0]);
    auto connecting = node->connect_async("/ip4/127.0.0.1/tcp/1/p2p/" + p2pmount::node().peer_id(), p2pmount::forever);
    const std::string id = node->peer_id();
    node.reset();
    EQUAL(rows[0]["target"], "127.0.0.1:8080");
    EQUAL(row->text("peer"), id);
    EQUAL(test::await(queue, [](const auto &event) { return event["kind"] == "node" && event["state"] == "closed"; })
              .is(p2pmount::event_kind::node),
          true);
    THROWS(status::bad_handle, mount.address());
    // Refused before or ended with the node: an error of its own either way, not a wait.
    CHECK(connecting.wait(test::patience));
    try {
        connecting.get();
        CHECK(!"connected to a port on which nobody listens");
    } catch (const p2pmount::error &error) {
        CHECK(error.code() == status::closed || error.code() == status::unreachable);
    }
}

TEST("a close lets the streams finish, the end of a node does not") {
    test::pair two;
    {
        const test::client open(two.forward.address());
        open.send("a");
        EQUAL(open.receive(1), "a");
        two.near = p2pmount::node();
        CHECK(open.was_reset());
    }
    two.forward = two.near.forward("test", "127.0.0.1:0", two.far.address());
    const test::client open(two.forward.address());
    open.send("a");
    EQUAL(open.receive(1), "a");
    std::thread closing([&] { two.near.close(p2pmount::forever); });
    open.send("bc");
    EQUAL(open.receive(2), "bc");
    open.end();
    EQUAL(open.rest(), "");
    closing.join();
}

TEST("the end of a node does not wait for a draining in the background") {
    test::pair two;
    const test::client open(two.forward.address());
    open.send("a");
    EQUAL(open.receive(1), "a");
    auto closing = two.near.close_async(p2pmount::forever);
    CHECK(!closing.wait(50ms));
    const auto before = std::chrono::steady_clock::now();
    { const p2pmount::node gone = std::move(two.near); }
    CHECK(std::chrono::steady_clock::now() - before < 10s);
    THROWS(status::cancelled, closing.get());
}
