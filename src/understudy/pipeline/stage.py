"""What every stage of a run is: a frozen description that knows how to make its artifact."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import Field

from understudy.engine.process import Process
from understudy.engine.progress import Progress
from understudy.pipeline.directory import StageDirectory
from understudy.sources.data import DataSet, DataSpec
from understudy.sources.for_tokens import Described, language_model
from understudy.sources.model_specs import ModelSpec
from understudy.sources.models import saved_content
from understudy.spec import Spec
from understudy.tasks import LanguageModel, Task

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
Reference = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*(@[1-9][0-9]{0,2})?$", max_length=84)]
"""The model of an earlier stage, or with `@2` the second snapshot of its training."""


@dataclass(frozen=True)
class Context:
    """All that a stage may know about the run it belongs to.

    Attributes:
        task: the kind of problem.
        data: the whole data set, with its three splits.
        seed: the seed of this execution of the stage.
        first: whether this is the first of the recipe's seeds (costs that do not depend on the seed are
            measured once).
        directory: where the stage leaves its artifact.
        upstream: the directories of the stages it refers to, for the same seed, by name.
        process: this process among those that train together.
        progress: where to tell what happens.
        trackers: names of experiment trackers to log to.
        extend: whether what a stage left before may grow.
    """

    task: Task
    data: DataSet
    seed: int
    first: bool
    directory: StageDirectory
    upstream: Mapping[str, StageDirectory]
    process: Process
    progress: Progress
    trackers: tuple[str, ...]
    extend: bool = False

    def fitted(self, model: Described) -> Described:
        """A model's description as it must be for the data of the run.

        Raises:
            InputError: for a model of something else.
        """
        if self.data.tokens is None or not isinstance(self.task, LanguageModel):
            return model
        return language_model(model, self.data.tokens, self.task)


class Stage(Spec):
    """One step of a run."""

    answers: ClassVar[bool] = False
    """Whether the stage leaves a teacher's answers, which can be asked like a model."""
    exports: ClassVar[bool] = False
    """Whether the stage leaves files for other runtimes."""
    among_classes: ClassVar[bool] = False
    """Whether the stage is about classes of which a sample has one, and not about labels of which it has any number."""

    kind: str
    name: Name
    """How other stages refer to it; also its directory."""
    seed: int | None = None
    """Run once, with this seed, for all the recipe's seeds (such as one teacher for several students)."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the earlier stages that this one reads."""
        return ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The earlier models that this one reads, as the recipe names them: ``cnn``, or ``cnn@2`` for a snapshot."""
        return self.needs

    @property
    def asks(self) -> tuple[str, ...]:
        """Those of :attr:`reads` that are only asked for answers, so that a recording does as well as a model."""
        return ()

    @property
    def opens(self) -> tuple[str, ...]:
        """Names of the earlier stages whose exported files it reads."""
        return ()

    @property
    def outside(self) -> dict[str, str | None]:
        """What this stage reads that is neither the recipe's data nor the run's, by path: digests of the content."""
        return saved_content(self.network) if isinstance(self.network, ModelSpec) else {}

    @property
    def snapshot_count(self) -> int:
        """How many snapshots of its training the stage leaves beside its model."""
        return 0

    @property
    def network(self) -> ModelSpec | Name | None:
        """Which network the stage leaves: its description, the earlier stage whose network it keeps, or none."""
        return None

    def is_whole(self, directory: StageDirectory) -> bool:  # noqa: ARG002 - what overriding stages need
        """Whether what the finished stage has left is all there; where it is not, the stage runs again.

        Raises:
            InputError: when it cannot be read, or is not what the stage left; it is then set aside.
        """
        return True

    @abstractmethod
    def run(self, context: Context) -> dict[str, Any]:
        """Make the artifact in ``context.directory``; what is returned goes into its ``stage.json``.

        Raises:
            InputError: when what the stage was given cannot work; nothing was trained.
            RunError: when it could not go on; checkpoints stay and the same command resumes.
        """


class Description(Protocol):
    """What a run needs to know; a recipe is one."""

    @property
    def name(self) -> str:
        """What the run is called."""
        ...

    @property
    def task(self) -> Task:
        """The kind of problem."""
        ...

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that every stage is run with."""
        ...

    @property
    def data(self) -> DataSpec:
        """What is learnt from and measured on."""
        ...

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What is done, in order."""
        ...

    @property
    def trackers(self) -> tuple[str, ...]:
        """Names of experiment trackers."""
        ...


def stage_of(reference: str) -> str:
    """The stage that a :data:`Reference` is about."""
    return reference.partition("@")[0]


def artifact_of(reference: str) -> str:
    """How the referred model is called in its stage's directory: ``model``, or ``snapshot-2``."""
    number = reference.partition("@")[2]
    return snapshot_name(int(number)) if number else "model"


def snapshot_name(number: int) -> str:
    """How a snapshot is called in its stage's directory; they are counted from 1."""
    return f"snapshot-{number}"


def network_of(name: str, stages: Mapping[str, Stage]) -> ModelSpec:
    """Which network a stage leaves, through as many stages as only change its weights.

    Args:
        name: of a stage that leaves a model.
        stages: all stages, by name.
    """
    network = stages[name].network
    assert network is not None, f"the recipe lets {name!r} stand where a model is read"
    return network_of(network, stages) if isinstance(network, str) else network
