"""Distillation by our loop: schedules, validation, the best weights kept, resumable when given a directory."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import understudy as us

images, labels = load_digits(return_X_y=True)
split = train_test_split(images / 16.0, labels, test_size=0.2, random_state=0, stratify=labels)
inputs, val_inputs = (torch.tensor(part, dtype=torch.float32) for part in split[:2])
targets, val_targets = (torch.tensor(part) for part in split[2:])
few_labels = targets.clone()
few_labels[50:] = us.IGNORE_INDEX  # the rest of the images is there without labels


def network(hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def batches(targets: torch.Tensor) -> DataLoader:
    return DataLoader(TensorDataset(inputs, targets), batch_size=64, shuffle=True)


torch.manual_seed(0)
example = (inputs[:8], targets[:8])
val = DataLoader(TensorDataset(val_inputs, val_targets), batch_size=360)
teacher, student, alone = network(256), network(16), network(16)
training = us.Training(
    epochs=20, batch_size=64, optimizer=us.Optimizer(kind="adamw", lr=3e-3), schedule=us.Cosine(), warmup=0.1
)

taught = us.fit(us.Distiller(teacher, None, us.CrossEntropy(), example=example), batches(targets), training, val=val)
control = us.fit(us.Distiller(alone, None, us.CrossEntropy(), example=example), batches(few_labels), training, val=val)

objective = 0.1 * us.CrossEntropy() + 0.9 * us.SoftTargets(temperature=4.0)
distiller = us.Distiller(student, teacher, objective, example=example)
fitted = us.fit(distiller, batches(few_labels), training, val=val)

torch.save(student.state_dict(), "student.pt")  # a plain state dict that knows nothing of Understudy
print(
    f"teacher {taught.best_metric:.3f}  student alone {control.best_metric:.3f}  distilled {fitted.best_metric:.3f} "
    f"(validation, after {fitted.best_epoch:g} epochs)"
)
