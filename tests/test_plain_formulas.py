"""Every method has a plain formula in benchmarks/, with the same value and gradient: what method_time.py compares."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from understudy.methods import METHODS

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
KINDS = {method.model_fields["kind"].default: method for method in METHODS if "classes" in method.answers}


@pytest.fixture(scope="module")
def method_time():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("method_time")


def test_every_method_has_a_plain_formula_and_nothing_else_has(method_time):
    missing, unknown = KINDS.keys() - method_time.PLAIN.keys(), method_time.PLAIN.keys() - KINDS.keys()
    assert not missing, f"write their formulas, as benchmarks/plain_formulas.py does: {', '.join(sorted(missing))}"
    assert not unknown


@pytest.mark.parametrize("kind", KINDS)
def test_a_method_and_its_plain_formula_are_the_same_work(method_time, kind):
    sides = method_time.both_sides(KINDS[kind](), method_time.TINY)
    first = method_time.check_same(kind, sides)
    assert first["understudy"] == pytest.approx(first["plain"], rel=1e-4)
    alone = {}
    for name, side in sides.items():
        torch.manual_seed(1)
        for tensor in side.trained:
            tensor.grad = None
        value = side.loss()
        value.backward()
        alone[name] = value.item(), [tensor.grad for tensor in side.shown.values()]
    assert alone["understudy"][0] == pytest.approx(alone["plain"][0], rel=1e-4)
    assert alone["understudy"][0] != 0.0
    for ours, theirs in zip(alone["understudy"][1], alone["plain"][1], strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize(
    "wrong",
    [lambda loss: 1.001 * loss, lambda loss: 0.9 * loss + 0.1 * loss.detach()],
    ids=["another value", "another gradient"],
)
def test_another_formula_is_refused(method_time, wrong):
    sides = method_time.both_sides(KINDS["hint"](), method_time.TINY)
    plain = sides["plain"]
    other = replace(plain, step=lambda: wrong(plain.step()))
    with pytest.raises(SystemExit, match="this is not the same work"):
        method_time.check_same("hint", {**sides, "plain": other})
