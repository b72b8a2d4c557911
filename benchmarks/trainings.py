"""Some hundred real trainings that differ in nothing but their seed, for `verdicts.py --trainings`.

    ablate data sample data/street --train 64 --val 8 --test 896 --seed 1
    python benchmarks/trainings.py data/street -o trainings.csv --count 300

Each is a `dpt_tiny` trained from scratch with the product's network, loss and reader; the seed decides the initial
weights, the order of the images and which are flipped. Pictures are read once and kept, since a `run` of each would take
half a minute. Written: AbsRel of every test image of every training, at the network's size, without a crop. Trainings that
the file already holds are not repeated.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ablate.depth.config import ModelSettings
from ablate.depth.data.kitti import KITTI
from ablate.depth.data.loader import TrainingData
from ablate.depth.losses import silog, trainable
from ablate.depth.model.dpt import DPT, build

SIZE = (64, 192)
BATCH = 4
EVERY = 8
"""Of the test frames, one in so many: neighbours show nearly the same."""
COLUMNS = ("seed", "image", "drive", "abs_rel")


class Street:
    """The frames of the sample that are used, in memory; every other test frame of a drive is left out."""

    def __init__(self, root: Path) -> None:
        train = KITTI.read_split(root, None, "train").frames
        test = KITTI.read_split(root, None, "test").frames[EVERY // 2 :: EVERY]
        self.names = tuple(frame.name for frame in test)
        self.drives = tuple(str(KITTI.drive_of(name)) for name in self.names)
        self.train, self.test = (TrainingData(frames, SIZE, 1024) for frames in (train, test))

    def truth(self) -> tuple[Tensor, Tensor]:
        """Test images (B3HW) and their depths (B1HW, metres)."""
        images, depths = zip(*(self.test[place, False] for place in range(len(self.test))), strict=True)
        return torch.stack(images), torch.stack(depths)

    def batches(self, seed: int, epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
        draw = random.Random(seed)
        for _ in range(epochs):
            order = draw.sample(range(len(self.train)), len(self.train))
            for first in range(0, len(order) - BATCH + 1, BATCH):
                pairs = [self.train[place, draw.random() < 0.5] for place in order[first : first + BATCH]]
                images, depths = zip(*pairs, strict=True)
                yield torch.stack(images), torch.stack(depths)


def trained(street: Street, seed: int, epochs: int) -> DPT:
    torch.manual_seed(seed)
    network = build(ModelSettings(name="dpt_tiny"))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for image, depth in street.batches(seed, epochs):
        optimizer.zero_grad()
        silog(network.depth(image), depth, trainable(depth)).backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def abs_rel(network: DPT, image_B3HW: Tensor, truth_B1HW: Tensor) -> list[float]:
    """Of every image, over its pixels that have a depth of at most 80 m."""
    predicted = torch.cat([network.depth(part) for part in image_B3HW.split(16)]).clamp(1e-3, 80.0)
    valid = trainable(truth_B1HW)
    error = ((predicted - truth_B1HW).abs() / truth_B1HW.clamp(min=1e-3)) * valid
    return [float(value) for value in error.sum((1, 2, 3)) / valid.sum((1, 2, 3))]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="a generated street, or anything in KITTI's layout")
    parser.add_argument("-o", "--output", type=Path, default=Path("trainings.csv"))
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    street = Street(options.root)
    truth = street.truth()
    done = set()
    if options.output.exists():
        with options.output.open(encoding="utf-8", newline="") as file:
            done = {int(row["seed"]) for row in csv.DictReader(file)}
    with options.output.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        if not done:
            writer.writerow(COLUMNS)
        for seed in sorted({*range(options.count)} - done):
            began = time.monotonic()
            values = abs_rel(trained(street, seed, options.epochs), *truth)
            writer.writerows(zip([seed] * len(values), street.names, street.drives, values, strict=True))
            file.flush()
            mean = sum(values) / len(values)
            sys.stdout.write(f"seed {seed}: AbsRel {mean:.4f} in {time.monotonic() - began:.1f} s\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
