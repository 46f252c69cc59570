"""What only a fresh process shows about opening data: silence, and a hub that is not there."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys, time
import datasets, huggingface_hub
from understudy.errors import InputError
from understudy.sources.data import DataSpec, load_data
from understudy.tasks import Classification

found = {"samples": len(load_data(DataSpec(source=sys.argv[1]), task=Classification()).train)}
found["bars"] = not datasets.utils.are_progress_bars_disabled()
start = time.monotonic()
try:
    load_data(DataSpec(source="nobody/nothing"), task=Classification())
except InputError as error:
    found["error"], found["seconds"] = str(error), time.monotonic() - start
print(json.dumps(found))
"""


@pytest.mark.e2e
@pytest.mark.parametrize("without_network", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_opening_is_quiet_and_an_absent_hub_is_said_at_once(tmp_path, without_network):
    table = tmp_path / "table.csv"
    table.write_text("x,label\n" + "".join(f"{number},{number % 2}\n" for number in range(40)))
    environment = {**os.environ, **without_network, "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(table)], env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["samples"] == 29
    assert found["bars"]  # as they were before
    assert "`source: nobody/nothing` is no file or folder here, and the hub could not be reached" in found["error"]
    assert found["seconds"] < 8  # `datasets` alone tries for half a minute
    assert done.stderr == ""
