"""Stages that learn from a recording must ask for what it will hold, and see what its teacher saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from understudy.errors import listing, nearest
from understudy.objective import Method, Objective
from understudy.pipeline.stage import Stage
from understudy.pipeline.stages import Distill, Record
from understudy.pipeline.teaching import teacher_names
from understudy.recipe.problems import KeyPath
from understudy.sources.splits import Subset
from understudy.tasks import Task
from understudy.views import Views


def unfit_recordings(stages: Sequence[Stage], seeds: Sequence[int], task: Task) -> list[tuple[KeyPath, str]]:
    """All that students ask of `record` stages and these do not keep, each with its path and what to do.

    Args:
        stages: of the recipe, in their order.
        seeds: of the recipe.
        task: of the recipe; says whether `auto` means layers that have to be looked for.
    """
    records: dict[str, Record] = {}
    problems: list[tuple[KeyPath, str]] = []
    for index, stage in enumerate(stages):
        if isinstance(stage, Record):
            records[stage.name] = stage
        elif isinstance(stage, Distill):
            asked = {name: records[name] for name in teacher_names(stage.teacher) if name in records}
            found = [
                *_alone(stage, asked),
                *_terms(stage, asked, task),
                *_shown(stage, asked),
                *_samples(stage, asked, seeds),
            ]
            problems += [(("stages", index, *path), message) for path, message in found]
    return problems


def _alone(stage: Distill, asked: Mapping[str, Record]) -> Iterator[tuple[KeyPath, str]]:
    """What a recording cannot do at all, or not together with others."""
    if stage.reuse_head and asked:
        yield ("reuse_head",), "takes the classifier of the teacher's network, and a recording holds no network"
    if stage.on_policy is not None and asked:
        yield (
            ("on_policy",),
            f"{listing(list(asked))} holds answers to the data's own texts, and none to what the student will write; "
            "name the teacher itself",
        )
    if stage.runtime != "pytorch" and len(asked) == len(teacher_names(stage.teacher)) > 0:
        yield ("runtime",), f"{listing(list(asked))} holds the answers already; give `runtime` to that stage, if at all"
    short = [name for name, record in asked.items() if record.keep.sparse]
    if short and len(teacher_names(stage.teacher)) > 1:
        yield (
            ("teacher",),
            f"several teachers answer together for all classes, and {listing(short)} keeps only some; leave "
            "`keep.top` and `keep.drawn` out there, or record the teachers together: `teacher: [a, b]` in one `record` "
            "stage",
        )


def _terms(stage: Distill, asked: Mapping[str, Record], task: Task) -> Iterator[tuple[KeyPath, str]]:
    """Terms that need more than is kept."""
    single = len(teacher_names(stage.teacher)) == 1
    for number, term in enumerate(stage.objective):
        name = next(iter(asked), None) if single else term.teacher
        record = asked.get(name) if name is not None else None
        if record is not None and term.needs_teacher:
            for problem in (*_layers(term, record, task), *_classes(term, record)):
                yield ("objective", number), problem
        if any(record.views is not None and record.views.mixes for record in asked.values()):
            for problem in Objective((term,)).unmixable:
                yield ("objective", number), problem


def _layers(term: Method, record: Record, task: Task) -> Iterator[str]:
    kept = list(record.keep.layers)
    there = f"it keeps {listing(kept)}" if kept else "it keeps none"
    if term.wants_pairs and task.layer_pairs is None:
        yield (
            f"{term.label} looks for its layers in the teacher's network, and {record.name!r} holds answers only; name "
            f"the layers of both ({there}; `keep.layers` says which)"
        )
    for tap in dict.fromkeys(term.teacher_taps):
        if tap not in kept:
            yield (
                f"{term.label} reads the teacher's layer {tap!r}, which {record.name!r} does not keep ({there}"
                f"{nearest(tap, kept)}); add it there: `keep: {{layers: {{{tap}: whole}}}}`"
            )


def _classes(term: Method, record: Record) -> Iterator[str]:
    keep, at = record.keep, term.merges_at
    if not keep.sparse or not term.compares_logits:
        return
    if keep.drawn is not None:
        if not term.learns_from_draws:
            yield (
                f"{term.label} cannot learn from the {keep.drawn} classes that {record.name!r} draws; use soft_targets "
                "at temperature 1, or leave `keep.drawn` out there"
            )
    elif at is None:
        yield (
            f"{term.label} compares each class, and {record.name!r} keeps only the {keep.top} likeliest; use "
            "soft_targets, reverse_kl, skew_kl, jensen_shannon or total_variation, or leave `keep.top` out there"
        )
    elif at not in keep.tail_temperatures:
        known = ", ".join(f"{each:g}" for each in keep.tail_temperatures)
        yield (
            f"{term.label} is at temperature {at:g}, and {record.name!r} keeps what is left of the probability only at "
            f"temperature {known}; add it there: `keep: {{temperatures: [{at:g}]}}`"
        )


def _shown(stage: Distill, asked: Mapping[str, Record]) -> Iterator[tuple[KeyPath, str]]:
    """Views other than those that were recorded."""
    shown = {name: (_views(record), record.count, record.seed) for name, record in asked.items()}
    if len(set(shown.values())) > 1:
        told = "; ".join(
            f"{name!r}: {views.describe()}, count {count}, seed {'of the run' if seed is None else seed}"
            for name, (views, count, seed) in shown.items()
        )
        yield ("teacher",), f"expected the same `views`, `count` and `seed` of all recordings; there are {told}"
    for name, (views, _, _) in shown.items():
        if stage.views is not None and stage.views.changes and stage.views != views:
            yield (
                ("views",),
                f"the samples are to be {stage.views.describe()}, and in {name!r} they are {views.describe()}; leave "
                "`views` out here, to see what the teacher saw, or change them there",
            )


def _samples(stage: Distill, asked: Mapping[str, Record], seeds: Sequence[int]) -> Iterator[tuple[KeyPath, str]]:
    """Samples that are not recorded, or were mixed with others."""
    own = stage.subset or Subset()
    for name, record in asked.items():
        recorded = record.subset or Subset()
        limits = [
            key
            for key in ("samples", "only_classes", "exclude_classes")
            if getattr(recorded, key) is not None and getattr(own, key) is None
        ]
        if limits:
            yield (
                ("subset",),
                f"{name!r} records a part of the samples (`{'`, `'.join(limits)}`), and this stage trains on more; "
                "give it the same `subset`",
            )
        elif _views(record).mixes and recorded != own:
            yield (
                ("subset",),
                f"{name!r} shows mixes with partners from its own `subset`, which is another one; give both the same",
            )
        trained = {stage.seed} if stage.seed is not None else set(seeds)
        drawn = recorded.samples is not None or (_views(record).mixes and recorded.labels is not None)
        if drawn and record.seed is not None and trained != {record.seed}:
            yield (
                ("teacher",),
                f"the `subset` of {name!r} is drawn with seed {record.seed}, and that of this stage with "
                f"{listing(sorted(map(str, trained)))}; leave `seed` out there, so that both are drawn alike",
            )


def _views(record: Record) -> Views:
    return record.views or Views()
