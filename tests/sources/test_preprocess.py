"""A model that prepares its own inputs stays the user's model."""

import copy

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from understudy.errors import InputError
from understudy.sources import AnyModel, ModelSpec, Preprocess, preprocess_inputs, preprocess_of
from understudy.sources.preprocess import check_preprocess, normalisation_of
from understudy.tokenizing import Bytes, Tokenizer, Words, bytes_of, tokenization_of

RECIPE: TypeAdapter[ModelSpec] = TypeAdapter(AnyModel)
TEXTS = bytes_of(["a good film", "bad", "", "one two three four five six seven"])
FEW = Words(buckets=50, max_length=16)
PREPROCESS = Preprocess(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))


def convolutional() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 8, 8)


@pytest.fixture
def plain_and_normalized(images):
    plain = convolutional()
    expected = plain(
        (images - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.25, 2.0]).view(3, 1, 1)
    )
    return preprocess_inputs(plain, PREPROCESS), expected.detach()


def test_it_computes_what_the_spec_says(plain_and_normalized, images):
    model, expected = plain_and_normalized
    torch.testing.assert_close(model(images), expected)
    assert not torch.allclose(preprocess_inputs(model, None)(images), expected)


def test_keys_and_paths_stay_the_users_own(plain_and_normalized):
    model, _ = plain_and_normalized
    assert list(model.state_dict()) == list(convolutional().state_dict())
    assert [path for path, _ in model.named_modules()] == [path for path, _ in convolutional().named_modules()]
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in convolutional().named_parameters()]


@pytest.mark.parametrize(
    "wrap",
    [
        copy.deepcopy,
        lambda model: torch.compile(model, backend="aot_eager"),
        lambda model: copy.deepcopy(copy.deepcopy(model)),
        nn.Sequential,
    ],
    ids=["deepcopy", "compile", "twice", "inside"],
)
def test_it_survives(wrap, plain_and_normalized, images):
    model, expected = plain_and_normalized
    torch.testing.assert_close(wrap(model)(images), expected)


@pytest.mark.parametrize("strict", [False, True])
def test_it_is_exported(strict, plain_and_normalized, images):
    model, expected = plain_and_normalized
    exported = torch.export.export(model, (images,), strict=strict).module()
    torch.testing.assert_close(exported(images), expected)


def test_it_survives_data_parallel(plain_and_normalized, images, tmp_path):
    model, expected = plain_and_normalized
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(model)
        torch.testing.assert_close(parallel(images), expected)
        assert preprocess_of(parallel) == PREPROCESS
    finally:
        torch.distributed.destroy_process_group()


def test_it_moves_with_the_models_type(images):
    model = preprocess_inputs(convolutional(), PREPROCESS).double()
    assert model(images.double()).dtype == torch.float64


def test_a_second_one_replaces_the_first(plain_and_normalized, images):
    model, expected = plain_and_normalized
    preprocess_inputs(model, Preprocess(mean=(0.5,), std=(0.5,)))
    assert preprocess_of(model) == Preprocess(mean=(0.5,), std=(0.5,))
    torch.testing.assert_close(preprocess_inputs(model, PREPROCESS)(images), expected)


def test_vectors_keywords_and_whole_numbers():
    model = preprocess_inputs(nn.Flatten(), Preprocess(mean=(1.0, 2.0), std=(2.0, 4.0)))
    torch.testing.assert_close(model(torch.tensor([[3.0, 4.0]])), torch.tensor([[1.0, 0.5]]))
    torch.testing.assert_close(model(input=torch.tensor([[3.0, 4.0]])), torch.tensor([[1.0, 0.5]]))
    assert torch.equal(model(torch.tensor([[3, 4]])), torch.tensor([[3, 4]]))


def test_a_wrong_number_of_channels_is_named():
    with pytest.raises(InputError, match=r"3 values of mean and std, but the inputs have 1 channels"):
        check_preprocess(PREPROCESS, torch.rand(2, 1, 8, 8))
    check_preprocess(Preprocess(mean=(0.0,), std=(1.0,)), torch.rand(2, 7))


@pytest.mark.parametrize(("mean", "std"), [((0.1,), (0.0,)), ((0.1, 0.2), (1.0,)), ((), ())])
def test_impossible_values_are_refused(mean, std):
    with pytest.raises(ValueError, match=r"mean|std"):
        Preprocess(mean=mean, std=std)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"kind": "words"}, Words()),
        ({"kind": "words", "buckets": 5, "lowercase": False}, Words(buckets=5, lowercase=False)),
        ({"kind": "bytes", "max_length": 7}, Bytes(max_length=7)),
        ({"kind": "tokenizer", "path": "here"}, Tokenizer(path="here")),
        ({"mean": [0.5], "std": [0.25]}, Preprocess(mean=(0.5,), std=(0.25,))),
        (None, None),
    ],
)
def test_a_recipe_says_what_a_model_does_first(entry, expected):
    spec = RECIPE.validate_python({"source": "understudy", "name": "bag", "preprocess": entry})
    assert spec.preprocess == expected
    assert RECIPE.validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "nonsense"}, "expected `mean` and `std`, or a `kind` of tokens: words, bytes or tokenizer"),
        ({"kind": ["words"]}, "expected `mean` and `std`, or a `kind` of tokens"),
        ({}, r"mean\s+Field required.*std\s+Field required"),
        ({"mean": [0.5]}, r"std\s+Field required"),
        ({"kind": "tokenizer"}, r"path\s+Field required"),
        ({"kind": "words", "bukets": 5}, "bukets"),
        ({"kind": "words", "max_length": 0}, "max_length"),
        ({"kind": "words", "mean": [0.5], "std": [0.5]}, r"mean\s+Extra inputs"),
        ("words", "preprocess"),
    ],
    ids=str,
)
def test_a_wrong_entry_is_refused_in_words(entry, message):
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        RECIPE.validate_python({"source": "understudy", "name": "bag", "preprocess": entry})


def test_tokens_and_a_normalisation_replace_each_other():
    class Either(nn.Module):
        def forward(self, inputs=None, *, input_ids=None, attention_mask=None):
            return inputs if input_ids is None else input_ids

    model, normal = Either(), Preprocess(mean=(1.0,), std=(2.0,))
    floats = torch.rand(2, 3)
    preprocess_inputs(model, normal)
    preprocess_inputs(model, FEW)
    assert (preprocess_of(model), normalisation_of(model)) == (FEW, None)
    assert torch.equal(model(floats), floats)
    assert model(TEXTS).shape == (4, 7)
    assert not dict(model.named_buffers())
    preprocess_inputs(model, Bytes())
    assert model(TEXTS).shape == (4, TEXTS.shape[1])
    preprocess_inputs(model, normal)
    assert (preprocess_of(model), tokenization_of(model)) == (normal, None)
    torch.testing.assert_close(model(floats), (floats - 1) / 2)
    assert model(TEXTS) is TEXTS
    preprocess_inputs(model, None)
    assert preprocess_of(model) is None
    assert model(floats) is floats
    assert not model._forward_pre_hooks
    assert not model._forward_pre_hooks_with_kwargs
