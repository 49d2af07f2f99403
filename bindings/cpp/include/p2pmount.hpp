// p2pmount in C++17: objects that close themselves, exceptions, options as plain values, range-for over rows and
// events.
//
//     p2pmount::node node;
//     p2pmount::mount web = node.listen("web", "127.0.0.1:8080");
//     std::cout << node.address() << std::endl;
//
// A thin layer over p2pmount.h, which says what each call does; docs/cpp.md is the manual of this one. Header only:
// link with the library as a C program does (-lp2pmount, or p2pmount::p2pmount from CMake).
//
// ERRORS. What fails throws p2pmount::error. Destructors never throw.
//
// THREADS. The member functions of node, mount, event_queue and operation may be called from every thread at any time,
// also close() while another thread waits in the same object: that one is woken. Moving, assigning, releasing and
// destroying are for the owner alone, when nobody else uses the object any more. All else (options, descriptors, lists,
// rows, events, iterators) are plain values, as those of the standard library. const marks what changes nothing.
//
// LIFETIME. Objects may be destroyed in any order. What is used after its close, or after it was moved away, throws an
// error with the code status::bad_handle. In a child after fork() inherited objects throw status::forked, and their
// destructors do nothing.
#ifndef P2PMOUNT_HPP
#define P2PMOUNT_HPP

#if __cplusplus < 201703L
#error "p2pmount.hpp needs C++17: compile with -std=c++17 or later"
#endif

#include <p2pmount.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace p2pmount {

// ---- codes and bits -----------------------------------------------------------------------------------------------

// The codes of errors, events and rows. A newer library may use others.
namespace status {
inline constexpr p2p_status ok = P2P_OK;
inline constexpr p2p_status invalid_argument = P2P_ERROR_INVALID_ARGUMENT;
inline constexpr p2p_status bad_handle = P2P_ERROR_BAD_HANDLE;
inline constexpr p2p_status bad_option = P2P_ERROR_BAD_OPTION;
inline constexpr p2p_status bad_address = P2P_ERROR_BAD_ADDRESS;
inline constexpr p2p_status bad_protocol = P2P_ERROR_BAD_PROTOCOL;
inline constexpr p2p_status bad_peer = P2P_ERROR_BAD_PEER;
inline constexpr p2p_status bad_key = P2P_ERROR_BAD_KEY;
inline constexpr p2p_status address_in_use = P2P_ERROR_ADDRESS_IN_USE;
inline constexpr p2p_status already_registered = P2P_ERROR_ALREADY_REGISTERED;
inline constexpr p2p_status not_found = P2P_ERROR_NOT_FOUND;
inline constexpr p2p_status unreachable = P2P_ERROR_UNREACHABLE;
inline constexpr p2p_status protocol_refused = P2P_ERROR_PROTOCOL_REFUSED;
inline constexpr p2p_status target_refused = P2P_ERROR_TARGET_REFUSED;
inline constexpr p2p_status timed_out = P2P_ERROR_TIMED_OUT;
inline constexpr p2p_status cancelled = P2P_ERROR_CANCELLED;
inline constexpr p2p_status closed = P2P_ERROR_CLOSED;
inline constexpr p2p_status limit = P2P_ERROR_LIMIT;
inline constexpr p2p_status reset = P2P_ERROR_RESET;
inline constexpr p2p_status forked = P2P_ERROR_FORKED;
inline constexpr p2p_status system = P2P_ERROR_SYSTEM;
inline constexpr p2p_status internal = P2P_ERROR_INTERNAL;
}  // namespace status

// What to list; combine with |.
enum class list_kind : std::uint32_t {
    listeners = P2P_LIST_LISTENERS,
    forwards = P2P_LIST_FORWARDS,
    streams = P2P_LIST_STREAMS,
    peers = P2P_LIST_PEERS,
    addresses = P2P_LIST_ADDRESSES,
    node = P2P_LIST_NODE,
    options = P2P_LIST_OPTIONS,
    process = P2P_LIST_PROCESS,
};

// Kinds of events; combine with |. A newer library may send others.
enum class event_kind : std::uint32_t {
    mount = P2P_EVENT_MOUNT,
    stream_opened = P2P_EVENT_STREAM_OPENED,
    stream_closed = P2P_EVENT_STREAM_CLOSED,
    target_refused = P2P_EVENT_TARGET_REFUSED,
    refused = P2P_EVENT_REFUSED,
    peer = P2P_EVENT_PEER,
    address = P2P_EVENT_ADDRESS,
    operation = P2P_EVENT_OPERATION,
    node = P2P_EVENT_NODE,
    overflow = P2P_EVENT_OVERFLOW,
    all = P2P_EVENT_ALL,
};

// How to close; combine with |.
enum class close_flag : std::uint32_t {
    none = 0,
    all = P2P_CLOSE_ALL,
    listeners = P2P_CLOSE_LISTENERS,
    forwards = P2P_CLOSE_FORWARDS,
    streams = P2P_CLOSE_STREAMS,
};

constexpr list_kind operator|(list_kind left, list_kind right) noexcept {
    return static_cast<list_kind>(static_cast<std::uint32_t>(left) | static_cast<std::uint32_t>(right));
}

constexpr event_kind operator|(event_kind left, event_kind right) noexcept {
    return static_cast<event_kind>(static_cast<std::uint32_t>(left) | static_cast<std::uint32_t>(right));
}

constexpr close_flag operator|(close_flag left, close_flag right) noexcept {
    return static_cast<close_flag>(static_cast<std::uint32_t>(left) | static_cast<std::uint32_t>(right));
}

