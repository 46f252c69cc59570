"""From the name of a tokenizer to one that is ready; and back to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from understudy.errors import InputError, nearest
from understudy.extras import imported
from understudy.files import neighbours, replacing
from understudy.sources.hub import cache_when_unreachable
from understudy.tokenizing import AnyTokens, TextTokenization, Tokenizer, read_tokens


def open_tokens(spec: AnyTokens) -> TextTokenization:
    """What makes the tokens that a spec describes.

    Args:
        spec: of words or bytes, or where a tokenizer is saved.

    Raises:
        InputError: when there is no tokenizer, or it cannot be read.
    """
    if not isinstance(spec, Tokenizer):
        return read_tokens(spec)
    path = Path(spec.path)
    file = path / "tokenizer.json" if path.is_dir() else path
    if file.is_file():
        return read_tokens(spec.model_copy(update={"path": str(file)}))
    return TextTokenization(spec, _with_transformers(spec.path, path))


def check_tokens(spec: AnyTokens) -> None:
    """Read a tokenizer that is on this machine; nothing is asked of the hub.

    Raises:
        InputError: when it cannot be read, or its path can only be meant to be here, and is not.
    """
    if isinstance(spec, Tokenizer) and (Path(spec.path).exists() or _only_here(spec.path)):
        open_tokens(spec)


def write_tokens(tokens: TextTokenization, path: Path) -> None:
    """Write the file of a saved tokenizer, whole or not at all; nothing for other tokens, which need none.

    Args:
        tokens: as a model has them.
        path: of the file, in the format of Hugging Face's ``tokenizer.json``.

    Raises:
        RunError: when the disk does not take it.
    """
    if tokens.backend is not None:
        copy = type(tokens.backend).from_str(tokens.backend.to_str())
        copy.enable_padding(pad_id=tokens.padding, pad_token=copy.id_to_token(tokens.padding) or "[PAD]")
        with replacing(path) as temporary:
            temporary.write_text(copy.to_str(pretty=True), encoding="utf-8")


def _only_here(name: str) -> bool:
    """Whether a name cannot be an id on the hub."""
    return name.startswith((".", "~", "/")) or name.endswith(".json") or name.count("/") > 1


def _with_transformers(name: str, path: Path) -> Any:
    """The tokenizers of older formats, and those on the hub."""
    if not path.is_dir() and _only_here(name):
        raise InputError(f"there is no tokenizer {name}{nearest(path.name, neighbours(path))}")
    transformers = imported("transformers", extra="text", needed_by="a tokenizer of this format")
    with cache_when_unreachable() as silent:
        try:
            found = transformers.AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError, KeyError) as error:
            where = f"is not on this machine, and {silent} is out of reach" if silent else "could not be loaded"
            raise InputError(
                f"the tokenizer {name} {where}; expected a tokenizer.json, or a folder that "
                f"tokenizer.save_pretrained(folder) wrote ({error})"
            ) from error
    backend = getattr(found, "backend_tokenizer", None)
    if backend is None:
        raise InputError(
            f"the tokenizer {name} is of a kind that has no fast version ({type(found).__name__}); convert it once "
            "with transformers, and save it as tokenizer.json"
        )
    return backend
