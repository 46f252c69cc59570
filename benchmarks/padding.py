"""Texts in batches of about one length, beside batches in random order: the time of the same texts.

    python benchmarks/padding.py --data stanfordnlp/sst2

An epoch of training in both orders, each batch padded to its longest text, of a recurrent network and of a transformer
with a few layers, and the share of tokens that are real. About three minutes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from functools import partial

import torch
from contest import arguments, case, compare, finish, in_turns, warn_if_busy
from torch import Tensor, nn

import understudy as us
from understudy.sources import BuiltinModel, TransformersModel, build_model
from understudy.sources.data import DataSpec, load_data
from understudy.sources.splits import Split
from understudy.sources.texts import Texts
from understudy.tokenizing import Words, tokenization_of

BATCH, CLASSES, WORDS = 64, 2, Words(buckets=8_000)
options = arguments(__doc__.partition("\n")[0], data="SST-2")
load_before = warn_if_busy()
samples, rounds = (6_400, 5) if not options.quick else (256, 1)
bert = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
NETWORKS = {
    "lstm": BuiltinModel(name="lstm", preprocess=WORDS),
    "bert": TransformersModel(config="bert", arguments=bert, preprocess=WORDS),
}


def texts() -> Split:
    if options.data is not None:
        train = load_data(DataSpec(source=options.data), task=us.TextClassification()).train
        return train.select(torch.arange(min(samples, len(train))))
    draw = random.Random(0)
    made = [" ".join(f"w{draw.randrange(5000)}" for _ in range(draw.randint(2, 50))) for _ in range(samples)]
    labels = torch.arange(samples) % CLASSES
    return Split(Texts.of(made), labels, torch.arange(samples), ("no", "yes"), "train")


def in_random_order(split: Split, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    return ((split.gather(part), split.targets[part]) for part in order.split(BATCH))


def by_length(split: Split, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    return ((batch.inputs, batch.targets) for batch in us.Loader(split, batch_size=BATCH, seed=seed))


ORDERS = {"random order": in_random_order, "by length": by_length}


def epoch(network: nn.Module, split: Split, order: str, seen: list[int]) -> float:
    """Seconds; how many texts were seen is added to ``seen``."""
    task, optimizer, count = us.TextClassification(), torch.optim.SGD(network.parameters(), lr=1e-3), 0
    begin = time.perf_counter()
    for inputs, targets in ORDERS[order](split, len(seen)):
        optimizer.zero_grad(set_to_none=True)
        logits = task.observe(network, us.Batch(inputs=inputs)).logits
        nn.functional.cross_entropy(logits, targets).backward()
        optimizer.step()
        count += len(targets)
    seen.append(count)
    return time.perf_counter() - begin


def real(network: nn.Module, split: Split, order: str) -> float:
    """The share of tokens that are no padding."""
    tokenization = tokenization_of(network)
    assert tokenization is not None
    masks = [tokenization.tokens(inputs)["attention_mask"] for inputs, _ in ORDERS[order](split, 0)]
    return sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)


split, tables = texts(), []
for name, spec in NETWORKS.items():
    torch.manual_seed(0)
    network = build_model(spec, classes=CLASSES, inputs=split.gather(torch.arange(2)))
    shares = {order: real(network, split, order) for order in ORDERS}  # and no contender makes the tokens anew
    seen: list[int] = []
    figures = in_turns({order: partial(epoch, network, split, order, seen) for order in ORDERS}, rounds)
    assert set(seen) == {len(split)}
    table = case(name, "seconds for an epoch", figures, samples=len(split), batch=BATCH, real_tokens=shares)
    compare(table, "by length", "random order", at_most=1.0)
    tables.append(table)

finish("padding", options, tables, load_before=load_before)
