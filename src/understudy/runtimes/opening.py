"""Opening an exported file in the runtime that executes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from understudy.errors import InputError, listing, nearest
from understudy.extras import is_installed
from understudy.files import neighbours
from understudy.runtimes.card import TOKENIZER, parsed_card
from understudy.runtimes.deployed import DeployedModel
from understudy.runtimes.executorch import ExecuTorchSession
from understudy.runtimes.onnxruntime import OnnxSession
from understudy.runtimes.openvino import OpenVinoSession
from understudy.runtimes.session import Session
from understudy.runtimes.torch_export import TorchExportSession
from understudy.tokenizing import AnyTokens, TextTokenization, Tokenizer, read_tokens


@dataclass(frozen=True)
class _Runtime:
    suffixes: tuple[str, ...]
    library: str
    extra: str
    open: Callable[[Path, int | None], Session]


RUNTIMES = {
    "onnxruntime": _Runtime(
        (".onnx",),
        "onnxruntime",
        "export",
        lambda path, threads: OnnxSession(path, torch.device("cpu"), threads=threads, shares=False),
    ),
    "openvino": _Runtime(
        (".xml", ".onnx"), "openvino", "export", lambda path, threads: OpenVinoSession(path, threads=threads)
    ),
    "executorch": _Runtime(
        (".pte",), "executorch", "phones", lambda path, threads: ExecuTorchSession(path, threads=threads)
    ),
    "torch": _Runtime((".pt2",), "torch", "", lambda path, threads: TorchExportSession(path, threads=threads)),
}
"""What executes files, by name; where several take a file, the first one that is installed is asked."""
SUFFIXES = tuple(dict.fromkeys(suffix for runtime in RUNTIMES.values() for suffix in runtime.suffixes))
"""Of the files that some runtime executes."""


def runtimes_for(path: str | Path) -> dict[str, str | None]:
    """Which runtimes execute a file: None for those that are installed here, or else what to install.

    Args:
        path: only its ending counts.

    Raises:
        InputError: for a file that no runtime takes.

    Example:
        >>> runtimes_for("model.pt2")
        {'torch': None}
    """
    path = Path(path)
    found = {name: runtime for name, runtime in RUNTIMES.items() if path.suffix in runtime.suffixes}
    if not found:
        raise InputError(f"{path} is none of the files that a runtime executes; expected one of {', '.join(SUFFIXES)}")
    return {name: _missing(runtime) for name, runtime in found.items()}


def open_model(path: str | Path, *, runtime: str | None = None, threads: int | None = None) -> DeployedModel:
    """Load an exported file, to be called like the network that it was made from; one for texts also with texts.

    Args:
        path: an ``.onnx``, ``.xml`` (OpenVINO), ``.pte`` (ExecuTorch) or ``.pt2`` (torch.export) file.
        runtime: one of :data:`RUNTIMES`; the first installed one that takes the file when not given.
        threads: of the CPU; as many as torch has when not given.

    Raises:
        InputError: when there is no such file, it is damaged, or the runtime is not installed or cannot execute it.
    """
    path = Path(path)
    able = runtimes_for(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}{nearest(path.name, neighbours(path))}")
    if threads is not None and threads < 1:
        raise InputError(f"threads must be one or more, got {threads}; leave it out for as many as torch has")
    name = runtime or next((name for name, missing in able.items() if missing is None), next(iter(able)))
    if name not in able:
        raise InputError(
            f"runtime {name!r} does not execute {path.suffix} files{nearest(name, able)}; expected one of "
            f"{listing(list(able))}"
        )
    if able[name] is not None:
        raise InputError(f"{path} cannot be run by {name} here: {able[name]}")
    session = RUNTIMES[name].open(path, threads)
    model = DeployedModel(path, runtime=name, session=session, card=parsed_card(session.card, whose=str(path)))
    if model.card is not None and model.card.tokens is not None:
        tokens = _tokens_beside(path, model.card.tokens)
        if any(port.name == "token_type_ids" for port in model.card.inputs):
            tokens.told_apart = "always"
        model.register_forward_pre_hook(tokens, with_kwargs=True)
    return model


def _tokens_beside(path: Path, tokens: AnyTokens) -> TextTokenization:
    if isinstance(tokens, Tokenizer):
        own, told = path.with_name(f"{path.name}{TOKENIZER}"), path.with_name(tokens.path)
        beside = own if own.is_file() else told
        if not beside.is_file():
            raise InputError(f"{path} reads texts with the tokenizer {beside}, which is not there; keep both together")
        tokens = tokens.model_copy(update={"path": str(beside)})
    return read_tokens(tokens)


def _missing(runtime: _Runtime) -> str | None:
    if is_installed(runtime.library):
        return None
    return f"{runtime.library} is not installed; install it with pip install 'understudy[{runtime.extra}]'"
