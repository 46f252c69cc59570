"""One contender of head_chunk.py in a process of its own: is told its task as JSON, prints time and memory as JSON."""

from __future__ import annotations

import json
import sys
import time

import torch
from resident import resident_peak
from transformers import LlamaConfig, LlamaForCausalLM

import understudy as us

settings = json.loads(sys.argv[1])


def network(words: int, width: int, layers: int) -> LlamaForCausalLM:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4}
    sizes = {"vocab_size": words, "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, tie_word_embeddings=True))


def distiller(words: int) -> us.Distiller:
    torch.manual_seed(0)
    student = network(words, settings["width"], settings["layers"])
    teacher = network(words, 2 * settings["width"], 2 * settings["layers"])
    objective = 0.1 * us.CrossEntropy() + 0.9 * us.SoftTargets(temperature=1.0)
    example, chunk = torch.zeros(1, 4, dtype=torch.int64), settings["head_chunk"]
    task = us.CausalLanguageModel()
    return us.Distiller(student, teacher, objective, example=example, task=task, head_chunk=chunk).train()


distiller(64)(torch.zeros(1, 4, dtype=torch.int64)).loss.backward()  # threads and kernels are there from now on
joined = distiller(settings["words"])
tokens = torch.randint(settings["words"], (settings["samples"], settings["tokens"]))
before = resident_peak()
begun = time.perf_counter()
step = joined(tokens)
step.loss.backward()
seconds = time.perf_counter() - begun
held = resident_peak() - before
squares = sum(p.grad.square().sum().item() for p in joined.student.parameters() if p.grad is not None)
print(json.dumps({"seconds": seconds, "bytes": held, "told": [step.loss.item(), squares]}))
