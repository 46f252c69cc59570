"""What a recording says about itself: everything that its answers depend on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, final

from pydantic import Field, ValidationError

from understudy.errors import InputError
from understudy.files import replacing
from understudy.recordings.storage import Storage
from understudy.spec import Spec, digest
from understudy.views import Views

NAME = "manifest.json"
_DIGEST = "digest"
"""The key beside the fields that holds their digest, so that a file that was damaged is known; it may be left out."""


@final
class Part(Spec):
    """Samples that were shown to the teacher in the same views."""

    name: str
    """What the split is called."""
    first: Annotated[int, Field(ge=0)]
    """Position of its first sample among all samples of the recording."""
    last: Annotated[int, Field(ge=0)]
    """Position after its last sample."""
    views: Annotated[int, Field(ge=0)] = 0
    """How many augmented views of each sample there are; 0: the sample as it is."""

    @property
    def shown(self) -> tuple[int | None, ...]:
        """The numbers of the views; None for samples as they are."""
        return tuple(range(self.views)) if self.views else (None,)


@final
class Manifest(Spec):
    """What a recording is of. A value that is None is not known, and is not compared with anything."""

    format: Literal[1] = 1
    """Version of the format."""
    understudy: str | None = None
    """The version of the library that made it."""
    teacher: str
    """What the teacher is called."""
    weights: str | None = None
    """A digest of everything that the teacher's answers depend on beside its inputs."""
    runtime: str | None = None
    """What executed the teacher when the recording was begun. It is not compared: others only round differently."""
    task: str | None = None
    """The kind of problem that the teacher answers; None where its answers are about classes."""
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of the classes, in the order of the logits; or of the numbers, and of a vector their positions."""
    probabilities: bool = False
    """Whether the teacher told probabilities, so that the logits are their logarithms."""
    data: str | None = None
    """A digest of the whole data set: content, labels, and which sample is in which split."""
    input_shape: tuple[int, ...] | None = None
    """Shape of one sample."""
    views: Views = Views()
    """How the samples were augmented."""
    view_seed: int = 0
    """Seed of the views."""
    mixing: str | None = None
    """Where a view shows two samples: a digest of the samples that partners are drawn from."""
    keep: Storage = Storage(dtype="float32")
    """What is kept of the answers."""
    samples: str
    """The file with their ids, and labels where there are some, named by its digest."""
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]
    """Which samples were shown how, by their positions in that file."""

    @property
    def count(self) -> int:
        """How many samples there are."""
        return max(part.last for part in self.parts)

    def differences(self, other: Manifest) -> list[str]:
        """In what another manifest differs, apart from its samples and its runtime: each field with both values.

        Args:
            other: what is expected.
        """
        mine, theirs = (
            _flat(each.model_dump(mode="json", exclude={"parts", "samples", "runtime"})) for each in (self, other)
        )
        unknown = {name for name in mine | theirs if mine.get(name, "") is None or theirs.get(name, "") is None}
        if self.weights is not None and self.weights == other.weights:
            unknown.add("teacher")  # what it is called makes no difference then
        return [
            f"{name}: {_shown(mine.get(name))} in the recording, {_shown(theirs.get(name))} now"
            for name in mine | theirs
            if name not in unknown and mine.get(name) != theirs.get(name)
        ]


def read_manifest(folder: Path) -> Manifest:
    """Read what a recording says about itself.

    Raises:
        InputError: when there is none, or it is torn or of a later version.
    """
    path = folder / NAME
    if not path.is_file():
        raise InputError(f"there is no recording in {folder}: expected a file {NAME} there")
    try:
        content = json.loads(path.read_bytes())
        written = content.pop(_DIGEST, None) if isinstance(content, dict) else None
        manifest = Manifest.model_validate(content)
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not a manifest that this version reads: {_reason(error)}") from error
    if written is not None and written != digest(content):
        raise InputError(
            f"{path} is damaged: its digest is {digest(content)}, it says {written}. Take an intact copy, record "
            f"again, or leave `{_DIGEST}` out of a file that was changed on purpose"
        )
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it, whole or not at all.

    Raises:
        RunError: when the disk does not take it.
    """
    with replacing(folder / NAME) as temporary:
        content = manifest.model_dump(mode="json")
        text = json.dumps({**content, _DIGEST: digest(content)}, indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields by their dotted names; an option that is off is known to be off."""
    found: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            found |= _flat(item, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = "off" if item is None and prefix else item
    return found


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _reason(error: ValueError | OSError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
