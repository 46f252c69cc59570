"""A program that torch.export saved is read without running anything of the file's."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from understudy.errors import InputError
from understudy.runtimes import open_model
from understudy.runtimes.pt2 import read_program

GRAPH, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def rewritten(source: Path, target: Path, changes: dict[str, Callable[[bytes], bytes]]) -> Path:
    """A copy of an archive with some members changed, or added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        root = old.namelist()[0].partition("/")[0]
        members = {name.partition("/")[2]: old.read(name) for name in old.namelist()}
        for name in members | changes:
            content = members.get(name, b"")
            new.writestr(f"{root}/{name}", changes[name](content) if name in changes else content)
    return target


def graph_with(change: Callable[[dict[str, Any]], None]) -> dict[str, Callable[[bytes], bytes]]:
    def changed(content: bytes) -> bytes:
        graph = json.loads(content)
        change(graph)
        return json.dumps(graph).encode()

    return {GRAPH: changed}


def with_target(name: str) -> dict[str, Callable[[bytes], bytes]]:
    return graph_with(lambda graph: graph["graph_module"]["graph"]["nodes"][0].update(target=name))


def test_what_was_not_changed_is_read(exported, tmp_path) -> None:
    program, card = read_program(rewritten(exported[".pt2"], tmp_path / "same.pt2", {}))
    assert card is not None
    assert len(list(program.graph.nodes)) > 3


@pytest.mark.parametrize("place", ["data/sample_inputs/model.pt", "data/weights/weight_0"])
def test_a_pickle_is_not_loaded(exported, tmp_path, place) -> None:
    trap = tmp_path / "trap"
    changes: dict[str, Callable[[bytes], bytes]] = {place: lambda _: pickle.dumps(Evil(trap))}
    if "weights" in place:
        changes[WEIGHTS] = lambda content: content.replace(b'"use_pickle": false', b'"use_pickle": true').replace(
            b'"use_pickle":false', b'"use_pickle":true'
        )
    path = rewritten(exported[".pt2"], tmp_path / "evil.pt2", changes)
    with pytest.raises(InputError, match=r"is not read, as reading it could run code: .*(pickled|example inputs)"):
        open_model(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.hub.load",
        "torch.ops.mylib.shout.default",
        "torch.ops.aten.from_file.default",
        "_operator.methodcaller",
        "builtins.exec",
    ],
)
def test_an_operator_that_is_not_torchs_own_maths_is_refused(exported, tmp_path, target) -> None:
    path = rewritten(exported[".pt2"], tmp_path / "evil.pt2", with_target(target))
    with pytest.raises(InputError, match=f"could run code: .*{target}"):
        open_model(path)


@pytest.mark.parametrize("text", ["__import__('os').getcwd()", "Symbol('s0').__class__", "exec(Symbol)", "lambda: s0"])
def test_an_expression_that_is_no_size_is_refused(exported, tmp_path, text) -> None:
    def change(graph: dict[str, Any]) -> None:
        values = graph["graph_module"]["graph"]["tensor_values"]
        sizes = next(value["sizes"] for value in values.values() if "as_expr" in value["sizes"][0])
        sizes[0]["as_expr"]["expr_str"] = text

    with pytest.raises(InputError, match=r"could run code: .*expr_str"):
        open_model(rewritten(exported[".pt2"], tmp_path / "evil.pt2", graph_with(change)))


def test_guards_and_foreign_types_are_refused(exported, tmp_path) -> None:
    guarded = graph_with(lambda graph: graph.update(guards_code=["open('x', 'w')"]))
    with pytest.raises(InputError, match="it has guards"):
        open_model(rewritten(exported[".pt2"], tmp_path / "guards.pt2", guarded))

    def change(graph: dict[str, Any]) -> None:
        signature = graph["graph_module"]["module_call_graph"][0]["signature"]
        signature["in_spec"] = signature["in_spec"].replace("builtins.tuple", "collections.defaultdict")

    with pytest.raises(InputError, match="in_spec"):
        open_model(rewritten(exported[".pt2"], tmp_path / "types.pt2", graph_with(change)))


def test_strange_members_are_refused(exported, tmp_path) -> None:
    library = {"data/aotinductor/model/model.so": lambda _: b"machine code"}
    with pytest.raises(InputError, match=r"it holds data/aotinductor/model/model\.so"):
        open_model(rewritten(exported[".pt2"], tmp_path / "library.pt2", library))
    twice = tmp_path / "twice.pt2"
    twice.write_bytes(exported[".pt2"].read_bytes())
    with zipfile.ZipFile(twice, "a") as archive:
        archive.writestr(f"other/{GRAPH}", b"{}")
    with pytest.raises(InputError, match="two files of one name"):
        open_model(twice)


def test_what_is_no_archive_is_refused(tmp_path) -> None:
    path = tmp_path / "text.pt2"
    path.write_text("not a program")
    with pytest.raises(InputError, match=r"is not a whole torch\.export file"):
        open_model(path)


def test_nothing_of_this_machine_is_in_it(exported) -> None:
    with zipfile.ZipFile(exported[".pt2"]) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert b"site-packages" not in content
    assert b"/src/" not in content
