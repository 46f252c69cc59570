import json
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from understudy import SoftTargets
from understudy.errors import InputError, RunError, UnderstudyError, listing, nearest
from understudy.spec import Spec, digest


def test_a_spec_is_frozen_strict_and_equal_by_content() -> None:
    method = SoftTargets(temperature=2.0)
    assert method == SoftTargets(temperature=2)
    assert hash(method) == hash(SoftTargets(temperature=2.0))
    with pytest.raises(ValidationError, match="frozen"):
        method.temperature = 3.0
    with pytest.raises(ValidationError, match="temprature"):
        SoftTargets(temprature=3.0)
    with pytest.raises(ValidationError, match="finite"):
        SoftTargets(weight=float("inf"))


def test_the_digest_depends_on_content_only() -> None:
    assert digest({"a": 1, "b": [2.5, None]}) == digest({"b": [2.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert SoftTargets(temperature=2).digest() == SoftTargets(temperature=2.0).digest()
    assert SoftTargets(temperature=2).digest() != SoftTargets(temperature=2.1).digest()


def test_a_key_that_a_later_version_adds_and_nobody_sets_changes_no_digest() -> None:
    class Former(Spec):
        arguments: dict[str, Any]

    class Later(Former):
        added: int | None = None

    arguments = {"given": None}
    assert Later(arguments=arguments).digest() == Former(arguments=arguments).digest()
    assert Later(arguments=arguments, added=1).digest() != Former(arguments=arguments).digest()
    assert Former(arguments=arguments).digest() != Former(arguments={}).digest()


@pytest.mark.e2e
def test_the_digest_is_the_same_in_another_process() -> None:
    code = "from understudy import SoftTargets; print(SoftTargets(temperature=2.5, name='hot_ä').digest())"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert there == SoftTargets(temperature=2.5, name="hot_ä").digest()


def test_a_json_value_has_one_digest_however_it_was_read() -> None:
    value = SoftTargets(temperature=0.1 + 0.2).model_dump(mode="json")
    assert digest(json.loads(json.dumps(value))) == digest(value)


def test_errors_name_the_nearest_and_cut_long_lists() -> None:
    assert nearest("layer33", ["layer3", "head", "layer2"]) == "; nearest: 'layer3', 'layer2'"
    assert nearest("nothing like it", ["layer3"]) == ""
    assert listing(["a", "b"]) == "'a', 'b'"
    assert listing([str(number) for number in range(10)], most=2) == "'0', '1' and 8 more"


def test_errors_have_exit_codes_and_ordinary_bases() -> None:
    assert issubclass(InputError, UnderstudyError)
    assert issubclass(InputError, ValueError)
    assert InputError.exit_code == 2
    assert issubclass(RunError, RuntimeError)
    assert RunError.exit_code == 1
