// Options by name, as plain values of every kind.
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <list>
#include <map>
#include <unordered_map>

#include "test.hpp"

using p2pmount::option_value;
namespace status = p2pmount::status;

static std::string value(const p2pmount::node &node, const char *name) { return node.get(name)["value"]; }

TEST("each kind of value becomes the text that the library reads") {
    EQUAL(option_value(true).text(), "true");
    EQUAL(option_value(false).text(), "false");
    EQUAL(option_value(500).text(), "500");
    EQUAL(option_value(-1).text(), "-1");
    EQUAL(option_value(std::uint8_t{7}).text(), "7");
    EQUAL(option_value(std::uint64_t{18446744073709551615U}).text(), "18446744073709551615");
    EQUAL(option_value("16MiB").text(), "16MiB");
    EQUAL(option_value(std::string("x")).text(), "x");
    EQUAL(option_value(std::string_view("xyz").substr(1, 1)).text(), "y");
    EQUAL(option_value(std::filesystem::path("/a/b")).text(), "/a/b");
    EQUAL(option_value(1500ms).text(), "1500ms");
    EQUAL(option_value(30s).text(), "30000ms");
    EQUAL(option_value(2h).text(), "7200000ms");
    EQUAL(option_value(1us).text(), "1ms");
    EQUAL(option_value(std::chrono::duration<double>(0.25)).text(), "250ms");
    EQUAL(option_value(std::chrono::duration<int, std::ratio<60>>(2)).text(), "120000ms");
    EQUAL(option_value({"tcp", "quic"}).text(), "tcp,quic");
    EQUAL(option_value({std::string("tcp")}).text(), "tcp");
    EQUAL(option_value(std::vector<std::string>{"a", "b", "c"}).text(), "a,b,c");
    EQUAL(option_value(std::vector<std::string>{}).text(), "");
    EQUAL(option_value(std::list<std::string_view>{"a"}).text(), "a");
    EQUAL(option_value(std::vector<int>{1, 2}).text(), "1,2");
    const char *const array[] = {"x", "y"};
    EQUAL(option_value(array).text(), "x,y");
    // In C++20 a character type of its own.
    EQUAL(option_value(u8"tcp").text(), "tcp");
    EQUAL(option_value({u8"tcp", u8"\u00ef"}).text(), "tcp,\xc3\xaf");
    EQUAL(option_value(&u8"tcp"[1]).text(), "cp");
    EQUAL(option_value(std::filesystem::path("x").u8string()).text(), "x");
    const option_value copied = option_value(3);
    EQUAL(option_value(copied).text(), "3");
}

static_assert(!std::is_constructible_v<option_value, std::nullptr_t>);
static_assert(!std::is_convertible_v<std::nullptr_t, option_value>);

TEST("a value that has no text is refused with a sentence") {
    const char *nothing = nullptr;
    HAS(THROWS(status::invalid_argument, option_value(nothing)).what(), "null");
    const auto *no_utf8 = true ? nullptr : u8"";
    HAS(THROWS(status::invalid_argument, option_value(no_utf8)).what(), "null");
    HAS(THROWS(status::invalid_argument, option_value(std::chrono::hours::max())).what(), "duration");
    HAS(THROWS(status::invalid_argument, option_value(std::chrono::duration<double>(std::nan("")))).what(), "duration");
}

TEST("options arrive, given as a list, a map, one by one, or not at all") {
    const p2pmount::node listed({{"transports", {"tcp"}},
                                 {"open.timeout", 1500ms},
                                 {"streams.max", 70},
                                 {"reconnect", false},
                                 {"peers.deny", std::vector<std::string>{}}});
    EQUAL(value(listed, "transports"), "tcp");
    EQUAL(value(listed, "open.timeout"), "1500ms");
    EQUAL(value(listed, "streams.max"), "70");
    EQUAL(value(listed, "reconnect"), "false");
    EQUAL(listed.get("reconnect")["source"], "options");

    const p2pmount::node sorted(std::map<std::string, std::string>{{"transports", "quic"}, {"open.timeout", "7s"}});
    EQUAL(value(sorted, "transports"), "quic");
    EQUAL(value(sorted, "open.timeout"), "7s");
    const p2pmount::node hashed(std::unordered_map<std::string, int>{{"streams.max", 5}});
    EQUAL(value(hashed, "streams.max"), "5");

    p2pmount::options gathered;
    gathered.set("streams.max", 1).set("streams.max", 2);
    const p2pmount::options again = gathered;
    EQUAL(value(p2pmount::node(again), "streams.max"), "2");
    EQUAL(value(p2pmount::node(gathered), "streams.max"), "2");

    EQUAL(p2pmount::node().get("streams.max")["source"], "default");
    EQUAL(p2pmount::node(p2pmount::options{}).get("streams.max")["source"], "default");
}

