"""Teachers that no stage of the recipe leaves: what was made elsewhere."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Literal, final

from understudy.errors import InputError, nearest
from understudy.files import file_digest, neighbours
from understudy.pipeline.stage import Context
from understudy.recordings import Recording
from understudy.recordings.again import how_to_record
from understudy.recordings.manifest import NAME
from understudy.sources.answers import Form, read_answers
from understudy.sources.loader import Loader
from understudy.sources.preprocess import Preprocess
from understudy.spec import Spec, digest
from understudy.teachers import OnnxTeacher, Recorded, Teacher, Told
from understudy.teachers.onnx import Layout
from understudy.teachers.onnx_file import onnx_digest, read_onnx


class Elsewhere(Spec):
    """A teacher that was made elsewhere."""

    has_layers: ClassVar[bool] = False
    """Whether layers of it may be there to be read."""

    kind: str
    path: str

    @property
    def content(self) -> str | None:
        """A digest that is another one when the answers can be; None when there is nothing."""
        file = Path(self.path).expanduser()
        return file_digest(file) if file.is_file() else None

    def check(self) -> None:
        """See that there is something; nothing is read.

        Raises:
            InputError: when there is not, naming what is beside.
        """
        path = Path(self.path).expanduser()
        if not path.exists():
            raise InputError(f"there is no file or folder {self.path!r}{nearest(path.name, neighbours(path))}")

    @abstractmethod
    def teacher(self, context: Context) -> Teacher:
        """The teacher, ready to be asked.

        Args:
            context: the run.

        Raises:
            InputError: when it is not there, or does not fit the run's data.
        """


@final
class Stored(Elsewhere):
    """A recording, such as one that `understudy record`, or a script in another framework, has written."""

    has_layers: ClassVar[bool] = True

    kind: Literal["recording"] = "recording"
    path: str
    """Its folder."""

    @property
    def content(self) -> str | None:
        """Of the manifest, and of the names of all other files, in which their own digests are."""
        folder = Path(self.path).expanduser()
        if not (folder / NAME).is_file():
            return None
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors"))
        return digest([file_digest(folder / NAME), names])

    def teacher(self, context: Context) -> Recorded:
        """The recording, if it is of these data."""
        recording = Recording(Path(self.path).expanduser())
        manifest, data = recording.manifest, context.data
        classes = context.task.choices(data.classes)
        now = manifest.model_copy(
            update={
                "data": data.fingerprint,
                "classes": classes or manifest.classes,
                "input_shape": data.train.shape,
            }
        )
        different = manifest.differences(now)
        if different:
            raise InputError(
                f"{self.path} is a recording of something else: {'; '.join(different)}. Record this recipe's data: "
                "put a `record` stage before this one; or, where it is this recording that is out of date, make it "
                f"again: {how_to_record(recording.folder)}"
            )
        return Recorded(recording)


@final
class Table(Elsewhere):
    """A csv or parquet file of answers: pseudo-labels, or probabilities or logits that another program gave.

    It knows samples, not views: its answer is the same whatever a sample looks like.
    """

    kind: Literal["table"] = "table"
    path: str
    """The file. Beside the column of ids it has `label`, the name or index of a class, and maybe `confidence`; or one
    column for each class, called by its name or index; or `classes` and `probabilities`, lists of the likeliest."""
    id: str = "id"
    """The column of ids: the positions of the samples in the data set, from 0."""
    form: Form | None = None
    """What the table holds: `labels`, `probabilities` or `logits` of all classes, or the `top` of them; found by its
    columns when left out."""
    order: tuple[str, ...] | None = None
    """The names of the classes in the order of the file's indices, where that is not the data's."""

    def teacher(self, context: Context) -> Told:
        """The table, if it is about these classes."""
        if context.task.choices(context.data.classes) != context.data.classes:
            raise InputError(
                f"a table of answers tells one class of each sample, and in task {context.task.kind} a sample has "
                "several labels; let a model or a recording teach"
            )
        table = read_answers(self.path, context.data.classes, id=self.id, form=self.form, order=self.order)
        context.progress.message(f"{table.name}: {table.about}")
        return table


@final
class Onnx(Elsewhere):
    """A network in an ONNX file, such as an export from TensorFlow or Keras; it answers live, by ONNX Runtime."""

    kind: Literal["onnx"] = "onnx"
    path: str
    """The file. Images are 0 to 1; channels first and last are told apart by the shape that it declares."""
    output: str | None = None
    """Which output holds the logits; the one called `logits`, or else the first of floating point, when left out."""
    layout: Layout = "auto"
    """How it takes images, where its declared shape leaves that open."""
    probabilities: bool | None = None
    """Whether it gives probabilities, whose logarithm is then taken; found out when left out."""
    preprocess: Preprocess | None = None
    """How its inputs are normalised, where the file does not do so itself."""

    @property
    def content(self) -> str | None:
        """Of the file, and of the weights beside it."""
        file = Path(self.path).expanduser()
        return onnx_digest(file, read_onnx(file)) if file.is_file() else None

    def check(self) -> None:
        """See that the file is there, and a whole one.

        Raises:
            InputError: when it is not, or what reads it is not installed.
        """
        read_onnx(Path(self.path).expanduser())

    def teacher(self, context: Context) -> OnnxTeacher:
        """The network, asked once whether it takes these samples and has these classes."""
        normalised = self.preprocess
        teacher = OnnxTeacher(
            Path(self.path).expanduser(),
            task=context.task,
            output=self.output,
            layout=self.layout,
            probabilities=self.probabilities,
            mean=normalised.mean if normalised is not None else None,
            std=normalised.std if normalised is not None else None,
        )
        samples = next(iter(Loader(context.data.validation, batch_size=2, shuffle=False)))
        classes = teacher.observe(context.task.batch(samples)).logits.shape[-1]
        expected = len(context.task.choices(context.data.classes))
        if expected and classes != expected:
            raise InputError(
                f"{self.path} has {classes} classes and the data {expected}; expected the same "
                "classes in the same order"
            )
        context.progress.message(teacher.describe())
        return teacher


AnyElsewhere = Stored | Table | Onnx
"""What a recipe may say of a teacher from elsewhere."""
