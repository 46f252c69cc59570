"""By what a teacher is recognised."""

from __future__ import annotations

import hashlib
from typing import Protocol, runtime_checkable

from understudy.sources.cache import content_digest
from understudy.taps import unwrapped
from understudy.teachers import AverageTeacher, Ensemble, ModuleTeacher, OnnxTeacher, RuntimeTeacher, Teacher
from understudy.tokenizing import tokenization_of


@runtime_checkable
class Identified(Protocol):
    """A teacher that says what its answers depend on."""

    @property
    def identity(self) -> str:
        """A digest of it."""
        ...


def identity_of(teacher: Teacher) -> str | None:
    """A digest of everything that a teacher's answers depend on beside its inputs; None where that is not known.

    Args:
        teacher: any teacher.
    """
    if isinstance(teacher, Identified):
        return teacher.identity
    if isinstance(teacher, RuntimeTeacher):
        return identity_of(teacher.live)  # the manifest names what executes it
    digest = hashlib.sha256()
    if isinstance(teacher, Ensemble):
        members = [identity_of(member) for member in teacher.members.values()]
        if None in members:
            return None
        digest.update(repr((members, teacher.weights, teacher.combine)).encode())
        return digest.hexdigest()
    if not isinstance(teacher, ModuleTeacher | AverageTeacher):
        return None
    if isinstance(teacher, ModuleTeacher) and teacher.precision is not None:
        digest.update(f"{teacher.precision} ".encode())
    module = unwrapped(teacher.module)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        digest.update(f"{name} {content_digest(tensor)}".encode())
    tokenization = tokenization_of(module)
    if tokenization is not None:
        digest.update(f"{tokenization.identity} ".encode())
    layers = {name: type(layer).__name__ for name, layer in module.named_modules() if not list(layer.children())}
    digest.update(repr(layers).encode())
    return digest.hexdigest()


def runtime_of(teacher: Teacher) -> str | None:
    """What executes a teacher, in words; None where that is not known.

    Args:
        teacher: any teacher.
    """
    if isinstance(teacher, Ensemble):
        names = dict.fromkeys(runtime_of(member) for member in teacher.members.values())
        return ", ".join(name for name in names if name is not None) or None
    if isinstance(teacher, RuntimeTeacher):
        return teacher.runtime
    if isinstance(teacher, OnnxTeacher):
        return "onnxruntime"
    return "pytorch" if isinstance(teacher, ModuleTeacher) else None
