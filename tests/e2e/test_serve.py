"""A real server, real sockets, and clients of every kind."""

import base64
import collections
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from conformance.uploads import encoded, npy
from understudy.serving import open_predictor
from understudy.sources import BuiltinModel, PythonModel, build_model, save_artifact

pytestmark = pytest.mark.e2e

CLASSES = ("cat", "dog", "cow", "hen")
TIMEOUT_S = 1.0
MAX_BODY = 200_000
JSON = "application/json"
GROWTH_BYTES = 64 * 2**20

SLOW = """
import time
import torch
from torch import nn

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 4)

    def forward(self, inputs):
        time.sleep(0.15)
        return self.head(inputs)

def make():
    return Slow()
"""


@contextmanager
def served(artifact, *options: str, cwd=None):
    """A server process and its port; it is ended as the test leaves it."""
    command = [sys.executable, "-m", "understudy", "serve", str(artifact), "--port", "0", "--threads", "1", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=cwd)
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
        assert found, said + process.stderr.read()
        yield process, int(found[1])
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()


def save(folder, spec, inputs):
    return save_artifact(folder, build_model(spec, classes=4, inputs=inputs), spec=spec, classes=CLASSES, inputs=inputs)


def ask(port, body, kind=JSON, path="/predict?top=4", method="POST"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def raw(port, *pieces: bytes, pause_s=0.0, read=True, timeout_s=15.0):
    """Send bytes as they are; the status and the body of the answer, or None for none."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as client:
        for piece in pieces:
            client.sendall(piece)
            time.sleep(pause_s)
        if not read:
            return None
        answer = http.client.HTTPResponse(client)
        answer.begin()
        return answer.status, json.loads(answer.read())


def head(length, kind=JSON, extra=""):
    return (
        f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{extra}\r\n"
    ).encode()


def bomb(side):
    """A PNG of side × side black pixels, whole and small."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    row = b"\0" * (side // 8 + 1)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def form(*files: bytes):
    parts = b"".join(
        b'--limit\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + data + b"\r\n"
        for data in files
    )
    return parts + b"--limit--\r\n", "multipart/form-data; boundary=limit"


def refusals(random):
    """Bad requests that are answered: what is asked, and with which statuses."""
    noise = random.integers(0, 256, 300, dtype=np.uint8).tobytes()
    picture = encoded(Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)), "JPEG")
    nan = npy(np.full((1, 8, 8), np.nan))
    return {
        "noise as JSON": (lambda port: ask(port, noise), {422}),
        "noise as an image": (lambda port: ask(port, noise, "image/png"), {422}),
        "half an image": (lambda port: ask(port, picture[: len(picture) // 2], "image/jpeg"), {422}),
        "another shape": (lambda port: ask(port, json.dumps({"input": [[1, 2], [3, 4]]})), {422}),
        "NaN in JSON": (lambda port: ask(port, '{"input": [[NaN]]}'), {422}),
        "NaN in an array": (lambda port: ask(port, nan, "application/x-npy"), {422}),
        "a cut array": (lambda port: ask(port, nan[:-3], "application/x-npy"), {422}),
        "nested JSON": (lambda port: ask(port, "[" * 50_000), {422}),
        "an unknown type": (lambda port: ask(port, "x", "text/plain"), {415}),
        "a form without a boundary": (lambda port: ask(port, "x", "multipart/form-data"), {400}),
        "a broken form": (lambda port: ask(port, b"--limit\r\nnoise", "multipart/form-data; boundary=limit"), {400}),
        "a form with noise": (lambda port: ask(port, *form(noise)), {422}),
        "a pixel bomb": (lambda port: ask(port, BOMB, "image/png"), {422}),
        "a bomb in base64": (lambda port: ask(port, json.dumps({"input": base64.b64encode(BOMB).decode()})), {422}),
        "a large body": (lambda port: ask(port, b"0" * (MAX_BODY + 1)), {413}),
        "a large body in chunks": (lambda port: ask(port, iter([b"0" * 2**14] * 20)), {413}),
        "a body said to be huge": (lambda port: raw(port, head(10**12)), {413}),
        "an odd top": (lambda port: ask(port, "[]", path="/predict?top=-1"), {422}),
        "another method": (lambda port: ask(port, None, method="GET"), {405}),
    }


BOMB = bomb(8_000)


def numbers(text):
    """The metrics without labels, and the requests to /predict by status."""
    plain = dict(re.findall(r"^(\w+) ([\d.e+-]+)$", text, re.MULTILINE))
    statuses = re.findall(r'^understudy_requests_total{path="/predict",status="(\d+)"} ([\d.]+)$', text, re.MULTILINE)
    return {name: float(value) for name, value in plain.items()}, {int(code): float(count) for code, count in statuses}


def metrics(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def settled(port):
    """The metrics, once the server has noticed the last client that went away."""
    for _ in range(100):
        text = metrics(port)
        if numbers(text)[0]["understudy_requests_in_flight"] == 0:
            return text
        time.sleep(0.05)
    raise AssertionError(text)


def test_a_thousand_bad_requests_among_good_ones(tmp_path):
    """Every good one is answered rightly, every bad one in our words; memory stays bounded, and the counts add up."""
    artifact = save(tmp_path / "digits", BuiltinModel(name="mlp", arguments={"hidden": [6]}), torch.rand(2, 1, 8, 8))
    predictor = open_predictor(artifact)
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (8, 8), dtype=np.uint8) for _ in range(20)]
    truth = [dict(predictor.predict(predictor.form.read(npy(image), "array"), top=4)[0].top) for image in images]
    bad = refusals(random)
    told = collections.Counter()
    lock = threading.Lock()

    def good(port, number):
        place = number % len(images)
        forms = (
            lambda: ask(port, encoded(Image.fromarray(images[place])), "image/png"),
            lambda: ask(port, json.dumps({"input": (images[place][None] / 255).tolist()})),
            lambda: ask(port, *form(encoded(Image.fromarray(images[place])))),
            lambda: ask(port, npy(images[place]), "application/x-npy"),
        )
        status, answer = forms[number % len(forms)]()
        assert status == 200, answer
        (prediction,) = answer["predictions"]
        assert {one["class"]: one["probability"] for one in prediction["top"]} == pytest.approx(truth[place], abs=1e-5)
        with lock:
            told[200] += 1

    def refused(port, name):
        send, statuses = bad[name]
        status, answer = send(port)
        assert status in statuses, (name, status, answer)
        assert list(answer) == ["error"]
        assert not re.search(r"Traceback|File \"|/(usr|home|tmp|work|root|opt)/|0x[0-9a-f]{6}", answer["error"]), answer
        with lock:
            told[status] += 1

    def slow_body(port):
        status, answer = raw(port, head(100), b"[1", pause_s=0.1)
        assert (status, answer) == (408, {"error": "the body did not arrive within 1 s"})
        with lock:
            told[408] += 1

    def gone(port, *pieces):
        raw(port, *pieces, read=False)
        with lock:
            told["gone"] += 1

    def garbage(port):
        assert raw(port, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 garbage\r\n\r\n")[0] == 400
        with lock:
            told["garbage"] += 1

    whole = json.dumps({"input": (images[0][None] / 255).tolist()}).encode()
    options = ("--timeout", str(TIMEOUT_S), "--max-body", str(MAX_BODY), "--max-batch", "8")
    with served(artifact, *options) as (process, port), ThreadPoolExecutor(24) as pool:

        def flood(rounds):
            jobs = [pool.submit(slow_body, port) for _ in range(8)]
            jobs += [pool.submit(raw, port, b"POST /pred", read=False) for _ in range(10)]
            for number in range(rounds):
                jobs += [pool.submit(refused, port, name) for name in bad]
                jobs += [pool.submit(good, port, number * 8 + step) for step in range(8)]
                jobs += [pool.submit(garbage, port) for _ in range(2)]
                jobs += [pool.submit(gone, port, head(100), b"[1") for _ in range(2)]
                jobs += [pool.submit(gone, port, head(len(whole)), whole) for _ in range(2)]
            for job in jobs:
                job.result()

        flood(6)
        settled(port)
        memory = psutil.Process(process.pid).memory_info().rss
        flood(36)
        text = settled(port)
        grown = psutil.Process(process.pid).memory_info().rss - memory
        assert process.poll() is None
        bad_requests = sum(told.values()) - told[200]
        assert bad_requests >= 1_000
        assert told[200] == 42 * 8
        assert grown < GROWTH_BYTES, f"{grown / 2**20:.0f} MiB"

        plain, statuses = numbers(text)
        assert (
            sum(statuses.values()) == sum(told.values()) - told["garbage"] == plain["understudy_request_seconds_count"]
        )
        for status in (400, 405, 408, 413, 415, 422):
            assert statuses[status] == told[status]
        lost = statuses[499] + statuses[200] - told[200]  # of clients that went away some were answered already
        assert lost == told["gone"]
        assert told[200] <= statuses[200] <= plain["understudy_batch_size_sum"] <= told[200] + told["gone"]
        assert f'understudy_connections_refused_total{{reason="no_http"}} {told["garbage"]}.0' in text

        several = {"inputs": [(image[None] / 255).tolist() for image in images[:8]]}
        status, together = ask(port, json.dumps(several))
        assert status == 200
        for prediction, expected in zip(together["predictions"], truth[:8], strict=True):
            assert {one["class"]: one["probability"] for one in prediction["top"]} == pytest.approx(expected, abs=1e-5)
        assert numbers(metrics(port))[0]["understudy_batch_size_count"] < plain["understudy_batch_size_sum"] + 8

        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr is not None
        said = process.stderr.read()
        assert said == f"stopped: {int(statuses[200]) + 1:,} requests were answered, 0 were not\n"


def test_sigterm_under_load_loses_nothing_that_was_accepted(tmp_path):
    (tmp_path / "slow_net.py").write_text(SLOW)
    inputs = torch.rand(2, 6)
    sys.path.insert(0, str(tmp_path))
    try:
        artifact = save(tmp_path / "slow", PythonModel(target="slow_net:make"), inputs)
        predictor = open_predictor(artifact)
    finally:
        sys.path.remove(str(tmp_path))
    (expected,) = predictor.predict([inputs[0]], top=4)
    body = json.dumps({"input": inputs[0].tolist()})
    outcomes = collections.Counter()
    lock = threading.Lock()
    ended = threading.Event()

    def client(port, keeps):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        while not ended.is_set():
            try:
                connection.request("POST", "/predict?top=4", body, {"Content-Type": JSON})
                answer = connection.getresponse()
                status, told = answer.status, json.loads(answer.read())
            except (ConnectionError, http.client.RemoteDisconnected) as error:
                status, told = type(error).__name__, None
                time.sleep(0.01)
            if status == 200:
                found = {one["class"]: one["probability"] for one in told["predictions"][0]["top"]}
                assert found == pytest.approx(dict(expected.top), abs=1e-5)
            with lock:
                outcomes[status] += 1
            if not keeps or status != 200:
                connection.close()

    with served(artifact, "--max-batch", "4", cwd=tmp_path) as (process, port), ThreadPoolExecutor(12) as pool:
        jobs = [pool.submit(client, port, keeps=number % 2 == 0) for number in range(12)]
        try:
            while outcomes[200] < 24 and not any(job.done() for job in jobs):
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            code = process.wait(15)
        finally:
            ended.set()
        for job in jobs:
            job.result()
        assert code == 0
        assert process.stderr is not None
        said = process.stderr.read()
    assert outcomes[200] >= 24
    assert said == f"stopped: {outcomes[200]:,} requests were answered, 0 were not\n", outcomes
    assert outcomes[503] > 0, "those that came while it stopped are told so"
    assert "RemoteDisconnected" not in outcomes or outcomes["RemoteDisconnected"] <= 12, outcomes


def test_a_model_that_cannot_be_served_ends_with_2(tmp_path):
    command = [sys.executable, "-m", "understudy", "serve", str(tmp_path / "nowhere"), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 2
    assert "there is no file or folder" in done.stderr
    assert "Traceback" not in done.stderr
