"""``understudy write``: what a language model makes of the beginnings of texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.model_names import place_of
from understudy.cli.output import write
from understudy.errors import InputError

if TYPE_CHECKING:
    from understudy.sources import DataSet, DataSpec, LoadedArtifact, Split
    from understudy.sources.prompt_columns import PromptColumns
    from understudy.tasks import LanguageModel

_AT_ONCE = 64
"""Windows that are written together."""
_UNCUT = 2**20
"""A window that no prompt and no answer fills."""
_TEXTS = 1000
"""Texts that are written when nobody says how many."""


def write_texts(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A language model: its directory, or RUN#STAGE.")],
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT…", help="Beginnings of texts; none: from nothing.")
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="How many tokens are added at the most.")] = 200,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.01, help="Above 1 the choice of tokens is wider, below 1 narrower.")
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is drawn.")] = 0,
    data: Annotated[
        str | None, typer.Option("--data", metavar="SOURCE", help="Write texts to learn from, as these begin.")
    ] = None,
    prompt: Annotated[int, typer.Option("--prompt", min=1, help="With --data: tokens that a text begins with.")] = 16,
    count: Annotated[
        int | None,
        typer.Option(
            "--count", min=1, help="With --data: how many texts are written (1000), or prompts answered (all)."
        ),
    ] = None,
    prompts_in: Annotated[
        str | None,
        typer.Option("--prompts", metavar="COLUMN", help="With --data: the column of prompts, if not found."),
    ] = None,
    answers_in: Annotated[
        str | None,
        typer.Option("--answers", metavar="COLUMN", help="With --data: the column of answers, if not found."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="With --data: where they go.")] = None,
) -> None:
    """Let a language model go on from the beginnings of texts.

    With --data the model writes a training set (sequence-level distillation): it goes on from places all over the
    training texts of SOURCE, or answers the prompts of a table. A student with any tokenizer can learn from it;
    validation and test are those of SOURCE.

    Example: [bold]understudy write runs/shakespeare#student "ROMEO:" --tokens 300[/bold]
    """
    from understudy.sources import load_artifact
    from understudy.sources.continuing import running_tokens, task_of, written
    from understudy.sources.data import DataSpec, prompt_columns

    if (data is None) != (out is None) or (data is not None and prompts):
        raise InputError("expected beginnings of texts, or --data SOURCE with --out FOLDER to write a training set")
    loaded = load_artifact(place_of(model))
    task = task_of(loaded.module, loaded.inputs, len(loaded.classes))
    if data is None or out is None:
        for text in written(loaded.module, prompts or [""], tokens, task=task, seed=seed, temperature=temperature):
            write(text)
        return
    spec = DataSpec(source=data, tokens=running_tokens(loaded.module), prompt=prompts_in, answer=answers_in)
    columns = prompt_columns(spec, task=task)
    if columns is not None:
        how: dict[str, Any] = {"count": count, "tokens": tokens, "seed": seed, "temperature": temperature}
        for split, rows in _answered(loaded, spec, columns, task, **how).items():
            _leave(out, split, rows)
        return
    source = _in_windows(spec, prompt + tokens, task)
    texts = _training_set(
        loaded, source, task, prompt=prompt, count=count or _TEXTS, seed=seed, temperature=temperature
    )
    for split, each in (
        ("train", texts),
        ("validation", _whole(loaded, source.validation)),
        ("test", _whole(loaded, source.test)),
    ):
        _leave(out, split, [{"text": text} for text in each])


def _answered(
    loaded: LoadedArtifact,
    spec: DataSpec,
    columns: PromptColumns,
    task: LanguageModel,
    *,
    count: int | None,
    tokens: int,
    seed: int,
    temperature: float,
) -> dict[str, list[dict[str, str]]]:
    """The prompts of each split, those of the training split with the model's answers, also where there was none."""
    from understudy.sources import load_data
    from understudy.sources.continuing import answers
    from understudy.sources.data import prompts_and_answers

    by_role = prompts_and_answers(spec, task=task)
    pairs = [pair for each in by_role.values() for pair in each]
    data = load_data(spec.model_copy(update={"window": _UNCUT}), task=task)
    held = {name: split.ids.tolist() for name, split in (("validation", data.validation), ("test", data.test))}
    others = {number for numbers in held.values() for number in numbers}
    asked = [pair[0] for number, pair in enumerate(by_role["train"]) if number not in others][:count]
    said = answers(loaded.module, asked, tokens, task=task, seed=seed, temperature=temperature)
    told = {"train": list(zip(asked, said, strict=True))}
    told |= {name: [pairs[number] for number in numbers] for name, numbers in held.items()}
    names = (columns.prompt[0], columns.answer)
    return {split: [dict(zip(names, pair, strict=True)) for pair in each] for split, each in told.items()}


def _in_windows(spec: DataSpec, window: int, task: LanguageModel) -> DataSet:
    """Texts in windows of the model's own tokens."""
    from understudy.sources import load_data

    return load_data(spec.model_copy(update={"window": window}), task=task)


def _training_set(
    loaded: LoadedArtifact,
    data: DataSet,
    task: LanguageModel,
    *,
    prompt: int,
    count: int,
    seed: int,
    temperature: float,
) -> list[str]:
    """What the model makes of the beginnings of some windows of the training texts."""
    import torch

    from understudy.sources import Loader, Subset
    from understudy.sources.continuing import continued

    split = data.train.subset(Subset(samples=count), seed)
    generator = torch.Generator().manual_seed(seed)
    texts: list[str] = []
    for batch in Loader(split, batch_size=_AT_ONCE, shuffle=False):
        begun, more = batch.inputs[:, :prompt], batch.inputs.shape[1] - prompt
        rows = continued(loaded.module, begun, more, task=task, generator=generator, temperature=temperature)
        texts += [text for row in rows.tolist() for text in _texts(loaded, row)]
    return texts


def _whole(loaded: LoadedArtifact, split: Split) -> list[str]:
    """The texts that a split was cut from."""
    from torch import arange

    last = int(split.targets[-1, -1])
    return _texts(loaded, [*split.gather(arange(len(split))).flatten().tolist(), last])


def _texts(loaded: LoadedArtifact, tokens: Sequence[int]) -> list[str]:
    """The texts that a row of tokens holds, one after the other."""
    from understudy.sources.continuing import tokens_of

    made = tokens_of(loaded.module)
    parts = groupby(tokens, lambda token: token == made.end)
    return [made.text(list(part)) for is_end, part in parts if not is_end]


def _leave(folder: Path, split: str, rows: Sequence[Mapping[str, str]]) -> None:
    from understudy.files import replacing

    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"{split}.jsonl") as temporary:
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    what = "texts" if not rows or "text" in rows[0] else "prompts with answers"
    write(f"{folder / split}.jsonl: {len(rows):,} {what[:-1] if len(rows) == 1 else what}")
