//! `include/p2pmount.h` and what hangs on it: generated from `src/capi`, committed, and the same everywhere.
//!
//! On drift: `make header` (or `UPDATE_HEADER=1 cargo test --test header`) writes the files anew; commit them with the
//! change that caused it.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The order in which a reader of the header meets the objects; files of `src/capi` not named here come last.
const ORDER: [&str; 11] =
    ["types", "version", "options", "key", "node", "mount", "mounts", "list", "settings", "event", "operation"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn sources() -> Vec<PathBuf> {
    let files = fs::read_dir(root().join("src/capi")).expect("src/capi").map(|entry| entry.expect("entry").path());
    // Of mod.rs cbindgen would follow the `mod` lines and meet every file a second time.
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|end| end == "rs") && !path.ends_with("mod.rs")).collect();
    files.sort_by_cached_key(|path| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len()), name)
    });
    files
}

fn version_macros() -> String {
    let [major, minor, patch] = ["CARGO_PKG_VERSION_MAJOR", "CARGO_PKG_VERSION_MINOR", "CARGO_PKG_VERSION_PATCH"]
        .map(|name| env::var(name).expect("set by cargo").parse::<u32>().expect("a number"));
    assert!(minor < 100 && patch < 100, "P2P_VERSION_NUMBER has two digits for each");
    format!(
        "\n/** The version of this header; p2p_version() tells that of the library. */\n\
         #define P2P_VERSION_MAJOR {major}\n#define P2P_VERSION_MINOR {minor}\n#define P2P_VERSION_PATCH {patch}\n\
         #define P2P_VERSION_NUMBER {}\n#define P2P_VERSION_STRING \"{}\"",
        major * 10_000 + minor * 100 + patch,
        env!("CARGO_PKG_VERSION"),
    )
}

/// The header as the sources say it.
fn generated() -> String {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).expect("cbindgen.toml");
    let builder = cbindgen::Builder::new().with_config(config).with_after_include(version_macros());
    let bindings = sources().into_iter().fold(builder, cbindgen::Builder::with_src).generate().expect("src/capi");
    let mut text = Vec::new();
    bindings.write(&mut text);
    tidy(&String::from_utf8(text).expect("UTF-8"))
}

/// What cbindgen leaves to do: comments of one line on one line, constants that belong together without gaps, negative
/// constants in parentheses (bare, they mean something else in an expression), pointers as the rest of the tree spells them.
fn tidy(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim_end) {
        let line = match (lines.len(), lines.last().cloned()) {
            (length, Some(only)) if line.trim() == "*/" && only.trim().starts_with("* ") && length > 1 => {
                let opening = lines[length - 2].clone();
                if opening.trim() == "/**" {
                    lines.truncate(length - 2);
                    opening + &only.trim()[1..] + " */"
                } else {
                    line.to_owned()
                }
            }
            _ => {
                parenthesise(line).replace("struct p2p_error *", "p2p_error *").replace("const char * ", "const char *")
            }
        };
        let gap = line.is_empty() && lines.last().is_some_and(String::is_empty);
        if !gap {
            lines.push(line);
        }
    }
    for at in (2..lines.len().saturating_sub(2)).rev() {
        let explained = lines[at + 1].starts_with("/** ") && lines[at + 1].ends_with("*/");
        if lines[at].is_empty()
            && explained
            && family(&lines[at - 1]).is_some_and(|name| family(&lines[at + 2]) == Some(name))
        {
            lines.remove(at);
        }
    }
    lines.join("\n") + "\n"
}

/// `P2P_ERROR_FLAG_TEMPORARY` is of the family `P2P_ERROR_FLAG`, `P2P_OK` of that of the errors.
fn family(line: &str) -> Option<&str> {
    const FAMILIES: [&str; 5] = ["P2P_ERROR_FLAG", "P2P_ERROR", "P2P_LIST", "P2P_CLOSE", "P2P_EVENT"];
    let name = line.strip_prefix("#define ")?.split(' ').next()?;
    if name == "P2P_OK" { Some("P2P_ERROR") } else { FAMILIES.into_iter().find(|family| name.starts_with(family)) }
}

