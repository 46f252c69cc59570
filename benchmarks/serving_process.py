"""The sides of `serving.py` that are not Understudy: a bare FastAPI server, and clients, each in its own process."""

import asyncio
import io
import json
import sys
import time
from pathlib import Path

HEAD = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {}\r\n\r\n"


def serve(artifact: str, port: int) -> None:
    """What one writes in an afternoon: no batches, no limits, no check of what was sent."""
    import numpy as np
    import torch
    import uvicorn
    from fastapi import FastAPI, Request
    from PIL import Image

    from understudy.sources.artifact import load_artifact

    torch.set_num_threads(1)
    loaded = load_artifact(artifact)
    model, classes = loaded.module.eval(), loaded.classes
    app = FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> dict:
        pixels = np.array(Image.open(io.BytesIO(await request.body())).convert("RGB"))
        with torch.inference_mode():
            shares = model(torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div_(255)).softmax(1)[0]
        values, indices = shares.topk(3)
        top = [{"class": classes[i], "probability": p} for i, p in zip(indices.tolist(), values.tolist(), strict=True)]
        return {"predictions": [{**top[0], "top": top}]}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical", access_log=False)


async def client(port: int, request: bytes, until: float, seconds: list[float]) -> dict:
    """Ask on one connection, again and again, and note how long each answer took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer: dict = {}
    while time.perf_counter() < until or not seconds:
        begun = time.perf_counter()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
        seconds.append(time.perf_counter() - begun)
        assert head.startswith(b"http/1.1 200"), body
        answer = answer or json.loads(body)["predictions"][0]
    writer.close()
    return answer


async def load(port: int, image: bytes, clients: int, seconds: float) -> dict:
    """Several clients at once; the half second before counts for nothing."""
    request = HEAD.format(len(image)).encode() + image
    await asyncio.gather(*(client(port, request, time.perf_counter() + 0.5, []) for _ in range(clients)))
    found: list[float] = []
    begun = time.perf_counter()
    answers = await asyncio.gather(*(client(port, request, begun + seconds, found) for _ in range(clients)))
    took = time.perf_counter() - begun
    found.sort()
    return {
        "p50_ms": 1000 * found[len(found) // 2],
        "p99_ms": 1000 * found[min(len(found) - 1, len(found) * 99 // 100)],
        "per_second": len(found) / took,
        "requests": len(found),
        "answer": answers[0],
    }


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    if "artifact" in job:
        serve(job["artifact"], job["port"])
    else:
        image = Path(job["image"]).read_bytes()
        print(json.dumps(asyncio.run(load(job["port"], image, job["clients"], job["seconds"]))))
