"""The analysis of a cell's names: 100 lines of plain Python, the same with a shell line (IPython's transformation is in that), and a cell seen before."""

from __future__ import annotations

import time

from IPython.core.inputtransformer2 import TransformerManager

from benchmarks.report import Row
from remote_gpu.capture.analysis import analyse

CELL = """\
import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

torch.manual_seed(seed)
folder = Path(data_folder) / "runs"
folder.mkdir(parents=True, exist_ok=True)


class Net(nn.Module):
    '''A small network.'''

    width: int = 128

    def __init__(self, inputs, outputs, *, dropout=0.1):
        super().__init__()
        self.first = nn.Linear(inputs, self.width)
        self.second = nn.Linear(self.width, self.width)
        self.last = nn.Linear(self.width, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = self.dropout(torch.relu(self.second(x)))
        return self.last(x)


def batches(x, y, size, *, shuffle=True):
    order = torch.randperm(len(x)) if shuffle else torch.arange(len(x))
    for start in range(0, len(x), size):
        chosen = order[start : start + size]
        yield x[chosen].to(device), y[chosen].to(device)


def accuracy(model, x, y):
    model.eval()
    right = total = 0
    with torch.no_grad():
        for xs, ys in batches(x, y, 512, shuffle=False):
            guess = model(xs).argmax(dim=1)
            right += int((guess == ys).sum())
            total += len(ys)
    return right / max(total, 1)


device = "cuda" if torch.cuda.is_available() else "cpu"
features = table.drop(columns=["label", "id"]).to_numpy(dtype=np.float32)
labels = table["label"].astype("category").cat.codes.to_numpy(dtype=np.int64)
mean, std = features.mean(axis=0), features.std(axis=0) + 1e-6
features = (features - mean) / std
cut = int(0.8 * len(features))
train_x, test_x = torch.tensor(features[:cut]), torch.tensor(features[cut:])
train_y, test_y = torch.tensor(labels[:cut]), torch.tensor(labels[cut:])

model = Net(features.shape[1], int(labels.max()) + 1, dropout=settings["dropout"]).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=settings["lr"], weight_decay=settings.get("decay", 0.01))
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=settings["epochs"])
loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
history = defaultdict(list)
best = -math.inf

for epoch in range(settings["epochs"]):
    model.train()
    losses = []
    for xs, ys in batches(train_x, train_y, settings["batch"]):
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model(xs), ys)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    schedule.step()
    score = accuracy(model, test_x, test_y)
    history["loss"].append(sum(losses) / len(losses))
    history["score"].append(score)
    if score > best:
        best = score
        try:
            torch.save(model.state_dict(), folder / "best.pt")
        except OSError as error:
            print(f"could not save epoch {epoch}: {error!r}")
        else:
            last_saved = epoch
    if epoch % 5 == 0 or epoch == settings["epochs"] - 1:
        print(f"{epoch:3d} loss {history['loss'][-1]:.4f} score {score:.3f} {'*' if score >= best else ''}")

curve = pd.DataFrame(history).rename_axis("epoch").reset_index()
curve["smooth"] = curve["loss"].rolling(3, min_periods=1).mean()
worst = {name: values for name, values in sorted(confusion.items(), key=lambda item: -item[1])[:10] if values > threshold}
summary = {"best": best, "epochs": len(curve), "device": str(device), "parameters": sum(p.numel() for p in model.parameters())}
(folder / "summary.json").write_text(json.dumps(summary, indent=2))
summary
"""


def _timed(sources: list[str]) -> tuple[float, ...]:
    """Milliseconds for each text."""
    transform = TransformerManager().transform_cell
    taken = []
    for source in sources:
        start = time.perf_counter()
        analyse(source, transform)
        taken.append((time.perf_counter() - start) * 1000)
    return tuple(taken)


def measure(quick: bool = False) -> list[Row]:
    """All cases; each text is a new one but in the last."""
    count = 20 if quick else 200
    lines = CELL.count("\n")
    return [
        Row(f"names of a cell of {lines} lines", "remote_gpu", "ms", _timed([f"{CELL}# {each}" for each in range(count)]), goal="≤ 2 ms"),
        Row(f"names of a cell of {lines} lines", "with a shell line", "ms", _timed([f"{CELL}!ls {each}" for each in range(count)])),
        Row(f"names of a cell of {lines} lines", "seen before", "ms", _timed([CELL] * count)[1:]),
    ]
