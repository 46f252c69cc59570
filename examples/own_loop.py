"""Distillation in a loop of your own: the distiller is a plain module whose output has a loss.

50 of 1,437 digits have a label. The teacher has seen all labels; the student learns from what it says about the rest.
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import understudy as us

images, labels = load_digits(return_X_y=True)
split = train_test_split(images / 16.0, labels, test_size=0.2, random_state=0, stratify=labels)
inputs, test_inputs = (torch.tensor(part, dtype=torch.float32) for part in split[:2])
targets, test_targets = (torch.tensor(part) for part in split[2:])


def network(hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def accuracy(model: nn.Module) -> float:
    with torch.no_grad():
        return (model.eval()(test_inputs).argmax(-1) == test_targets).float().mean().item()


def train(distiller: us.Distiller, targets: Tensor, epochs: int = 30) -> None:
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=64, shuffle=True)
    optimizer = torch.optim.AdamW(distiller.parameters(), lr=3e-3)
    for _ in range(epochs):
        distiller.train()
        for batch in loader:
            optimizer.zero_grad()
            distiller(batch).loss.backward()
            optimizer.step()


torch.manual_seed(0)
example = (inputs[:8], targets[:8])
teacher, student, alone = network(256), network(16), network(16)
few_labels = targets.clone()
few_labels[50:] = us.IGNORE_INDEX

train(us.Distiller(teacher, None, us.CrossEntropy(), example=example), targets)
train(us.Distiller(alone, None, us.CrossEntropy(), example=example), few_labels)

objective = 0.1 * us.CrossEntropy() + 0.9 * us.SoftTargets(temperature=4.0)
train(us.Distiller(student, teacher, objective, example=example), few_labels)

torch.save(student.state_dict(), "student.pt")  # a plain state dict that knows nothing of Understudy
print(f"teacher {accuracy(teacher):.3f}  student alone {accuracy(alone):.3f}  distilled {accuracy(student):.3f}")