// The version of the loaded library, such as "0.1.0".
inline const char *version() noexcept { return p2p_version(); }

// The name of a code, such as "P2P_ERROR_LIMIT".
inline const char *status_name(p2p_status code) noexcept { return p2p_status_name(code); }

// ---- errors -------------------------------------------------------------------------------------------------------

// What the library refused; what() is its sentence, made for people. Decide by code().
class error : public std::runtime_error {
   public:
    error(p2p_status code, const std::string &sentence, int system_error = 0, std::uint32_t flags = 0)
        : std::runtime_error(sentence), code_(code), system_error_(system_error), flags_(flags) {}
    explicit error(const p2p_error &told) : error(told.code, told.message, told.system_error, told.flags) {}

    // One of status::.
    p2p_status code() const noexcept { return code_; }
    // Its name, such as "P2P_ERROR_LIMIT".
    const char *code_name() const noexcept { return p2p_status_name(code_); }
    // The system's errno, or 0 if the failure was not the system's.
    int system_error() const noexcept { return system_error_; }
    // Trying again later can help.
    bool temporary() const noexcept { return (flags_ & P2P_ERROR_FLAG_TEMPORARY) != 0; }
    // Time ran out.
    bool timed_out() const noexcept { return (flags_ & P2P_ERROR_FLAG_TIMED_OUT) != 0; }

   private:
    p2p_status code_;
    int system_error_;
    std::uint32_t flags_;
};

// ---- time limits --------------------------------------------------------------------------------------------------

// For ever, where a call takes a timeout.
struct forever_t {
    explicit constexpr forever_t() = default;
};
inline constexpr forever_t forever{};

// A time limit: any std::chrono duration, or forever. Parts of a millisecond count as a whole one. A negative duration
// is 0, as in `deadline - now`; one that is longer than the C API can tell, which is 24 days, is for ever.
class timeout {
   public:
    template <class Rep, class Period>
    constexpr timeout(std::chrono::duration<Rep, Period> limit) : ms_(whole(limit)) {}
    constexpr timeout(forever_t) noexcept : ms_(-1) {}

    // As the C API takes it: -1 is for ever.
    constexpr std::int32_t ms() const noexcept { return ms_; }

   private:
    template <class Duration>
    static constexpr std::int32_t whole(Duration limit) {
        // Compared as floating point: a conversion of hours::max() to milliseconds would overflow.
        const auto exact = std::chrono::duration<long double, std::milli>(limit).count();
        if (!(exact > 0)) return 0;
        if (exact > std::numeric_limits<std::int32_t>::max()) return -1;
        return static_cast<std::int32_t>(std::chrono::ceil<std::chrono::milliseconds>(limit).count());
    }

    std::int32_t ms_;
};

// ---- inner parts --------------------------------------------------------------------------------------------------

namespace detail {

inline void check(p2p_status code, const p2p_error &told) {
    if (code != P2P_OK) throw error(told);
}

// An object's own handle, which is 0 once it was moved away; 0 would mean the process in some calls.
inline std::uint64_t own(std::uint64_t handle, const char *what) {
    if (handle == 0)
        throw error(P2P_ERROR_BAD_HANDLE, std::string("this ") + what + " was released or moved to another object");
    return handle;
}

// A copy that ends in NUL, for the C API, or NULL for text that is not given. Text with a NUL inside is refused, not
// cut off.
class c_text {
   public:
    c_text(const char *what, std::optional<std::string_view> text) : text_(text) {
        const auto at = text ? text->find('\0') : std::string_view::npos;
        if (at != std::string_view::npos)
            throw error(P2P_ERROR_INVALID_ARGUMENT, std::string(what) + " has a NUL character at position " +
                                                        std::to_string(at) + ", where text must not have any");
    }
    operator const char *() const noexcept { return text_ ? text_->c_str() : nullptr; }

   private:
    std::optional<std::string> text_;
};

// A handle with one owner. It keeps its number after a close: the library never gives a number out twice, so whoever
// still uses it gets an error, from any thread, and nothing here needs a lock.
template <p2p_status (*Free)(std::uint64_t)>
class owned {
   public:
    explicit owned(std::uint64_t handle = 0) noexcept : handle_(handle) {}
    owned(owned &&other) noexcept : handle_(std::exchange(other.handle_, 0)) {}
    owned &operator=(owned &&other) noexcept {
        if (this != &other) {
            free();
            handle_ = std::exchange(other.handle_, 0);
        }
        return *this;
    }
    ~owned() { free(); }

    std::uint64_t get() const noexcept { return handle_; }
    std::uint64_t release() noexcept { return std::exchange(handle_, 0); }

   private:
    void free() noexcept {
        if (handle_ != 0) Free(handle_);
    }

    std::uint64_t handle_;
};

inline p2p_status close_node(std::uint64_t node) { return p2p_node_close(node, 0, nullptr); }
inline p2p_status close_mount(std::uint64_t mount) { return p2p_mount_close(mount, 0, nullptr); }
using options_handle = owned<p2p_options_free>;
using queue_handle = owned<p2p_queue_close>;
using node_handle = owned<close_node>;
using mount_handle = owned<close_mount>;

// The rows of a snapshot or event, which differ in how they are freed.
class rows {
   public:
    rows(std::uint64_t handle, p2p_status (*free)(std::uint64_t)) noexcept : handle_(handle), free_(free) {}
    rows(rows &&other) noexcept : handle_(std::exchange(other.handle_, 0)), free_(other.free_) {}
    rows &operator=(rows &&) = delete;
    ~rows() { free_(handle_); }

