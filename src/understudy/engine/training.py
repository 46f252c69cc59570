"""How a student is trained: a frozen value, the same in Python and in a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from understudy.engine.plan import Execution, Precision
from understudy.schedules import AnySchedule, Fraction
from understudy.spec import Spec

Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


class Optimizer(Spec):
    """An optimizer of ``torch.optim``."""

    kind: str = "sgd"
    """Name of the class in ``torch.optim``, in any case: sgd, adam, adamw, rmsprop …"""
    lr: Annotated[float, Field(ge=0.0)]
    """Learning rate at the factor 1 of the schedule."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """As the optimizer defines it."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Further arguments of the class, such as ``{momentum: 0.9, nesterov: true}`` or ``{betas: [0.9, 0.95]}``."""
    no_decay_on_bias_and_norm: bool = False
    """Whether biases and normalisation layers are left out of the weight decay."""


class Training(Spec):
    """The whole of a training, apart from data, models, objective and seed."""

    epochs: Positive | None = None
    """How often the data is gone through; may be a fraction. Give this or ``steps``."""
    steps: Count | None = None
    """How many steps the optimizer makes."""
    batch_size: Count = 128
    """Samples that go through the networks at once, over all processes."""
    optimizer: Optimizer
    """What updates the weights."""
    schedule: AnySchedule | None = None
    """Factor of the learning rate over the training; constant when not given."""
    warmup: Fraction = 0.0
    """Part of the training over which the learning rate rises linearly from 0, on top of the schedule."""
    precision: Precision = "fp32"
    """The type that autocast uses for the student's forward pass; weights stay float32."""
    accumulate: Count = 1
    """Batches that make one step of the optimizer."""
    head_chunk: Count | Literal["auto"] | None = None
    """Positions whose logits are computed at a time, so that those of a batch are never held: for language models with
    many words. ``auto`` is about a million logits; all at once when not given. Only while training: validation
    computes a batch's."""
    clip_norm: Positive | None = None
    """Longest gradient, as the L2 norm over all parameters; longer ones are scaled down."""
    max_norm: Positive | None = None
    """Largest L2 norm of the weights coming into one unit of a linear or convolutional layer, kept at each step."""
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay of a moving average of the student's weights; the average is then what is validated and kept."""
    patience: Count | None = None
    """Validations without improvement after which the training ends."""
    validate_every: Positive = 1.0
    """Epochs between two validations."""
    checkpoint_every: Count | None = None
    """Steps between two checkpoints. None: at the ends of epochs that are 20 s apart, and every 10 minutes.

    One is made whenever the training is interrupted, too.
    """
    execution: Literal["auto", "plain"] | Execution = "auto"
    """``auto`` tries memory formats for a few seconds where that pays, ``plain`` leaves everything as it is."""
    select: Literal["best", "last"] = "best"
    """Which weights the student ends with: the best on the validation data, or those of the last step."""

    @model_validator(mode="after")
    def _one_length(self) -> Training:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps, and not both")
        return self

    @model_validator(mode="after")
    def _not_compiled(self) -> Training:
        if self.head_chunk is not None and isinstance(self.execution, Execution) and self.execution.compile:
            raise ValueError("head_chunk and execution.compile do not go together; leave one of them out")
        return self

    def total_steps(self, batches_per_epoch: int) -> int:
        """Steps of the optimizer in the whole training, at least 1.

        Args:
            batches_per_epoch: length of the loader.
        """
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None  # the validator has seen to it
        return max(round(self.epochs * self.steps_per_epoch(batches_per_epoch)), 1)

    def steps_per_epoch(self, batches_per_epoch: int) -> int:
        """Steps of the optimizer in one epoch; the last one may be made of fewer batches."""
        return -(-batches_per_epoch // self.accumulate)

    def learning_rate_factor(self, step: int, total: int) -> float:
        """What the learning rate is multiplied by.

        Args:
            step: steps that were made before, 0 at the first.
            total: steps of the whole training.
        """
        progress = step / total
        factor = self.schedule.at(progress) if self.schedule is not None else 1.0
        if self.warmup > 0.0:
            factor *= min((step + 1) / (self.warmup * total), 1.0)
        return factor
