"""`train.compile` with the backend that users get: generated C++, built by the compiler of this machine."""

from __future__ import annotations

import io
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ablate.depth.config import DepthConfig
from ablate.depth.session import DepthSession
from ablate.task import Placement, Position

MODEL = {"name": "dpt_tiny", "taps": [0, 1]}
"""Of two blocks: less to compile."""


@pytest.fixture(autouse=True)
def _torch_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "generated"))
    monkeypatch.setenv("TORCHINDUCTOR_DEBUG_COMPILE", "1")  # -O0: what is tested is not how fast it is
    yield
    torch.compiler.reset()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def opened(settings: dict[str, Any], *, compiled: bool) -> DepthSession:
    train = {**settings["train"], "batch_size": 1, "steps_per_epoch": 3, "compile": compiled}
    return DepthSession(DepthConfig.model_validate({**settings, "model": MODEL, "train": train}), Placement())


def losses(session: DepthSession, first: int, last: int) -> list[float]:
    batches = itertools.islice(session.batches(1, first), last - first)
    return [session.step(batch, Position(0, 1, step)).loss for step, batch in enumerate(batches, start=first)]


def saved(session: DepthSession) -> dict[str, bytes]:
    files = {}
    for name, component in session.components.items():
        file = io.BytesIO()
        component.save(file)
        files[name] = file.getvalue()
    return files


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute of compiling, more where others compute too
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile generates C++ for a CPU, and there is no g++ here")
@pytest.mark.filterwarnings("ignore")  # torch's own, about what it compiles with
def test_a_compiled_network_trains_and_resumes_as_any_other(settings: dict[str, Any]) -> None:
    """Its checkpoints are those of a network that is not compiled; a resume under it is the same bit for bit."""
    compiled, plain = opened(settings, compiled=True), opened(settings, compiled=False)
    assert losses(compiled, 0, 2) == pytest.approx(losses(plain, 0, 2), rel=1e-3)
    assert compiled._model.state_dict().keys() == plain._model.state_dict().keys()
    assert not [key for key in compiled._model.state_dict() if "_orig_mod" in key]
    files = saved(compiled)
    resumed = opened(settings, compiled=True)
    for name, content in files.items():
        resumed.components[name].load(io.BytesIO(content))
        plain.components[name].load(io.BytesIO(content))
    assert losses(resumed, 2, 3) == losses(compiled, 2, 3)
    assert saved(resumed) == saved(compiled)
