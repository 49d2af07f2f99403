//! `make install`: what a user of the installed library relies on. Needs make, pkg-config and CMake.

#[path = "common/environment.rs"]
mod environment;
#[path = "common/running.rs"]
mod running;

use std::{
    env, fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    thread,
};

use running::{PATIENCE, Running};

/// Opens and closes a node, so that linking it takes the whole library.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <string.h>
#include <p2pmount.h>

int main(void) {
    p2p_error error;
    p2p_node node;
    if (strcmp(p2p_version(), P2P_VERSION_STRING) != 0) return 2;
    if (p2p_abi_version() != P2P_ABI_VERSION) return 3;
    if (p2p_node_open(0, &node, &error) != P2P_OK || p2p_node_close(node, 0, &error) != P2P_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 4;
    }
    puts(p2p_version());
    return 0;
}
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A new directory below target/ for the test `name`.
fn scratch(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("install").join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("a directory below target/");
    directory
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env("P2PMOUNT_NETWORK", "local").stdin(Stdio::null());
    environment::clean(&mut command);
    command
}

/// Runs to the end, which must be a good one.
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("UTF-8").trim().to_owned()
}

fn make_install(variables: &[String]) {
    run(command("make", &["-C", &root().to_string_lossy(), "lib", "install"]).args(variables));
}

/// The prefix into which the library is installed once for all tests.
fn prefix() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let prefix = scratch("prefix");
        make_install(&[format!("PREFIX={}", prefix.display())]);
        prefix
    })
}

fn pkg_config(arguments: &[&str]) -> Vec<String> {
    let path = prefix().join("lib/pkgconfig");
    let said = run(command("pkg-config", arguments).arg("p2pmount").env("PKG_CONFIG_PATH", path));
    said.split_whitespace().map(str::to_owned).collect()
}

/// Compiles `source` with what pkg-config said and returns the program.
fn compile(directory: &Path, source: &str, flags: &[String]) -> PathBuf {
    fs::write(directory.join("program.c"), source).expect("a source");
    let strict = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "program.c", "-o", "program"];
    run(command("cc", &strict).args(flags).current_dir(directory));
    directory.join("program")
}

fn needed(program: &Path) -> String {
    run(&mut command("readelf", &["-d", &program.to_string_lossy()]))
}

fn starts(program: &Path) {
    assert_eq!(run(&mut command(&program.to_string_lossy(), &[])), env!("CARGO_PKG_VERSION"));
}

fn rpath() -> String {
    format!("-Wl,-rpath,{}/lib", prefix().display())
}

#[test]
fn a_program_built_with_pkg_config_runs_with_the_shared_library() {
    let directory = scratch("shared");
    let mut flags = pkg_config(&["--cflags", "--libs"]);
    flags.push(rpath());
    let program = compile(&directory, PROGRAM, &flags);
    starts(&program);
    assert!(needed(&program).contains("[libp2pmount.so.0]"));
}

#[test]
fn a_program_links_the_static_library_although_the_shared_one_is_there() {
    let directory = scratch("static");
    let mut flags = pkg_config(&["--cflags"]);
    flags.extend(pkg_config(&["--variable=static_libs"]));
    let program = compile(&directory, PROGRAM, &flags);
    starts(&program);
    assert!(!needed(&program).contains("libp2pmount"));
}

#[test]
fn a_program_links_by_pkg_config_static_where_only_the_static_library_is() {
    let directory = scratch("only-static");
    fs::copy(prefix().join("lib/libp2pmount.a"), directory.join("libp2pmount.a")).expect("the static library");
    let libdir = format!("--define-variable=libdir={}", directory.display());
    let program = compile(&directory, PROGRAM, &pkg_config(&[&libdir, "--static", "--cflags", "--libs"]));
    starts(&program);
    assert!(!needed(&program).contains("libp2pmount"));
}

