"""Texts that a student has written itself, for its teacher to judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, final

import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor, nn

from understudy.batch import IGNORE_INDEX, Batch
from understudy.engine.process import Process, process
from understudy.engine.training import Count
from understudy.errors import InputError
from understudy.sources.continuing import continued, decoded
from understudy.sources.forward import device_of
from understudy.sources.loader import Loader
from understudy.sources.pairs import PADDING, Pairs
from understudy.spec import Spec
from understudy.tasks.language import LanguageModel
from understudy.tasks.task import Task
from understudy.tokenizing import DECODED
from understudy.views import folded

_CHOICE, _TOKENS, _DRAWN = 41, 42, 43
_AGAIN = 0.5
"""How many of the student's batches are drawn from those of earlier steps, once there are enough."""


@final
class OnPolicy(Spec):
    """How often a student learns from texts of its own, and what those begin with.

    A student that has only ever seen true texts does not know what to do after a mistake of its own. Here it goes on
    from the beginning of a window, and the teacher says what should have come at each place; such tokens have no
    labels. In the paper's words: `share` is λ.

    References:
        Agarwal, Vieillard, Zhou, Stanczyk, Ramos, Geist, Bachem: On-Policy Distillation of Language Models, ICLR 2024
        (arXiv:2306.13649). Texts of earlier steps: Ko, Kim, Chen, Yun: DistiLLM, ICML 2024 (arXiv:2402.03898).
    """

    share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """How many of the batches are the student's own."""
    prompt: Count = 16
    """How many tokens of a window are kept as its beginning. Where the data are prompts with answers, it is their
    prompts that are gone on from."""
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """At which it writes."""
    replay: NonNegativeInt = 0
    """How many windows that it has written are kept, to be drawn in place of every second new batch: writing takes
    longer than learning. 0: each is used once."""


@final
class OnPolicyLoader:
    """Batches of which some are replaced by what the student makes of their beginnings, as it is at that moment.

    Which batches are, and what is drawn, are pure functions of seed, epoch and number of the batch; the student is in
    eval mode while it writes, and no global generator of random numbers is drawn from.

    Args:
        loader: windows of tokens, or prompts with answers.
        student: who writes; the windows follow it to its device.
        on_policy: how often, and how.
        task: how the student is called.
        seed: of the choices.
        current: this process; the one that runs, when not given.

    Raises:
        InputError: for another task, a prompt that leaves nothing to write, or is about windows where there are none,
            or several processes that keep texts.
    """

    def __init__(
        self,
        loader: Loader,
        student: nn.Module,
        on_policy: OnPolicy,
        *,
        task: Task,
        seed: int = 0,
        current: Process | None = None,
    ) -> None:
        self._process = current or process()
        if not isinstance(task, LanguageModel):
            raise InputError(f"`on_policy` lets the student write texts; expected a language model, not {task.kind}")
        window, self._pairs = loader.split.shape[0], loader.split.inputs
        if isinstance(self._pairs, Pairs):
            given = [name for name in ("prompt", "replay") if name in on_policy.model_fields_set]
            if given:
                raise InputError(
                    f"`on_policy.{given[0]}` is about windows of running texts; here the student answers the prompts "
                    "of the data, each time anew. Leave it out"
                )
        elif on_policy.prompt >= window:
            raise InputError(
                f"`on_policy.prompt: {on_policy.prompt}` is the whole window of {window} tokens; expected fewer"
            )
        if on_policy.replay and self._process.world > 1:
            raise InputError("`on_policy.replay` keeps texts in one process, and there are several; leave it out")
        self._loader, self._student, self._asked, self._task, self._seed = loader, student, on_policy, task, seed
        self._kept = torch.zeros(0, window, dtype=torch.int64)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the batches and the choices of the iterations that begin from now on."""
        self.epoch = epoch
        self._loader.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate()

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """The batches of this epoch from number ``start`` on; those before it must have been read already."""
        epoch = self.epoch
        for number, batch in enumerate(self._loader.iterate(start), start):
            choice = torch.Generator().manual_seed(folded(self._seed, epoch, number, _CHOICE) >> 1)
            own, again = torch.rand(2, generator=choice).tolist()
            yield self._own(batch, epoch, number, again=again < _AGAIN) if own < self._asked.share else batch

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to be gone on from, as JSON."""
        return {"on_policy": self._asked.model_dump(mode="json"), "seed": self._seed}

    def state_dict(self) -> dict[str, Tensor]:
        """The texts that are kept."""
        return {"kept": self._kept}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state_dict` gave."""
        self._kept = state["kept"]

    def _own(self, batch: Batch, epoch: int, number: int, *, again: bool) -> Batch:
        """A batch of the student's, as large as another; without ids, since nobody has recorded answers to it."""
        device, prompt = device_of(self._student), self._asked.prompt
        key = (self._seed, epoch, number, self._process.rank)
        if isinstance(self._pairs, Pairs):
            generator = torch.Generator(device).manual_seed(folded(*key, _TOKENS) >> 1)
            return self._answered(batch.to(device), self._pairs, generator)
        if again and len(self._kept) >= len(batch):
            drawn = torch.Generator().manual_seed(folded(*key, _DRAWN) >> 1)
            tokens = self._kept[torch.randperm(len(self._kept), generator=drawn)[: len(batch)]].to(device)
        else:
            windows = batch.inputs.to(device)
            generator = torch.Generator(device).manual_seed(folded(*key, _TOKENS) >> 1)
            tokens = continued(
                self._student,
                windows[:, :prompt],
                windows.shape[1] - prompt,
                task=self._task,
                generator=generator,
                temperature=self._asked.temperature,
            )
            if self._asked.replay:
                self._kept = torch.cat([self._kept, tokens.cpu()])[-self._asked.replay :]
        mask = torch.zeros_like(tokens, dtype=torch.bool)
        mask[:, prompt - 1 :] = True  # what comes after the last token of the prompt is the first one it chose
        return Batch(inputs=tokens, targets=torch.full_like(tokens, IGNORE_INDEX), mask=mask)

    def _answered(self, batch: Batch, pairs: Pairs, generator: torch.Generator) -> Batch:
        """The prompts of a batch with answers of the student's, none longer than the longest row of the batch."""
        assert batch.mask is not None  # pairs have one
        if not len(batch):
            return batch
        how: dict[str, Any] = {"task": self._task, "generator": generator, "temperature": self._asked.temperature}
        last = batch.mask.int().argmax(1)  # where the answer's first token comes next
        if pairs.start is None:
            row = continued(self._student, batch.inputs, 1, lengths=last + 1, end=pairs.end, **how)
            read, said = row[:, :-1], row[:, 1:]
        else:
            asked = {name: batch.inputs[name] for name in ("input_ids", "attention_mask")}
            said = decoded(self._student, asked, batch.mask.shape[1], start=pairs.start, end=pairs.end, **how)
            read = torch.cat([batch.inputs[DECODED][:, :1], said[:, :-1]], 1)
        answer = torch.arange(said.shape[1], device=said.device) >= last[:, None]
        ends = (answer & (said == pairs.end)).int()
        over = ends.cumsum(1) > ends  # behind the mark of the end
        read = read.masked_fill(over, PADDING)
        inputs = read if pairs.start is None else {**batch.inputs, DECODED: read}
        return Batch(inputs=inputs, targets=torch.full_like(said, IGNORE_INDEX), mask=answer & ~over)
