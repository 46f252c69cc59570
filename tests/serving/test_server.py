"""Addresses, libraries and numbers that a server cannot begin with."""

import importlib
import socket

import pytest
import torch
from torch import nn

from understudy.cli.main import main
from understudy.cli.serve import parsed_bytes
from understudy.errors import InputError
from understudy.serving import Predictor, SampleForm
from understudy.serving.expected import Expected
from understudy.serving.server import LIBRARIES, serve


def load() -> Predictor:
    return Predictor(nn.Linear(3, 2), SampleForm((Expected((3,), torch.float32),)))


def test_a_port_that_is_taken_is_said_to_be():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of 127.0.0.1 cannot be had .*--port, or 0 for any"):
            serve(load, port=port)


def test_a_host_that_is_not_this_machine():
    with pytest.raises(InputError, match=r"port 0 of 192\.0\.2\.7 cannot be had"):
        serve(load, host="192.0.2.7", port=0)
    with pytest.raises(InputError, match="'no such host' is no address"):
        serve(load, host="no such host", port=0)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_that_is_missing_is_named(library, monkeypatch):
    found = importlib.import_module

    def without(name, *given):
        if name == library:
            raise ModuleNotFoundError(name=library)
        return found(name, *given)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(InputError, match=rf"needs {library}, .* pip install 'understudy\[serve\]'"):
        serve(load, port=0)


@pytest.mark.parametrize("text", ["", "ten", "-3MB", "0", "3TB", "1e3"])
def test_sizes_that_are_none(text, capsys):
    with pytest.raises(InputError, match="expected bytes such as"):
        parsed_bytes(text)


@pytest.mark.parametrize(
    "arguments", [("--max-body", "lots"), ("--port", "70000"), ("--queue", "0"), ("--timeout", "0")]
)
def test_numbers_that_cannot_be_meant_end_with_2(arguments, capsys):
    assert main(["serve", "nowhere", *arguments]) == 2
    assert capsys.readouterr().err
