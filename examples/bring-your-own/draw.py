"""`python draw.py DIR`: a garden of hedges and posts to try the example on. It is no part of the package."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 96, 128


def draw(root: Path, frames: int = 24) -> None:
    """Writes frames in three flower beds, one for each list. The further away, the paler."""
    rng = np.random.default_rng(0)
    for bed, (split, count) in enumerate({"train": frames, "val": frames // 4, "test": frames // 4}.items()):
        names = [f"bed{bed}/{number:04}" for number in range(count)]
        for name in names:
            depth = np.tile(np.linspace(18, 1.5, HEIGHT)[:, None], (1, WIDTH))
            for _ in range(rng.integers(2, 6)):
                left, metres = rng.integers(0, WIDTH - 12), rng.uniform(2, 12)
                top = int(HEIGHT * (1 - metres / 18) * 0.6)
                depth[top : int(HEIGHT * (1 - metres / 24)), left : left + rng.integers(6, 24)] = metres
            pale = depth / 20 * 200 + rng.normal(0, 6, depth.shape)
            colour = np.stack([pale * 0.8, pale + 30, pale * 0.7], axis=-1).clip(0, 255).astype(np.uint8)
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(colour).save(root / f"{name}.jpg", quality=95)
            Image.fromarray((depth * 1000).astype(np.uint16)).save(root / f"{name}.png")
        (root / f"{split}_files.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
