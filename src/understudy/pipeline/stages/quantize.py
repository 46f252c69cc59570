"""Round a trained model's numbers to eight bits, and train what that cost back."""

from __future__ import annotations

from typing import Annotated, Any, Literal, final

from pydantic import Field, model_validator
from torch import nn

from understudy.compress.nncf_calls import Activations, Mode
from understudy.compress.quantization import CALIBRATION, QuantizedNetwork, quantize
from understudy.compress.sensitivity import BoundedNetwork, metric_of, quantize_within
from understudy.doctor import Finding
from understudy.edits import AnyEdit
from understudy.pipeline.recovery import Compressing, compress
from understudy.pipeline.stage import Context
from understudy.pipeline.students import load_model, referred, spec_of
from understudy.pipeline.training import evaluation_loader
from understudy.sources.artifact import load_artifact, save_artifact
from understudy.sources.loader import Loader
from understudy.spec import refuse

_BATCH = 32
"""Calibration samples that are shown at once."""


@final
class Quantize(Compressing):
    """Give a trained model numbers of eight bits, as few layers apart as a bound on quality needs, and train it."""

    kind: Literal["quantize"] = "quantize"
    mode: Mode = "static"
    """`static` rounds weights and activations, for int8 files that run faster; `weights` keeps the weights alone in
    int8, for language models: a quarter of the size, and no training afterwards."""
    calibration: Annotated[int, Field(ge=1)] = CALIBRATION
    """How many samples of the training data the ranges of activations are taken from; labels are not read."""
    activations: Activations = "symmetric"
    """How activations are rounded: `symmetric` is what every runtime can do, `asymmetric` is finer for values of one
    sign."""
    keep: tuple[str, ...] = ()
    """Paths of layers that stay in float, with everything below them."""
    max_drop: Annotated[float, Field(ge=0.0)] | None = None
    """Percentage points of the task's metric that may be lost on the validation data. When it is more, the layers that
    lose most go back to float until it is not. After a training it is what the trained model has lost."""

    @model_validator(mode="after")
    def _consistent(self) -> Quantize:
        if self.mode == "weights" and self.recovery is not None:
            refuse([(("recovery",), "weights in int8 cannot be trained; use mode: static, or train before")])
        return self

    def run(self, context: Context) -> dict[str, Any]:
        """Leave the quantized model, its control below it, and a record of which layers have eight bits.

        Raises:
            InputError: when NNCF is not installed, or cannot quantize the network; for a bound without labels.
            RunError: when the teacher's weights changed while it taught.
        """
        context.progress.stage(self.name, f"quantizing {self.model}, seed {context.seed}")
        found: list[QuantizedNetwork | BoundedNetwork] = []

        def step(network: nn.Module) -> tuple[nn.Module, tuple[AnyEdit, ...]]:
            made = self._quantized(network, context) if self.recovery is not None else self._within(network, context)
            found[:] = [made]
            network_now = made.quantized if isinstance(made, BoundedNetwork) else made
            return network_now.network, (network_now.edit,)

        record = compress(context, self.model, [step], self.recovery)
        if self.recovery is not None and self.max_drop is not None:
            found[:] = [self._bounded(context) or found[0]]
        told = _told(found[0])
        findings = _findings(found[0], self.name)
        for finding in findings:
            context.progress.message(str(finding))
        context.progress.message(_in_words(told))
        recorded = [*record.get("findings", []), *(finding.to_json() for finding in findings)]
        return {**record, "quantization": told, "findings": recorded}

    def _quantized(self, network: nn.Module, context: Context) -> QuantizedNetwork:
        return quantize(network, self._shown(context), task=context.task, **self._choices)

    def _within(
        self, network: nn.Module, context: Context, *, reference: float | None = None
    ) -> QuantizedNetwork | BoundedNetwork:
        if self.max_drop is None:
            return self._quantized(network, context)
        return quantize_within(
            network,
            self._shown(context),
            evaluation_loader(context, "validation"),
            task=context.task,
            max_drop=self.max_drop,
            reference=reference,
            **self._choices,
        )

    def _bounded(self, context: Context) -> BoundedNetwork | None:
        """What becomes of the trained model, where it has lost too much; its weights are those that were trained."""
        assert self.max_drop is not None
        float_network = referred(self.model, context)
        trained = load_model(context.directory.path, context)
        validation = evaluation_loader(context, "validation")
        before, after = (metric_of(each, validation, context.task) for each in (float_network, trained))
        lost = 100.0 * (before - after)
        if lost <= self.max_drop:
            return None
        float_network.load_state_dict(trained.state_dict(), strict=False)
        made = self._within(float_network, context, reference=before)
        assert isinstance(made, BoundedNetwork)
        if made.drop < lost and context.process.is_main:
            place = context.directory.path
            written = load_artifact(place)
            save_artifact(
                place,
                made.quantized.network,
                spec=spec_of(self.model, context),
                classes=written.classes,
                task=context.task.kind,
                inputs=written.example(),
                metadata=written.metadata,
                edits=(made.quantized.edit,),
            )
        context.process.wait()
        return made

    def _shown(self, context: Context) -> Loader:
        return Loader(context.data.train, batch_size=_BATCH, seed=context.seed)

    @property
    def _choices(self) -> dict[str, Any]:
        return {
            "samples": self.calibration,
            "mode": self.mode,
            "keep": self.keep,
            "activations": self.activations,
        }


def _told(made: QuantizedNetwork | BoundedNetwork) -> dict[str, Any]:
    quantized = made.quantized if isinstance(made, BoundedNetwork) else made
    told = {"layers": list(quantized.layers), "float": list(quantized.kept), "samples": quantized.samples}
    if not isinstance(made, BoundedNetwork):
        return told
    return told | {
        "drop": made.drop,
        "max_drop": made.max_drop,
        "holds": made.holds,
        "sensitivities": made.sensitivities,
        "tried": made.tried,
    }


def _findings(made: QuantizedNetwork | BoundedNetwork, name: str) -> list[Finding]:
    if not isinstance(made, BoundedNetwork) or made.holds:
        return []
    return [
        Finding(
            check="quality_bound",
            severity="warning",
            message=f"{name!r} loses {made.drop:.2f} points of quality, more than max_drop allows ({made.max_drop})",
            seen=f"validation data, with {', '.join(map(str, made.tried))} layers in float",
            remedy="train it with rounded numbers (recovery), calibrate with more samples, or allow more; the best one "
            "that was seen is kept",
        )
    ]


def _in_words(told: dict[str, Any]) -> str:
    text = f"layers in int8: {len(told['layers'])}, calibrated with {told['samples']} samples"
    if told["float"]:
        text += f"; in float: {', '.join(told['float'])}"
    return f"{text}; {told['drop']:.2f} points lost" if "drop" in told else text
