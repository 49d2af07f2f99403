"""The wheel holds what it should, and the package finds its library."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import Any, List

import p2pmount
import pytest
from support import python

LOADED = "import p2pmount; print(p2pmount.load_library())"


@pytest.fixture(scope="module")
def wheel() -> Path:
    path = os.environ.get("P2PMOUNT_TEST_WHEEL")
    if not path:
        pytest.fail("P2PMOUNT_TEST_WHEEL names no wheel; the tests are run by scripts/python.sh test")
    return Path(path)


@pytest.fixture(scope="module")
def sources(checkout: Path) -> Path:
    return checkout / "bindings" / "python"


@pytest.fixture(scope="module")
def built(checkout: Path) -> Path:
    """The library of the build tree."""
    return (checkout / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "libp2pmount.so").resolve()


@pytest.fixture
def copy(sources: Path, tmp_path: Path) -> Path:
    """The package alone, without a library and outside of any checkout."""
    shutil.copytree(
        sources / "src" / "p2pmount", tmp_path / "copy" / "p2pmount", ignore=shutil.ignore_patterns("*.so*")
    )
    return tmp_path / "copy"


def test_the_wheel_is_for_python_3_of_any_version_on_this_platform(wheel: Path) -> None:
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name == f"p2pmount-{p2pmount.version()}-py3-none-{platform}.whl"


def test_the_wheel_holds_the_package_the_library_and_nothing_else(wheel: Path, sources: Path, built: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        information = {name.rpartition("/")[2]: archive.read(name).decode() for name in names if ".dist-info/" in name}
        assert archive.read("p2pmount/libp2pmount.so.0") == built.read_bytes()
    wanted = {f"p2pmount/{path.name}" for path in (sources / "src" / "p2pmount").iterdir() if path.is_file()}
    wanted.add("p2pmount/libp2pmount.so.0")
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert "p2pmount/py.typed" in wanted
    assert "Root-Is-Purelib: false" in information["WHEEL"]
    assert "Requires-Python: >=3.9" in information["METADATA"]
    # Nothing else is needed to run it.
    assert "Requires-Dist" not in information["METADATA"]


def test_the_tests_run_against_the_installed_wheel() -> None:
    package = Path(p2pmount.__file__).parent
    assert package.parent == Path(sysconfig.get_path("platlib"))
    assert Path(p2pmount.load_library()) == package / "libp2pmount.so.0"


def test_the_environment_variable_names_the_library_first_of_all(built: Path, tmp_path: Path) -> None:
    assert python(LOADED, P2PMOUNT_LIBRARY=str(built)).stdout.strip() == str(built)
    missing = str(tmp_path / "nothing.so")
    result = python(LOADED, P2PMOUNT_LIBRARY=missing)
    assert result.returncode == 1
    assert f"LibraryError: P2PMOUNT_LIBRARY is {missing}, which is not a file" in result.stderr


def test_a_package_in_a_checkout_finds_the_build_tree(sources: Path, built: Path) -> None:
    # Not an editable installation, but the same files in the same place.
    if (sources / "src" / "p2pmount" / "libp2pmount.so.0").exists():
        pytest.fail("a library lies beside the sources; remove it")
    result = python(LOADED, PYTHONPATH=str(sources / "src"))
    assert Path(result.stdout.strip()) == built, result.stderr


def test_a_library_in_the_package_comes_before_the_systems(copy: Path, built: Path) -> None:
    environment = {"PYTHONPATH": str(copy), "LD_LIBRARY_PATH": str(built.parent)}
    assert python(LOADED, **environment).stdout.strip() == "libp2pmount.so.0"
    shutil.copy(built, copy / "p2pmount" / "libp2pmount.so.0")
    assert python(LOADED, **environment).stdout.strip() == str(copy / "p2pmount" / "libp2pmount.so.0")


def test_a_library_that_is_nowhere_is_told_with_where_it_was_looked_for(copy: Path) -> None:
    result = python(LOADED, PYTHONPATH=str(copy))
    assert result.returncode == 1
    assert "LibraryError: the library p2pmount was not found" in result.stderr
    assert str(copy / "p2pmount" / "libp2pmount.so.0") in result.stderr


def test_a_library_of_another_abi_is_refused(copy: Path, built: Path) -> None:
    prototypes = copy / "p2pmount" / "_prototypes.py"
    text = prototypes.read_text()
    assert "ABI_VERSION = 0" in text
    prototypes.write_text(text.replace("ABI_VERSION = 0", "ABI_VERSION = 7"))
    result = python(LOADED, PYTHONPATH=str(copy), P2PMOUNT_LIBRARY=str(built))
    assert result.returncode == 1
    assert f"LibraryError: {built} has the ABI version 0, and this package needs version 7" in result.stderr


def test_a_file_that_is_no_library_of_this_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library")
    result = python(LOADED, P2PMOUNT_LIBRARY=str(tmp_path / "text.so"))
    assert f"LibraryError: {tmp_path / 'text.so'} cannot be loaded: " in result.stderr
    script = "import p2pmount, ctypes.util\np2pmount.load_library(ctypes.util.find_library('m'))"
    result = python(script)
    assert "is not the library p2pmount: it has no p2p_abi_version" in result.stderr


def test_a_library_that_is_too_old_is_refused(copy: Path, built: Path) -> None:
    prototypes = copy / "p2pmount" / "_prototypes.py"
    prototypes.write_text(prototypes.read_text() + '\nPROTOTYPES["p2p_novelty"] = (_status, ())\n')
    result = python(LOADED, PYTHONPATH=str(copy), P2PMOUNT_LIBRARY=str(built))
    assert f"LibraryError: {built} is older than this package: it has no p2p_novelty" in result.stderr


def test_an_explicit_path_has_to_come_first(built: Path) -> None:
    script = f"""
