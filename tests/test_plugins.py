"""Bring your own: other packages, installed or in a folder, and what a study can never do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablate import plugins
from ablate.errors import StudyError, UsageError
from ablate.runs import journal
from ablate.runs.files import sha256_of
from ablate.runs.lease import holder

REPOSITORY = Path(__file__).parent.parent
EXAMPLE = REPOSITORY / "examples" / "bring-your-own"
ABLATE = [sys.executable, "-c", "from ablate.cli import main; main()"]

Write = Callable[..., Path]


def ablate(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ABLATE, *arguments], cwd=folder, capture_output=True, text=True, timeout=240, env=os.environ | env
    )


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Folders that a test adds are gone after it."""
    monkeypatch.setenv(plugins.VARIABLE, "")
    path = list(sys.path)
    yield
    sys.path[:] = path


@pytest.fixture
def folder(tmp_path: Path) -> Write:
    """Writes a folder with a pyproject.toml and one module."""

    def write(points: str, module: str = "x = 1\n", name: str = "mine") -> Path:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        (root / "pyproject.toml").write_text(f'[project]\nname = "{name}"\nversion = "2.5"\n{points}')
        (root / f"{name}_module.py").write_text(module)
        return root

    return write


ATTENTION = '[project.entry-points."ablate.attention"]\n'


def test_a_folder_says_what_it_has_and_nothing_is_imported(folder: Write) -> None:
    root = folder(ATTENTION + 'mine = "mine_module:x"\n', "raise SystemExit('imported')\n")
    plugins.add_folder(root)
    point = plugins.entries("ablate.attention")["mine"]
    found = plugins.plugin(point)
    assert (found.package, found.version, found.folder, found.kind) == ("mine", "2.5", str(root), "attention")
    assert "mine" not in plugins.entries("ablate.models")
    assert os.environ[plugins.VARIABLE] == str(root)
    plugins.add_folder(root)
    assert os.environ[plugins.VARIABLE] == str(root), "a folder given twice is one"


def test_a_folder_with_src_is_importable(folder: Write) -> None:
    root = folder(ATTENTION + 'mine = "deep:value"\n')
    (root / "src").mkdir()
    (root / "src" / "deep.py").write_text("value = 42\n")
    plugins.add_folder(root)
    assert plugins.entries("ablate.attention")["mine"].load() == 42
    sys.modules.pop("deep")


def test_an_edited_folder_has_another_digest(folder: Write) -> None:
    root = folder(ATTENTION + 'mine = "mine_module:x"\n')
    plugins.add_folder(root)
    before = plugins.source_digest("mine_module.inner")
    assert before == plugins.source_digest("mine_module")
    (root / "mine_module.py").write_text("x = 2\n")
    assert before != plugins.source_digest("mine_module")
    assert plugins.source_digest("no_such_module_anywhere") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "it has no pyproject.toml"),
        ("[project", "cannot be read"),
        ('[project]\nname = "x"\n', "has no [project.entry-points]"),
        ('[project.entry-points."console_scripts"]\na = "b:c"\n', "ablate.attention, ablate.models"),
    ],
)
def test_a_folder_without_plugins_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        plugins.add_folder(tmp_path)
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert not os.environ[plugins.VARIABLE]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.text()
    | st.text(st.sampled_from('[]."=\n project entry-points ablate.attention abc:'), max_size=60).map(
        lambda text: '[project.entry-points."ablate.attention"]\n' + text
    )
)
def test_any_pyproject_is_read_or_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8", errors="replace")
    try:
        plugins.add_folder(tmp_path)
        found = plugins.entries("ablate.attention")
    except UsageError as error:
        assert str(tmp_path) in str(error)
    else:
        assert all(isinstance(point, EntryPoint) for point in found.values())
    os.environ[plugins.VARIABLE] = ""
    plugins._entries.cache_clear()


def test_one_name_of_two_packages_is_an_error(folder: Write) -> None:
    for name in ("one", "two"):
        plugins.add_folder(folder(ATTENTION + f'same = "{name}_module:x"\n', name=name))
    with pytest.raises(UsageError, match=r"'same' is registered twice, as one_module:x and as two_module:x"):
        plugins.entries("ablate.attention")


