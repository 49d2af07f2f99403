//! The promises of the C interface, checked by C programs: each is compiled against `include/p2pmount.h`, linked with the
//! shared library and run. See `common/library.rs` for the environment variables that choose the library, the compiler's
//! flags and a wrapper such as valgrind.

#[path = "common/library.rs"]
mod library;
#[path = "common/running.rs"]
mod running;

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use library::{root, run, setting, shared_library, words, workshop};
use running::Running;

/// Longest time for one program; its own deadline, which says what it was doing, comes before.
const LIMIT: Duration = Duration::from_secs(150);

/// Many of the programs measure time or use every processor: one at a time.
static MACHINE: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy, PartialEq)]
enum Link {
    Library,
    Nothing,
}

fn compile(source: &Path, compiler: &str, flags: &[&str], link: Link) -> PathBuf {
    let program = workshop().join(source.file_stem().unwrap());
    let mut command = Command::new(compiler);
    command.args(flags).args(["-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-I"]).arg(root().join("include"));
    command.arg("-o").arg(&program).arg(source).args(words("P2PMOUNT_TEST_CFLAGS"));
    match link {
        Link::Library => command.arg(shared_library()).arg(format!("-Wl,-rpath,{}", workshop().display())),
        Link::Nothing => command.arg("-ldl"),
    };
    compiled(&mut command, source);
    program
}

fn compiled(command: &mut Command, source: &Path) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} does not compile: {command:?}\n{said}", source.display());
}

fn start(program: &Path) {
    let name = program.file_stem().unwrap().to_str().unwrap();
    let mut wrapped = words("P2PMOUNT_TEST_WRAPPER").into_iter();
    let mut command = match wrapped.next() {
        Some(wrapper) => {
            let mut command = Command::new(wrapper);
            command.args(wrapped).arg(program);
            command
        }
        None => Command::new(program),
    };
    let alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let ended = run(name, &mut command, LIMIT);
    drop(alone);
    ended.must_succeed(name);
    // The library prints nothing, and the programs only what went wrong.
    let instrumented = setting("P2PMOUNT_TEST_WRAPPER").is_some() || setting("P2PMOUNT_TEST_CFLAGS").is_some();
    assert!(instrumented || ended.stderr.is_empty(), "{name} printed on stderr:\n{}", ended.stderr);
}

fn c_program(name: &str, link: Link) {
    start(&compile(&root().join("tests/c").join(format!("{name}.c")), "cc", &["-std=c11"], link));
}

#[test]
fn wrong_arguments_are_refused_by_name() {
    c_program("arguments", Link::Library);
}

#[test]
fn stale_and_foreign_handles_are_refused() {
    c_program("handles", Link::Library);
}

#[test]
fn what_is_opened_works_shows_itself_and_leaves_no_trace() {
    c_program("lifecycle", Link::Library);
}

#[test]
fn closing_a_node_wakes_every_waiting_call() {
    c_program("close_wakes", Link::Library);
}

#[test]
fn operations_end_with_one_event_and_can_be_cancelled() {
    c_program("operations", Link::Library);
}

#[test]
fn queues_keep_their_order_count_what_they_lose_and_wake_a_descriptor() {
    c_program("events", Link::Library);
}

#[test]
fn a_forked_child_is_refused_the_old_handles_and_can_open_a_node() {
    c_program("fork", Link::Library);
}

#[test]
fn a_program_may_exit_under_traffic() {
    c_program("exit_traffic", Link::Library);
}

#[test]
fn the_library_may_be_unloaded_while_its_threads_run() {
    c_program("unload", Link::Nothing);
}

#[test]
fn peers_that_vanish_do_not_kill_a_host_with_default_sigpipe() {
    c_program("sigpipe", Link::Library);
}

#[test]
fn a_panic_ends_only_what_it_happened_in() {
    if setting("P2PMOUNT_TEST_LIBRARY").is_some() && !library::has_fault_injection() {
        println!("left out: the library given was built without the feature fault-injection");
        return;
    }
    c_program("panics", Link::Library);
}

#[test]
fn every_function_can_be_called_from_every_thread() {
    c_program("stress", Link::Library);
}

#[test]
fn a_thousand_clients_in_one_second_are_served() {
    c_program("many_clients", Link::Library);
}

#[test]
fn too_few_descriptors_pause_accepting_and_leave_the_host_some() {
    c_program("descriptors", Link::Library);
}

#[test]
fn logging_goes_where_it_is_told_and_stalls_nobody() {
    c_program("logging", Link::Library);
}