    std::uint64_t get() const noexcept { return handle_; }

   private:
    std::uint64_t handle_;
    p2p_status (*free_)(std::uint64_t);
};

inline std::shared_ptr<const rows> shared(rows owner) { return std::make_shared<const rows>(std::move(owner)); }

// Closing what is closed already reaches its goal.
inline void check_closed(p2p_status code, const p2p_error &told) {
    if (code != P2P_ERROR_BAD_HANDLE) check(code, told);
}

// What `write(buffer, size, &error)` writes, in a buffer that is large enough.
template <class Write>
std::string written(Write write) {
    p2p_error told;
    for (std::size_t size = P2P_ADDRESS_SIZE;; size *= 2) {
        std::string buffer(size, '\0');
        const p2p_status code = write(&buffer[0], size, &told);
        // The buffer is the only argument that this can be about.
        if (code == P2P_ERROR_INVALID_ARGUMENT && size < (std::size_t{1} << 24)) continue;
        check(code, told);
        buffer.resize(buffer.find('\0'));
        return buffer;
    }
}

template <class T>
inline constexpr bool never = false;

template <class T>
inline constexpr bool is_duration = false;
template <class Rep, class Period>
inline constexpr bool is_duration<std::chrono::duration<Rep, Period>> = true;

template <class T>
inline constexpr bool is_text =
    std::is_convertible_v<const T &, std::string_view> || std::is_convertible_v<const T &, std::string>;

template <class T>
inline constexpr bool is_character =
    std::is_same_v<T, char> || std::is_same_v<T, wchar_t> || std::is_same_v<T, char16_t> || std::is_same_v<T, char32_t>;
#ifdef __cpp_char8_t
template <>
inline constexpr bool is_character<char8_t> = true;
#endif

template <class T>
inline constexpr bool is_whole_number = std::is_integral_v<T> && !std::is_same_v<T, bool> && !is_character<T>;

template <class T, class = void>
inline constexpr bool is_range = false;
template <class T>
inline constexpr bool is_range<
    T, std::void_t<decltype(std::begin(std::declval<const T &>())), decltype(std::end(std::declval<const T &>()))>> =
    true;

}  // namespace detail

// ---- options ------------------------------------------------------------------------------------------------------

// The value of an option: a bool, a whole number, text, a std::chrono duration (parts of a millisecond count as a whole
// one), or a list of these. It becomes the text that the library reads: true, 500, 1500ms, tcp,quic.
class option_value {
   public:
    template <class T, std::enable_if_t<!std::is_base_of_v<option_value, T>, int> = 0>
    option_value(const T &value) : text_(text_of(value)) {}
    option_value(std::initializer_list<option_value> list) : text_(joined(list)) {}
    option_value(std::nullptr_t) = delete;

    const std::string &text() const noexcept { return text_; }

   private:
    template <class T>
    static std::string text_of(const T &value) {
        if constexpr (std::is_pointer_v<T>)
            if (value == nullptr) throw error(P2P_ERROR_INVALID_ARGUMENT, "the value of an option is a null pointer");
        if constexpr (std::is_same_v<T, bool>) {
            return value ? "true" : "false";
        } else if constexpr (std::is_convertible_v<const T &, std::string_view>) {
            return std::string(static_cast<std::string_view>(value));
        } else if constexpr (detail::is_text<T>) {
            return static_cast<std::string>(value);
#ifdef __cpp_lib_char8_t
        } else if constexpr (std::is_convertible_v<const T &, std::u8string_view>) {
            const std::u8string_view text = value;
            return std::string(text.begin(), text.end());
#endif
        } else if constexpr (detail::is_whole_number<T>) {
            return std::to_string(value);
        } else if constexpr (detail::is_duration<T>) {
            const auto exact = std::chrono::duration<long double, std::milli>(value).count();
            if (!(exact > -9e18L && exact < 9e18L))
                throw error(P2P_ERROR_INVALID_ARGUMENT, "the value of an option is a duration without end");
            return std::to_string(std::chrono::ceil<std::chrono::milliseconds>(value).count()) + "ms";
        } else if constexpr (detail::is_range<T>) {
            return joined(value);
        } else {
            static_assert(detail::never<T>,
                          "an option is a bool, a whole number, text, a std::chrono duration, or a list of these");
        }
    }

    template <class Range>
    static std::string joined(const Range &list) {
        std::string text;
        bool first = true;
        for (const auto &item : list) {
            if (!first) text += ',';
            first = false;
            text += option_value(item).text_;
        }
        return text;
    }

    std::string text_;
};

// One option: {"open.timeout", 10s}.
struct option {
    std::string name;
    option_value value;
};

// Options by name, as docs/OPTIONS.md has them: {{"transports", {"tcp", "quic"}}, {"verify", true}}, or from a map. A
// plain value that can be copied and used for any number of calls; the call that gets it checks it.
class options {
   public:
    options() = default;
    options(std::initializer_list<option> list) : list_(list) {}
    template <class Map, class = decltype(std::declval<const Map &>().begin()->second)>
    options(const Map &map) {
        for (const auto &[name, value] : map) set(std::string_view(name), value);
    }

    // Adds an option. The last value given for a name counts.
    options &set(std::string_view name, option_value value) {
        list_.push_back(option{std::string(name), std::move(value)});
        return *this;
    }

    const std::vector<option> &list() const noexcept { return list_; }

   private:
    std::vector<option> list_;
};

