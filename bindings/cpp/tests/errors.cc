// What fails says so: code, its name, a sentence that names the culprit.
#include <cerrno>

#include "test.hpp"

namespace status = p2pmount::status;

TEST("an error is a runtime_error with a sentence, a code and its name") {
    p2pmount::node node;
    try {
        const auto mount = node.listen("bad\nname", "8080");
    } catch (const std::runtime_error &error) {
        HAS(error.what(), "protocol");
        const auto *told = static_cast<const p2pmount::error *>(&error);
        EQUAL(told->code(), status::bad_protocol);
        EQUAL(told->code(), P2P_ERROR_BAD_PROTOCOL);
        EQUAL(told->code_name(), std::string("P2P_ERROR_BAD_PROTOCOL"));
        EQUAL(told->system_error(), 0);
        CHECK(!told->temporary() && !told->timed_out());
        return;
    }
    CHECK(!"a bad protocol name was accepted");
}

TEST("each mistake has its code and names what is wrong") {
    test::pair two;
    const std::string peer = two.far.address();
    HAS(THROWS(status::bad_address, two.near.listen("x", "127.0.0.1:99999")).what(), "99999");
    HAS(THROWS(status::bad_peer, two.near.forward("x", "127.0.0.1:0", "/ip4/127.0.0.1/tcp/1")).what(), "peer");
    HAS(THROWS(status::bad_protocol, two.near.listen("/foreign", "8080")).what(), "/foreign");
    HAS(THROWS(status::already_registered, two.far.listen("test", "8080")).what(), "test");
    HAS(THROWS(status::address_in_use, two.near.forward("x", two.forward.address(), peer)).what(),
        two.forward.address());
    HAS(THROWS(status::protocol_refused, two.near.forward("none", "127.0.0.1:0", peer, {{"verify", true}})).what(),
        "none");
    HAS(THROWS(status::not_found, two.near.close_stream(12345)).what(), "12345");
    HAS(THROWS(status::invalid_argument, two.near.close_mounts({})).what(), "which mounts");
    const test::refusing_port nobody;
    THROWS(status::unreachable, two.near.connect(nobody.peer(), p2pmount::forever));
}

TEST("a time limit that passes is a timed_out, temporary error") {
    const test::server silent(test::server::silent);
    p2pmount::node node({{"transports", "tcp"}});
    const auto error = THROWS(status::timed_out, node.connect(test::silent_peer(silent), 50ms));
    CHECK(error.timed_out());
    CHECK(error.temporary());
}

TEST("what the system refuses comes with its errno") {
    const auto error = THROWS(status::bad_key, p2pmount::node({{"identity.file", "/no/such/directory/key"}}));
    EQUAL(error.system_error(), ENOENT);
    HAS(error.what(), "/no/such/directory");
}

TEST("text with a NUL inside is refused, not cut off") {
    using namespace std::string_view_literals;
    p2pmount::node node;
    const auto peer = p2pmount::node().address();
    HAS(THROWS(status::invalid_argument, node.listen("we\0b"sv, "8080")).what(),
        "protocol has a NUL character at position 2");
    HAS(THROWS(status::invalid_argument, node.listen("web", "80\0"sv)).what(), "target_address");
    HAS(THROWS(status::invalid_argument, node.forward("web", "\0"sv, peer)).what(), "listen_address");
    HAS(THROWS(status::invalid_argument, node.forward("web", "127.0.0.1:0", peer + '\0')).what(), "peer");
    HAS(THROWS(status::invalid_argument, node.forward_async("web", "127.0.0.1:0", peer + '\0')).what(), "peer");
    HAS(THROWS(status::invalid_argument, node.connect(peer + '\0', 1s)).what(), "peer");
    HAS(THROWS(status::invalid_argument, node.connect_async(peer + '\0', 1s)).what(), "peer");
    HAS(THROWS(status::invalid_argument, node.set("open\0.timeout"sv, 1s)).what(), "name of an option");
    HAS(THROWS(status::invalid_argument, node.set("open.timeout", "1s\0"sv)).what(), "value");
    HAS(THROWS(status::invalid_argument, node.get("open.timeout\0"sv)).what(), "name of an option");
    HAS(THROWS(status::invalid_argument, p2pmount::node({{"transports", "tcp\0"sv}})).what(), "transports");
    HAS(THROWS(status::invalid_argument, node.list(p2pmount::list_kind::node)[0].text("ki\0nd"sv)).what(), "field");
    p2pmount::filter which;
    which.target = "x\0"s;
    HAS(THROWS(status::invalid_argument, node.close_mounts(which)).what(), "target");
    // A view that is not followed by a NUL is read to its own end.
    EQUAL(node.listen("webster"sv.substr(0, 3), "8080").list(p2pmount::list_kind::listeners)[0]["protocol"], "/x/web");
}

TEST("text that is not UTF-8 is refused") {
    p2pmount::node node;
    THROWS(status::invalid_argument, node.listen("\xff\xfe", "8080"));
}

TEST("the name of a code is told, also of one that is not known") {
    EQUAL(p2pmount::status_name(status::limit), std::string("P2P_ERROR_LIMIT"));
    EQUAL(p2pmount::status_name(9999), std::string("P2P_ERROR_?"));
    EQUAL(p2pmount::error(9999, "new").code_name(), std::string("P2P_ERROR_?"));
    EQUAL(p2pmount::version(), std::string(P2P_VERSION_STRING));
}
