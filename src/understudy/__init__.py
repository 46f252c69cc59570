"""Understudy: turn a big trained network into a small one that stands in for it, and prove that it does.

Nothing heavy is imported until a name needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from understudy import functional
    from understudy.balancing import Balance, GradientNorm, LearnedUncertainty
    from understudy.batch import IGNORE_INDEX, Batch
    from understudy.cohort import Cohort
    from understudy.compress.low_rank import FactorisedNetwork, factorise
    from understudy.compress.pruning import Pruned, UnmetTargetError, prune
    from understudy.compress.quantization import QuantizedNetwork, quantize
    from understudy.compress.sensitivity import BoundedNetwork, quantize_within, sensitivities
    from understudy.compress.sparsity import Sparse, sparsify
    from understudy.compress.target import Target
    from understudy.distiller import Distiller, Step
    from understudy.doctor import Finding, diagnose
    from understudy.edits import Factorised, ReusedHead
    from understudy.engine.fit import Fitted, fit
    from understudy.engine.generated import GeneratedLoader
    from understudy.engine.generation import Generation
    from understudy.engine.on_policy import OnPolicy, OnPolicyLoader
    from understudy.engine.pace import Pace
    from understudy.engine.plan import Execution
    from understudy.engine.teacher_runtime import fastest_teacher
    from understudy.engine.training import Optimizer, Training
    from understudy.errors import InputError, RunError, UnderstudyError
    from understudy.knowledge import Knowledge, TopClasses
    from understudy.measure.candidates import Candidate
    from understudy.measure.deployment import Deployment, deploy
    from understudy.measure.files import measure_files
    from understudy.measure.sentence_pairs import similarity_to_scores
    from understudy.methods import *  # noqa: F403
    from understudy.objective import Method, Objective
    from understudy.recorder import record
    from understudy.recordings import Recording, Storage
    from understudy.reused_head import reuse_head
    from understudy.runtimes import open_model
    from understudy.schedules import Cosine, Linear, OneCycle, Schedule
    from understudy.schedules import Step as StepSchedule
    from understudy.sources.answers import read_answers
    from understudy.sources.loader import Loader
    from understudy.sources.splits import Subset
    from understudy.taps import Taps
    from understudy.tasks import (
        CausalLanguageModel,
        Classification,
        ImageClassification,
        MultiLabelClassification,
        NumberRegression,
        SentenceEmbedding,
        SequenceToSequence,
        Task,
        TextClassification,
        TextRegression,
    )
    from understudy.teachers import AverageTeacher, Ensemble, ModuleTeacher, OnnxTeacher, Recorded, Teacher, Told
    from understudy.transfer import (
        Lora,
        Replacing,
        ScaledCopy,
        Transferred,
        Tuning,
        merge_factors,
        pace_of,
        pace_of_blocks,
        put_factors_beside,
        replace_blocks,
        scaled_copy,
        transfer_weights,
    )
    from understudy.views import Views

# Where each name lives: a module of the package, and the name there when it is another one. All other names in capitals
# are methods.
_HOME = {
    "IGNORE_INDEX": "batch",
    "AverageTeacher": "teachers",
    "Balance": "balancing",
    "Batch": "batch",
    "BoundedNetwork": "compress.sensitivity",
    "Candidate": "measure.candidates",
    "CausalLanguageModel": "tasks",
    "Classification": "tasks",
    "Cohort": "cohort",
    "Cosine": "schedules",
    "Deployment": "measure.deployment",
    "Distiller": "distiller",
    "Ensemble": "teachers",
    "Execution": "engine.plan",
    "Factorised": "edits",
    "FactorisedNetwork": "compress.low_rank",
    "Finding": "doctor",
    "Fitted": "engine.fit",
    "GeneratedLoader": "engine.generated",
    "Generation": "engine.generation",
    "OnPolicy": "engine.on_policy",
    "OnPolicyLoader": "engine.on_policy",
    "GradientNorm": "balancing",
    "ImageClassification": "tasks",
    "InputError": "errors",
    "Knowledge": "knowledge",
    "LearnedUncertainty": "balancing",
    "Linear": "schedules",
    "Loader": "sources.loader",
    "Lora": "transfer",
    "Method": "objective",
    "ModuleTeacher": "teachers",
    "MultiLabelClassification": "tasks",
    "NumberRegression": "tasks",
    "Objective": "objective",
    "OneCycle": "schedules",
    "OnnxTeacher": "teachers",
    "Optimizer": "engine.training",
    "Pace": "engine.pace",
    "Pruned": "compress.pruning",
    "QuantizedNetwork": "compress.quantization",
    "Recorded": "teachers",
    "Recording": "recordings",
    "Replacing": "transfer",
    "ReusedHead": "edits",
    "RunError": "errors",
    "ScaledCopy": "transfer",
    "Schedule": "schedules",
    "SentenceEmbedding": "tasks",
    "SequenceToSequence": "tasks",
    "Sparse": "compress.sparsity",
    "Step": "distiller",
    "StepSchedule": "schedules:Step",
    "Storage": "recordings",
    "Subset": "sources.splits",
    "Taps": "taps",
    "Target": "compress.target",
    "Task": "tasks",
    "Teacher": "teachers",
    "TextClassification": "tasks",
    "TextRegression": "tasks",
    "Told": "teachers",
    "TopClasses": "knowledge",
    "Training": "engine.training",
    "Transferred": "transfer",
    "Tuning": "transfer",
    "UnderstudyError": "errors",
    "UnmetTargetError": "compress.pruning",
    "Views": "views",
    "deploy": "measure.deployment",
    "diagnose": "doctor",
    "factorise": "compress.low_rank",
    "fastest_teacher": "engine.teacher_runtime",
    "fit": "engine.fit",
    "measure_files": "measure.files",
    "merge_factors": "transfer",
    "open_model": "runtimes",
    "pace_of": "transfer",
    "pace_of_blocks": "transfer",
    "prune": "compress.pruning",
    "put_factors_beside": "transfer",
    "quantize": "compress.quantization",
    "quantize_within": "compress.sensitivity",
    "read_answers": "sources.answers",
    "record": "recorder",
    "replace_blocks": "transfer",
    "reuse_head": "reused_head",
    "scaled_copy": "transfer",
    "sensitivities": "compress.sensitivity",
    "similarity_to_scores": "measure.sentence_pairs",
    "sparsify": "compress.sparsity",
    "transfer_weights": "transfer",
}


def __getattr__(name: str) -> Any:
    if name == "functional":
        return importlib.import_module("understudy.functional")
    if name in _HOME:
        module, _, there = _HOME[name].partition(":")
        return getattr(importlib.import_module(f"understudy.{module}"), there or name)
    if name[:1].isupper():
        for method in importlib.import_module("understudy.methods").METHODS:
            if method.__name__ == name:
                return method
    raise AttributeError(f"module 'understudy' has no attribute {name!r}")


def __dir__() -> list[str]:
    methods = importlib.import_module("understudy.methods").METHODS
    return ["__version__", "functional", *sorted([*_HOME, *(method.__name__ for method in methods)])]