fn parenthesise(line: &str) -> String {
    match line.strip_prefix("#define ").and_then(|rest| rest.split_once(" -")) {
        Some((name, number)) if !name.contains(' ') => format!("#define {name} (-{number})"),
        _ => line.to_owned(),
    }
}

/// The functions that a header declares, without its comments.
fn functions(header: &str) -> BTreeSet<String> {
    let mut code = String::new();
    for (number, part) in header.split("/*").enumerate() {
        code += if number == 0 { part } else { part.split_once("*/").map_or("", |(_, code)| code) };
    }
    let names = code.split('(').filter_map(|part| part.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next());
    names.filter(|name| name.starts_with("p2p_")).map(str::to_owned).collect()
}

/// Fails if the file is not `wanted`, or writes it under `UPDATE_HEADER=1`.
fn keep(path: &str, wanted: &str) {
    if env::var("UPDATE_HEADER").is_ok_and(|value| value == "1") {
        let file = root().join(path);
        fs::create_dir_all(file.parent().expect("inside the tree")).expect("a directory");
        if fs::read_to_string(&file).ok().as_deref() != Some(wanted) {
            fs::write(file, wanted).expect("a file");
        }
        return;
    }
    let found = fs::read_to_string(root().join(path)).unwrap_or_default();
    if found == wanted {
        return;
    }
    let differing = wanted.lines().zip(found.lines()).position(|(wanted, found)| wanted != found);
    let line = differing.unwrap_or_else(|| wanted.lines().count().min(found.lines().count()));
    panic!(
        "{path} is not what the sources say; run `make header` and commit the result. First difference in line {}:\n  \
         sources: {}\n  file:    {}",
        line + 1,
        wanted.lines().nth(line).unwrap_or("(end)"),
        found.lines().nth(line).unwrap_or("(end)"),
    );
}

#[test]
fn the_header_defines_nothing_but_its_own_names() {
    for line in generated().lines() {
        if let Some(name) = line.strip_prefix("#define ") {
            assert!(name.starts_with("P2P_") || name.starts_with("P2PMOUNT_"), "{line}");
        }
    }
}

#[test]
fn the_header_is_what_the_sources_say() {
    keep("include/p2pmount.h", &generated());
}

#[test]
fn the_symbol_list_is_the_headers_functions() {
    let list: String = functions(&generated()).into_iter().map(|name| name + "\n").collect();
    keep("abi/symbols.txt", &list);
}

#[test]
fn every_function_type_and_constant_of_the_header_is_explained() {
    let header = generated();
    let mut explained = false;
    let mut bare = Vec::new();
    let mut depth = 0;
    for line in header.lines() {
        let starts = depth == 0 && !line.starts_with([' ', '#', '}', '/']) && !line.starts_with("extern");
        let macro_ = line.starts_with("#define P2P_") && !line.contains("P2P_VERSION_") && line != "#define P2PMOUNT_H";
        if (starts && !line.is_empty() || macro_) && !explained {
            bare.push(line.to_owned());
        }
        depth += line.matches(['{', '(']).count();
        depth -= line.matches(['}', ')']).count().min(depth);
        // An explanation counts for what follows it directly.
        explained = line.ends_with("*/");
    }
    assert!(bare.is_empty(), "without a doc comment: {bare:#?}");
}

