"""Reading a program that ``torch.export`` saved without running anything of the file's.

``torch.export.load`` is not made for strangers' files: it unpickles what an archive says is pickled, evaluates shape
expressions, runs its guards, and resolves any name below ``torch`` that the graph calls. Ours need none of these, so a
file that has any is refused before torch opens it.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from understudy.errors import InputError, listing
from understudy.runtimes.card import KEY

EXTRA = f"extra/{KEY}"
NAMESPACES = ("aten", "quantized_decomposed")
"""Of the operators that are torch's own."""
_OPERATOR = re.compile(
    rf"torch\.ops\.({'|'.join(NAMESPACES)})\.\w+\.\w+|torch\.sym_(max|min|not|int|float|ite)|math\.(ceil|floor|trunc)"
    r"|_operator\.(getitem|add|sub|mul|mod|floordiv|truediv|neg|pow|eq|ne|lt|le|gt|ge|and_|or_)"
)
_FILES = re.compile(r"\.(from_file|save|load)\.")
_NAME = re.compile(r"[\w.]*")
_EXPRESSION = re.compile(r"[\w\s+\-*/(),<>='.]*")
_WORD = re.compile(r"[A-Za-z_]\w*")
_SYMBOL = re.compile(
    r"[suz]+\d+|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|Max|Min|Eq|Ne|Ge|Le|Gt|Lt|IntTrueDiv|ToFloat|TruncToInt"
    r"|ceiling|floor|Symbol|Integer|Rational|Add|Mul|Pow|positive|nonnegative|integer|True|False"
)
_TREE_TYPES = {None, "builtins.tuple", "builtins.list", "builtins.dict"}
_MEMBERS = re.compile(
    r"data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    rf"|models/model\.json|data/sample_inputs/model\.pt|{EXTRA}|archive_format|archive_version|byteorder"
    r"|\.data/(version|serialization_id)|\.?data/?(alignment|\.format_version|\.storage_alignment)?"
)


def read_program(path: Path) -> tuple[torch.export.ExportedProgram, str | None]:
    """A program, and the card that the file carries.

    Args:
        path: a ``.pt2`` file that :func:`understudy.export.export` wrote.

    Raises:
        InputError: when it is missing or damaged, or holds what only code of the file's could need.
    """
    try:
        content = path.read_bytes()  # checked and read from one copy
        card, problems = _examined(content)
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a whole torch.export file: {error}") from error
    if problems:
        raise InputError(
            f"{path} is not read, as reading it could run code: {listing(list(dict.fromkeys(problems)), most=3)}. "
            "Expected a file that `understudy export` wrote"
        )
    try:
        return torch.export.load(io.BytesIO(content)), card
    except Exception as error:  # whatever torch meets in a torn file
        raise InputError(f"{path} cannot be read by torch.export: {error}") from error


def _examined(content: bytes) -> tuple[str | None, list[str]]:
    """The card, and what in the archive is none of ours."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name.partition("/")[2]: name for name in archive.namelist()}
        strange = [f"it holds {name}" for name in members if not _MEMBERS.fullmatch(name)]
        if strange or len(members) < len(archive.namelist()):
            return None, strange or ["it holds two files of one name"]
        pickled = [
            f"{name} is pickled"
            for kind in ("weights", "constants")
            for name, entry in json.loads(archive.read(members[f"data/{kind}/model_{kind}_config.json"]))[
                "config"
            ].items()
            if entry["use_pickle"]
        ]
        if archive.read(members["data/sample_inputs/model.pt"]):  # torch would unpickle it, whatever it is
            pickled.append("it has example inputs")
        graph = json.loads(archive.read(members["models/model.json"]))
        card = archive.read(members[EXTRA]).decode() if EXTRA in members else None
    return card, [*pickled, *_in_graph(graph, "")]


def _in_graph(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _in_graph(item, name)
    elif isinstance(value, list):
        if key == "guards_code" and value:
            yield "it has guards"
        for item in value:
            yield from _in_graph(item, key)
    elif isinstance(value, str) and not _is_harmless(value, key):
        yield f"{key} {value[:60]!r}"


def _is_harmless(text: str, key: str) -> bool:
    if key == "target":
        return bool(_OPERATOR.fullmatch(text)) and not _FILES.search(text)
    if key == "expr_str":
        return bool(_EXPRESSION.fullmatch(text)) and all(map(_SYMBOL.fullmatch, _WORD.findall(text)))
    if key in ("in_spec", "out_spec"):
        return _types_in(json.loads(text)) <= _TREE_TYPES
    if key in ("as_string", "torch_version", "context"):
        return re.fullmatch(r"[\w .,>+:\-\[\]]*", text) is not None
    return bool(_NAME.fullmatch(text))


def _types_in(spec: Any) -> set[Any]:
    nodes = spec if isinstance(spec, list) else [*spec.get("children_spec", ())]
    own = {spec["type"]} if isinstance(spec, dict) else set()
    return own.union(*(_types_in(node) for node in nodes if isinstance(node, dict | list)))