namespace detail {

// The options as the C API takes them, for the time of one call; 0 if there are none.
inline options_handle made(const options &given) {
    if (given.list().empty()) return options_handle();
    p2p_error told;
    p2p_options handle = 0;
    check(p2p_options_new(&handle, &told), told);
    options_handle owner(handle);
    for (const option &each : given.list()) {
        const c_text name("the name of an option", each.name);
        const std::string what = "the value of the option " + each.name;
        check(p2p_options_set(handle, name, c_text(what.c_str(), each.value.text()), &told), told);
    }
    return owner;
}

}  // namespace detail

// ---- rows ---------------------------------------------------------------------------------------------------------

// A row of named fields (docs/FIELDS.md), part of a list or an event. Copies share what they show, and keep it alive.
class row {
   public:
    row(std::shared_ptr<const detail::rows> rows, std::size_t index) noexcept : rows_(std::move(rows)), index_(index) {}

    // A field as text, numbers in decimal. Throws status::not_found if this kind of row does not have it and
    // status::invalid_argument if no row does.
    std::string text(std::string_view field) const {
        auto value = find_text(field);
        if (!value) throw absent(field);
        return *std::move(value);
    }
    std::string operator[](std::string_view field) const { return text(field); }
    // Fields have names: row[0] would be one with a null pointer for its name.
    std::string operator[](std::nullptr_t) const = delete;

    // A field that is a number.
    std::int64_t integer(std::string_view field) const {
        const auto value = find_integer(field);
        if (!value) throw absent(field);
        return *value;
    }

    // The same for fields that this kind of row may lack.
    std::optional<std::string> find_text(std::string_view field) const {
        const char *value = nullptr;
        p2p_error told;
        const p2p_status code = p2p_row_text(handle(), index_, detail::c_text("field", field), &value, &told);
        if (code == P2P_ERROR_NOT_FOUND && index_ < count()) return std::nullopt;
        detail::check(code, told);
        return std::string(value);
    }
    std::optional<std::int64_t> find_integer(std::string_view field) const {
        std::int64_t value = 0;
        p2p_error told;
        const p2p_status code = p2p_row_int(handle(), index_, detail::c_text("field", field), &value, &told);
        if (code == P2P_ERROR_NOT_FOUND && index_ < count()) return std::nullopt;
        detail::check(code, told);
        return value;
    }

    // The names of the fields that this row has, in the library's order.
    std::vector<std::string> fields() const {
        std::vector<std::string> names;
        const char *name = nullptr;
        p2p_error told;
        p2p_status code;
        while ((code = p2p_row_field(handle(), index_, names.size(), &name, &told)) == P2P_OK) names.emplace_back(name);
        if (code != P2P_ERROR_NOT_FOUND || index_ >= count()) throw error(told);
        return names;
    }

    // Whether this row has the field; false for a name that no row has, too.
    bool has(std::string_view field) const {
        for (const std::string &name : fields())
            if (name == field) return true;
        return false;
    }

   private:
    // Its iterators go from row to row.
    friend class snapshot;

    std::uint64_t handle() const { return detail::own(rows_ ? rows_->get() : 0, "row"); }
    std::size_t count() const {
        std::size_t count = 0;
        p2p_error told;
        detail::check(p2p_row_count(handle(), &count, &told), told);
        return count;
    }
    static error absent(std::string_view field) {
        return error(P2P_ERROR_NOT_FOUND, "this row has no field \"" + std::string(field) + "\"");
    }

    std::shared_ptr<const detail::rows> rows_;
    std::size_t index_;
};

// The rows of a list, as they were when it was made. Copies and iterators share them; one that was moved away is empty.
class snapshot {
   public:
    // Takes over a snapshot of the C API.
    explicit snapshot(p2p_snapshot handle) : rows_(detail::shared(detail::rows(handle, p2p_snapshot_free))) {
        p2p_error told;
        detail::check(p2p_row_count(handle, &count_, &told), told);
    }

    std::size_t size() const noexcept { return rows_ ? count_ : 0; }
    bool empty() const noexcept { return size() == 0; }
    // Reading a row past the last one throws status::not_found.
    row operator[](std::size_t index) const noexcept { return row(rows_, index); }

    class iterator {
       public:
        using iterator_category = std::input_iterator_tag;
        using value_type = row;
        using difference_type = std::ptrdiff_t;
        using pointer = const row *;
        using reference = row;

        iterator() noexcept : current_(nullptr, 0) {}
        explicit iterator(row first) noexcept : current_(std::move(first)) {}
        row operator*() const noexcept { return current_; }
        // The row changes with the iterator.
        const row *operator->() const noexcept { return &current_; }
        iterator &operator++() noexcept {
            ++current_.index_;
            return *this;
        }
        iterator operator++(int) noexcept {
            iterator before = *this;
            ++*this;
            return before;
        }
        bool operator==(const iterator &other) const noexcept { return current_.index_ == other.current_.index_; }
        bool operator!=(const iterator &other) const noexcept { return !(*this == other); }

       private:
        row current_;
    };
    using const_iterator = iterator;

    iterator begin() const noexcept { return iterator((*this)[0]); }
    iterator end() const noexcept { return iterator((*this)[size()]); }

   private:
    std::shared_ptr<const detail::rows> rows_;
    std::size_t count_ = 0;
};

