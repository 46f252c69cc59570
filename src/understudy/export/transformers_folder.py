"""A model of transformers as that library saves its own, so that everything that builds on it loads the student."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from understudy.batch import Batch
from understudy.errors import InputError, RunError
from understudy.extras import imported
from understudy.files import replacing
from understudy.foreign import reason
from understudy.sources.forward import moved
from understudy.sources.from_transformers import silenced
from understudy.sources.preprocess import normalisation_of, preprocess_inputs, preprocess_of
from understudy.taps import unwrapped
from understudy.tasks.multi_label import MultiLabelClassification
from understudy.tasks.task import Task
from understudy.tokenizing import TextTokenization, tokenization_of

_TOLERANCE = 1e-4
"""By how much of their spread the logits may differ: it is the same network in the same library."""


def save_for_transformers(
    model: nn.Module, folder: str | Path, *, classes: Sequence[str], example: Any, task: Task
) -> Path:
    """Write ``config.json``, ``model.safetensors`` and what the model does to its inputs, and load them once again.

    ``AutoModelFor….from_pretrained(folder)`` gives the network, ``AutoTokenizer`` its tokenizer if it has a saved one,
    ``AutoImageProcessor`` its normalisation. A language model remembers earlier tokens again when it writes.

    Args:
        model: a network of transformers; wrappers are looked through.
        folder: made if it is not there; files of the same names are replaced.
        classes: names of its classes, in the order of the outputs.
        example: a batch's inputs, on which the loaded network is compared.
        task: how it is called.

    Returns:
        The folder.

    Raises:
        InputError: for a network of something else, or one that is not what its configuration says any more, such as a
            pruned one.
        RunError: when the loaded network answers otherwise, or the disk does not take it.
    """
    transformers = imported("transformers", extra="text", needed_by="a folder for transformers")
    own: Any = copy.deepcopy(unwrapped(model)).cpu().float().eval()
    if not isinstance(own, transformers.PreTrainedModel):
        raise InputError(
            f"the network is a {type(own).__name__}, none of transformers; expected one of `source: transformers`. "
            "Others are written as onnx, openvino, executorch or torch_export"
        )
    _tell(own, classes)
    if isinstance(task, MultiLabelClassification):
        own.config.problem_type = "multi_label_classification"
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as place:
        with silenced(transformers):
            own.save_pretrained(place)
        _write_inputs(own, Path(place), transformers)
        _check(own, Path(place), moved(example, "cpu"), task, transformers)
        for file in Path(place).iterdir():
            with replacing(target / file.name) as temporary:
                shutil.copyfile(file, temporary)
    return target


def _tell(own: Any, classes: Sequence[str]) -> None:
    """Put into a network's configuration what its user will want to know."""
    if not own.can_generate():
        own.config.id2label = dict(enumerate(classes))
        own.config.label2id = {name: number for number, name in enumerate(classes)}
        return
    own.config.use_cache = True
    tokens = tokenization_of(own)
    if tokens is not None and tokens.backend is None:  # of bytes, which no file beside the network explains
        for each in (own.config, own.generation_config):
            each.bos_token_id = each.eos_token_id = tokens.end
            each.pad_token_id = tokens.padding


def _write_inputs(own: nn.Module, place: Path, transformers: Any) -> None:
    """What comes before the network: its tokenizer, or its normalisation."""
    tokens, normalisation = tokenization_of(own), normalisation_of(own)
    if tokens is not None and tokens.backend is not None:
        _fast(tokens, transformers).save_pretrained(place)
    if normalisation is not None:
        means = {"image_mean": list(normalisation.mean), "image_std": list(normalisation.std)}
        transformers.ViTImageProcessor(do_resize=False, **means).save_pretrained(place)


_READ = ("input_ids", "attention_mask")
"""What a network is given of texts, beside of which text of a pair each token is."""


def _fast(tokens: TextTokenization, transformers: Any) -> Any:
    assert tokens.backend is not None
    backend = type(tokens.backend).from_str(tokens.backend.to_str())
    marks = {"pad_token": backend.id_to_token(tokens.padding)}
    if tokens.end is not None:
        marks["eos_token"] = backend.id_to_token(tokens.end)
    most = {"model_max_length": tokens.spec.max_length} if tokens.spec.max_length else {}
    pairs = {} if tokens.told_apart == "never" else {"model_input_names": [*_READ, "token_type_ids"]}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **marks, **most, **pairs)


def _check(own: Any, place: Path, example: Any, task: Task, transformers: Any) -> None:
    """See that what was written is the network."""
    try:
        with silenced(transformers):
            loaded, info = type(own).from_pretrained(place, output_loading_info=True)
    except Exception as error:  # whatever another library makes of shapes that its configuration does not say
        raise InputError(_CHANGED.format(reason(error))) from error
    strange = [*info["missing_keys"], *info["unexpected_keys"], *(key for key, *_ in info["mismatched_keys"])]
    if strange:
        raise InputError(_CHANGED.format(f"{strange[0]} is not what its configuration says"))
    preprocess_inputs(loaded, preprocess_of(own))
    with torch.no_grad():
        expected, found = (task.observe(each.eval(), Batch(inputs=example)).logits for each in (own, loaded))
    apart = float((expected - found).abs().max())
    if apart > _TOLERANCE * max(float(expected.std()), 1e-6):
        raise RunError(
            f"what transformers loads from the folder answers otherwise, by up to {apart:.2g}; nothing was kept"
        )


_CHANGED = (
    "transformers cannot build this network from its configuration ({}); it was changed since, by pruning or low rank. "
    "Write it as onnx, openvino, executorch or torch_export"
)
