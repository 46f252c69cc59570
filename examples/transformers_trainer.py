"""Distillation inside Hugging Face's Trainer: only `compute_loss` changes; the student stays what is saved."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

import understudy as us

images, labels = load_digits(return_X_y=True)
pixels = torch.tensor(images / 16.0, dtype=torch.float32).reshape(-1, 1, 8, 8)
train_rows, test_rows = train_test_split(range(len(labels)), test_size=0.2, random_state=0, stratify=labels)
few_labels = dict.fromkeys(train_rows[50:], us.IGNORE_INDEX)  # the rest of the images is there without labels


def samples(rows: list[int], hidden: dict[int, int]) -> list[dict[str, Tensor | int]]:
    return [{"pixel_values": pixels[row], "labels": hidden.get(row, int(labels[row]))} for row in rows]


def network(width: int) -> ViTForImageClassification:
    size = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2, "num_attention_heads": 4}
    digits = {"image_size": 8, "patch_size": 4, "num_channels": 1, "num_labels": 10, "initializer_range": 0.15}
    return ViTForImageClassification(ViTConfig(**size, **digits))


def accuracy(model: nn.Module) -> float:
    with torch.no_grad():
        predicted = model.eval()(pixels[test_rows]).logits.argmax(-1)
    return (predicted == torch.tensor(labels[test_rows])).float().mean().item()


class DistillationTrainer(Trainer):
    """A Trainer whose model is the distiller."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        step = model(inputs, progress=self.state.global_step / self.state.max_steps)
        return (step.loss, {"logits": step.student.logits}) if return_outputs else step.loss


def train(distiller: us.Distiller, data: list, epochs: int) -> None:
    arguments = TrainingArguments(
        output_dir="trainer", num_train_epochs=epochs, per_device_train_batch_size=64, learning_rate=3e-3, seed=0,
        lr_scheduler_type="cosine", save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
        remove_unused_columns=False, logging_strategy="no",
    )  # fmt: skip
    DistillationTrainer(model=distiller, args=arguments, train_dataset=data).train()


torch.manual_seed(0)
example = {"pixel_values": pixels[:8], "labels": torch.tensor(labels[:8])}
teacher, student = network(64), network(16)
train(us.Distiller(teacher, None, us.CrossEntropy(), example=example), samples(train_rows, {}), epochs=6)
objective = 0.1 * us.CrossEntropy() + 0.9 * us.SoftTargets(temperature=4.0)
train(us.Distiller(student, teacher, objective, example=example), samples(train_rows, few_labels), epochs=12)
student.save_pretrained("student")  # an ordinary Transformers model that knows nothing of Understudy
print(f"teacher {accuracy(teacher):.3f}  distilled {accuracy(student):.3f}")