namespace detail {

inline snapshot list(std::uint64_t handle, list_kind what) {
    p2p_snapshot made = 0;
    p2p_error told;
    check(p2p_list(handle, static_cast<std::uint32_t>(what), &made, &told), told);
    return snapshot(made);
}

inline void set(std::uint64_t handle, std::string_view name, const option_value &value) {
    const c_text named("the name of an option", name);
    const c_text text("the value of an option", value.text());
    p2p_error told;
    check(p2p_set(handle, named, text, &told), told);
}

inline row get(std::uint64_t handle, std::string_view name) {
    p2p_snapshot made = 0;
    p2p_error told;
    check(p2p_get(handle, c_text("the name of an option", name), &made, &told), told);
    return snapshot(made)[0];
}

}  // namespace detail

// ---- events -------------------------------------------------------------------------------------------------------

// One event: a row whose field "kind" says what happened.
class event : public row {
   public:
    // Takes over an event of the C API.
    explicit event(p2p_event handle) : row(detail::shared(detail::rows(handle, p2p_event_free)), 0) {}

    event_kind kind() const { return static_cast<event_kind>(integer("event")); }
    bool is(event_kind kind) const { return this->kind() == kind; }
};

// A descriptor, closed at the end.
class descriptor {
   public:
    explicit descriptor(int fd = -1) noexcept : fd_(fd) {}
    descriptor(descriptor &&other) noexcept : fd_(other.release()) {}
    descriptor &operator=(descriptor &&other) noexcept {
        if (this != &other) {
            close();
            fd_ = other.release();
        }
        return *this;
    }
    ~descriptor() { close(); }

    int get() const noexcept { return fd_; }
    // The number, to be closed by the caller from now on.
    int release() noexcept { return std::exchange(fd_, -1); }

   private:
    void close() noexcept {
        if (fd_ >= 0) ::close(fd_);
    }

    int fd_;
};

// A queue of a node's events; node::events makes it. It ends when the node is closed and what was queued has been
// taken, or at close().
//
//     for (const auto &event : node.events(event_kind::peer)) std::cout << event["peer"] << std::endl;
class event_queue {
   public:
    // Takes over a queue of the C API.
    explicit event_queue(p2p_queue handle) noexcept : handle_(handle) {}
    event_queue(event_queue &&other) noexcept : handle_(std::move(other.handle_)), ended_(other.ended_.load()) {}
    event_queue &operator=(event_queue &&other) noexcept {
        handle_ = std::move(other.handle_);
        ended_ = other.ended_.load();
        return *this;
    }

    // The next event. Nothing if none came in time, or if none can come any more: then ended() is true.
    std::optional<event> next(timeout limit = forever) {
        p2p_event taken = 0;
        p2p_error told;
        const p2p_status code = p2p_next_event(self(), limit.ms(), &taken, &told);
        if (code == P2P_OK) return event(taken);
        // A handle that is bad now is that of a queue which was closed between two calls.
        if (code == P2P_ERROR_CLOSED || code == P2P_ERROR_BAD_HANDLE)
            ended_ = true;
        else if (code != P2P_ERROR_TIMED_OUT)
            throw error(told);
        return std::nullopt;
    }

    // Whether next() has found that no event can come any more.
    bool ended() const noexcept { return ended_; }

    // A descriptor for poll(), epoll or an event loop, readable exactly while events wait or the queue has ended. Then
    // take events with next(0ms) until there is none. Each call gives one of its own, close-on-exec and non-blocking.
    descriptor fd() const {
        int fd = -1;
        p2p_error told;
        detail::check(p2p_queue_fd(self(), &fd, &told), told);
        return descriptor(fd);
    }

    // Ends the queue, forgets its events and wakes who waits on it.
    void close() {
        const p2p_status code = p2p_queue_close(handle());
        if (code != P2P_OK && code != P2P_ERROR_BAD_HANDLE)
            throw error(code, std::string("closing a queue of events gave ") + p2p_status_name(code));
    }

    p2p_queue handle() const noexcept { return handle_.get(); }

    // Blocks for each event; at the end when the queue has ended.
    class iterator {
       public:
        using iterator_category = std::input_iterator_tag;
        using value_type = event;
        using difference_type = std::ptrdiff_t;
        using pointer = const event *;
        using reference = const event &;

        iterator() noexcept = default;
        explicit iterator(event_queue &queue) : queue_(&queue), current_(queue.next()) {}
        const event &operator*() const noexcept { return *current_; }
        const event *operator->() const noexcept { return &*current_; }
        iterator &operator++() {
            current_.reset();
            current_ = queue_->next();
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(const iterator &left, const iterator &right) noexcept {
            return left.current_.has_value() == right.current_.has_value();
        }
        friend bool operator!=(const iterator &left, const iterator &right) noexcept { return !(left == right); }

       private:
        event_queue *queue_ = nullptr;
        std::optional<event> current_;
    };

    iterator begin() { return iterator(*this); }
    iterator end() noexcept { return iterator(); }

   private:
    p2p_queue self() const { return detail::own(handle(), "queue of events"); }

    detail::queue_handle handle_;
    std::atomic<bool> ended_{false};
};

// ---- mounts -------------------------------------------------------------------------------------------------------

// A listener or a forward. The end of the object closes it; its live streams run on, as long as the node does.
class mount {
   public:
    // Takes over a mount of the C API.
    explicit mount(p2p_mount handle) noexcept : handle_(handle) {}

    // Where clients connect to a forward, with its real port; the target of a listener.
    std::string address() const {
        return detail::written([this](char *buffer, std::size_t size, p2p_error *told) {
            return p2p_mount_address(self(), buffer, size, told);
        });
    }

