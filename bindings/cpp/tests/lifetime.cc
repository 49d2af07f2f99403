// Objects close themselves, in any order; what is used too late is an error.
#include <iterator>
#if __has_include(<ranges>)
#include <ranges>
#endif

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
    auto queue = node.events(p2pmount::event_kind::mount);
    p2pmount::mount mount = node.listen("x", "8080");
    auto rows = node.list(list_kind::listeners);
    auto row = rows[0];
    auto event = queue.next(test::patience).value();
    const test::refusing_port nobody;
    auto closing = node.connect_async(nobody.peer(), 5s);
    const p2pmount::node kept = std::move(node);
    const p2pmount::mount kept_mount = std::move(mount);
    const auto kept_queue = std::move(queue);
    const auto kept_closing = std::move(closing);
    const auto kept_rows = std::move(rows);
    const auto kept_row = std::move(row);
    const auto kept_event = std::move(event);
    // NOLINTBEGIN: the point is to use them.
    HAS(THROWS(status::bad_handle, node.list(list_kind::process)).what(), "moved");
    THROWS(status::bad_handle, node.set("log.level", "off"));
    THROWS(status::bad_handle, node.get("log.level"));
    THROWS(status::bad_handle, node.peer_id());
    THROWS(status::bad_handle, mount.list(list_kind::process));
    THROWS(status::bad_handle, mount.set("log.level", "off"));
    THROWS(status::bad_handle, mount.get("log.level"));
    THROWS(status::bad_handle, node.connect_async(nobody.peer(), 5s));
    THROWS(status::bad_handle, node.close_async(5s));
    const auto moved = "was released or moved to another object"s;
    HAS(THROWS(status::bad_handle, queue.next(0ms)).what(), "this queue of events " + moved);
    HAS(THROWS(status::bad_handle, queue.fd()).what(), "this queue of events " + moved);
    CHECK(!queue.ended());
    HAS(THROWS(status::bad_handle, closing.id()).what(), "this operation " + moved);
    HAS(THROWS(status::bad_handle, closing.cancel()).what(), "this operation " + moved);
    HAS(THROWS(status::bad_handle, closing.wait(0ms)).what(), "this operation " + moved);
    HAS(THROWS(status::bad_handle, closing.get()).what(), "this operation " + moved);
    HAS(THROWS(status::bad_handle, row["kind"]).what(), "this row " + moved);
    HAS(THROWS(status::bad_handle, row.fields()).what(), "this row " + moved);
    HAS(THROWS(status::bad_handle, event.kind()).what(), "this row " + moved);
    HAS(THROWS(status::bad_handle, rows[0]["kind"]).what(), "this row " + moved);
    EQUAL(rows.size(), 0U);
    CHECK(rows.empty() && rows.begin() == rows.end());
    node.close();
    mount.close();
    queue.close();
    // NOLINTEND
    EQUAL(kept_mount.address(), "127.0.0.1:8080");
    EQUAL(kept.list(list_kind::listeners).size(), 1U);
    EQUAL(kept_rows.size(), 1U);
    EQUAL(kept_row["kind"], "listener");
    EQUAL(kept_event["kind"], "mount");
}

// A whole number as a field is a mistake, and 0 would be a null pointer.
template <class Row, class = void>
inline constexpr bool takes_zero = false;
template <class Row>
inline constexpr bool takes_zero<Row, std::void_t<decltype(std::declval<const Row &>()[0])>> = true;
static_assert(takes_zero<p2pmount::snapshot> && !takes_zero<p2pmount::row> && !takes_zero<p2pmount::event>);

#ifdef __cpp_lib_ranges
static_assert(std::ranges::input_range<const p2pmount::snapshot> && std::ranges::input_range<p2pmount::event_queue>);
#endif

TEST("an iterator over a list keeps it, and does what an input iterator does") {
    const auto before = handles();
    {
        p2pmount::node node;
        const auto first = node.listen("a", "8080");
        const auto second = node.listen("b", "8080");
        auto each = node.list(list_kind::listeners).begin();
        static_assert(std::is_same_v<decltype(*each), p2pmount::snapshot::iterator::reference>);
        static_assert(std::is_same_v<decltype(each.operator->()), p2pmount::snapshot::iterator::pointer>);
        const std::string protocol = each->text("protocol");
        EQUAL((*each)["protocol"], protocol);
        EQUAL((*each++)["protocol"], protocol);
        CHECK(each->text("protocol") != protocol);
        const auto rows = node.list(list_kind::listeners);
        const std::vector<p2pmount::row> copied(rows.begin(), rows.end());
        EQUAL(copied.size(), 2U);
        EQUAL(std::distance(rows.begin(), rows.end()), 2);
        const p2pmount::snapshot::iterator nowhere;
        THROWS(status::bad_handle, nowhere->text("protocol"));
    }
    EQUAL(handles(), before);
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
    const test::refusing_port nobody;
    auto connecting = node->connect_async(nobody.peer(), p2pmount::forever);
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

TEST("a close without a drain ends a draining in the background, one with a drain waits for it") {
    test::pair two;
    const test::client open(two.forward.address());
    open.send("a");
    EQUAL(open.receive(1), "a");
    auto closing = two.near.close_async(p2pmount::forever);
    CHECK(!closing.wait(50ms));
    THROWS(status::closed, two.near.close_async(0ms));
    std::thread waiting([&] { two.near.close(1ms); });
    CHECK(!closing.wait(100ms));
    open.send("b");
    EQUAL(open.receive(1), "b");
    two.near.close();
    THROWS(status::cancelled, closing.get());
    CHECK(open.was_reset());
    waiting.join();
    THROWS(status::bad_handle, two.near.close_async(0ms));
    two.near.close();
}
