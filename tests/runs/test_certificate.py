"""Certificates come back as they were written; anything else is refused by name."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.errors import RecordError
from ablate.runs.certificate import Certificate, read_certificate, write_certificate
from ablate.runs.paths import RunPaths

WHOLE: dict[str, Any] = {
    "identical": True, "kills": 20, "resumes": 20, "runs": 3, "steps": 20, "seed": 0, "evaluated": True,
    "weights": "a" * 64, "metrics": "b" * 64, "differences": (), "nondeterministic": (), "device": "cpu",
    "threads": 2, "processor": "AMD EPYC", "versions": {"torch": "2.14.1"}, "commit": None, "seconds": 1.5,
    "made": 1e9,
}  # fmt: skip


def test_a_certificate_comes_back(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    assert read_certificate(paths) is None
    write_certificate(paths, Certificate(**WHOLE))
    assert read_certificate(paths) == Certificate(**WHOLE)


def test_sentences() -> None:
    assert Certificate(**WHOLE).sentence == (
        "verified: 20 kills, bit-identical (20 steps, cpu, 2 threads, torch 2.14.1)"
    )
    other = {"identical": False, "kills": 1, "differences": ("SHA-256 of the weights",), "evaluated": False}
    assert Certificate(**WHOLE | other | {"nondeterministic": ("scatter_cuda",), "versions": {}}).sentence == (
        "verified: 1 kill, NOT bit-identical (SHA-256 of the weights) (20 steps, cpu, 2 threads, without evaluation); "
        "not deterministic: scatter_cuda"
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(WHOLE)), json_values)
def test_what_is_not_a_certificate_is_refused_or_means_what_it_says(key: str, value: Any) -> None:
    with TemporaryDirectory() as folder:
        paths = RunPaths(Path(folder))
        content = asdict(Certificate(**WHOLE)) | {key: value}
        paths.certificate.write_text(json.dumps(content))
        try:
            found = read_certificate(paths)
        except RecordError as error:
            assert str(paths.certificate) in str(error)
        else:
            assert isinstance(found, Certificate)
            assert isinstance(found.sentence, str)


@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        paths = RunPaths(Path(folder))
        paths.certificate.write_bytes(data)
        with pytest.raises(RecordError, match=r"certificate\.json"):
            read_certificate(paths)


def test_a_link_is_refused(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    (tmp_path / "elsewhere").write_text("{}")
    paths.certificate.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecordError, match="symbolic link"):
        read_certificate(paths)