    // Its own row (list_kind::listeners or ::forwards) and its streams.
    snapshot list(list_kind what) const { return detail::list(self(), what); }

    // Changes a live option.
    void set(std::string_view name, const option_value &value) { detail::set(self(), name, value); }

    // The option in force: a row with name, value and source.
    row get(std::string_view name) const { return detail::get(self(), name); }

    // Returns when its port is free. close_flag::streams also resets its live streams. Does nothing if it is closed
    // already.
    void close(close_flag flags = close_flag::none) {
        p2p_error told;
        detail::check_closed(p2p_mount_close(handle(), static_cast<std::uint32_t>(flags), &told), told);
    }

    // Leaves the mount to its node, which closes it at its own end. This object is empty then.
    p2p_mount release() noexcept { return handle_.release(); }

    p2p_mount handle() const noexcept { return handle_.get(); }

   private:
    p2p_mount self() const { return detail::own(handle(), "mount"); }

    detail::mount_handle handle_;
};

// ---- operations ---------------------------------------------------------------------------------------------------

namespace detail {

// The operations of one node. One queue gets the ends of all. Of the threads that wait, one takes events and stores
// them with the operations that they end; the others wait for that.
class operations {
   public:
    static std::shared_ptr<operations> of(p2p_node node) {
        // A forked child has the lock as it was, and nobody who would release it: nothing is touched there.
        return {new operations(node), [](operations *gone) {
                    if (gone->is_own_process()) delete gone;
                }};
    }
    operations(operations &&) = delete;
    operations &operator=(operations &&) = delete;

    // The operation that `call` starts. Under the lock: its end cannot be taken before the operation is known.
    template <class Start>
    p2p_operation start(Start call) {
        check_process();
        p2p_error told;
        std::unique_lock<std::mutex> locked(lock_);
        if (queue_.get() == 0) {
            p2p_queue made = 0;
            check(p2p_subscribe(node_, P2P_EVENT_OPERATION, 0, &made, &told), told);
            queue_ = queue_handle(made);
        }
        // Nobody may have waited since the last one: what came meanwhile must not pile up.
        while (!taking_ && take(locked, std::chrono::milliseconds(0))) continue;
        p2p_operation made = 0;
        check(call(&made, &told), told);
        running_.try_emplace(made);
        return made;
    }

    // Whether it has ended, after at most this time.
    bool wait(p2p_operation id, timeout limit) {
        check_process();
        using clock = std::chrono::steady_clock;
        const bool limited = limit.ms() >= 0;
        const auto deadline = clock::now() + std::chrono::milliseconds(limited ? limit.ms() : 0);
        std::unique_lock<std::mutex> locked(lock_);
        const entry &mine = running_.at(id);
        const auto ended = [&] { return mine.end || failure_; };
        const auto news = [&] { return !taking_ || ended(); };
        while (!ended()) {
            if (!taking_) {
                const timeout left = limited ? timeout(deadline - clock::now()) : limit;
                if (!take(locked, left) && !ended()) return false;
            } else if (!limited) {
                changed_.wait(locked, news);
            } else if (!changed_.wait_until(locked, deadline, news)) {
                return false;
            }
        }
        return true;
    }

    // Waits for its end. Throws the error that ended it, if one did. Gives the mount, once.
    p2p_mount result(p2p_operation id) {
        wait(id, forever);
        const std::lock_guard<std::mutex> locked(lock_);
        entry &mine = running_.at(id);
        if (!mine.end) throw error(*failure_);
        const auto number = [&mine](const char *field) { return mine.end->find_integer(field).value_or(0); };
        const auto code = static_cast<p2p_status>(number("code"));
        if (code != P2P_OK)
            throw error(code, mine.end->text("message"), static_cast<int>(number("system_error")),
                        static_cast<std::uint32_t>(number("flags")));
        return std::exchange(mine.taken, true) ? 0 : static_cast<p2p_mount>(number("mount"));
    }

    // Cancels it if it has not ended, and closes its mount if nobody took it.
    void forget(p2p_operation id) noexcept {
        if (!is_own_process()) return;
        try {
            // One that has ended by itself has its event here or about to come.
            if (p2p_operation_cancel(id, nullptr) == P2P_ERROR_BAD_HANDLE && wait(id, std::chrono::seconds(1)))
                close_mount(result(id));
        } catch (...) {
            // It had ended with an error; or out of memory, and the mount stays with the node.
        }
        const std::lock_guard<std::mutex> locked(lock_);
        running_.erase(id);
    }

   private:
    struct entry {
        std::optional<event> end;
        bool taken = false;
    };

    explicit operations(p2p_node node) noexcept : node_(node) {}
    ~operations() = default;

    bool is_own_process() const noexcept { return ::getpid() == process_; }
    void check_process() const {
        if (!is_own_process())
            throw error(P2P_ERROR_FORKED, "this node and its operations were inherited through fork; open a new node");
    }

    // Waits for one event, without the lock, and stores it. Whether one came; if none can come any more failure_ is
    // set.
    bool take(std::unique_lock<std::mutex> &locked, timeout limit) {
        p2p_event taken = 0;
        p2p_error told;
        taking_ = true;
        locked.unlock();
        const p2p_status code = p2p_next_event(queue_.get(), limit.ms(), &taken, &told);
        locked.lock();
        taking_ = false;
        changed_.notify_all();
        if (code == P2P_OK) {
            event end(taken);
            const auto ended = running_.find(static_cast<p2p_operation>(end.find_integer("operation").value_or(0)));
            // Nobody asks for the others: their objects are gone, or they were started through the C API.
            if (ended != running_.end()) ended->second.end = std::move(end);
        } else if (code != P2P_ERROR_TIMED_OUT) {
            failure_.emplace(told);
        }
        return code == P2P_OK;
    }

