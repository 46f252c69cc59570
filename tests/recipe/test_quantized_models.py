"""What a recipe would make of a quantized model and cannot: found before any training."""

import pytest

from understudy.recipe.loading import parse_recipe
from understudy.recipe.problems import RecipeError

TEXT = """\
version: 1
name: eight-bits
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: cnn
    model: {source: understudy, name: cnn, arguments: {widths: [4, 8]}}
    training: {epochs: 1, optimizer: {lr: 0.1}}
  - {kind: quantize, name: small, model: cnn}
  - {kind: fit_bias, name: shifted, student: small, teacher: cnn, classes: ["3"]}
"""


def mistakes(stage: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(f"{TEXT}  - {stage}\n", name="r.yaml", files=False)
    return [str(problem).removeprefix("r.yaml:") for problem in caught.value.problems]


@pytest.mark.parametrize(
    "stage",
    [
        "{kind: export, name: files, models: [cnn, small, shifted], formats: [onnx, openvino]}",
        "{kind: export, name: files, models: [cnn], formats: [onnx, executorch, torch_export]}",
        "{kind: prune, name: less, model: cnn, target: {macs: 0.5}}",
    ],
)
def test_what_can_be_made_is_allowed(stage: str) -> None:
    assert parse_recipe(f"{TEXT}  - {stage}\n", files=False).stages[-1].name in {"files", "less"}


@pytest.mark.parametrize("model", ["small", "shifted"])
def test_it_is_written_only_in_formats_that_can_hold_it(model: str) -> None:
    (found,) = mistakes(f"{{kind: export, name: files, models: [cnn, {model}], formats: [onnx, executorch]}}")
    assert found.startswith("12: stages.3.formats.1: ")
    assert (
        f"'{model}' is quantized, which 'executorch' cannot hold; expected one of 'onnx', 'tensorrt', 'openvino'"
        in found
    )


@pytest.mark.parametrize(
    "stage",
    ["kind: quantize", "kind: prune, target: {macs: 0.5}", "kind: factorise, energy: 0.9"],
)
@pytest.mark.parametrize("model", ["small", "shifted"])
def test_it_is_not_compressed_again(stage: str, model: str) -> None:
    (found,) = mistakes(f"{{{stage}, name: again, model: {model}}}")
    assert found.startswith("12: stages.3.model: ")
    assert f"the model of '{model}' is quantized already; name the float model" in found
