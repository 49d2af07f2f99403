package packaging

import (
	"archive/zip"
	"bufio"
	"context"
	"debug/elf"
	"fmt"
	"go/format"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	modulePath = "github.com/p2pmount/p2pmount/bindings/go"
	version    = "v0.1.0"
	soname     = "libp2pmount.so.0"
)

func TestMain(m *testing.M) {
	// Nothing leaves the machine.
	os.Setenv("P2PMOUNT_NETWORK", "local")
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// limit gives the time that a test may take; what it has started then is ended.
func limit(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing: %s", what)
	}
	t.Skipf("skipped, missing: %s", what)
}

// checkout gives a path in the checkout that this module lies in.
func checkout(t testing.TB, parts ...string) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", "..", "..", ".."))
	must(t, err)
	if _, err := os.Stat(filepath.Join(root, "include", "p2pmount.h")); err != nil {
		missing(t, "the checkout around this module")
	}
	return filepath.Join(append([]string{root}, parts...)...)
}

// library is a file that was built of the library.
func library(t testing.TB, file string) string {
	t.Helper()
	target := os.Getenv("CARGO_TARGET_DIR")
	if target == "" {
		target = "target"
	}
	if !filepath.IsAbs(target) {
		target = checkout(t, target)
	}
	path := filepath.Join(target, "release", file)
	if _, err := os.Stat(path); err != nil {
		missing(t, path)
	}
	return path
}

func run(t testing.TB, command *exec.Cmd) string {
	t.Helper()
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command.Args, " "), err, output)
	}
	return string(output)
}

func write(t testing.TB, text string, parts ...string) string {
	t.Helper()
	path := filepath.Join(parts...)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

// blocks are the pieces of Go in a page of the manual.
func blocks(t *testing.T, page string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	must(t, err)
	var found []string
	for _, match := range regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		found = append(found, match[1])
	}
	if len(found) == 0 {
		t.Fatalf("%s: no Go in it", page)
	}
	return found
}

func completeProgram(t *testing.T) string {
	t.Helper()
	for _, block := range blocks(t, checkout(t, "docs", "go.md")) {
		if strings.HasPrefix(block, "package main\n") {
			return block
		}
	}
	t.Fatal("docs/go.md has no complete program")
	return ""
}

// goCommand runs the go command in a folder, where no network and no setting of the machine helps it.
func goCommand(ctx context.Context, folder string, environment []string, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, "go", arguments...)
	command.Dir = folder
	command.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "GOSUMDB=off", "GOPROXY=off")
	command.Env = append(command.Env, environment...)
	return command
}

// insideCheckout is a module that uses this one by its path in the checkout, with one program.
func insideCheckout(t *testing.T, source string) string {
	t.Helper()
	folder := t.TempDir()
	write(t, fmt.Sprintf("module example.com/user\n\ngo 1.23\n\nrequire %s v0.0.0\n\nreplace %s => %s\n",
		modulePath, modulePath, checkout(t, "bindings", "go")), folder, "go.mod")
	write(t, source, folder, "main.go")
	return folder
}

// needed are the shared libraries that a program asks for, and where it looks for them.
func needed(t *testing.T, program string) (libraries, runPath string) {
	t.Helper()
	file, err := elf.Open(program)
	must(t, err)
	defer file.Close()
	names, err := file.ImportedLibraries()
	must(t, err)
	paths, err := file.DynString(elf.DT_RUNPATH)
	must(t, err)
	older, err := file.DynString(elf.DT_RPATH)
	must(t, err)
	return strings.Join(names, " "), strings.Join(append(paths, older...), " ")
}

// greeting is a service that says hello to each client.
func greeting(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "hello from the service\n")
			conn.Close()
		}
	}()
	return listener.Addr().String()
}

// tunnel runs the documented program twice and looks through. That ends with this thread, so also when the test is killed.
func tunnel(t *testing.T, ctx context.Context, program string, environment ...string) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := func(arguments ...string) (*exec.Cmd, string) {
		command := exec.CommandContext(ctx, program, arguments...)
		command.Env = append(os.Environ(), environment...)
		command.Stderr = os.Stderr
		command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		output, err := command.StdoutPipe()
		must(t, err)
		must(t, command.Start())
		line, err := bufio.NewReader(output).ReadString('\n')
		if err != nil {
			t.Fatalf("%v: no line of output: %v", arguments, err)
		}
		return command, strings.TrimSpace(line)
	}
	expose, peer := began(greeting(t))
	forward, address := began("127.0.0.1:0", peer)
	conn, err := net.Dial("tcp", address)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	answer, err := io.ReadAll(conn)
	must(t, err)
	if string(answer) != "hello from the service\n" {
		t.Errorf("%q", answer)
	}
	conn.Close()
	for _, command := range []*exec.Cmd{forward, expose} {
		must(t, command.Process.Signal(os.Interrupt))
		if err := command.Wait(); err != nil {
			t.Errorf("%v: %v", command.Args, err)
		}
	}
}