    const p2p_node node_;
    const pid_t process_ = ::getpid();
    std::mutex lock_;
    std::condition_variable changed_;
    // Made with the first operation.
    queue_handle queue_;
    // A thread is in take().
    bool taking_ = false;
    // Those whose objects are alive.
    std::map<p2p_operation, entry> running_;
    // What ended the queue, and with it every operation that has no end of its own.
    std::optional<error> failure_;
};

}  // namespace detail

// A call that goes on in the background. The end of the object cancels what has not ended, and closes a mount that
// nobody took. Its end is also an event of the kind event_kind::operation on every queue of the node that asked for it
// before.
template <class Result>
class operation {
   public:
    operation(std::shared_ptr<detail::operations> of, p2p_operation id) noexcept : of_(std::move(of)), id_(id) {}
    operation(operation &&other) noexcept : of_(std::move(other.of_)), id_(std::exchange(other.id_, 0)) {}
    operation &operator=(operation &&other) noexcept {
        if (this != &other) {
            forget();
            of_ = std::move(other.of_);
            id_ = std::exchange(other.id_, 0);
        }
        return *this;
    }
    ~operation() { forget(); }

    // The field "operation" of its event.
    p2p_operation id() const { return detail::own(id_, "operation"); }

    // Ends it early: get() then throws status::cancelled and nothing of it is left. Does nothing if it has ended.
    void cancel() {
        p2p_error told;
        detail::check_closed(p2p_operation_cancel(id(), &told), told);
    }

    // Whether it has ended, after at most this time.
    bool wait(timeout limit = forever) {
        const p2p_operation own = id();
        return of_->wait(own, limit);
    }

    // Waits for the end. Throws the error that ended it, or gives the result; a mount only once.
    Result get() {
        const p2p_operation own = id();
        const p2p_mount made = of_->result(own);
        if constexpr (!std::is_void_v<Result>) {
            if (made == 0) throw error(P2P_ERROR_BAD_HANDLE, "the result of this operation was taken already");
            return Result(made);
        }
    }

   private:
    void forget() noexcept {
        if (of_) of_->forget(id_);
    }

    std::shared_ptr<detail::operations> of_;
    p2p_operation id_;
};

// ---- nodes --------------------------------------------------------------------------------------------------------

// Which mounts to close: those that fit everything that is set.
struct filter {
    std::optional<std::string> protocol{};
    // A forward's; "/p2p/" and the own peer id for listeners.
    std::optional<std::string> listen_address{};
    // "/p2p/" and a peer id for forwards; a listener's target address.
    std::optional<std::string> target{};
};

// A node of the network. The end of the object closes it at once and cuts its streams; close(drain) lets them finish.
class node {
   public:
    // Opens a node. It waits for nobody.
    explicit node(const options &given = options()) {
        p2p_node made = 0;
        p2p_error told;
        const detail::options_handle prepared = detail::made(given);
        detail::check(p2p_node_open(prepared.get(), &made, &told), told);
        handle_ = detail::node_handle(made);
        operations_ = detail::operations::of(made);
    }

    node(node &&other) noexcept
        : operations_(std::move(other.operations_)),
          closing_(other.closing_.exchange(0)),
          handle_(std::move(other.handle_)) {}
    node &operator=(node &&other) noexcept {
        if (this != &other) {
            end_draining();
            handle_ = std::move(other.handle_);
            operations_ = std::move(other.operations_);
            closing_ = other.closing_.exchange(0);
        }
        return *this;
    }
    ~node() { end_draining(); }

    // ---- this node

    std::string peer_id() const {
        return detail::written([this](char *buffer, std::size_t size, p2p_error *told) {
            return p2p_node_peer_id(self(), buffer, size, told);
        });
    }

    // Its listening addresses, comma separated: what the other side takes as peer.
    std::string address() const {
        return detail::written([this](char *buffer, std::size_t size, p2p_error *told) {
            return p2p_node_address(self(), buffer, size, told);
        });
    }

    // The same one by one.
    std::vector<std::string> addresses() const {
        std::vector<std::string> parts;
        const std::string all = address();
        for (std::size_t from = 0, to = 0; to != std::string::npos; from = to + 1) {
            to = all.find(',', from);
            parts.push_back(all.substr(from, to - from));
        }
        return parts;
    }

    // Stops accepting, lets streams finish for at most `drain`, resets the rest, closes everything the node has, and
    // returns when the ports are free. Does nothing if it is closed already. Waits for a close that is going on;
    // without a drain it ends the draining of this object's close_async.
    void close(timeout drain = std::chrono::milliseconds(0)) {
        if (drain.ms() == 0) end_draining();
        p2p_error told;
        detail::check_closed(p2p_node_close(handle(), drain.ms(), &told), told);
    }

    // The same in the background. Cancelling it ends the draining, and so does the end of either object. It does not
    // join a close that is going on: then it throws status::closed.
    [[nodiscard]] operation<void> close_async(timeout drain) {
        return start<void>([&](p2p_operation *made, p2p_error *told) {
            const p2p_status code = p2p_node_close_start(self(), drain.ms(), made, told);
            if (code == P2P_OK) closing_ = *made;
            return code;
        });
    }

    // ---- peers