/// Runs a compiler over `source`, which sees the generated header.
fn compile(directory: &Path, compiler: &str, arguments: &[&str], source: &str) {
    let name = if compiler == "c++" { "program.cc" } else { "program.c" };
    fs::write(directory.join("p2pmount.h"), generated()).expect("a header");
    fs::write(directory.join(name), source).expect("a program");
    let strict = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I."];
    let output = Command::new(compiler).args(arguments).args(strict).arg(name).current_dir(directory).output();
    let output = output.unwrap_or_else(|error| panic!("{compiler}: {error}"));
    assert!(output.status.success(), "{compiler} {arguments:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_header_compiles_without_a_warning_in_c_and_cpp_also_when_included_twice() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = "#include <p2pmount.h>\n#include \"p2pmount.h\"\nint main(void) { return P2P_OK; }\n";
    for standard in ["-std=c99", "-std=c11", "-std=c17"] {
        compile(directory.path(), "cc", &[standard], source);
    }
    for standard in ["-std=c++11", "-std=c++17", "-std=c++20"] {
        compile(directory.path(), "c++", &[standard], source);
    }
}

#[test]
fn the_frozen_parts_have_their_frozen_values() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = "#include <p2pmount.h>\n\
        _Static_assert(sizeof(p2p_error) == 1024, \"p2p_error\");\n\
        _Static_assert(offsetof(p2p_error, message) == 16, \"message\");\n\
        _Static_assert(sizeof(p2p_status) == 4 && (p2p_status)-1 < 0, \"p2p_status\");\n\
        _Static_assert(sizeof(p2p_node) == 8 && sizeof(p2p_mount) == 8 && (p2p_event)-1 > 0, \"handles\");\n\
        _Static_assert(P2P_OK == 0 && P2P_ERROR_INTERNAL == 21, \"codes\");\n\
        _Static_assert(P2P_EVENT_ALL == 0x7fffffff, \"kinds\");\n\
        _Static_assert(P2P_VERSION_NUMBER ==\n\
            P2P_VERSION_MAJOR * 10000 + P2P_VERSION_MINOR * 100 + P2P_VERSION_PATCH, \"version\");\n\
        int main(void) { return 0; }\n";
    compile(directory.path(), "cc", &["-std=c11"], source);
}

#[test]
fn the_soname_carries_the_abi_version() {
    let header = generated();
    let abi = header.lines().find_map(|line| line.strip_prefix("#define P2P_ABI_VERSION ")).expect("P2P_ABI_VERSION");
    assert!(
        read("build.rs").contains(&format!("const ABI_VERSION: u32 = {abi};")),
        "build.rs and P2P_ABI_VERSION differ"
    );
    assert!(
        read("Makefile").lines().any(|line| line == format!("ABI := {abi}")),
        "Makefile and P2P_ABI_VERSION differ"
    );
}

#[test]
fn the_manual_knows_every_function_and_every_error() {
    let header = generated();
    let (functions_page, errors_page) = (read("docs/c-api.md"), read("docs/errors.md"));
    let missing: Vec<_> =
        functions(&header).into_iter().filter(|name| !functions_page.contains(&format!("{name}("))).collect();
    assert!(missing.is_empty(), "not in docs/c-api.md: {missing:?}");
    let codes = header.lines().filter_map(|line| line.strip_prefix("#define ")?.split(' ').next());
    let codes = codes.filter(|name| name.starts_with("P2P_ERROR_") && !name.contains("_FLAG_"));
    let missing: Vec<_> = codes.filter(|name| !errors_page.contains(*name)).collect();
    assert!(missing.is_empty(), "not in docs/errors.md: {missing:?}");
}

#[test]
fn the_tables_of_the_manual_are_those_of_the_sources() {
    keep("docs/OPTIONS.md", &p2pmount::options::manual());
    keep("docs/FIELDS.md", &p2pmount::rows::manual());
}

/// Every page of the manual: path and text.
fn pages() -> Vec<(PathBuf, String)> {
    let pages = fs::read_dir(root().join("docs")).expect("docs").map(|entry| entry.expect("entry").path());
    let pages = pages.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let top = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name));
    pages.chain(top).map(|path| (path.clone(), fs::read_to_string(path).expect("a page"))).collect()
}

#[test]
fn the_manual_names_nothing_that_is_not_in_the_header() {
    let header = generated();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let known: BTreeSet<_> = header.split(|c| !is_word(c)).collect();
    for (path, text) in pages() {
        let words = text.split(|c| !is_word(c)).filter(|word| word.starts_with("p2p_") || word.starts_with("P2P_"));
        // Two examples are named after those of another package.
        let example = |word: &str| root().join(format!("examples/{word}.py")).exists();
        let unknown: BTreeSet<_> =
            words.filter(|word| !known.contains(word) && !word.ends_with('_') && !example(word)).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", path.display());
    }
}

#[test]
fn every_link_of_the_manual_leads_to_a_file_of_the_tree() {
    for (path, text) in pages() {
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for link in links.filter(|link| !link.is_empty() && !link.starts_with("http")) {
            assert!(path.with_file_name(link).exists(), "{}: {link}", path.display());
        }
    }
}
