"""The package says the same as include/p2pmount.h."""

from __future__ import annotations

import ctypes
import enum
import re
from pathlib import Path
from typing import Any, Dict, List, Tuple, Type

import p2pmount
import pytest
from p2pmount import _prototypes

BASE: Dict[str, Any] = {
    "int": ctypes.c_int,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "char": ctypes.c_char,
    "p2p_error": _prototypes.ErrorStruct,
}


@pytest.fixture(scope="module")
def header(checkout: Path) -> str:
    text = (checkout / "include" / "p2pmount.h").read_text()
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)


def python_type(spelled: str, types: Dict[str, Any]) -> Any:
    """The ctypes type for a type of the header."""
    words = spelled.replace("*", " * ").split()
    constant = words[0] == "const"
    name, *stars = words[1:] if constant else words
    if name == "char" and constant and stars:
        made: Any = ctypes.c_char_p
        stars = stars[1:]
    else:
        made = types[name]
    for _ in stars:
        made = ctypes.POINTER(made)
    return made


def types_of(header: str) -> Dict[str, Any]:
    types = dict(BASE)
    for base, name in re.findall(r"typedef (\w+) (p2p_\w+);", header):
        types[name] = types[base]
    return types


def functions_of(header: str) -> Dict[str, Tuple[Any, Tuple[Any, ...]]]:
    types = types_of(header)
    functions = {}
    for result, name, parameters in re.findall(r"^((?:const )?\w+ \*?)\s*(p2p_\w+)\(([^)]*)\);", header, re.M):
        spelled: List[str] = [] if parameters.strip() == "void" else parameters.split(",")
        without_names = [re.sub(r"\w+\s*$", "", each) for each in spelled]
        functions[name] = python_type(result, types), tuple(python_type(each, types) for each in without_names)
    return functions


def test_every_function_of_the_header_has_the_prototype_of_the_header(header: str) -> None:
    wanted = functions_of(header)
    assert len(wanted) > 30
    assert set(_prototypes.PROTOTYPES) == set(wanted) == set(re.findall(r"\b(p2p_\w+)\(", header))
    for name, prototype in wanted.items():
        assert _prototypes.PROTOTYPES[name] == prototype, name


def test_the_error_structure_is_that_of_the_header(header: str) -> None:
    body = re.search(r"typedef struct p2p_error \{(.*?)\}", header, re.S)
    assert body is not None
    wanted: List[Tuple[str, Any]] = []
    for spelled, name, length in re.findall(r"(\w+) (\w+)(?:\[(\d+)\])?;", body[1]):
        wanted.append((name, BASE[spelled] * int(length) if length else BASE[spelled]))
    assert list(_prototypes.ErrorStruct._fields_) == wanted
    assert ctypes.sizeof(_prototypes.ErrorStruct) == 1024


def test_every_constant_of_the_header_is_there_with_its_value(header: str) -> None:
    groups: Dict[str, Type[enum.IntEnum]] = {
        "ERROR_FLAG": p2pmount.ErrorFlag,  # type: ignore[dict-item]
        "ERROR": p2pmount.Code,
        "LIST": p2pmount.ListKind,  # type: ignore[dict-item]
        "CLOSE": p2pmount.CloseFlag,  # type: ignore[dict-item]
        "EVENT": p2pmount.EventKind,  # type: ignore[dict-item]
    }
    wanted: Dict[str, Dict[str, int]] = {group: {} for group in groups}
    wanted["ERROR"]["OK"] = 0
    others = {}
    for name, value in re.findall(r"#define P2P_(\w+) (\d+)", header):
        group = next((group for group in groups if name.startswith(group + "_")), None)
        if group is None:
            others[name] = int(value)
        else:
            wanted[group][name[len(group) + 1 :]] = int(value)
    for group, names in wanted.items():
        assert {name: int(member) for name, member in groups[group].__members__.items()} == names
    assert others.pop("OK") == 0
    assert others.pop("ABI_VERSION") == _prototypes.ABI_VERSION == p2pmount.ABI_VERSION
    assert others.pop("PEER_ID_SIZE") == _prototypes.PEER_ID_SIZE
    assert others.pop("ADDRESS_SIZE") == _prototypes.ADDRESS_SIZE
    assert all(name.startswith("VERSION_") for name in others), others


def test_the_version_of_the_package_is_that_of_the_header(checkout: Path, header: str) -> None:
    version = re.search(r'#define P2P_VERSION_STRING "(.*)"', header)
    package = re.search(r'^version = "(.*)"', (checkout / "bindings/python/pyproject.toml").read_text(), re.M)
    assert version is not None and package is not None
    assert p2pmount.version() == version[1] == package[1]


def test_every_code_has_a_class_and_the_name_that_the_library_has_for_it() -> None:
    from p2pmount._error import CLASSES, error_from
    from p2pmount._library import status_name

    assert set(CLASSES) == {code for code in p2pmount.Code if code != p2pmount.Code.OK}
    for code, cls in CLASSES.items():
        error = error_from(code, "a sentence")
        assert type(error) is cls
        assert error.name == status_name(code)
        assert getattr(p2pmount, cls.__name__) is cls


def test_rows_are_read_without_giving_the_gil_away_and_all_else_gives_it_away() -> None:
    from p2pmount._library import library

    # Of ctypes' FUNCFLAG_PYTHONAPI, which only PyDLL sets. (How slow it is otherwise depends on what the machine does.)
    holding = {name for name in _prototypes.PROTOTYPES if getattr(library(), name)._flags_ & 4}
    assert {name for name in _prototypes.PROTOTYPES if name.startswith("p2p_row_")} < holding
    assert {"p2p_event_free", "p2p_snapshot_free", "p2p_options_free", "p2p_status_name"} < holding
    assert len(holding) == 8