    // Connects to a peer before it is needed, and remembers its addresses. With 0 it only tells, by an error or none,
    // whether the node is connected.
    void connect(std::string_view peer, timeout limit) {
        p2p_error told;
        detail::check(p2p_connect(self(), detail::c_text("peer", peer), limit.ms(), &told), told);
    }
    [[nodiscard]] operation<void> connect_async(std::string_view peer, timeout limit) {
        return start<void>([&](p2p_operation *made, p2p_error *told) {
            return p2p_connect_start(self(), detail::c_text("peer", peer), limit.ms(), made, told);
        });
    }

    // ---- mounts

    // Exposes the local service at `target_address` under `protocol`, until the end of the object it returns.
    [[nodiscard]] mount listen(std::string_view protocol, std::string_view target_address,
                               const options &given = options()) {
        p2p_mount made = 0;
        p2p_error told;
        const detail::options_handle prepared = detail::made(given);
        detail::check(p2p_listen(self(), detail::c_text("protocol", protocol),
                                 detail::c_text("target_address", target_address), prepared.get(), &made, &told),
                      told);
        return mount(made);
    }

    // Ties the local `listen_address` to `protocol` of `peer`, until the end of the object it returns. Port 0 takes a
    // free one, which mount::address tells.
    [[nodiscard]] mount forward(std::string_view protocol, std::string_view listen_address, std::string_view peer,
                                const options &given = options()) {
        p2p_mount made = 0;
        p2p_error told;
        const detail::options_handle prepared = detail::made(given);
        detail::check(
            p2p_forward(self(), detail::c_text("protocol", protocol), detail::c_text("listen_address", listen_address),
                        detail::c_text("peer", peer), prepared.get(), &made, &told),
            told);
        return mount(made);
    }
    [[nodiscard]] operation<mount> forward_async(std::string_view protocol, std::string_view listen_address,
                                                 std::string_view peer, const options &given = options()) {
        const detail::options_handle prepared = detail::made(given);
        return start<mount>([&](p2p_operation *made, p2p_error *told) {
            return p2p_forward_start(self(), detail::c_text("protocol", protocol),
                                     detail::c_text("listen_address", listen_address), detail::c_text("peer", peer),
                                     prepared.get(), made, told);
        });
    }

    // Closes the mounts that fit and tells how many; none is no error. Returns when their ports are free.
    std::size_t close_mounts(const filter &which, close_flag flags = close_flag::none) {
        std::size_t closed = 0;
        p2p_error told;
        detail::check(
            p2p_close(self(), detail::c_text("protocol", which.protocol),
                      detail::c_text("listen_address", which.listen_address), detail::c_text("target", which.target),
                      static_cast<std::uint32_t>(flags), &closed, &told),
            told);
        return closed;
    }
    // Closes all mounts, or with close_flag::listeners or ::forwards all of one kind.
    std::size_t close_all(close_flag flags = close_flag::none) {
        return close_mounts(filter(), close_flag::all | flags);
    }

    // Resets one stream at both ends, by the field "id" of its row.
    void close_stream(std::int64_t id) {
        p2p_error told;
        detail::check(p2p_stream_close(self(), static_cast<std::uint64_t>(id), &told), told);
    }

    // ---- what goes on

    snapshot list(list_kind what) const { return detail::list(self(), what); }

    // A queue of the events of these kinds from now on.
    [[nodiscard]] event_queue events(event_kind kinds = event_kind::all, const options &given = options()) const {
        p2p_queue made = 0;
        p2p_error told;
        const detail::options_handle prepared = detail::made(given);
        detail::check(p2p_subscribe(self(), static_cast<std::uint32_t>(kinds), prepared.get(), &made, &told), told);
        return event_queue(made);
    }

    // ---- options in use

    // Changes a live option of the node, and of its mounts that have no value of their own.
    void set(std::string_view name, const option_value &value) { detail::set(self(), name, value); }

    // The option in force: a row with name, value and source.
    row get(std::string_view name) const { return detail::get(self(), name); }

    p2p_node handle() const noexcept { return handle_.get(); }

   private:
    p2p_node self() const { return detail::own(handle(), "node"); }

    template <class Result, class Start>
    operation<Result> start(Start call) {
        self();
        return operation<Result>(operations_, operations_->start(call));
    }

    // A close waits for one that is going on: that one must not take its time then.
    void end_draining() noexcept {
        if (const p2p_operation closing = closing_.exchange(0)) p2p_operation_cancel(closing, nullptr);
    }

    std::shared_ptr<detail::operations> operations_;
    std::atomic<p2p_operation> closing_{0};
    detail::node_handle handle_;
};

// ---- the process --------------------------------------------------------------------------------------------------

// list_kind::options, the table of options, or list_kind::process, one row about the library in this process.
inline snapshot list(list_kind what) { return detail::list(0, what); }

// Changes an option of the process, such as log.level.
inline void set(std::string_view name, const option_value &value) { detail::set(0, name, value); }

// An option of the process in force: a row with name, value and source.
inline row get(std::string_view name) { return detail::get(0, name); }

// Writes the private key in identity_file, in any form that the option identity.file takes, to the new file
// destination, which is its owner's alone: as "libp2p-protobuf-cleartext", "pem-pkcs8-cleartext" or "base64". Both
// paths may be a std::filesystem::path.
inline void export_key(const std::string &identity_file, std::string_view format, const std::string &destination) {
    const detail::c_text from("identity_file", identity_file), named("format", format), to("destination", destination);
    p2p_error told;
    detail::check(p2p_key_export(from, named, to, &told), told);
}

}  // namespace p2pmount

#endif  // P2PMOUNT_HPP