func TestTheDocumentedProgramRunsInTheCheckout(t *testing.T) {
	ctx := limit(t)
	release := filepath.Dir(library(t, soname))
	folder := insideCheckout(t, completeProgram(t))
	run(t, goCommand(ctx, folder, nil, "build", "-o", "mount"))
	program := filepath.Join(folder, "mount")
	if libraries, runPath := needed(t, program); !strings.Contains(libraries, soname) || !strings.Contains(filepath.Clean(runPath), release) && !strings.Contains(runPath, "/target/release") {
		t.Errorf("needs %s, from %s", libraries, runPath)
	}
	tunnel(t, ctx, program)
}

func TestTheDocumentedProgramRunsWithoutTheSharedLibrary(t *testing.T) {
	ctx := limit(t)
	library(t, "libp2pmount.a")
	folder := insideCheckout(t, completeProgram(t))
	run(t, goCommand(ctx, folder, nil, "build", "-tags", "p2pmount_static", "-o", "mount"))
	program := filepath.Join(folder, "mount")
	if libraries, _ := needed(t, program); strings.Contains(libraries, "p2pmount") {
		t.Errorf("needs %s", libraries)
	}
	tunnel(t, ctx, program)
}

// moduleProxy puts the module as it lies in the checkout where the go command can get it from.
func moduleProxy(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	root := checkout(t, "bindings", "go")
	at := filepath.Join(folder, filepath.FromSlash(modulePath), "@v")
	write(t, version+"\n", at, "list")
	write(t, `{"Version":"`+version+`","Time":"2024-01-01T00:00:00Z"}`, at, version+".info")
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	must(t, err)
	write(t, string(mod), at, version+".mod")
	archive, err := os.Create(filepath.Join(at, version+".zip"))
	must(t, err)
	defer archive.Close()
	files := zip.NewWriter(archive)
	must(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		must(t, err)
		content, err := os.ReadFile(path)
		must(t, err)
		file, err := files.Create(modulePath + "@" + version + "/" + filepath.ToSlash(name))
		must(t, err)
		_, err = file.Write(content)
		return err
	}))
	must(t, files.Close())
	return folder
}

// installation is what make install leaves, as far as this module needs it.
func installation(t *testing.T) string {
	t.Helper()
	prefix := t.TempDir()
	shared, err := os.ReadFile(library(t, "libp2pmount.so"))
	must(t, err)
	lib := filepath.Join(prefix, "lib")
	write(t, string(shared), lib, "libp2pmount.so.0.1.0")
	must(t, os.Symlink("libp2pmount.so.0.1.0", filepath.Join(lib, soname)))
	must(t, os.Symlink(soname, filepath.Join(lib, "libp2pmount.so")))
	header, err := os.ReadFile(checkout(t, "include", "p2pmount.h"))
	must(t, err)
	write(t, string(header), prefix, "include", "p2pmount.h")
	write(t, fmt.Sprintf("prefix=%s\nName: p2pmount\nDescription: p2pmount\nVersion: 0.1.0\n"+
		"Cflags: -I${prefix}/include\nLibs: -L${prefix}/lib -lp2pmount\n", prefix), lib, "pkgconfig", "p2pmount.pc")
	return prefix
}

// user is a module of somebody else that got this one with go get.
func user(t *testing.T, ctx context.Context, source string) (folder string, environment []string) {
	t.Helper()
	// What the tests themselves need is in the module cache of whoever runs them.
	cache := strings.TrimSpace(run(t, exec.CommandContext(ctx, "go", "env", "GOMODCACHE")))
	environment = []string{
		"GOPROXY=file://" + moduleProxy(t) + ",file://" + filepath.Join(cache, "cache", "download"),
		"GOMODCACHE=" + t.TempDir(), "GOFLAGS=-mod=mod -modcacherw", "CGO_LDFLAGS=", "PKG_CONFIG_PATH=",
	}
	folder = t.TempDir()
	run(t, goCommand(ctx, folder, environment, "mod", "init", "example.com/user"))
	write(t, source, folder, "main.go")
	run(t, goCommand(ctx, folder, environment, "get", modulePath))
	return folder, environment
}

func TestAUserGetsTheModuleAndBuildsWithAnInstalledLibrary(t *testing.T) {
	ctx := limit(t)
	if _, err := exec.LookPath("pkg-config"); err != nil {
		missing(t, "pkg-config")
	}
	prefix := installation(t)
	folder, environment := user(t, ctx, completeProgram(t))
	mod, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	must(t, err)
	if !strings.Contains(string(mod), modulePath+" "+version) || strings.Contains(string(mod), "goleak") {
		t.Errorf("go.mod:\n%s", mod)
	}
	environment = append(environment, "PKG_CONFIG_PATH="+filepath.Join(prefix, "lib", "pkgconfig"))
	run(t, goCommand(ctx, folder, environment, "build", "-tags", "p2pmount_pkgconfig", "-o", "mount"))
	program := filepath.Join(folder, "mount")
	if libraries, runPath := needed(t, program); !strings.Contains(libraries, soname) || runPath != "" {
		t.Errorf("needs %s, from %q", libraries, runPath)
	}
	tunnel(t, ctx, program, "LD_LIBRARY_PATH="+filepath.Join(prefix, "lib"))
}