#[test]
fn every_error_is_a_sentence_that_names_what_failed() {
    c_program("sentences", Link::Library);
}

#[test]
fn the_header_stands_alone_in_every_c_and_cpp() {
    let strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I"];
    let sources = ["header_c.c", "header_cpp.cc"].map(|name| root().join("tests/c").join(name));
    let standards = [("cc", 0, ["c99", "c11", "c17"]), ("c++", 1, ["c++11", "c++17", "c++20"])];
    for (compiler, source, names) in standards {
        for standard in names {
            let mut command = Command::new(compiler);
            command.arg(format!("-std={standard}")).args(strict).arg(root().join("include")).arg(&sources[source]);
            compiled(&mut command, &sources[source]);
        }
    }
    start(&compile(&sources[0], "cc", &["-std=c99", "-Wpedantic"], Link::Library));
    start(&compile(&sources[1], "c++", &["-std=c++17", "-Wpedantic"], Link::Library));
}

/// An example program, built as a user would.
fn example(name: &str) -> PathBuf {
    let directory = root().join("examples/c");
    let program = workshop().join(format!("example-{name}"));
    let [source, common, table] = [name, "common", "table"].map(|name| directory.join(format!("{name}.c")));
    let mut command = Command::new("cc");
    command.args(["-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread", "-I"]);
    command.arg(root().join("include")).arg("-o").arg(&program).args([&source, &common, &table]);
    command.args(words("P2PMOUNT_TEST_CFLAGS")).arg(shared_library());
    compiled(command.arg(format!("-Wl,-rpath,{}", workshop().display())), &source);
    program
}

fn tunnel() -> &'static Path {
    static TUNNEL: OnceLock<PathBuf> = OnceLock::new();
    TUNNEL.get_or_init(|| example("tunnel"))
}

/// The demonstration that drives the example `tunnel`.
fn demonstration(transport: &str) {
    let mut command = Command::new("python3");
    command.arg(root().join("examples/demo.py")).arg(tunnel()).arg(transport);
    let alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let ended = run(&format!("demo-{transport}"), &mut command, LIMIT);
    drop(alone);
    ended.must_succeed("examples/demo.py");
    assert_eq!(ended.stderr, "");
}

#[test]
fn the_demonstration_works_over_tcp() {
    demonstration("tcp");
}

#[test]
fn the_demonstration_works_over_quic() {
    demonstration("quic");
}

/// A program of examples/c that serves until its input ends, and what it printed before it was ready.
fn serving(program: &Path, arguments: &[&str]) -> (Running, Vec<String>) {
    let mut command = Command::new(program);
    let running = Running::start(command.args(arguments).env("P2PMOUNT_NETWORK", "local"));
    let said = std::iter::repeat_with(|| running.line()).take_while(|line| line != "ready").collect();
    (running, said)
}

fn values<'a>(said: &'a [String], key: &str) -> Vec<&'a str> {
    said.iter().filter_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).collect()
}

#[test]
fn the_example_echo_answers_five_times() {
    let program = example("echo");
    let (server, said) = serving(&program, &["server", "transports=tcp"]);
    let peer = values(&said, "address").join(",");
    assert!(peer.ends_with(values(&said, "peer")[0]), "{said:?}");
    let ended = run("example-echo-client", Command::new(&program).args(["client", &peer]), LIMIT);
    ended.must_succeed("echo client");
    let wanted: String =
        (1..=5).map(|i| format!("sent: Hello, world! ({i})\nreceived: Hello, world! ({i})\n")).collect();
    assert_eq!(ended.stdout, wanted);
    server.end();
    let ended = run("example-echo-late", Command::new(&program).args(["client", &peer]), LIMIT);
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("(P2P_ERROR_UNREACHABLE)"), "{}", ended.stderr);
}

#[test]
fn the_example_list_shows_streams_come_and_go() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = target.local_addr().unwrap().to_string();
    let (list, said) = serving(&example("list"), &["expose", "shown", &home]);
    let peer = values(&said, "address").join(",");
    let (forward, said) = serving(tunnel(), &["forward", "shown", "127.0.0.1:0", &peer]);
    let shows = |kind: &str| while !list.line().starts_with(&format!("{kind} ")) {};
    shows("listener");
    let client = TcpStream::connect(values(&said, "listen")[0]).unwrap();
    let _served = target.accept().unwrap();
    shows("stream");
    drop(client);
    forward.end();
    list.end();
}
