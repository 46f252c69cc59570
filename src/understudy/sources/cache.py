"""Decoded images on disk, so that the next run does not decode them again."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

logger = logging.getLogger(__name__)


def cache_directory() -> Path:
    """Where decoded data may be kept: ``UNDERSTUDY_CACHE``, or ``understudy`` in the user's cache directory."""
    if chosen := os.environ.get("UNDERSTUDY_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "understudy"
    variable, default = ("LOCALAPPDATA", "AppData/Local") if sys.platform == "win32" else ("XDG_CACHE_HOME", ".cache")
    return Path(os.environ.get(variable) or Path.home() / default) / "understudy"


def cached(key: str, make: Callable[[], Tensor]) -> tuple[Tensor, str]:
    """A tensor from the cache, or made and put there.

    A file that is torn or altered does not have the digest it was written with: it is made again. A cache that
    cannot be written costs time, nothing else.

    Args:
        key: file name; whatever the tensor depends on must be in it.
        make: makes the tensor when the cache does not hold it.

    Returns:
        The tensor, and the digest of its content (see :func:`content_digest`).
    """
    path = cache_directory() / f"{key}.safetensors"
    found = _read(path)
    if found is not None:
        return found
    tensor = make().contiguous()
    digest = content_digest(tensor)
    _write(path, tensor, digest)
    return tensor, digest


def content_digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's type, shape and values."""
    values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(memoryview(values.data))
    return digest.hexdigest()


def _read(path: Path) -> tuple[Tensor, str] | None:
    try:
        with safe_open(path, framework="pt") as file:
            digest = (file.metadata() or {}).get("digest", "")
            tensor = file.get_tensor("values").clone()  # the file may be replaced while the tensor lives
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError) as error:
        logger.warning("%s is torn (%s) and is made again", path, error)
        return None
    if content_digest(tensor) != digest:
        logger.warning("%s is not what was written there and is made again", path)
        return None
    return tensor, digest


def _write(path: Path, tensor: Tensor, digest: str) -> None:
    """Write beside the final name, force to disk, rename: a reader sees a whole file or none."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.", suffix=".part")
        temporary = Path(name)
        os.close(descriptor)
        save_file({"values": tensor}, temporary, metadata={"digest": digest})
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        logger.warning("decoded data could not be kept in %s: %s", path.parent, error)
        if temporary is not None:
            temporary.unlink(missing_ok=True)
