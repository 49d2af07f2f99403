#!/usr/bin/env bash
# The C++ binding. Needs g++ (or CXX) and the library in target/release (make lib).
#
#   cpp.sh test     compiles and runs the tests, plain and under AddressSanitizer, the examples, the programs and
#                   fragments of docs/cpp.md, and a program built from an installed prefix
#   cpp.sh check    formatting, warnings in every mode, the header against p2pmount.h
#   cpp.sh fmt      formats
#
# P2PMOUNT_PREFIX   a prefix made by `make install`; without it the tests of an installation are skipped
# P2PMOUNT_SANITIZE empty: without the sanitizers
set -euo pipefail
cd "$(dirname "$0")/.."
export P2PMOUNT_NETWORK=local LC_ALL=C

target=$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
release=$target/release
build=$target/cpp
abi=$(sed -n 's/^#define P2P_ABI_VERSION //p' include/p2pmount.h)
CXX=${CXX:-g++}
warnings=(-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wold-style-cast -Wnon-virtual-dtor -Werror)
includes=(-Iinclude -Ibindings/cpp/include)
link=(-pthread -L"$release" -lp2pmount -Wl,-rpath,"$release")
tests=(bindings/cpp/tests/*.cc)
examples=(examples/cpp/*.cc)
sources=(bindings/cpp/include/*.hpp bindings/cpp/tests/*.cc bindings/cpp/tests/*.hpp examples/cpp/*.cc examples/cpp/*.hpp)

missing() {
    echo "skipped: $1 is not installed"
    if [ "${CI:-}" = true ]; then exit 1; fi
}

need_compiler() {
    if ! command -v "$CXX" >/dev/null; then
        missing "$CXX"
        exit 0
    fi
}

need_library() {
    if [ ! -e "$release/libp2pmount.so.$abi" ]; then
        echo "$release/libp2pmount.so.$abi is not there: run make lib first" >&2
        exit 1
    fi
}

say() { echo "== $*"; }

# A program that hangs is killed.
limited() { timeout --kill-after=5 "$@"; }

# Compiles each source into a directory of objects, two at a time.
compile() { # DIRECTORY FLAG... -- SOURCE...
    local objects=$1 flags=()
    shift
    while [ "$1" != -- ]; do flags+=("$1") && shift; done
    shift
    mkdir -p "$objects"
    # shellcheck disable=SC2016
    printf '%s\0' "$@" | xargs -0 -P2 -I{} bash -c 'source=$1 objects=$2; shift 2
        exec "$@" -c "$source" -o "$objects/$(basename "$source").o"' - {} "$objects" \
        "$CXX" -std=c++17 "${warnings[@]}" -g -pthread "${includes[@]}" ${flags[@]+"${flags[@]}"}
}

# Writes the C++ blocks of the manual: whole programs (with a main) as program-N.cc, the others as functions of
# fragments.cc.
extract_manual() { # DIRECTORY
    mkdir -p "$1"
    awk -v directory="$1" '
        BEGIN { fragments = directory "/fragments.cc"; print "#include \"fragments.hpp\"" > fragments }
        /^```cpp$/ { inside = 1; text = ""; line = NR; next }
        /^```$/ && inside {
            inside = 0
            count++
            place = sprintf("#line %d \"docs/cpp.md\"\n", line + 1)
            if (text ~ /int main\(/) printf "%s%s", place, text > (directory "/program-" ++programs ".cc")
            else printf "FRAGMENT(fragment_%d) {\n{\n%s%s}\n}\n", count, place, text > fragments
            next
        }
        inside { text = text $0 "\n" }
        END { if (inside || count == 0 || programs != 1) { print "docs/cpp.md: " count " blocks, " programs " programs"; exit 1 } }
    ' docs/cpp.md
}

build_programs() { # DIRECTORY FLAG...
    local programs=$1 example
    shift
    mkdir -p "$programs"
    compile "$programs" "$@" -- "${examples[@]}" "$build/manual/program-1.cc"
    for example in "${examples[@]}"; do
        "$CXX" "$@" "$programs/$(basename "$example").o" -o "$programs/$(basename "$example" .cc)" "${link[@]}"
    done
    "$CXX" "$@" "$programs/program-1.cc.o" -o "$programs/docs" "${link[@]}"
}

# Every function and constant of p2pmount.h has its place in p2pmount.hpp, and each constant the name it has there.
check_against_header() {
    local hpp=bindings/cpp/include/p2pmount.hpp name short list=0
    # The version of the ABI is in the library's file name: a linked program cannot meet another.
    for name in $(sed -n 's/^.*[ *]\(p2p_[a-z_]*\)(.*/\1/p' include/p2pmount.h | sort -u | grep -vx p2p_abi_version); do
        list=$((list + 1))
        grep -qE "\b$name\b" "$hpp" || { echo "$hpp does not use $name" && return 1; }
    done
    for name in $(sed -nE 's/^#define (P2P_(OK|(ERROR|LIST|EVENT|CLOSE)_[A-Z_]+)) .*/\1/p' include/p2pmount.h |
        grep -v '^P2P_ERROR_FLAG_'); do
        list=$((list + 1))
        short=$(sed -E 's/^P2P_((ERROR|LIST|EVENT|CLOSE)_)?//' <<<"$name" | tr '[:upper:]' '[:lower:]')
        grep -qE "\b$short = $name\b" "$hpp" || { echo "$hpp does not have $short = $name" && return 1; }
    done
    if [ "$list" -lt 60 ]; then echo "only $list names were found in include/p2pmount.h" && return 1; fi
}

