"""Single blood cells out of photographs with boxes: the data of `blood-cells.yaml`.

    python recipes/blood_cells.py ../shared/data/bccd runs/blood-cells.npz

Reads a data set with an image and ``objects`` (``bbox`` as x, y, width, height, and ``category``) per row, such as the
BCCD set (Shenggan/BCCD_Dataset, MIT licence). Every box becomes a square around its middle, as wide as its longer side,
resized to 32×32 pixels; where that reaches over the edge of the photograph it is filled with the nearest pixels.
"""

import sys
from pathlib import Path

import numpy as np
from datasets import load_dataset
from PIL import Image

SIZE = 32


def crop(photograph: np.ndarray, box: list[float]) -> np.ndarray:
    """(SIZE, SIZE, 3) uint8 around a box (x, y, width, height)."""
    x, y, width, height = box
    side = max(2, round(max(width, height)))
    left, top = round(x + width / 2 - side / 2), round(y + height / 2 - side / 2)
    rows = np.arange(top, top + side).clip(0, photograph.shape[0] - 1)
    columns = np.arange(left, left + side).clip(0, photograph.shape[1] - 1)
    square = Image.fromarray(photograph[np.ix_(rows, columns)])
    return np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BICUBIC, reducing_gap=3.0))


def main(source: str, target: Path) -> None:
    """Read the photographs, write the cells."""
    data = load_dataset(source)
    names = data["train"].features["objects"]["category"].feature.names
    arrays: dict[str, np.ndarray] = {"classes": np.array(names)}
    for split, photographs in data.items():
        cells, labels = [], []
        for row in photographs:
            photograph = np.asarray(row["image"].convert("RGB"))
            for box, label in zip(row["objects"]["bbox"], row["objects"]["category"], strict=True):
                cells.append(crop(photograph, box))
                labels.append(label)
        arrays |= {f"x_{split}": np.stack(cells), f"y_{split}": np.array(labels)}
        counts = ", ".join(f"{name} {labels.count(number)}" for number, name in enumerate(names))
        print(f"{split}: {len(labels):,} cells ({counts})")
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(target, **arrays)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
