import pytest
import torch
from scipy import stats

import understudy as us
from understudy import InputError
from understudy.sources import BuiltinModel, build_model
from understudy.sources.embedding import Embedding
from understudy.tokenizing import Words, bytes_of

FIRST = ["a cat sleeps", "it rains", "he runs", "a b c", "one"]
SECOND = ["a cat naps here", "the sun", "he jogs", "a b", "two three four"]
SCORES = [5.0, 1.0, 4.0, 4.0, 0.0]


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    spec = BuiltinModel(name="bag", preprocess=Words(buckets=50), embedding=Embedding(width=8))
    return build_model(spec, classes=(), inputs=bytes_of(FIRST))


def test_it_is_the_rank_correlation_of_the_cosines() -> None:
    model = network()
    with torch.no_grad():
        cosines = torch.cosine_similarity(model(bytes_of(FIRST)), model(bytes_of(SECOND)))
    expected = stats.spearmanr(cosines, SCORES).statistic
    assert us.similarity_to_scores(model, FIRST, SECOND, SCORES) == pytest.approx(expected)
    assert us.similarity_to_scores(model, FIRST, SECOND, SCORES, batch_size=2) == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 4])
def test_lists_that_do_not_fit(count) -> None:
    with pytest.raises(InputError, match="expected as many of each, at least three"):
        us.similarity_to_scores(network(), FIRST[:count], SECOND[:count], SCORES[: 2 if count == 2 else 5])
