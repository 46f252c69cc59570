"""From the name of a source to its splits, through ``datasets``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.errors import InputError, nearest
from understudy.files import neighbours

if TYPE_CHECKING:
    import datasets

_BUILDERS = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json", ".txt": "text"}
_TIMEOUT_S = 5.0
_NETWORK_REMEDY = "check the name and the network, or download it and give the path of its folder"


def local_path(source: str) -> Path | None:
    """The file or folder that a source names; None when it can only be the id of a data set on the hub.

    Raises:
        InputError: for something written as a path that does not exist, with what is there instead.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    written_as_path = source.startswith((".", "~", "/")) or path.is_absolute() or source.count("/") > 1
    if written_as_path or path.suffix.lower() in (*_BUILDERS, ".npz"):
        raise InputError(f"there is no file or folder {source!r}{nearest(path.name, neighbours(path))}")
    return None


def open_splits(
    source: str, config: str | None, *, running: bool = False, lines: bool = False
) -> dict[str, datasets.Dataset]:
    """Open a hub id, a folder, or a parquet, csv, json or text file; what ``datasets`` keeps of it is reused.

    A text file is one row with all of it, in a column ``text``.

    Args:
        source: as the user wrote it.
        config: which of several configurations on the hub.
        running: whether running texts are wanted: in a folder without tables its .txt files, which are notes beside
            images and other data.
        lines: whether each line of a text file is a row of its own.

    Returns:
        The splits by name.

    Raises:
        InputError: when it does not exist, cannot be reached, or cannot be read.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    path = local_path(source)
    try:
        with _quiet():
            opened = (
                _open_path(path, config, running=running, lines=lines)
                if path is not None
                else _open_hub(source, config)
            )
    except (OSError, ValueError, DatasetsError) as error:
        if isinstance(error, InputError):
            raise
        cause = error.__cause__ or error
        raise InputError(
            f"`source: {source}` cannot be opened: {str(cause).strip() or type(cause).__name__}"
        ) from error
    if isinstance(opened, datasets.Dataset):
        return {"train": opened}
    return {str(name): split for name, split in opened.items()}


def _open_path(
    path: Path, config: str | None, *, running: bool, lines: bool
) -> datasets.DatasetDict | datasets.Dataset:
    import datasets

    by = "line" if lines else "document"

    if path.is_file():
        builder = _BUILDERS.get(path.suffix.lower())
        if builder is None:
            raise InputError(
                f"{path} has an ending that is not known; expected {', '.join((*_BUILDERS, '.npz'))}, or a folder"
            )
        if builder == "text":
            return datasets.load_dataset(builder, data_files=str(path), sample_by=by)
        return datasets.load_dataset(builder, data_files=str(path))
    if any((path / name).exists() for name in ("dataset_dict.json", "dataset_info.json")):
        return datasets.load_from_disk(str(path))
    if running and {file.suffix.lower() for file in path.rglob("*")} & set(_BUILDERS) == {".txt"}:
        return datasets.load_dataset("text", data_dir=str(path), sample_by="document")
    return datasets.load_dataset(str(path), config)


def _open_hub(source: str, config: str | None) -> datasets.DatasetDict:
    """Ask the hub once whether it answers: ``load_dataset`` alone tries for half a minute."""
    import datasets
    from datasets import config as settings

    if _hub_answers(source):
        return datasets.load_dataset(source, config)
    before = settings.HF_HUB_OFFLINE
    settings.HF_HUB_OFFLINE = True  # what was downloaded earlier is still found
    try:
        return datasets.load_dataset(source, config)
    except OSError as error:
        raise InputError(
            f"`source: {source}` is no file or folder here, and the hub could not be reached; {_NETWORK_REMEDY}"
        ) from error
    finally:
        settings.HF_HUB_OFFLINE = before


def _hub_answers(source: str) -> bool:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().dataset_info(source, timeout=_TIMEOUT_S)
    except HfHubHTTPError:
        return True  # an answer, if not a kind one: load_dataset words it
    except Exception:  # whatever the HTTP library of the day raises when there is no connection
        return False
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars where nobody watches them."""
    import datasets
    import huggingface_hub.utils as hub

    if sys.stderr.isatty():
        yield
        return
    libraries = [library for library in (datasets.utils, hub) if not library.are_progress_bars_disabled()]
    for library in libraries:
        library.disable_progress_bars()
    try:
        yield
    finally:
        for library in libraries:
            library.enable_progress_bars()
