"""Views of texts against a reference that treats one text at a time, word by word."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import understudy as us
from understudy.errors import InputError
from understudy.sources import Split
from understudy.sources.texts import Texts
from understudy.tokenizing import Text, bytes_of, texts_of
from understudy.views import Views, random_bits

FINE = 1 << 30
WORD, RUN, LENGTH, PLACE = 11, 12, 13, 14
TEXTS = ["a moving film , and far too long", "", "one", "naïve  double spaces", " leads and trails ", "b c"]
words = st.lists(st.sampled_from(["a", "film", "naïve", "日本", "too-long"]), max_size=9)


def uniform(sample: int, *key: int) -> float:
    """The 30 bits of a draw, as the streams give them."""
    return ((int(random_bits(torch.tensor([sample]), *key)) >> 32 & 0xFFFF_FFFF) * FINE >> 32) / FINE


def naive(views: Views, text: str, sample: int, *, view: int, seed: int) -> list[str]:
    """The words that are left, by the definition."""
    there = text.split()
    left = list(range(len(there)))
    if views.ngrams is not None and uniform(sample, seed, view, RUN) < views.ngrams:
        length = min(1 + int(5 * uniform(sample, seed, view, LENGTH)), len(there))
        first = int(uniform(sample, seed, view, PLACE) * (len(there) - length + 1))
        left = left[first : first + length]
    if views.word_dropout is not None and left:
        own = int(random_bits(torch.tensor([sample]), seed, view, WORD))
        draws = {number: uniform((own + number + 2**63) % 2**64 - 2**63) for number in left}
        surest = max(left, key=lambda number: draws[number])
        left = [number for number in left if draws[number] >= views.word_dropout or number == surest]
    return [there[number] for number in left]


def shown(views: Views, texts: list[Text], *, view: int = 0, seed: int = 0, first: int = 0) -> list[Text]:
    return texts_of(views.apply(bytes_of(texts), torch.arange(first, first + len(texts)), view=view, seed=seed))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(words, min_size=1, max_size=5),
    st.sampled_from([(0.3, None), (None, 0.6), (0.9, 0.9), (0.5, 0.2)]),
    st.integers(0, 9),
)
def test_the_words_that_are_left_are_those_of_the_definition(sentences, chances, view) -> None:
    views = Views(word_dropout=chances[0], ngrams=chances[1])
    texts = [" ".join(sentence) for sentence in sentences]
    found = shown(views, texts, view=view, seed=3, first=40)
    expected = [naive(views, text, 40 + number, view=view, seed=3) for number, text in enumerate(texts)]
    assert [text.split() for text in found] == expected


def test_what_stays_is_unchanged_and_spaces_go_with_the_word_before_them() -> None:
    for view in range(30):
        for text, found in zip(TEXTS, shown(Views(word_dropout=0.5), TEXTS, view=view), strict=True):
            rest = iter(text.split())
            assert all(word in rest for word in found.split())  # in their order
            assert bool(found.split()) == bool(text.split())  # one of them at least
            assert "   " not in found
    assert shown(Views(word_dropout=0.5), ["", "  "]) == ["", "  "]


def test_lines_stay_and_pairs_stay_pairs() -> None:
    found = {shown(Views(word_dropout=0.9), [("a b", "c d\n")], view=view)[0] for view in range(40)}
    assert all(isinstance(pair, tuple) and pair[1].endswith("\n") for pair in found)
    assert {("", "d\n"), ("a ", "\n")} <= found


def test_each_word_is_as_likely_to_go_as_was_said() -> None:
    texts = [" ".join(map(str, range(20)))] * 2_000
    lengths = torch.tensor([len(text.split()) for text in shown(Views(word_dropout=0.25), texts)]).double()
    assert float(lengths.mean()) == pytest.approx(15.0, abs=0.2)
    runs = [text.split() for text in shown(Views(ngrams=0.5), texts)]
    short = [len(run) for run in runs if len(run) < 20]
    assert len(short) / 2_000 == pytest.approx(0.5, abs=0.05)
    assert {number: short.count(number) / len(short) for number in range(1, 6)} == {
        number: pytest.approx(0.2, abs=0.06) for number in range(1, 6)
    }
    assert all([int(run[0]) + number for number in range(len(run))] == list(map(int, run)) for run in runs)
    assert {int(run[0]) for run in runs if len(run) == 1} == set(range(20))


def test_a_view_depends_on_nothing_but_seed_sample_and_number() -> None:
    views, ids = Views(word_dropout=0.4, ngrams=0.3), torch.tensor([7, 3, 2**40, 11, 0, 5])
    whole = texts_of(views.apply(bytes_of(TEXTS), ids, view=2, seed=1))
    order = torch.tensor([4, 0, 2])
    assert texts_of(views.apply(bytes_of(TEXTS)[order], ids[order], view=2, seed=1)) == [whole[i] for i in (4, 0, 2)]
    assert texts_of(views.apply(bytes_of(TEXTS), ids, view=3, seed=1)) != whole
    assert texts_of(views.apply(bytes_of(TEXTS), ids, view=2, seed=2)) != whole


def test_kinds_are_not_mixed_and_impossible_chances_refused() -> None:
    with pytest.raises(ValidationError, match="flip and cutout changes images, the others change texts"):
        Views(flip=True, cutout=2, ngrams=0.1)
    for chance in (0.0, 1.0, -0.1):
        with pytest.raises(ValidationError):
            Views(word_dropout=chance)
    assert Views(word_dropout=0.1, ngrams=0.25).describe() == (
        "each word left out with a probability of 0.1, a run of a few words instead with a probability of 0.25"
    )


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match=r"views with fewer words are made of texts, uint8 \(N, bytes\)"):
        Views(word_dropout=0.1).apply(torch.zeros(2, 3, 4, 4), torch.arange(2), view=0, seed=0)
    images = Split(torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64), torch.arange(2), ("a", "b"), "train")
    with pytest.raises(InputError, match=r"`views` change texts .* have shape"):
        us.Loader(images, batch_size=2, views=Views(ngrams=0.1))
    texts = Split(Texts.of(["a", "b"]), images.targets, images.ids, images.classes, "train")
    with pytest.raises(InputError, match=r"`views` change images .* are texts"):
        us.Loader(texts, batch_size=2, views=Views(flip=True))


def test_a_teacher_that_was_recorded_saw_what_the_student_sees(tmp_path) -> None:
    split = Split(Texts.of(TEXTS), torch.arange(6) % 2, torch.arange(6), ("a", "b"), "train")
    views, task = Views(word_dropout=0.5), us.TextClassification()

    class Length(torch.nn.Module):
        """Two numbers of a text: how long it is, and the sum of its bytes."""

        def forward(self, texts: torch.Tensor) -> torch.Tensor:
            return torch.stack([(texts > 0).sum(1).float(), texts.float().sum(1) / 1_000], 1)

    us.record(Length(), split, tmp_path / "answers", views=views, count=3, seed=4, task=task, batch_size=2)
    recorded = us.Recorded(tmp_path / "answers")
    loader = us.Loader(split, batch_size=6, views=views, view_seed=4, cycle=3)
    seen = set()
    for epoch in range(3):
        loader.set_epoch(epoch)
        for batch in loader:
            answer = Length()(batch.inputs)
            torch.testing.assert_close(recorded.observe(batch).logits, answer, rtol=1e-3, atol=1e-3)
            seen.add(tuple(answer.flatten().tolist()))
    assert len(seen) == 3
