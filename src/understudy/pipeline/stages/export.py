"""Write the models of earlier stages as files that other runtimes execute."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import Field, field_validator

from understudy.errors import RunError, UnderstudyError
from understudy.export.exporting import Exported, Format, export, file_name
from understudy.files import file_digest
from understudy.pipeline.directory import write_json
from understudy.pipeline.exported import RECORD
from understudy.pipeline.stage import Context, Reference, Stage, artifact_of, stage_of
from understudy.pipeline.students import referred
from understudy.pipeline.training import evaluation_loader
from understudy.sources.artifact_record import read_record

_SAMPLES = 2


@final
class Export(Stage):
    """Files for other runtimes, each proved to answer as its model does in PyTorch."""

    exports: ClassVar[bool] = True

    kind: Literal["export"] = "export"
    models: Annotated[tuple[Reference, ...], Field(min_length=1)]
    """The stages whose models are written."""
    formats: Annotated[tuple[Format, ...], Field(min_length=1)] = ("onnx",)
    """`onnx` for ONNX Runtime and OpenVINO; `onnx_dynamic`, the same in int8, of a float model with recurrent or linear
    layers; `tensorrt`, ONNX as TensorRT takes it; `openvino`; `executorch` for phones; `torch_export`."""
    split: Literal["test", "validation"] = "test"
    """On which samples each file is compared with its model; its quality on them is recorded."""
    licence: str | None = None
    """Of the weights, as their owner says it; written into the files."""

    @field_validator("models", "formats")
    @classmethod
    def _different(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(values)) < len(values):
            raise ValueError("one is named twice")
        return values

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages whose models are written."""
        return tuple(dict.fromkeys(map(stage_of, self.models)))

    @property
    def reads(self) -> tuple[str, ...]:
        """The models."""
        return self.models

    def run(self, context: Context) -> dict[str, Any]:
        """Leave ``MODEL.onnx`` and the like, each with its proof beside it, and ``export.json``.

        Every file is tried before any failure ends the stage.

        Raises:
            RunError: naming all that could not be written or proved; the other files are there.
        """
        context.progress.stage(self.name, f"exporting, seed {context.seed}")
        if context.process.is_main:
            context.directory.path.mkdir(parents=True, exist_ok=True)
            self._export(context)
        context.process.wait()
        return {"data": f"proved on the {self.split} split"}

    def _export(self, context: Context) -> None:
        files, failed = [], []
        for model in self.models:
            for kind in self.formats:
                try:
                    made = self._file(context, model, kind)
                except UnderstudyError as error:
                    failed.append({"model": model, "format": kind, "problem": str(error)})
                    continue
                files.append({"model": model, "path": made.path.name, **made.told()})
                context.progress.message(f"{made.path.name}: {made.size_bytes:,} bytes, {made.proof}")
                if made.trtexec:
                    context.progress.message(f"build its engine where TensorRT is: {made.trtexec}")
        record = {"schema": 1, "split": self.split, "files": files, "failed": failed}
        write_json(context.directory.path / RECORD, record)
        if failed:
            problems = "\n".join(f"{each['model']} as {each['format']}: {each['problem']}" for each in failed)
            raise RunError(f"{len(failed)} of {len(files) + len(failed)} files could not be exported:\n{problems}")

    def _file(self, context: Context, model: str, kind: Format) -> Exported:
        loader = evaluation_loader(context, self.split)
        return export(
            referred(model, context),
            context.directory.path / file_name(model, kind),
            format=kind,
            example=context.task.example(next(iter(loader)).inputs, _SAMPLES),
            task=context.task,
            classes=context.data.classes,
            samples=loader,
            data=f"the {self.split} split",
            licence=self.licence,
            recipe=_recipe_of(context),
            weights=_weights_of(context, model),
        )


def _recipe_of(context: Context) -> str | None:
    recipe = context.directory.path.parents[2] / "recipe.json"
    return file_digest(recipe) if recipe.is_file() else None


def _weights_of(context: Context, model: str) -> str:
    return read_record(context.upstream[stage_of(model)].path, artifact_of(model)).sha256
