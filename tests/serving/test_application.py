"""What the server answers, without a network in between."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image
from torch import nn

from conformance.uploads import encoded
from understudy.serving import Predictor, SampleForm
from understudy.serving.application import Service, _read, application
from understudy.serving.batching import Batcher
from understudy.serving.expected import Expected
from understudy.serving.limits import Limits
from understudy.serving.metrics import Meter

FORM = SampleForm((Expected((3,), torch.float32),))
JSON = "application/json"


class Held(nn.Module):
    """Outputs are the inputs, once they may come."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.entered = threading.Event(), threading.Event()
        self.go.set()

    def forward(self, inputs):
        self.entered.set()
        assert self.go.wait(10)
        if (inputs > 100).any():
            raise RuntimeError("/secret/path of the network")
        return inputs


class Running:
    """An application and what it stands on."""

    def __init__(self, **limits) -> None:
        self.network = Held()
        predictor = Predictor(self.network, FORM, classes=("cat", "dog", "cow"), name="pets")
        self.network.entered.clear()
        bounds = Limits(**limits)
        self.meter = Meter(lambda: len(self.batcher))
        self.batcher = Batcher([predictor], bounds, observe=self.meter.batch)
        self.log: list[str] = []
        self.readers = ThreadPoolExecutor(1)
        self.service = Service(
            predictor.card(), FORM, self.batcher, self.meter, bounds, self.readers, log=self.log.append
        )
        self.app = application(self.service)

    async def ask(self, body=b"", kind=JSON, path="/predict", method="POST", pieces=(), leaves=None, **headers):
        """The status, the headers and the body of the answer; None when nothing was sent."""
        path, _, query = path.partition("?")
        named = {"content-type": kind, "host": "pets.example", **headers}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "scheme": "http",
            "root_path": "",
            "server": ("pets.example", 80),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items() if value],
        }
        inbox = [{"type": "http.request", "body": part, "more_body": True} for part in pieces]
        inbox.append({"type": "http.request", "body": body, "more_body": body is None})
        sent = []

        async def receive():
            if inbox and inbox[0]["body"] is not None:
                return inbox.pop(0)
            if leaves is None:
                await asyncio.Event().wait()
            await leaves()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        await self.app(scope, receive, send)
        if not sent:
            return None
        answer = b"".join(message.get("body", b"") for message in sent)
        known = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], known, answer

    def __call__(self, *given, **named):
        found = asyncio.run(self.ask(*given, **named))
        return found and (found[0], json.loads(found[2]))

    def close(self):
        self.network.go.set()
        self.batcher.close()
        self.readers.shutdown()


@pytest.fixture
def running(request):
    made = Running(**getattr(request, "param", {}))
    yield made
    made.close()


