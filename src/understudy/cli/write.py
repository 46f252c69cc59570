"""``understudy write``: what a language model makes of the beginnings of texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.model_names import place_of
from understudy.cli.output import write
from understudy.errors import InputError

if TYPE_CHECKING:
    from understudy.sources import DataSet, LoadedArtifact, Split
    from understudy.tasks import CausalLanguageModel

_AT_ONCE = 64
"""Windows that are written together."""


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
    count: Annotated[int, typer.Option("--count", min=1, help="With --data: how many texts are written.")] = 1000,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="With --data: where they go.")] = None,
) -> None:
    """Let a language model go on from the beginnings of texts.

    With --data the model writes a training set (sequence-level distillation): it goes on from places all over the
    training texts of SOURCE. A student with any tokenizer can learn from it; validation and test are those of SOURCE.

    Example: [bold]understudy write runs/shakespeare#student "ROMEO:" --tokens 300[/bold]
    """
    from understudy.sources import load_artifact
    from understudy.sources.continuing import written
    from understudy.tasks import CausalLanguageModel

    if (data is None) != (out is None) or (data is not None and prompts):
        raise InputError("expected beginnings of texts, or --data SOURCE with --out FOLDER to write a training set")
    loaded = load_artifact(place_of(model))
    task = CausalLanguageModel(vocabulary=len(loaded.classes))
    if data is None or out is None:
        for text in written(loaded.module, prompts or [""], tokens, task=task, seed=seed, temperature=temperature):
            write(text)
        return
    source = _data(loaded, data, prompt + tokens, task)
    out.mkdir(parents=True, exist_ok=True)
    texts = _training_set(loaded, source, task, prompt=prompt, count=count, seed=seed, temperature=temperature)
    _leave(out, "train", texts)
    _leave(out, "validation", _whole(loaded, source.validation))
    _leave(out, "test", _whole(loaded, source.test))


def _data(loaded: LoadedArtifact, source: str, window: int, task: CausalLanguageModel) -> DataSet:
    """Texts in windows of the model's own tokens."""
    from understudy.sources import DataSpec, load_data
    from understudy.sources.continuing import running_tokens

    return load_data(DataSpec(source=source, tokens=running_tokens(loaded.module), window=window), task=task)


def _training_set(
    loaded: LoadedArtifact,
    data: DataSet,
    task: CausalLanguageModel,
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


def _leave(folder: Path, split: str, texts: Sequence[str]) -> None:
    from understudy.files import replacing

    with replacing(folder / f"{split}.jsonl") as temporary:
        lines = (json.dumps({"text": text}, ensure_ascii=False) for text in texts)
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    write(f"{folder / split}.jsonl: {len(texts):,} {'text' if len(texts) == 1 else 'texts'}")
