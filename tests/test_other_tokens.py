"""A student with another tokenizer than its teacher: what compares token by token is refused, the rest is compared."""

import pytest
import torch
from torch import Tensor, nn

from conformance.texts import encoder
from understudy import (
    AttentionMaps,
    AttentionTransfer,
    Batch,
    ChannelWise,
    CosineFeatures,
    Distiller,
    EmbeddingSimilarity,
    Ensemble,
    Hint,
    InputError,
    Method,
    ModuleTeacher,
    Patient,
    Review,
    SelfRelations,
    SimilarityPreserving,
    SoftTargets,
    TextClassification,
)
from understudy.functional import embedding_similarity_loss, similarity_preserving_loss
from understudy.knowledge import Knowledge, Shapes
from understudy.sources import BuiltinModel, build_model, preprocess_inputs
from understudy.tokenizing import AnyTokens, Bytes, Words, bytes_of

TASK = TextClassification()
TEXTS = ("A good film", "bad", "it was Bad and long")
EXAMPLE = bytes_of(TEXTS), torch.tensor([0, 1, 2])
LATER = bytes_of(["Good", "not a bad film", "", "too long"]), torch.tensor([0, 1, 2, 0])

SAME = Words(buckets=11)
OTHERS = [Words(buckets=11, lowercase=False), Words(buckets=11, max_length=2)]
"""One that makes as many tokens of every text, and one that makes fewer."""

STAGES = {"student_layer": "bert.encoder.layer.0", "teacher_layer": "bert.encoder.layer.1"}
POOLED = {"student_layer": "bert.pooler", "teacher_layer": "bert.pooler"}
ATTENTION = {
    f"{whose}_layer": f"{layer}.attention.self"
    for whose, layer in zip(("student", "teacher"), STAGES.values(), strict=True)
}
MATRICES = {whose: f"{layer}:1" for whose, layer in ATTENTION.items()}

BY_TOKEN = {
    "hint": Hint(**STAGES),
    "hint_auto": Hint(),
    "cosine_features": CosineFeatures(**STAGES),
    "self_relations": SelfRelations(**ATTENTION, relation_heads=2),
    "self_relations_auto": SelfRelations(relation_heads=2),
    "attention_maps": AttentionMaps(**MATRICES),
    "attention_maps_auto": AttentionMaps(),
}
BY_TEXT = {
    "soft_targets": SoftTargets(),
    "embedding_similarity": EmbeddingSimilarity(**STAGES),
    "patient": Patient(**STAGES),
    "similarity_preserving": SimilarityPreserving(**STAGES),
    "hint_of_whole_texts": Hint(**POOLED),
}
REMEDY = (
    r"the two networks make different tokens of a text, which cannot be compared one by one; compare whole texts "
    r"\(soft_targets, embedding_similarity, patient, …\), or give the student the teacher's tokenizer"
)


def bert(tokens: AnyTokens, *, width: int = 8, layers: int = 2) -> nn.Module:
    return preprocess_inputs(encoder(width=width, layers=layers), tokens)


def recurrent(tokens: AnyTokens) -> nn.Module:
    spec = BuiltinModel(name="lstm", arguments={"embedding": 4, "width": 3}, preprocess=tokens)
    return build_model(spec, classes=3, inputs=EXAMPLE[0])


def distiller(method: Method, student: AnyTokens, teacher: AnyTokens = SAME) -> Distiller:
    return Distiller(bert(student), bert(teacher, width=12, layers=3), method, example=EXAMPLE, task=TASK)


@pytest.mark.parametrize("tokens", OTHERS, ids=["as_many", "fewer"])
@pytest.mark.parametrize("method", BY_TOKEN.values(), ids=BY_TOKEN)
def test_tokens_of_two_tokenizers_are_not_compared(method: Method, tokens: AnyTokens) -> None:
    with pytest.raises(InputError, match=REMEDY):
        distiller(method, tokens)


@pytest.mark.parametrize("tokens", OTHERS, ids=["as_many", "fewer"])
@pytest.mark.parametrize("method", BY_TEXT.values(), ids=BY_TEXT)
def test_whole_texts_are(method: Method, tokens: AnyTokens) -> None:
    made = distiller(method, tokens)
    for batch in (EXAMPLE, LATER):
        loss = made(batch).loss
        assert loss > 0
        loss.backward()
    assert any(each.grad is not None and each.grad.any() for each in made.student.parameters())


