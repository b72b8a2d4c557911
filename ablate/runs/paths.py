"""One object owns every path of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """The files of the run directory `root`; `docs/architecture.md` says what each is."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def identity(self) -> Path:
        return self.root / "run.json"

    @property
    def config(self) -> Path:
        return self.root / "config.json"

    @property
    def journal(self) -> Path:
        return self.root / "journal.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def panels(self) -> Path:
        """Pictures of a few images, of the epochs that are kept."""
        return self.root / "panels"

    @property
    def outcome(self) -> Path:
        return self.root / "outcome.json"

    @property
    def progress(self) -> Path:
        return self.root / "progress.json"

    @property
    def lease(self) -> Path:
        return self.root / "lease.lock"

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    @property
    def certificate(self) -> Path:
        """What `ablate verify` found."""
        return self.root / "certificate.json"

    @property
    def notes(self) -> Path:
        """What people wrote about the run."""
        return self.root / "notes.json"

    @property
    def notes_lock(self) -> Path:
        return self.root / "notes.lock"

    @property
    def mirror(self) -> Path:
        """What wandb has of the run."""
        return self.root / "wandb.json"

    @property
    def mirror_lock(self) -> Path:
        """Held by the process that sends to wandb."""
        return self.root / "wandb.lock"

    @property
    def mirror_log(self) -> Path:
        return self.root / "wandb.log"


@dataclass(frozen=True)
class RunsDir:
    """The folder that holds all runs."""

    root: Path

    @property
    def studies(self) -> Path:
        return self.root / "studies"

    def study(self, name: str) -> Path:
        return self.studies / f"{name}.json"

    def study_lease(self, name: str) -> Path:
        return self.studies / f"{name}.lock"

    @property
    def cache(self) -> Path:
        """What tasks remember between runs; may be deleted at any time."""
        return self.root / ".cache"

    def runs(self) -> list[RunPaths]:
        """All run directories, by name. A folder without run.json is not one."""
        folders = [self.root / name for name in self.names()]
        return [RunPaths(folder) for folder in folders if not folder.is_symlink() and (folder / "run.json").is_file()]

    def names(self) -> list[str]:
        """What lies here and may be a run, sorted; nothing is looked into."""
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if not path.name.startswith("."))

    def run(self, name: str) -> RunPaths:
        return RunPaths(self.root / name)
