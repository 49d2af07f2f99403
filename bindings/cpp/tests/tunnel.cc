// Two nodes in one process and a tunnel between them.
#include <algorithm>
#include <set>

#include "test.hpp"

using p2pmount::close_flag;
using p2pmount::list_kind;
namespace status = p2pmount::status;

TEST("bytes pass both ways, and each direction ends on its own") {
    for (const char *transport : {"tcp", "quic"}) {
        const test::pair two({{"transports", transport}});
        const test::client connection(two.forward.address());
        std::string sent;
        for (int i = 0; sent.size() < (1 << 20); i++) sent += std::to_string(i) + ' ';
        std::thread sending([&] {
            connection.send(sent);
            connection.end();
        });
        CHECK(connection.rest() == sent);
        sending.join();
    }
}

TEST("a node tells its peer id and addresses") {
    const p2pmount::node node;
    const auto id = node.peer_id();
    EQUAL(id.substr(0, 8), "12D3KooW");
    std::string joined;
    for (const auto &address : node.addresses()) {
        HAS(address, "/p2p/" + id);
        EQUAL(address.find(','), std::string::npos);
        joined += (joined.empty() ? "" : ",") + address;
    }
    EQUAL(node.address(), joined);
    const p2pmount::node silent({{"listen.addresses", std::vector<std::string>()}});
    EQUAL(silent.address(), silent.peer_id());
}

TEST("addresses that are longer than the usual buffer come whole") {
    std::vector<std::string> wanted;
    for (int i = 1; i <= 70; i++) wanted.push_back("/ip4/127.0.0." + std::to_string(i) + "/tcp/0");
    const p2pmount::node node({{"listen.addresses", wanted}});
    CHECK(node.address().size() > P2P_ADDRESS_SIZE);
    EQUAL(node.addresses().size(), wanted.size());
}

TEST("rows are walked with range-for and read by field") {
    test::pair two;
    const test::client connection(two.forward.address());
    connection.send("12345");
    EQUAL(connection.receive(5), "12345");

    std::multiset<std::string> kinds;
    for (const auto &row : two.near.list(list_kind::forwards | list_kind::streams | list_kind::peers | list_kind::node |
                                         list_kind::addresses | list_kind::listeners)) {
        kinds.insert(row["kind"]);
        EQUAL(row.fields()[0], "kind");
        for (const auto &field : row.fields()) {
            CHECK(row.has(field));
            row.text(field);
        }
    }
    EQUAL(kinds.count("forward"), 1U);
    EQUAL(kinds.count("stream"), 1U);
    EQUAL(kinds.count("peer"), 1U);
    EQUAL(kinds.count("node"), 1U);
    EQUAL(kinds.count("listener"), 0U);

    const auto streams = two.near.list(list_kind::streams);
    EQUAL(streams.size(), 1U);
    CHECK(!streams.empty());
    EQUAL(streams[0]["protocol"], "/x/test");
    EQUAL(streams[0].integer("bytes_out"), 5);
    EQUAL(streams[0]["bytes_out"], "5");
    EQUAL(streams[0]["target"], "/p2p/" + two.far.peer_id());

    EQUAL(two.forward.list(list_kind::forwards)[0].integer("streams"), 1);
    EQUAL(two.forward.list(list_kind::streams).size(), 1U);
    EQUAL(two.listener.list(list_kind::listeners)[0]["target"], two.service.address());
    EQUAL(p2pmount::list(list_kind::process)[0].integer("nodes"), 2);
    CHECK(two.far.list(list_kind::forwards).empty());
}

TEST("a field that a row lacks is absent, a name that no row has is a mistake") {
    const p2pmount::node node;
    const auto row = node.list(list_kind::node)[0];
    CHECK(!row.find_text("target"));
    CHECK(!row.find_integer("bytes_in"));
    CHECK(!row.has("target"));
    CHECK(!row.has("no_such_field"));
    EQUAL(row.find_text("kind").value(), "node");
    EQUAL(row.find_integer("listeners").value(), 0);
    HAS(THROWS(status::not_found, row["target"]).what(), "target");
    HAS(THROWS(status::not_found, row.integer("bytes_in")).what(), "bytes_in");
    HAS(THROWS(status::invalid_argument, row["no_such_field"]).what(), "no_such_field");
    HAS(THROWS(status::invalid_argument, row.find_text("no_such_field")).what(), "no_such_field");
    HAS(THROWS(status::invalid_argument, row.integer("kind")).what(), "kind");
}

TEST("a row past the last one is an error, not a crash") {
    const p2pmount::node node;
    const auto rows = node.list(list_kind::node);
    THROWS(status::not_found, rows[1]["kind"]);
    THROWS(status::not_found, rows[1].find_text("kind"));
    THROWS(status::not_found, rows[1].find_integer("listeners"));
    THROWS(status::not_found, rows[1].fields());
}

TEST("rows can be kept, copied and sorted after their list is gone") {
    p2pmount::node node;
    const auto one = node.listen("b", "8081");
    const auto two = node.listen("a", "8082");
    std::vector<p2pmount::row> kept;
    {
        const auto rows = node.list(list_kind::listeners);
        kept.assign(rows.begin(), rows.end());
    }
    std::sort(kept.begin(), kept.end(),
              [](const auto &left, const auto &right) { return left["protocol"] < right["protocol"]; });
    node.close();
    EQUAL(kept.size(), 2U);
    EQUAL(kept[0]["target"], "127.0.0.1:8082");
    EQUAL(kept[1]["target"], "127.0.0.1:8081");
}

TEST("mounts are closed by filter and counted") {
    test::pair two;
    const auto other = two.near.forward("other", "127.0.0.1:0", two.far.address());
    const auto listener = two.near.listen("mine", "8080");
    p2pmount::filter which;
    which.protocol = "test";
    EQUAL(two.near.close_mounts(which, close_flag::listeners), 0U);
    EQUAL(two.near.close_mounts(which), 1U);
    EQUAL(two.near.close_mounts(which), 0U);
    THROWS(status::bad_handle, two.forward.address());
    which = {};
    which.listen_address = other.address();
    which.target = "/p2p/" + two.far.peer_id();
    EQUAL(two.near.close_mounts(which), 1U);
    EQUAL(two.near.close_all(close_flag::forwards), 0U);
    EQUAL(two.near.close_all(), 1U);
    THROWS(status::bad_handle, listener.address());
}

TEST("streams run on when their mount is closed, or are reset if that is asked for") {
    test::pair two;
    const test::client running(two.forward.address());
    running.send("a");
    EQUAL(running.receive(1), "a");
    two.forward.close();
    running.send("b");
    EQUAL(running.receive(1), "b");
    two.near.close_stream(two.near.list(list_kind::streams)[0].integer("id"));
    CHECK(running.was_reset());

    auto forward = two.near.forward("test", "127.0.0.1:0", two.far.address());
    const test::client cut(forward.address());
    cut.send("a");
    EQUAL(cut.receive(1), "a");
    forward.close(close_flag::streams);
    CHECK(cut.was_reset());
}

TEST("connect says whether the node is connected, and makes it so") {
    test::pair two;
    THROWS(status::timed_out, two.near.connect(two.far.address(), 0ms));
    two.near.connect(two.far.address(), 10s);
    two.near.connect(two.far.peer_id(), 0ms);
    EQUAL(two.near.list(list_kind::peers)[0]["peer"], two.far.peer_id());
}