KEYS = ["model.attention", "model.name", "data.name", "eval.select.metric"]
NAMES = ["os:system", "mine_module:x", "mine_module", "garden:NETWORK", "../mine_module.py", "builtins:eval"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", NAMES)
def test_a_study_cannot_have_anything_imported(
    key: str, name: str, folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ablate.depth.task import DepthTask
    from ablate.study import expand, load_study

    root = folder("", "raise SystemExit('imported')\n")  # it can be imported, and is registered nowhere
    monkeypatch.syspath_prepend(str(root))
    study = tmp_path / "study.yaml"
    study.write_text(f"study: s\nbase: {{{key}: '{name}'}}\n")
    before = set(sys.modules)
    with pytest.raises(StudyError) as caught:
        expand(load_study(study, {"depth": DepthTask()}), DepthTask())
    assert caught.value.key == key
    assert caught.value.line == 2
    assert not {module for module in set(sys.modules) - before if module.startswith(("mine", "garden"))}


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(KEYS), st.text(min_size=1, max_size=30))
def test_any_name_is_known_or_refused_and_imports_nothing(key: str, name: str) -> None:
    from ablate.depth.config import DepthConfig
    from ablate.study.settings import catalogue

    before = set(sys.modules)
    known = catalogue(DepthConfig)
    complaints = list(known.check(key, name))
    assert complaints or name in str(known.settings[key].info.json_schema_extra)
    assert not any(module.partition(".")[0] == name.partition(":")[0] for module in set(sys.modules) - before)


def test_a_registered_plugin_is_imported_only_by_who_names_it(folder: Write, tmp_path: Path) -> None:
    root = folder(
        "".join(
            f'[project.entry-points."ablate.{group}"]\nmine = "mine_module:x"\n'
            for group in ("attention", "models", "data", "tasks")
        ),
        "raise SystemExit('imported')\n",
    )
    (tmp_path / "toys.yaml").write_text("study: toys\ntask: toy\nbase: {train: {epochs: 1}}\n")
    assert ablate(tmp_path, "plan", "toys.yaml", "--plugins", str(root)).returncode == 0
    (tmp_path / "toys.yaml").write_text("study: toys\ntask: mine\n")
    named = ablate(tmp_path, "plan", "toys.yaml", "--plugins", str(root))
    assert "imported" in named.stderr + named.stdout
    assert named.returncode


def test_the_option_is_taken_by_every_command_before_and_after_its_name(tmp_path: Path) -> None:
    for arguments in (["ls"], ["data", "sample", "x"], ["report"], ["resume", "x"]):
        for place in ([*arguments, "--plugins", "nowhere"], ["--plugins", "nowhere", *arguments]):
            done = ablate(tmp_path, *place)
            assert done.returncode == 2
            assert f"{tmp_path / 'nowhere'}: no plug-in" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_says_how_plugins_become_known(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("study: s\nbase: {model.attention: cosine}\n")
    done = ablate(tmp_path, "plan", "s.yaml")
    assert done.returncode == 2
    assert "s.yaml:2:" in done.stderr
    assert "--plugins DIR" in done.stderr


STUDY = EXAMPLE / "study.yaml"
SHORT = ["--only", "model.attention=cosine", "--set", "train.epochs=3", "--set", "train.checkpoint.every=2 steps"]
SHORT += ["--threads", "1"]


def draw(folder: Path) -> None:
    command = [sys.executable, str(EXAMPLE / "draw.py"), "data/garden"]
    subprocess.run(command, cwd=folder, check=True, timeout=120)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The example installed as pip does it, without a network: a PYTHONPATH that has it."""
    source, target = tmp_path_factory.mktemp("source") / "package", tmp_path_factory.mktemp("target")
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    done = subprocess.run([*command, "--target", str(target), str(source)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return os.pathsep.join([str(target), os.environ["PYTHONPATH"]])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, installed: str) -> Path:
    """A folder in which the installed example was trained, undisturbed."""
    folder = tmp_path_factory.mktemp("trained")
    draw(folder)
    done = ablate(folder, "run", str(STUDY), *SHORT, PYTHONPATH=installed)
    assert done.returncode == 0, done.stderr
    return folder


def weights(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in (folder / "runs").glob("*/checkpoints/*.weights.pt")}


@pytest.mark.slow
def test_the_installed_example_is_trained_and_its_metric_is_a_column(trained: Path, installed: str) -> None:
    report = ablate(trained, "report", "garden", PYTHONPATH=installed)
    assert "≤5 % ↑" in report.stdout
    (study,) = json.loads(ablate(trained, "report", "--format", "json", PYTHONPATH=installed).stdout)["studies"]
    (run,) = (run for run in study["runs"] if run["scores"])
    assert all(0 <= score["metrics"]["within_5"] <= 1 for score in run["scores"])
    shown = json.loads(ablate(trained, "show", run["run_id"], "--json", PYTHONPATH=installed).stdout)
    *_, attempt = shown["attempts"]
    found = {(one["group"], one["name"]): (one["package"], one["version"]) for one in attempt["facts"]["plugins"]}
    groups = [("attention", "cosine"), ("models", "dpt_garden"), ("data", "garden"), ("metrics", "within_5")]
    assert found == {(f"ablate.{group}", name): ("ablate-garden", "0.1") for group, name in groups}
    assert (
        "attention cosine of ablate-garden 0.1" in ablate(trained, "show", run["run_id"], PYTHONPATH=installed).stdout
    )


@pytest.mark.slow
def test_a_folder_killed_and_gone_on_with_is_the_installed_one_bit_for_bit(tmp_path: Path, trained: Path) -> None:
    draw(tmp_path)
    command = ["run", str(STUDY), *SHORT, "--plugins", str(EXAMPLE)]
    process = subprocess.Popen(
        [*ABLATE, *command], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    wait_until(lambda: any((tmp_path / "runs").glob("*/checkpoints/000002.json")), process)
    (name,) = (path.parent.name for path in (tmp_path / "runs").glob("*/run.json"))
    os.kill(next(journal.read(tmp_path / "runs" / name / "journal.jsonl")).record.body["pid"], signal.SIGKILL)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_until_free(tmp_path / "runs" / name)
    assert "complete" not in ablate(tmp_path, "ls").stdout

    refused = ablate(tmp_path, "resume", name)
    assert refused.returncode == 2
    assert f"{name}: needs the attention 'cosine' of the package ablate-garden 0.1, which is not here" in refused.stderr
    assert f"--plugins (it was {EXAMPLE})" in refused.stderr

    done = ablate(tmp_path, "resume", name, "--plugins", str(EXAMPLE))
    assert done.returncode == 0, done.stderr
    assert weights(tmp_path) == weights(trained)
    assert weights(trained)
    numbers = [
        json.loads(ablate(folder, "show", name, "--json").stdout)["evaluations"] for folder in (tmp_path, trained)
    ]
    assert numbers[0] == numbers[1]
    assert all("within_5" in row["metrics"] for row in numbers[0])


@pytest.mark.slow
def test_the_checks_know_the_data_set_of_the_example(tmp_path: Path) -> None:
    from PIL import Image

    draw(tmp_path)
    bad = tmp_path / "data" / "garden" / "bed0" / "0003.png"
    with Image.open(bad) as image:
        eight = image.point(lambda value: value / 1000).convert("L")
    eight.save(bad)
    done = ablate(tmp_path, "run", str(STUDY), *SHORT, "--plugins", str(EXAMPLE))
    assert done.returncode == 2
    assert "bed0/0003.png" in done.stderr
    assert "16-bit" in done.stderr
    assert not list(tmp_path.glob("runs/*/run.json"))


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.02)


def wait_until_free(run: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while holder(run / "lease.lock") is not None:
        assert time.monotonic() < end
        time.sleep(0.1)
