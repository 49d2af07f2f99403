// Shows the mounts and streams of a node while they change.
//
//     list expose [name=value ...] PROTOCOL TARGET [name=value ...]
//     list forward [name=value ...] PROTOCOL LISTEN PEER [name=value ...]
//
// As `tunnel`, with a table that is printed anew at every event of a mount or stream, and once a second while streams
// are open. One thread waits for its input and for events alike.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>

#include "common.hpp"

using p2pmount::event_kind;
using p2pmount::list_kind;

// The rows of a list under a line of headings, each column as wide as its widest cell.
static void add_table(std::string &text, const p2pmount::snapshot &rows, const std::vector<std::string> &columns) {
    if (rows.empty()) return;
    std::vector<std::vector<std::string>> lines(1);
    for (std::string heading : columns) {
        std::transform(heading.begin(), heading.end(), heading.begin(),
                       [](unsigned char letter) { return static_cast<char>(std::toupper(letter)); });
        lines[0].push_back(heading);
    }
    for (const auto &row : rows) {
        lines.emplace_back();
        // A field that this kind of row lacks, or that is empty, is shown as a dash.
        for (const std::string &column : columns) {
            const std::string cell = row.find_text(column).value_or("");
            lines.back().push_back(cell.empty() ? "-" : cell);
        }
    }
    for (const auto &line : lines) {
        for (std::size_t column = 0; column < columns.size(); column++) {
            std::size_t width = 0;
            for (const auto &each : lines) width = std::max(width, each[column].size());
            text += line[column];
            if (column + 1 < columns.size()) text.append(width + 2 - line[column].size(), ' ');
        }
        text += '\n';
    }
}

static std::string table(const p2pmount::node &node) {
    std::string text;
    add_table(text, node.list(list_kind::listeners | list_kind::forwards),
              {"kind", "protocol", "listen", "target", "state", "streams", "streams_total", "bytes_in", "bytes_out"});
    add_table(text, node.list(list_kind::streams),
              {"kind", "id", "protocol", "origin", "target", "transport", "path", "age_ms", "bytes_in", "bytes_out"});
    return text;
}

// On a terminal over the table before, elsewhere below it and with an empty line at its end.
static void print(const std::string &text) {
    static std::string before;
    if (::isatty(STDOUT_FILENO) == 1) {
        const auto lines = std::count(before.begin(), before.end(), '\n');
        if (lines > 0) std::cout << "\x1b[" << lines << "A\x1b[J";
        // Lines that are too long are cut off, not wrapped, so that their number is known.
        std::cout << "\x1b[?7l" << text << "\x1b[?7h" << std::flush;
        before = text;
    } else {
        std::cout << text << std::endl;
    }
}

// Whether the input has come to "quit" or to its end; takes what can be read.
static bool quits() {
    static std::string input;
    char part[512];
    const auto count = ::read(STDIN_FILENO, part, sizeof part);
    if (count <= 0) return true;
    input.append(part, static_cast<std::size_t>(count));
    for (std::size_t end; (end = input.find('\n')) != std::string::npos; input.erase(0, end + 1))
        if (input.compare(0, end, "quit") == 0) return true;
    return false;
}

static void watch(const p2pmount::node &node, p2pmount::event_queue &events) {
    const p2pmount::descriptor fd = events.fd();
    pollfd wanted[] = {{STDIN_FILENO, POLLIN, 0}, {fd.get(), POLLIN, 0}};
    print(table(node));
    while (!events.ended()) {
        // Only the ages and counters of open streams change without an event.
        const bool streams = !node.list(list_kind::streams).empty();
        const int ready = ::poll(wanted, 2, streams ? 1000 : -1);
        if (ready > 0 && wanted[0].revents != 0 && quits()) return;
        bool news = ready == 0;
        while (events.next(std::chrono::milliseconds(0))) news = true;
        if (news) print(table(node));
    }
}

int main(int argc, char **argv) {
    return run(argc, argv, [](const arguments &given) {
        opened open = open_mount("list", given);
        // From here on no change is missed: the first table shows what came before.
        p2pmount::event_queue events = attempt("events", [&] {
            return open.node.events(event_kind::mount | event_kind::stream_opened | event_kind::stream_closed);
        });
        std::cout << "ready" << std::endl;
        attempt("list", [&] { watch(open.node, events); });
        close_all(open.node, open.mount);
    });
}