TEST("an exported key is the same in each form") {
    char made[] = "/tmp/p2pmount-cpp-XXXXXX";
    CHECK(mkdtemp(made) != nullptr);
    const std::filesystem::path folder = made, key = folder / "key";
    const auto id = p2pmount::node({{"identity.file", key}}).peer_id();
    for (const char *format : {"libp2p-protobuf-cleartext", "pem-pkcs8-cleartext", "base64"}) {
        p2pmount::export_key(key, format, folder / format);
        EQUAL(p2pmount::node({{"identity.file", folder / format}}).peer_id(), id);
    }
    HAS(THROWS(status::bad_key, p2pmount::export_key(key, "base64", key.c_str())).what(), "exists already");
    HAS(THROWS(status::invalid_argument, p2pmount::export_key(key, "jwk", folder / "new")).what(), "base64");
    std::filesystem::remove_all(folder);
}

TEST("mounts and queues take options, too") {
    test::pair two;
    const auto listener =
        two.far.listen("other", "8080", {{"peers.allow", {two.near.peer_id()}}, {"report-peer-id", true}});
    EQUAL(listener.get("peers.allow")["value"], two.near.peer_id());
    EQUAL(listener.get("report-peer-id")["value"], "true");
    const auto forward =
        two.near.forward("test", "127.0.0.1:0", two.far.address(), {{"verify", true}, {"open.timeout", 9s}});
    EQUAL(forward.get("open.timeout")["value"], "9000ms");
    auto queue = two.near.events(p2pmount::event_kind::mount, {{"queue.capacity", 10}});
    CHECK(!queue.next(0ms));
}

TEST("a live option is changed in use, and inherited by mounts") {
    test::pair two;
    two.near.set("open.timeout", 2500ms);
    EQUAL(value(two.near, "open.timeout"), "2500ms");
    EQUAL(two.near.get("open.timeout")["source"], "set");
    EQUAL(two.forward.get("open.timeout")["value"], "2500ms");
    two.forward.set("streams.per_mount", 3);
    EQUAL(two.forward.get("streams.per_mount")["value"], "3");
    HAS(THROWS(status::bad_option, two.near.set("transports", {"tcp"})).what(), "transports");
    p2pmount::set("descriptors.reserve", 65);
    EQUAL(p2pmount::get("descriptors.reserve")["value"], "65");
}

TEST("the library's own word on an unknown option or a bad value is passed on") {
    HAS(THROWS(status::bad_option, p2pmount::node({{"no.such.option", true}})).what(), "no.such.option");
    HAS(THROWS(status::bad_option, p2pmount::node({{"open.timeout", "soon"}})).what(), "open.timeout");
    HAS(THROWS(status::bad_option, p2pmount::node({{"verify", true}})).what(), "verify");
    HAS(THROWS(status::bad_option, p2pmount::node({{"open.timeout", -5ms}})).what(), "open.timeout");
}

TEST("every option of the table can be read by name, whatever it is called") {
    const p2pmount::node node;
    std::size_t read = 0;
    for (const auto &option : p2pmount::list(p2pmount::list_kind::options)) {
        const std::string scope = option["scope"];
        if (scope.find("node") == std::string::npos) continue;
        EQUAL(node.get(option["name"])["name"], option["name"]);
        read++;
    }
    CHECK(read > 10);
}

TEST("a time limit is rounded up, never negative, and for ever when it is longer than the C API can tell") {
    using p2pmount::timeout;
    EQUAL(timeout(0ms).ms(), 0);
    EQUAL(timeout(1ms).ms(), 1);
    EQUAL(timeout(1ns).ms(), 1);
    EQUAL(timeout(1000001ns).ms(), 2);
    EQUAL(timeout(2s).ms(), 2000);
    EQUAL(timeout(-1ms).ms(), 0);
    EQUAL(timeout(-1h).ms(), 0);
    EQUAL(timeout(std::chrono::milliseconds(2147483647)).ms(), 2147483647);
    EQUAL(timeout(std::chrono::milliseconds(2147483648)).ms(), -1);
    EQUAL(timeout(std::chrono::hours::max()).ms(), -1);
    EQUAL(timeout(std::chrono::nanoseconds::max()).ms(), -1);
    EQUAL(timeout(std::chrono::hours::min()).ms(), 0);
    EQUAL(timeout(std::chrono::duration<double>(0.0015)).ms(), 2);
    EQUAL(timeout(std::chrono::duration<double>(std::nan(""))).ms(), 0);
    EQUAL(timeout(p2pmount::forever).ms(), -1);
    static_assert(timeout(5s).ms() == 5000);
    static_assert(!std::is_convertible_v<int, timeout>, "a bare number has no unit");
}