def test_json_is_answered(running):
    status, answer = running(b'{"input": [1, 5, 0]}', path="/predict?top=1")
    assert status == 200
    ((prediction,),) = answer.values()
    assert prediction["class"] == "dog"
    assert prediction["probability"] == pytest.approx(torch.tensor([1.0, 5, 0]).softmax(0)[1].item())
    assert [one["class"] for one in prediction["top"]] == ["dog"]
    status, answer = running(b'{"inputs": [[1, 5, 0], [0, 0, 9]]}', JSON + "; charset=utf-8")
    assert [one["class"] for one in answer["predictions"]] == ["dog", "cow"]
    assert [len(one["top"]) for one in answer["predictions"]] == [3, 3]


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        ({"body": b"{"}, 422, "input is no JSON"),
        ({"body": b"[1, 2]"}, 422, "the model takes 3 float32"),
        ({"body": b'{"inputs": [[1, 2, 3], [1]]}'}, 422, "input[1] has shape (1,)"),
        ({"body": b"\xff\xd8", "kind": "image/jpeg"}, 422, "takes no images"),
        ({"body": b"x", "kind": ""}, 415, "the Content-Type is none; expected application/json"),
        ({"body": b"x", "kind": "text/html"}, 415, "'text/html'"),
        ({"body": b"x", "content_encoding": "gzip"}, 415, "compressed"),
        ({"body": b"x", "kind": "multipart/form-data; boundary=a"}, 400, "the form"),
        ({"body": b"--a--\r\n", "kind": "multipart/form-data; boundary=a"}, 400, "holds no file"),
        ({"body": b"[1, 2, 3]", "path": "/predict?top=0"}, 422, "top is '0'; expected a whole number"),
        ({"body": b"[1, 2, 3]", "path": "/predict?top=" + "0" * 5000 + "1"}, 422, "expected a whole number"),
        ({"body": b"", "content_length": "999999999999999999999"}, 413, "expected 10,485,760 bytes at most"),
        ({"body": b"[%s]" % b",".join([b"[1, 2, 3]"] * 257)}, 413, "257 inputs at once; expected 256 at most"),
        ({"path": "/elsewhere"}, 404, "there is POST /predict"),
        ({"path": "/predict/"}, 404, "there is POST /predict"),
        ({"method": "DELETE"}, 405, "the method is DELETE; expected POST"),
        ({"path": "/health"}, 405, "the method is POST; expected GET"),
        ({"body": b"[101, 0, 0]"}, 500, "the model failed on this input"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(running, given, status, words):
    found, answer = running(**given)
    assert found == status
    assert list(answer) == ["error"]
    assert words in answer["error"]
    assert "secret" not in answer["error"]


def test_what_went_wrong_inside_is_in_the_log_only(running):
    running(b"[101, 0, 0]")
    assert running.log == ["the model failed on this input: /secret/path of the network"]
    running.readers.shutdown()
    assert running(b"[1, 0, 0]")[0] == 200  # few bytes need no reader
    assert running(b"[1, 0, 0" + b" " * 2**16 + b"]") == (500, {"error": "the server failed; its log says why"})
    assert running.log[1].startswith("RuntimeError: cannot schedule")


def test_only_a_few_pixels_are_decoded_where_all_requests_are_served(running):
    running.service.form = SampleForm((Expected((3, 8, 8), torch.float32),))
    running.readers.shutdown()

    def read(*sides):
        parts = [("image", encoded(Image.new("RGB", (side, side))), "image") for side in sides]
        return asyncio.run(_read(running.service, parts))

    assert [sample.shape for sample in read(32, 64)] == [(3, 8, 8)] * 2
    for sides in ((2000,), (100, 100)):  # one large image, or more of them than are read in no time
        with pytest.raises(RuntimeError, match="cannot schedule"):
            read(*sides)


@pytest.mark.parametrize("running", [{"max_body_bytes": 100, "timeout_s": 0.2}], indirect=True)
def test_bodies_that_are_too_large_or_too_slow(running):
    assert running(b"x", pieces=[b"0" * 60, b"0" * 60])[0] == 413
    assert running(None, pieces=[b"0" * 60])[0] == 408
    assert running(b"[1, 2, 3]")[0] == 200

    async def many():
        """Sixteen bodies are held at once; what goes beyond is refused, and the room is given back."""
        asked = [asyncio.ensure_future(running.ask(None, pieces=[b"0" * 90])) for _ in range(18)]
        return sorted(status for status, _, _ in await asyncio.gather(*asked))

    assert asyncio.run(many()) == [408] * 17 + [503]
    assert asyncio.run(many()) == [408] * 17 + [503]


@pytest.mark.parametrize("running", [{"queue": 2, "max_batch": 1, "timeout_s": 5.0}], indirect=True)
def test_a_full_queue_says_when_to_come_again(running):
    running.network.go.clear()

    async def crowd():
        asked = [asyncio.ensure_future(running.ask(b"[1, 2, 3]"))]
        await asyncio.to_thread(running.network.entered.wait, 10)
        asked += [asyncio.ensure_future(running.ask(b"[1, 2, 3]")) for _ in range(2)]
        while len(running.batcher) < 2:
            await asyncio.sleep(0.001)
        refused = await running.ask(b"[1, 2, 3]")
        running.network.go.set()
        return refused, await asyncio.gather(*asked)

    (status, headers, body), others = asyncio.run(crowd())
    assert (status, headers["retry-after"]) == (503, "1")
    assert "queue is full" in json.loads(body)["error"]
    assert [other[0] for other in others] == [200] * 3


@pytest.mark.parametrize("running", [{"timeout_s": 0.1}], indirect=True)
def test_an_answer_that_comes_too_late_is_not_waited_for(running):
    running.network.go.clear()
    status, answer = running(b"[1, 2, 3]")
    assert (status, answer) == (504, {"error": "there was no answer within 0.1 s"})


def test_a_client_that_leaves_frees_its_place(running):
    running.network.go.clear()

    async def leave():
        first = asyncio.ensure_future(running.ask(b"[1, 2, 3]"))
        await asyncio.to_thread(running.network.entered.wait, 10)

        async def when_it_waits():
            while not len(running.batcher):
                await asyncio.sleep(0.001)

        assert await running.ask(b"[1, 2, 3]", leaves=when_it_waits) is None
        assert len(running.batcher) == 0
        running.network.go.set()
        return await first

    assert asyncio.run(leave())[0] == 200
    assert 'understudy_requests_total{path="/predict",status="499"} 1.0' in running.meter.text().decode()


def test_a_server_that_stops_refuses_what_comes_and_answers_what_is_there(running):
    running.network.go.clear()

    async def stop():
        first = asyncio.ensure_future(running.ask(b"[1, 2, 3]"))
        await asyncio.to_thread(running.network.entered.wait, 10)
        running.service.stopping = True
        late = await running.ask(b"[1, 2, 3]")
        health = await running.ask(path="/health", method="GET")
        assert running.service.in_flight == 1
        running.network.go.set()
        return await first, late, health

    first, late, health = asyncio.run(stop())
    assert (first[0], late[0], health[0]) == (200, 503, 503)
    assert late[1]["connection"] == first[1]["connection"] == "close"
    assert late[1]["retry-after"] == "1"
    assert running.service.answered == 1


def test_what_there_is_to_look_at(running):
    running(b"[1, 2, 3]")
    assert running(path="/health", method="GET") == (200, {"status": "ok"})
    status, card = running(path="/", method="GET")
    assert status == 200
    assert (card["model"], card["classes"]) == ("pets", ["cat", "dog", "cow"])
    assert card["limits"]["queue"] == 256
    assert card["try"].endswith("http://pets.example/predict")
    text = asyncio.run(running.ask(path="/metrics", method="GET"))[2].decode()
    for line in (
        'understudy_requests_total{path="/predict",status="200"} 1.0',
        'understudy_requests_total{path="/",status="200"} 1.0',
        "understudy_request_seconds_count 1.0",
        "understudy_batch_size_sum 1.0",
        "understudy_queue_length 0.0",
        "understudy_requests_in_flight 0.0",
    ):
        assert line in text