# The manual's program, built from an installed prefix as a user does, with the shared and with the static library.
installed() {
    local prefix=${P2PMOUNT_PREFIX:-} user=$build/user
    if [ -z "$prefix" ]; then
        echo "skipped: the tests of an installation, which make test-cpp runs with P2PMOUNT_PREFIX"
        if [ "${CI:-}" = true ]; then exit 1; fi
        return
    fi
    prefix=$(cd "$prefix" && pwd)
    rm -rf "$user"
    mkdir -p "$user"
    cp "$build/manual/program-1.cc" "$user/main.cc"
    if command -v cmake >/dev/null; then
        say "CMake with $prefix"
        {
            echo 'cmake_minimum_required(VERSION 3.16)'
            echo 'project(user CXX)'
            sed -n '/^```cmake$/,/^```$/{/^```/!p}' docs/cpp.md
            echo 'add_executable(main-static main.cc)'
            echo 'target_compile_features(main-static PRIVATE cxx_std_17)'
            echo 'target_link_libraries(main-static p2pmount::static)'
        } >"$user/CMakeLists.txt"
        cmake -S "$user" -B "$user/build" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_CXX_COMPILER="$CXX" >"$user/log"
        cmake --build "$user/build" >>"$user/log"
        runs "$user/build/main" shared
        runs "$user/build/main-static" static
    else
        missing cmake
    fi
    if command -v pkg-config >/dev/null; then
        say "pkg-config with $prefix"
        local -x PKG_CONFIG_PATH=$prefix/lib/pkgconfig
        # shellcheck disable=SC2046
        "$CXX" -std=c++17 "$user/main.cc" -o "$user/main" -Wl,-rpath,"$prefix/lib" \
            $(pkg-config --cflags --libs p2pmount)
        runs "$user/main" shared
        # shellcheck disable=SC2046
        "$CXX" -std=c++17 "$user/main.cc" -o "$user/main-static" \
            $(pkg-config --cflags p2pmount) $(pkg-config --variable=static_libs p2pmount)
        runs "$user/main-static" static
    else
        missing pkg-config
    fi
}

# It opens a node, exposes something and ends with its input. Its library is the installed one, or in itself.
runs() { # PROGRAM shared|static
    local said needs=static
    if readelf -d "$1" | grep -q 'NEEDED.*libp2pmount'; then needs=shared; fi
    if [ "$needs" != "$2" ]; then echo "$1 is linked with the $needs library, not the $2 one" && return 1; fi
    said=$(limited 20 "$1" 127.0.0.1:9 </dev/null)
    case $said in
    *"/p2p/12D3KooW"*) ;;
    *) echo "$1 said: $said" && return 1 ;;
    esac
}

run_tests() {
    need_compiler
    need_library
    rm -rf "$build/manual"
    extract_manual "$build/manual"
    say "compile"
    compile "$build/plain" -- "${tests[@]}"
    "$CXX" "$build"/plain/*.o -o "$build/tests" "${link[@]}"
    build_programs "$build/programs"
    "$CXX" -std=c++17 -Wall -Wextra -fsyntax-only -Ibindings/cpp/tests "${includes[@]}" "$build/manual/fragments.cc"
    say "tests"
    P2PMOUNT_CPP_PROGRAMS=$build/programs limited 300 "$build/tests"
    if [ -n "${P2PMOUNT_SANITIZE-yes}" ]; then
        local sanitize=(-std=c++20 -fsanitize=address,undefined -fno-omit-frame-pointer)
        say "compile as C++20 with sanitizers"
        compile "$build/sanitized" "${sanitize[@]}" -- "${tests[@]}"
        "$CXX" "${sanitize[@]}" "$build"/sanitized/*.o -o "$build/tests-sanitized" "${link[@]}"
        build_programs "$build/programs-sanitized" "${sanitize[@]}"
        say "tests under AddressSanitizer and UndefinedBehaviorSanitizer"
        P2PMOUNT_CPP_PROGRAMS=$build/programs-sanitized UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
            limited 300 "$build/tests-sanitized"
    fi
    installed
    echo "C++ tests: all right"
}

run_check() {
    need_compiler
    scripts/tools.sh install
    scripts/tools.sh run clang-format --dry-run -Werror "${sources[@]}"
    check_against_header
    local compiler mode
    for compiler in "$CXX" clang++; do
        command -v "$compiler" >/dev/null || continue
        for mode in -std=c++17 -std=c++20; do
            for source in "${examples[@]}" bindings/cpp/tests/options.cc bindings/cpp/tests/tunnel.cc \
                bindings/cpp/tests/operations.cc; do
                "$compiler" "$mode" "${warnings[@]}" -fsyntax-only "${includes[@]}" "$source"
            done
        done
        # Without run-time type information, and on its own.
        "$compiler" -std=c++17 -fno-rtti "${warnings[@]}" -fsyntax-only "${includes[@]}" examples/cpp/list.cc
        echo '#include <p2pmount.hpp>' | "$compiler" -std=c++17 "${warnings[@]}" -fsyntax-only "${includes[@]}" -x c++ -
        if echo '#include <p2pmount.hpp>' | "$compiler" -std=c++14 -fsyntax-only "${includes[@]}" -x c++ - 2>/dev/null; then
            echo "p2pmount.hpp says nothing about C++14" && return 1
        fi
    done
    echo "C++ check: all right"
}

case ${1:-} in
test) run_tests ;;
check) run_check ;;
fmt)
    scripts/tools.sh install
    scripts/tools.sh run clang-format -i "${sources[@]}"
    ;;
*)
    sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
