"""Distillation inside Lightning: the distiller is the module that a LightningModule trains."""

import lightning
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
few_labels = targets.clone()
few_labels[50:] = us.IGNORE_INDEX  # the rest of the images is there without labels


def network(hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def accuracy(model: nn.Module) -> float:
    with torch.no_grad():
        return (model.eval()(test_inputs).argmax(-1) == test_targets).float().mean().item()


class Distillation(lightning.LightningModule):
    def __init__(self, distiller: us.Distiller) -> None:
        super().__init__()
        self.distiller = distiller

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        step = self.distiller(batch, progress=self.global_step / self.trainer.estimated_stepping_batches)
        self.log_dict(step.terms)
        return step.loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.distiller.parameters(), lr=3e-3)


def train(distiller: us.Distiller, targets: Tensor) -> None:
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=64, shuffle=True)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    lightning.Trainer(max_epochs=20, enable_model_summary=False, **quiet).fit(Distillation(distiller), loader)


lightning.seed_everything(0, verbose=False)
example = (inputs[:8], targets[:8])
teacher, student = network(256), network(16)
train(us.Distiller(teacher, None, us.CrossEntropy(), example=example), targets)
objective = us.Linear(start=0.5, end=0.1) * us.CrossEntropy() + 0.9 * us.SoftTargets(temperature=4.0)
train(us.Distiller(student, teacher, objective, example=example), few_labels)
torch.save(student.state_dict(), "student.pt")  # a plain state dict that knows nothing of Understudy
print(f"teacher {accuracy(teacher):.3f}  distilled {accuracy(student):.3f}")
