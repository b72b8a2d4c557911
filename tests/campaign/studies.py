"""The studies that campaigns train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.campaign.moments import Ground


@dataclass(frozen=True)
class Study:
    """Four runs that differ in their seed."""

    text: str
    seeds: tuple[int, ...]
    span: float
    """Seconds within which random kills come."""

    def write(self, ground: Ground) -> None:
        ground.study.write_text(self.text)

    def command(self, ground: Ground) -> list[str]:
        """Without retries: who was killed goes on with the next invocation, and the others are not to wait for it."""
        where = ["--runs-dir", str(ground.runs), "--db", str(ground.db)]
        how = ["--workers", str(len(self.seeds)), "--threads", "1", "--retries", "0", "--keep-going"]
        return ["run", str(ground.study), *where, *how]


def toy(root: Path, number: int) -> Study:
    seeds = tuple(range(4 * number % 2**30, 4 * number % 2**30 + 4))
    text = f"""\
study: campaign
task: toy
seeds: {list(seeds)}
base:
  sleep: 0.002
  train: {{epochs: 4, checkpoint: {{every: 2 steps}}}}
"""
    return Study(text, seeds, 0.7)


def real(root: Path, number: int) -> Study:
    """A small network on a street of eight frames, which is drawn once per campaign."""
    from ablate.depth.data.street import make_street

    street = root / "street"
    if not street.exists():
        make_street(street, frames={"train": 6, "val": 1, "test": 1}, seed=1, say=lambda text: None)
    seeds = tuple(range(4 * number % 2**30, 4 * number % 2**30 + 4))
    text = f"""\
study: campaign
seeds: {list(seeds)}
base:
  model: {{name: dpt_tiny}}
  data: {{name: kitti, root: {street}, resolution: [32, 96]}}
  train: {{epochs: 2, batch_size: 2, optimizer: adamw, lr: 1e-3, loss: silog, checkpoint: {{every: 1 steps}}}}
  eval: {{resolutions: [reduced], mask: garg, select: {{metric: abs_rel, split: val, resolution: reduced}}}}
"""
    return Study(text, seeds, 6.0)


STUDIES: Mapping[str, Callable[[Path, int], Study]] = {"toy": toy, "real": real}
