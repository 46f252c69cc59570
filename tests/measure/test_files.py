"""Real files in real processes: what is measured of them, and that one that fails takes nothing with it."""

import dataclasses

import pytest
import torch
from torch import nn

from understudy.batch import IGNORE_INDEX
from understudy.errors import InputError, RunError
from understudy.foreign import quiet
from understudy.measure import Candidate, measure_files
from understudy.measure.apart import Apart, write_inputs
from understudy.runtimes import RUNTIMES
from understudy.sources import BuiltinModel, build_model, save_artifact
from understudy.sources.data import DataSpec, load_data
from understudy.sources.loader import Loader
from understudy.sources.model_specs import PythonModel
from understudy.tasks import ImageClassification

TASK = ImageClassification()
SPEC = BuiltinModel(name="cnn", arguments={"widths": [8, 16]})
FEW = {"threads": (1,), "batch_sizes": (1, 8), "seconds": 0.02, "compiled": False}
CRASHING = """
import os, signal, torch
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
    def forward(self, images):
        print("what networks print does not come between the answers")
        if len(images) == 8:
            os.kill(os.getpid(), signal.SIGSEGV)
        return self.layer(images.flatten(1))
def model(classes):
    return Model()
"""


@pytest.fixture(scope="module")
def digits():
    return load_data(DataSpec(source="sklearn/digits"), task=TASK)


@pytest.fixture(scope="module")
def loaders(digits):
    return {name: Loader(getattr(digits, name), batch_size=100, shuffle=False) for name in ("validation", "test")}


@pytest.fixture(scope="module")
def folder(digits, tmp_path_factory):
    """A saved model, its file for any batch, one for a single sample, and files that are none."""
    folder, images = tmp_path_factory.mktemp("files"), digits.test.gather(torch.arange(2)).float() / 255
    torch.manual_seed(0)
    model = build_model(SPEC, classes=digits.classes, inputs=images).eval()
    save_artifact(folder / "student", model, spec=SPEC, classes=digits.classes, inputs=images)
    with quiet():
        sizes = ({0: torch.export.Dim.DYNAMIC},)
        torch.onnx.export(model, (images,), folder / "any.onnx", dynamo=True, dynamic_shapes=sizes, verbose=False)
        torch.onnx.export(model, (images[:1],), folder / "one.onnx", dynamo=True, verbose=False)
        torch.onnx.export(nn.Flatten(), (images,), folder / "other.onnx", dynamo=True, verbose=False)
    return folder


@pytest.fixture
def names_only(tmp_path):
    """Files that nobody opens."""
    for name in ("any.onnx", "one.onnx"):
        (tmp_path / name).touch()
    return tmp_path


def rows(measured):
    return {(row.name, row.runtime): row for row in measured}


@pytest.mark.e2e
def test_files_and_their_model_are_measured_alike(folder, digits, loaders):
    told = []
    found = rows(
        measure_files(
            [
                Candidate("student", folder / "student", macs=7),
                Candidate("any", folder / "any.onnx", before="student", proved=True),
                Candidate("one", folder / "one.onnx"),
            ],
            loaders=loaders,
            task=TASK,
            classes=digits.classes,
            runtimes=("onnxruntime",),
            tell=told.append,
            **FEW,
        )
    )
    assert list(found) == [("student", "torch eager"), ("any", "onnxruntime"), ("one", "onnxruntime")]
    assert [row.failed for row in found.values()] == [None] * 3
    qualities = [row.quality for row in found.values()]
    assert qualities[0]["test"]["samples"] == len(digits.test)
    for split, metric in (("validation", "accuracy"), ("test", "accuracy"), ("test", "errors")):
        assert qualities[1][split][metric] == qualities[0][split][metric] == qualities[2][split][metric]
    batches = [[timing.batch for timing in row.timings] for row in found.values()]
    assert batches == [[1, 8], [1, 8], [1]]
    assert {timing.runtime for timing in found["any", "onnxruntime"].timings} == {"onnxruntime"}
    first = found["any", "onnxruntime"].timings[0]
    assert first.median_ms <= first.p90_ms
    assert (first.p99_ms is None) == (first.runs < 200)
    beside = [folder / "any.onnx", *folder.glob("any.onnx.data")]
    assert found["any", "onnxruntime"].bytes == sum(path.stat().st_size for path in beside)
    assert found["any", "onnxruntime"].peak_memory_bytes > 100_000
    assert (found["any", "onnxruntime"].before, found["any", "onnxruntime"].proved) == ("student", True)
    assert found["student", "torch eager"].macs == 7
    assert told[0] == "measuring 3 candidates in 3 ways; timing takes about 0 s of it"