#[test]
fn a_program_built_with_cmake_runs_with_either_library() {
    let directory = scratch("cmake");
    fs::write(directory.join("program.c"), PROGRAM).expect("a source");
    let list = "cmake_minimum_required(VERSION 3.16)\nproject(user C)\nfind_package(p2pmount 0.1 REQUIRED)\n\
        add_executable(shared program.c)\ntarget_link_libraries(shared p2pmount::p2pmount)\n\
        add_executable(static program.c)\ntarget_link_libraries(static p2pmount::static)\n";
    fs::write(directory.join("CMakeLists.txt"), list).expect("a list");
    let found = format!("-DCMAKE_PREFIX_PATH={}", prefix().display());
    run(command("cmake", &["-S", ".", "-B", "build", &found]).current_dir(&directory));
    run(command("cmake", &["--build", "build"]).current_dir(&directory));
    let (shared, built_in) = (directory.join("build/shared"), directory.join("build/static"));
    starts(&shared);
    starts(&built_in);
    assert!(needed(&shared).contains("[libp2pmount.so.0]"));
    assert!(!needed(&built_in).contains("libp2pmount"));
}

#[test]
fn cmake_refuses_a_version_that_is_not_there() {
    for version in ["0.99", "1.0"] {
        let directory = scratch(&format!("cmake-{version}"));
        let list = format!(
            "cmake_minimum_required(VERSION 3.16)\nproject(user C)\nfind_package(p2pmount {version} REQUIRED)\n"
        );
        fs::write(directory.join("CMakeLists.txt"), list).expect("a list");
        let found = format!("-DCMAKE_PREFIX_PATH={}", prefix().display());
        let output =
            command("cmake", &["-S", ".", "-B", "build", &found]).current_dir(&directory).output().expect("cmake");
        assert!(!output.status.success(), "version {version} was accepted");
    }
}

#[test]
fn a_staged_installation_names_its_final_place() {
    let stage = scratch("stage");
    make_install(&[
        format!("DESTDIR={}", stage.display()),
        "PREFIX=/opt/tunnel".into(),
        "LIBDIR=/opt/tunnel/lib64".into(),
    ]);
    let pc = fs::read_to_string(stage.join("opt/tunnel/lib64/pkgconfig/p2pmount.pc")).expect("p2pmount.pc");
    assert!(pc.contains("prefix=/opt/tunnel\n") && pc.contains("libdir=/opt/tunnel/lib64\n"), "{pc}");
    assert!(!pc.contains('@') && !pc.contains(&*stage.to_string_lossy()), "{pc}");
    let library = stage.join("opt/tunnel/lib64/libp2pmount.so");
    let chain = [library.clone(), library.with_extension("so.0")].map(|link| fs::read_link(link).expect("a link"));
    assert_eq!(
        chain,
        ["libp2pmount.so.0".into(), PathBuf::from(concat!("libp2pmount.so.", env!("CARGO_PKG_VERSION")))]
    );
    assert!(stage.join("opt/tunnel/include/p2pmount.h").is_file());

    run(command("make", &["-C", &root().to_string_lossy(), "uninstall"])
        .arg(format!("DESTDIR={}", stage.display()))
        .args(["PREFIX=/opt/tunnel", "LIBDIR=/opt/tunnel/lib64"]));
    assert!(!library.exists() && !stage.join("opt/tunnel/include/p2pmount.h").exists());
}

#[test]
fn the_program_of_the_readme_and_the_header_works_as_printed() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let source =
        readme.split("```c\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a program in README.md");
    let header = fs::read_to_string(root().join("include/p2pmount.h")).expect("the header");
    for line in source.lines().filter(|line| !line.is_empty()) {
        assert!(header.contains(&format!(" *     {line}\n")), "not in the header: {line}");
    }

    let mut flags = pkg_config(&["--cflags", "--libs"]);
    flags.push(rpath());
    let program = compile(&scratch("readme"), source, &flags);

    let target = TcpListener::bind("127.0.0.1:0").expect("a port");
    let echo = target.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for client in target.incoming().flatten() {
            let (mut from, mut to) = (client.try_clone().expect("a socket"), client);
            thread::spawn(move || {
                std::io::copy(&mut from, &mut to).and_then(|_| to.shutdown(std::net::Shutdown::Write))
            });
        }
    });
    let program = program.to_string_lossy();
    let exposing = Running::start(&mut command(&program, &[&echo]));
    let forwarding = Running::start(&mut command(&program, &["127.0.0.1:0", &exposing.line()]));
    let mut client = TcpStream::connect(forwarding.line()).expect("the forward");
    client.set_read_timeout(Some(PATIENCE)).expect("a limit");
    client.write_all(b"through the tunnel").expect("a write");
    client.shutdown(std::net::Shutdown::Write).expect("an end");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "through the tunnel");
    forwarding.end();
    exposing.end();
}
