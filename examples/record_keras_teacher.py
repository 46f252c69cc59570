"""A Keras teacher for a PyTorch student: its answers go to disk in the documented format (docs/recordings.md).

`write_recording` needs NumPy and safetensors alone, so it runs wherever the teacher does.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")  # or tensorflow, or jax
import keras
import numpy as np
from safetensors.numpy import save
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

STUDENT = """{version: 1, name: from_keras, task: image_classification, data: {source: digits.npz}, stages: [
    {kind: distill, name: student, teacher: {kind: recording, path: answers}, subset: {labels: 50},
     model: {source: understudy, name: cnn, arguments: {widths: [4, 8]}},
     objective: [{kind: cross_entropy, weight: 0.1}, {kind: soft_targets, weight: 0.9}],
     training: {epochs: 30, batch_size: 64, optimizer: {kind: adamw, lr: 0.01}}},
    {kind: evaluate, name: test, models: [student]}]}"""


def write_recording(folder: Path, logits: np.ndarray, classes: list[str]) -> None:
    def write(start: str, tensors: dict[str, np.ndarray]) -> str:
        content = save(tensors)
        path = folder / f"{start}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path.name

    count = len(logits)
    write(f"plain/rows-{0:09d}-{count:09d}", {"logits": logits.astype(np.float32)})
    samples = write("samples", {"ids": np.arange(count)})  # positions in the training split
    parts = [{"name": "train", "first": 0, "last": count, "views": 0}]
    manifest = {"format": 1, "teacher": "keras", "classes": classes, "samples": samples, "parts": parts}
    (folder / "manifest.json").write_text(json.dumps(manifest))


pixels, labels = load_digits(return_X_y=True)
images = (pixels.reshape(-1, 1, 8, 8) * 255 / 16).round().astype(np.uint8)
x, x_test, y, y_test = train_test_split(images, labels, test_size=0.2, random_state=0, stratify=labels)
np.savez("digits.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
keras.utils.set_random_seed(0)
layers = [keras.layers.Flatten(), keras.layers.Dense(256, "relu"), keras.layers.Dense(10)]
teacher = keras.Sequential([keras.Input((1, 8, 8)), keras.layers.Rescaling(1 / 255), *layers])
teacher.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
teacher.fit(x, y, batch_size=64, epochs=20, verbose=0)
write_recording(Path("answers"), teacher.predict(x, verbose=0), [str(digit) for digit in range(10)])
Path("student.yaml").write_text(STUDENT)
subprocess.run([sys.executable, "-m", "understudy", "run", "student.yaml", "--out", "run"], check=True)
rows = json.loads(Path("run/report.json").read_text())["rows"]
reached = {row["role"]: row["metrics"]["accuracy"]["mean"] for row in rows}
accuracy = (teacher.predict(x_test, verbose=0).argmax(1) == y_test).mean()
print(f"teacher {accuracy:.3f}  student alone {reached['control']:.3f}  distilled {reached['student']:.3f}")
