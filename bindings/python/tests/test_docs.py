"""What the manual and the docstrings show runs, and prints what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import warnings
from pathlib import Path

import p2pmount
import pytest
from support import python

MODULES = [
    "p2pmount",
    *(f"p2pmount.{module.name}" for module in pkgutil.iter_modules(p2pmount.__path__)),
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_docstrings_run(name: str) -> None:
    with warnings.catch_warnings():
        # Some leave a node to be forgotten.
        warnings.simplefilter("ignore", ResourceWarning)
        failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_most_modules_have_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    count = sum(len([each for each in finder.find(importlib.import_module(name)) if each.examples]) for name in MODULES)
    assert count >= 20


def blocks(page: Path) -> str:
    """The code of a page; each block keeps its line numbers."""
    lines = page.read_text().splitlines()
    inside = False
    kept = []
    for line in lines:
        starts, ends = line == "```python", line == "```"
        if ends:
            inside = False
        kept.append(line if inside else "")
        inside = inside or starts
    return "\n".join(kept)


def test_every_block_of_the_manual_runs_and_prints_what_it_says(checkout: Path) -> None:
    script = blocks(checkout / "docs" / "python.md")
    assert script.count("import p2pmount") >= 2
    # A comment behind a print says what is printed, at least how it ends.
    wanted = re.findall(r"print\(.*\) {2,}# (.*)", script)
    assert len(wanted) >= 7
    result = python(script)
    assert result.returncode == 0, result.stderr
    printed = result.stdout.splitlines()
    for line in wanted:
        assert any(each.strip() == line for each in printed), f"{line!r} was not printed, but {printed}"
        printed = printed[next(at for at, each in enumerate(printed) if each.strip() == line) + 1 :]


def test_the_readme_of_the_package_runs(checkout: Path) -> None:
    page = (checkout / "bindings" / "python" / "README.md").read_text()
    expose, forward = re.findall(r"```python\n(.*?)```", page, re.S)
    script = f"""
import builtins, threading
entered = threading.Event()
address = []
builtins.print = lambda *words: address.append(words[-1])
builtins.input = lambda prompt: other() if prompt.startswith("Enter") and len(address) == 1 else address[0]
def other():
    exec(open_there, dict(globals()))
    assert len(address) == 2 and address[1].startswith("127.0.0.1:"), address
open_there = {forward.replace("9090", "0")!r}
exec({expose!r}, globals())
assert len(address) == 2
"""
    result = python(script)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_python_of_the_projects_readme_runs(checkout: Path) -> None:
    result = python(blocks(checkout / "README.md"))
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch(r"127\.0\.0\.1:\d+\n", result.stdout)


def test_every_public_name_has_a_docstring() -> None:
    missing = []
    for name in p2pmount.__all__:
        value = getattr(p2pmount, name)
        if callable(value) and value.__module__.startswith("p2pmount"):
            if not (value.__doc__ or "").strip():
                missing.append(name)
            for method, function in vars(value).items() if isinstance(value, type) else ():
                if not method.startswith("_") and callable(function) and not (function.__doc__ or "").strip():
                    missing.append(f"{name}.{method}")
    assert missing == []