func TestAUserWithoutTagsBuildsWithALibraryOfTheSystem(t *testing.T) {
	ctx := limit(t)
	lib := filepath.Join(installation(t), "lib")
	folder, environment := user(t, ctx, completeProgram(t))
	// Where the C compiler looks by itself.
	environment = append(environment, "LIBRARY_PATH="+lib)
	run(t, goCommand(ctx, folder, environment, "build", "-o", "mount"))
	tunnel(t, ctx, filepath.Join(folder, "mount"), "LD_LIBRARY_PATH="+lib)
}

func TestWithoutCgoTheBuildSaysWhatIsMissing(t *testing.T) {
	ctx := limit(t)
	folder := insideCheckout(t, completeProgram(t))
	output, err := goCommand(ctx, folder, []string{"CGO_ENABLED=0"}, "build", "-o", "mount").CombinedOutput()
	if err == nil || !strings.Contains(string(output), "set_CGO_ENABLED_1") {
		t.Errorf("%v: %s", err, output)
	}
}

// The pieces of the manual that are no programs of their own, each as a function of one program with what they assume.
const pieces = `package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	p2pmount "github.com/p2pmount/p2pmount/bindings/go"
)

var _ = []any{errors.Is, syscall.EADDRINUSE, time.Second}

type piece func(ctx context.Context, node *p2pmount.Node, peer, target, taken, silentPeer string) error

func main() {
	for number, run := range all {
		if err := try(run); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			fmt.Printf("piece %%d: %%v\n", number+1, err)
			os.Exit(1)
		}
		fmt.Printf("-- piece %%d is done\n", number+1)
	}
}

func try(run piece) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	node, err := p2pmount.Open(ctx)
	if err != nil {
		return err
	}
	defer node.Close()
	other, err := p2pmount.Open(ctx)
	if err != nil {
		return err
	}
	defer other.Close()
	peer, err := other.Address()
	if err != nil {
		return err
	}
	service, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer service.Close()
	target := service.Addr().String()
	nobody, err := p2pmount.Open(ctx)
	if err != nil {
		return err
	}
	nobody.Close()
	_, port, _ := net.SplitHostPort(target)
	if _, err := other.Listen("web", target); err != nil {
		return err
	}
	if _, err := node.Listen("own", target); err != nil {
		return err
	}
	forward, err := node.Forward(ctx, "web", "127.0.0.1:0", peer)
	if err != nil {
		return err
	}
	go func() {
		// Something happens now and then, but not at first.
		time.Sleep(200 * time.Millisecond)
		for ctx.Err() == nil {
			if conn, err := net.Dial("tcp", forward.Address()); err == nil {
				time.Sleep(50 * time.Millisecond)
				conn.Close()
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	return run(ctx, node, peer, target, target, "/ip4/127.0.0.1/tcp/"+port+"/p2p/"+nobody.PeerID())
}

var all = []piece{
%s}
`

func TestEveryPieceOfTheManualRuns(t *testing.T) {
	ctx := limit(t)
	library(t, soname)
	var functions strings.Builder
	count := 0
	for _, page := range []string{checkout(t, "docs", "go.md"), checkout(t, "bindings", "go", "README.md")} {
		for _, block := range blocks(t, page) {
			if strings.HasPrefix(block, "package main\n") {
				continue
			}
			count++
			if !strings.HasPrefix(lastLine(block), "return") {
				block += "return nil\n"
			}
			fmt.Fprintf(&functions, "func(ctx context.Context, node *p2pmount.Node, peer, target, taken, silentPeer string) error {\n%s},\n", block)
		}
	}
	source, err := format.Source([]byte(fmt.Sprintf(pieces, functions.String())))
	must(t, err)
	folder := insideCheckout(t, string(source))
	run(t, goCommand(ctx, folder, nil, "vet", "."))
	run(t, goCommand(ctx, folder, nil, "build", "-o", "pieces"))
	output := run(t, exec.CommandContext(ctx, filepath.Join(folder, "pieces")))
	for _, expected := range []string{
		fmt.Sprintf("-- piece %d is done\n", count),
		"\n10000ms set\n", "\ntrue true\n", "\nopened 0 127.0.0.1:", "\nchoose another port\n", "\nP2P_ERROR_ADDRESS_IN_USE address already in use\n",
		"\n1 forwards closed\n", "\nmount /x/announced listening <nil>\n", "connect to 127.0.0.1:",
	} {
		if !strings.Contains("\n"+output, expected) {
			t.Errorf("the pieces did not print %q:\n%s", expected, output)
		}
	}
}

func lastLine(block string) string {
	lines := strings.Split(strings.TrimSpace(block), "\n")
	return lines[len(lines)-1]
}

func TestTheGoOfTheManualIsFormatted(t *testing.T) {
	for _, page := range []string{checkout(t, "docs", "go.md"), checkout(t, "bindings", "go", "README.md")} {
		for _, block := range blocks(t, page) {
			formatted, err := format.Source([]byte(block))
			must(t, err)
			if string(formatted) != block {
				t.Errorf("%s: gofmt would have it so:\n%s", page, formatted)
			}
		}
	}
}
