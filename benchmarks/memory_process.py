"""One contender of memory.py in a process of its own: is told its task as JSON, prints its peak memory as JSON."""

from __future__ import annotations

import json
import sys

import torch
from loops import Work, as_if_trained, by_hand, perceptron, pixels, with_understudy
from resident import resident_peak
from terminal import Terminal

settings = json.loads(sys.argv[1])
torch.manual_seed(0)
if settings["task"] == "mlp":
    data = pixels(None, (1, 28, 28), settings["samples"])
    teacher, student = perceptron(784, 1200, 1200, 10), perceptron(784, 800, 800, 10)
else:
    from torchvision.models import mobilenet_v2, resnet50

    data = pixels(None, (3, 32, 32), settings["samples"])
    teacher, student = resnet50(num_classes=10), mobilenet_v2(num_classes=10)
teacher = as_if_trained(teacher, data, settings["batch"])
work = Work(teacher, student, data, settings["steps"], settings["batch"])
before, plans = resident_peak(), []
if settings["contender"] == "understudy":
    terminal = Terminal()
    with_understudy(work, terminal.stream, plans)
    terminal.close()
else:
    if settings["task"] == "resnet":
        for network in (teacher, student):
            network.to(memory_format=torch.channels_last)
    by_hand(work)
print(json.dumps({"before_bytes": before, "peak_bytes": resident_peak(), "plans": plans}))
