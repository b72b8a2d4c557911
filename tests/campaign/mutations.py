"""Faults put into the product on purpose, one at a time: a proof that misses any of them proves nothing."""

from __future__ import annotations

import functools
import hashlib
import io
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ablate.runs import disk

Put = Callable[[Any, str, Any], None]
"""Sets an attribute, and puts back the old one at the end."""


class _DiskWithout:
    """`ablate.runs.disk` as one module sees it, in which a call does nothing."""

    def __init__(self, missing: str) -> None:
        self._missing = missing

    def __getattr__(self, name: str) -> Any:
        return (lambda *arguments: None) if name == self._missing else getattr(disk, name)


def _no_file_sync(put: Put) -> None:
    from ablate.runs import files

    put(files, "disk", _DiskWithout("sync"))


def _no_folder_sync(put: Put) -> None:
    from ablate.runs import files

    put(files, "disk", _DiskWithout("sync_folder"))


def _no_sync_of_what_was_found(put: Put) -> None:
    """Whoever goes on after a kill relies on names that no fsync has made certain."""
    from ablate.runs import checkpoint

    put(checkpoint, "disk", _DiskWithout("sync_folder"))


def _no_journal_sync(put: Put) -> None:
    from ablate.runs import journal

    put(journal, "disk", _DiskWithout("sync_data"))


def _no_sync_before_a_checkpoint(put: Put) -> None:
    from ablate.engine.loop import Loop
    from ablate.runs.journal import Journal

    save, sync = Loop.save, Journal.sync

    def hasty(loop: Loop, **options: Any) -> None:
        Journal.sync = lambda journal: None  # type: ignore[method-assign,assignment]
        try:
            save(loop, **options)
        finally:
            Journal.sync = sync  # type: ignore[method-assign]

    put(Loop, "save", hasty)


def _no_digest_of_files(put: Put) -> None:
    from ablate.runs.checkpoint import Checkpoints

    put(Checkpoints, "verify", lambda checkpoints, manifest: None)


def _no_digest_of_the_manifest(put: Put) -> None:
    from ablate.runs import checkpoint

    put(checkpoint, "_digest", lambda manifest: "0")


def _manifest_first(put: Put) -> None:
    """The commit mark is written before what it vouches for."""
    from ablate.runs import checkpoint, files

    later: dict[Path, bytes] = {}
    write_aside, write = files.write_aside, checkpoint.Manifest.write

    def hasty(path: Path, save: Callable[[Any], None]) -> tuple[str, int]:
        if path.suffix != ".pt":
            return write_aside(path, save)
        content = io.BytesIO()
        save(content)
        later[path] = content.getvalue()
        return hashlib.sha256(content.getvalue()).hexdigest(), len(content.getvalue())

    def first(manifest: Any, path: Path) -> None:
        write(manifest, path)
        mine = [(target, content) for target, content in later.items() if target.parent == path.parent]
        later.clear()  # of a process that was killed nothing is left
        for target, content in reversed(mine):
            write_aside(target, functools.partial(_write, content))

    put(files, "write_aside", hasty)
    put(checkpoint.Manifest, "write", first)


def _write(content: bytes, file: Any) -> None:
    file.write(content)


def _no_lease(put: Put) -> None:
    from ablate.runs import lease

    put(lease, "_lock", lambda descriptor, how: True)


def _no_database_lock(put: Put) -> None:
    from ablate.results import lock

    put(lock, "_try", lambda descriptor, exclusive, deadline: True)


def _no_optimizer_state(put: Put) -> None:
    from ablate.runs.checkpoint import Checkpoints

    load = Checkpoints.load

    def forgetful(checkpoints: Checkpoints, manifest: Any, components: Mapping[str, Any]) -> None:
        load(checkpoints, manifest, {key: value for key, value in components.items() if key != "optimizer"})

    put(Checkpoints, "load", forgetful)


def _no_random_state(put: Put) -> None:
    """The noise of a step comes from a generator that begins anew in every process, not from the step's number."""
    import ablate_toy  # type: ignore[import-not-found]

    class Generators:
        shared = random.Random(0)

        def Random(self, seed: str) -> random.Random:
            return self.shared if seed.startswith("step:") else random.Random(seed)

    begin = ablate_toy.ToySession.__init__

    def beginning(session: Any, config: Any) -> None:
        Generators.shared = random.Random(0)
        begin(session, config)

    put(ablate_toy, "random", Generators())
    put(ablate_toy.ToySession, "__init__", beginning)


def _place_on_its_own(put: Put) -> None:
    """Rows, and the place in the journal that they came from, in two transactions."""
    from ablate.results import load

    def apart(connection: Any, changes: Any) -> None:
        for store in (_rows, load._store_sources):
            connection.begin()
            store(connection, changes)
            connection.commit()

    def _rows(connection: Any, changes: Any) -> None:
        load._insert(connection, "runs", [change.run for change in changes if change.run])
        load._insert(connection, "states", [change.state for change in changes if change.state])
        load._store_records(connection, changes)

    put(load, "_transaction", apart)


MUTATIONS: Mapping[str, Callable[[Put], None]] = {
    "no fsync of files": _no_file_sync,
    "no fsync of folders": _no_folder_sync,
    "no fsync of what a killed process left": _no_sync_of_what_was_found,
    "no fsync of the journal": _no_journal_sync,
    "no fsync of the journal before a checkpoint": _no_sync_before_a_checkpoint,
    "no SHA-256 of files": _no_digest_of_files,
    "no SHA-256 of the manifest": _no_digest_of_the_manifest,
    "manifest before its files": _manifest_first,
    "no optimiser state": _no_optimizer_state,
    "no random state": _no_random_state,
    "no lease": _no_lease,
    "no lock of the database": _no_database_lock,
    "rows and place in two transactions": _place_on_its_own,
}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """The product with this fault, inside this process."""
    with ExitStack() as stack:

        def put(owner: Any, attribute: str, value: Any) -> None:
            stack.callback(setattr, owner, attribute, getattr(owner, attribute))
            setattr(owner, attribute, value)

        MUTATIONS[name](put)
        yield


def apply(name: str) -> None:
    """For good: in a process of its own."""
    MUTATIONS[name](setattr)