@pytest.mark.parametrize("method", [*BY_TOKEN.values(), *BY_TEXT.values()], ids=[*BY_TOKEN, *BY_TEXT])
def test_with_one_tokenizer_everything_is(method: Method) -> None:
    made = distiller(method, SAME)
    for batch in (EXAMPLE, LATER):
        assert made(batch).loss > 0


@pytest.mark.parametrize("method", [Hint, CosineFeatures])
def test_neither_are_words_and_bytes_in_recurrent_networks(method: type[Method]) -> None:
    layers = {"student_layer": "layers.0", "teacher_layer": "layers.0"}
    networks = recurrent(Bytes()), recurrent(Words(buckets=50))
    with pytest.raises(InputError, match=rf"\('layers\.0' to 'layers\.0'\): {REMEDY}"):
        Distiller(*networks, method(**layers), example=EXAMPLE, task=TASK)
    assert Distiller(*networks, EmbeddingSimilarity(**layers), example=EXAMPLE, task=TASK)(LATER).loss > 0


def test_every_pair_is_named() -> None:
    layers = ("bert.encoder.layer.0", "bert.encoder.layer.1")
    with pytest.raises(InputError) as raised:
        distiller(Hint(student_layer=layers, teacher_layer=layers), OTHERS[0])
    assert [line.split(": ")[0] for line in str(raised.value).splitlines()] == [
        f"hint ({layer!r} to {layer!r})" for layer in layers
    ]


def test_a_term_asks_the_teacher_that_it_names() -> None:
    members = {
        "alike": ModuleTeacher(bert(SAME, layers=3), task=TASK),
        "other": ModuleTeacher(bert(OTHERS[0], layers=3), task=TASK),
    }

    def built(name: str) -> Distiller:
        term = Hint(**STAGES, teacher=name)
        return Distiller(bert(SAME), Ensemble(members), term + SoftTargets(), example=EXAMPLE, task=TASK)

    assert built("alike")(LATER).loss > 0
    with pytest.raises(InputError, match=REMEDY):
        built("other")


@pytest.mark.parametrize("whole", [False, True], ids=["embedding_similarity", "similarity_preserving"])
def test_each_side_is_read_without_its_own_padding(whole: bool) -> None:
    """As the mean over the tokens that each network makes itself; or all of them, with zeros behind."""
    networks = recurrent(Words(buckets=50)), recurrent(Bytes())
    layers = {"student_layer": "layers.0", "teacher_layer": "layers.0"}
    read: list[Tensor] = []
    for network in networks:
        teacher = ModuleTeacher(network, task=TASK)
        alone = [teacher.observe(Batch(bytes_of([text])), ("layers.0",)).features["layers.0"][0] for text in TEXTS]
        means = torch.stack([tokens.mean(0) for tokens in alone])
        read.append(nn.utils.rnn.pad_sequence(alone, batch_first=True) if whole else means)
    method = SimilarityPreserving(**layers) if whole else EmbeddingSimilarity(**layers)
    expected = (similarity_preserving_loss if whole else embedding_similarity_loss)(*read)
    torch.testing.assert_close(Distiller(*networks, method, example=EXAMPLE, task=TASK)(EXAMPLE).loss, expected)


def test_only_two_known_and_different_tokenizers_are_different() -> None:
    def same(student: str | None, teacher: str | None) -> bool:
        shown, answer = (Knowledge(torch.zeros(2, 3), tokenization=each) for each in (student, teacher))
        return Shapes.of(shown, answer).same_tokens

    assert [same("a", "a"), same("a", None), same(None, "a"), same(None, None), same("a", "b")] == [True] * 4 + [False]
    assert Shapes.of(Knowledge(torch.zeros(2, 3), tokenization="a"), None).same_tokens


@pytest.mark.parametrize("method", [AttentionTransfer, Review, ChannelWise])
def test_tokens_are_no_pixels(method: type[Method]) -> None:
    """Nine tokens could be laid out as 3×3."""
    nine = bytes_of(["a b c d e f g h i", "one"]), torch.tensor([0, 1])
    with pytest.raises(InputError, match="compares maps, and these layers give the tokens of texts"):
        Distiller(bert(SAME), bert(SAME, layers=3), method(**STAGES), example=nine, task=TASK)