@pytest.mark.e2e
def test_what_crashes_is_broken_or_of_other_classes_takes_nothing_with_it(
    folder, digits, loaders, tmp_path, monkeypatch
):
    (tmp_path / "crashing_network.py").write_text(CRASHING)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    spec, images = PythonModel(target="crashing_network:model"), torch.rand(2, 1, 8, 8)
    model = build_model(spec, classes=digits.classes, inputs=images)
    save_artifact(tmp_path / "crashing", model, spec=spec, classes=digits.classes, inputs=images)
    (tmp_path / "torn.onnx").write_bytes((folder / "one.onnx").read_bytes()[:300])
    save_artifact(
        tmp_path / "letters",
        build_model(SPEC, classes=digits.classes, inputs=images),
        spec=SPEC,
        classes=digits.classes[::-1],
        inputs=images,
    )
    candidates = {
        "crashing": tmp_path / "crashing",
        "torn": tmp_path / "torn.onnx",
        "letters": tmp_path / "letters",
        "other": folder / "other.onnx",
        "whole": folder / "any.onnx",
    }
    measured = measure_files(
        [Candidate(name, path) for name, path in candidates.items()],
        loaders=loaders,
        task=TASK,
        classes=digits.classes,
        runtimes=("onnxruntime",),
        **FEW,
    )
    failed = {row.name: row.failed for row in measured}
    assert failed["crashing"] == "in batches of 8: its process was ended by SIGSEGV"
    assert "not an ONNX file, or a broken one" in failed["torn"]
    assert "the data's classes in another order" in failed["letters"]
    assert failed["other"] == "it answers with 64 classes, the data have 10"
    assert failed["whole"] is None
    assert [timing.batch for timing in measured[-1].timings] == [1, 8]


@pytest.mark.e2e
def test_a_process_that_does_not_answer_is_stopped(folder, tmp_path):
    write_inputs(torch.rand(2, 1, 8, 8), tmp_path / "inputs.safetensors")
    settings = {"runtime": "onnxruntime", "threads": 1, "inputs": tmp_path / "inputs.safetensors", "scratch": tmp_path}
    apart = Apart(folder / "any.onnx", most_seconds=0.01, **settings)
    with pytest.raises(RunError, match=r"it took more than 0 s; stopped"):
        apart.opened()
    with pytest.raises(RunError, match="it took more than"):
        apart.ask({"do": "block"})
    apart.close()


def test_data_without_labels_are_refused(names_only, digits):
    split = dataclasses.replace(digits.test, targets=torch.full_like(digits.test.targets, IGNORE_INDEX))
    loaders = {"test": Loader(split, batch_size=100, shuffle=False)}
    with pytest.raises(InputError, match="no sample of the test split has a label"):
        measure_files([Candidate("any", names_only / "any.onnx")], loaders=loaders, task=TASK, classes=digits.classes)


@pytest.mark.parametrize(
    ("paths", "settings", "message"),
    [
        ([], {}, "one or more candidates with different names, got none"),
        (["any.onnx", "any.onnx"], {}, "different names, got 'any.onnx', 'any.onnx'"),
        (["ony.onnx"], {}, "there is no file .*ony.onnx'; nearest: 'one.onnx'"),
        (["any.onnx"], {"runtimes": ("openvin",)}, "there is no runtime 'openvin'; nearest: 'openvino'"),
        (["any.onnx"], {"runtimes": ("torch",)}, "runtime 'torch' executes none of 'any.onnx'"),
        (["any.onnx"], {"batch_sizes": (0,)}, "expected batch sizes and threads of one or more"),
        (["any.onnx"], {"threads": (0,)}, "expected batch sizes and threads of one or more"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(names_only, digits, loaders, paths, settings, message):
    with pytest.raises(InputError, match=message):
        measure_files(
            [Candidate(path, names_only / path) for path in paths],
            loaders=loaders,
            task=TASK,
            classes=digits.classes,
            **settings,
        )


def test_a_runtime_that_was_asked_for_must_be_installed(names_only, digits, loaders, monkeypatch):
    absent = dataclasses.replace(RUNTIMES["openvino"], library="no_such_library")
    monkeypatch.setitem(RUNTIMES, "openvino", absent)
    with pytest.raises(InputError, match="runtime 'openvino': no_such_library is not installed; install it with"):
        measure_files(
            [Candidate("any", names_only / "any.onnx")],
            loaders=loaders,
            task=TASK,
            classes=digits.classes,
            runtimes=("openvino",),
        )