import p2pmount
assert p2pmount.load_library({str(built)!r}) == {str(built)!r}
assert p2pmount.load_library({str(built)!r}) == p2pmount.load_library()
try:
    p2pmount.load_library("/other/libp2pmount.so")
except p2pmount.LibraryError as error:
    assert "is in use already" in str(error)
else:
    raise AssertionError
"""
    result = python(script)
    assert (result.returncode, result.stderr) == (0, "")


# The build hook


@pytest.fixture
def hook(sources: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("P2PMOUNT_LIBRARY", raising=False)
    monkeypatch.delenv("CARGO_TARGET_DIR", raising=False)
    specification = importlib.util.spec_from_file_location("hatch_build", sources / "hatch_build.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def checkout_in(path: Path) -> Path:
    """Something that looks like a checkout; the package's directory in it."""
    (path / "include").mkdir()
    (path / "include" / "p2pmount.h").touch()
    (path / "Cargo.toml").touch()
    root = path / "bindings" / "python"
    (root / "src" / "p2pmount").mkdir(parents=True)
    return root


def test_a_build_takes_the_library_that_the_variable_names(
    hook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "any.so"
    monkeypatch.setenv("P2PMOUNT_LIBRARY", str(library))
    with pytest.raises(RuntimeError, match="any.so, which is not a file"):
        hook.find_library(tmp_path)
    library.touch()
    assert hook.find_library(tmp_path) == library


def test_a_build_in_a_checkout_runs_cargo_at_its_root(
    hook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = checkout_in(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(RuntimeError, match="cargo is needed"):
        hook.find_library(root)
    cargo = programs / "cargo"
    cargo.write_text('#!/bin/sh\necho "$PWD $*" > called\n')
    cargo.chmod(0o755)
    assert hook.find_library(root) == tmp_path / "target" / "release" / "libp2pmount.so"
    called = (tmp_path / "called").read_text().split()
    assert called == [str(tmp_path), "rustc", "--release", "--locked", "--lib", "--crate-type", "cdylib"]


def test_an_editable_build_copies_only_a_library_from_elsewhere(hook: Any, tmp_path: Path) -> None:
    root = checkout_in(tmp_path)
    copied = root / "src" / "p2pmount" / "libp2pmount.so.0"
    elsewhere = tmp_path / "elsewhere.so"
    elsewhere.write_text("library")
    hook.keep_beside_source(elsewhere, root)
    assert copied.read_text() == "library"
    hook.keep_beside_source(tmp_path / "target" / "release" / "libp2pmount.so", root)
    assert not copied.exists()


def backend(sources: Path, call: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs the build backend in the package's directory, as pip does."""
    result = subprocess.run(
        [sys.executable, "-c", f"import hatchling.build; print(hatchling.build.{call})"],
        cwd=sources,
        env={**{name: value for name, value in os.environ.items() if name != "P2PMOUNT_LIBRARY"}, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return result


def test_an_editable_installation_uses_the_sources_and_the_build_tree(
    sources: Path, built: Path, tmp_path: Path
) -> None:
    made = backend(sources, f"build_editable({str(tmp_path)!r})", P2PMOUNT_LIBRARY=str(built))
    assert made.returncode == 0, made.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    script = f"import site; site.addsitedir({str(tmp_path / 'site')!r})\nimport p2pmount\nprint(p2pmount.__file__)\n"
    result = subprocess.run(
        # Without site-packages, where the wheel is installed.
        [sys.executable, "-S", "-c", script + LOADED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: List[str] = result.stdout.splitlines()
    assert lines == [str(sources / "src" / "p2pmount" / "__init__.py"), str(built)], result.stderr


def test_a_source_distribution_says_what_it_needs(sources: Path, built: Path, tmp_path: Path) -> None:
    made = backend(sources, f"build_sdist({str(tmp_path)!r})")
    assert made.returncode == 0, made.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = opened.getnames()
        safely: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        opened.extractall(tmp_path / "unpacked", **safely)
    assert not [name for name in names if name.endswith(".so")]
    (root,) = (tmp_path / "unpacked").iterdir()
    refused = backend(root, f"build_wheel({str(tmp_path)!r})")
    assert refused.returncode != 0
    assert "does not lie in a checkout of p2pmount" in refused.stderr
    assert "P2PMOUNT_LIBRARY" in refused.stderr
    accepted = backend(root, f"build_wheel({str(tmp_path)!r})", P2PMOUNT_LIBRARY=str(built))
    assert accepted.returncode == 0, accepted.stderr
