"""`python -m tests.campaign kill|power|contention|ci`: exits with 1 if anything was lost, doubled, different or broken."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from tests.campaign import contention, cuts, power
from tests.campaign import kill as kills
from tests.campaign.observe import Findings

_SHOWN = 10
"""Findings of a kind that are printed."""


def say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def table(rows: Sequence[tuple[str, object]]) -> None:
    for name, value in rows:
        say(f"  {name:<34} {value}")


def show_findings(findings: Findings) -> None:
    table([(kind, len(found)) for kind, found in findings])
    for kind, found in findings:
        for text in found[:_SHOWN]:
            say(f"    {kind.upper()}: {text}")


def bound(tries: int) -> str:
    """With no failure in n independent tries, the rate is below 3/n with 95% confidence (the rule of three)."""
    return f"{3 / tries:.4%} (3/{tries})" if tries else "none"


def kill(options: argparse.Namespace) -> bool:
    """Whether all is well."""
    campaign = kills.Campaign(options.task, options.seed, tell=lambda text: print(f"  … {text}", file=sys.stderr))
    figures = campaign.run(kills=options.kills, minutes=options.minutes, cover=options.cover)
    say(f"kill: {figures.kills} kills of processes that held a lease, task {options.task}, seed {options.seed}")
    by_role = ", ".join(f"{role} {count}" for role, count in figures.roles.most_common())
    table(
        [
            ("kills", f"{figures.kills} ({by_role}; {figures.random_kills} at random moments)"),
            ("kills without a lease, not counted", figures.without_lease),
            ("named moments", f"{len(figures.hits)}, hit {sum(figures.hits.values())} times in all"),
            (f"named moments hit fewer than {kills.ENOUGH} times", len(figures.rare)),
            ("resumes", figures.resumes),
            ("runs completed and compared", figures.runs),
            ("rivals started for a run", figures.rivals),
            ("acknowledged epochs", figures.acknowledged_epochs),
            ("acknowledged records", figures.acknowledged_records),
            ("seconds", f"{figures.seconds:.0f}"),
            ("kills a minute", f"{60 * figures.kills / max(figures.seconds, 1e-9):.0f}"),
            ("bound on failures a kill (95%)", "none" if figures.findings else bound(figures.kills)),
        ]
    )
    show_findings(figures.findings)
    for moment in figures.rare if options.cover else ():
        say(f"    RARE: {figures.hits[moment]} x {moment}")
    if options.moments:
        for moment, hits in sorted(figures.hits.items()):
            say(f"    {hits:6} x {moment}")
    return not figures.findings and not (options.strict and figures.rare)


def simulate(options: argparse.Namespace) -> bool:
    simulation = power.Simulation(options.seed)
    resumed = options.states // 25 if options.resumed is None else options.resumed
    figures = simulation.run(options.states, resumed=resumed, ingested=min(options.ingested, options.states // 4))
    say(f"power: {figures.states['all']} states of the disk after a simulated cut, seed {options.seed}")
    table(
        [
            ("recorded runs", f"{figures.recordings}, {figures.operations} operations on files"),
            ("states trained to their end", figures.states["resumed"]),
            ("states taken into the database", figures.states["ingested"]),
            ("states damaged on top", figures.states["damaged"]),
            ("seconds", f"{figures.seconds:.0f}"),
            ("bound on failures a state (95%)", "none" if figures.findings else bound(figures.states["all"])),
        ]
    )
    show_findings(figures.findings)
    return not figures.findings


def cut(options: argparse.Namespace) -> bool:
    figures = cuts.in_own_process(options.cuts, options.seed)
    if "skipped" in figures:
        say("power: " + "!" * 60)
        say(f"power: REAL POWER CUTS SKIPPED, none of the {options.cuts} was made: {figures['skipped']}")
        say("power: " + "!" * 60)
        return True
    findings = Findings(**figures.pop("findings"))
    say(f"power: {figures['cuts']} real cuts of a loop-mounted ext4 image, seed {options.seed}")
    table(
        [
            ("cuts while runs were training", figures["while_training"]),
            ("unsynced canary files lost", f"{figures['canaries_lost']} of {figures['cuts']}"),
            ("runs completed and compared", figures["runs"]),
            ("acknowledged records", figures["acknowledged_records"]),
            ("seconds", f"{figures['seconds']:.0f}"),
        ]
    )
    show_findings(findings)
    if not figures["canaries_lost"]:
        say("    BROKEN: no canary was ever lost, so these were no power cuts")
    return not findings and bool(figures["canaries_lost"])


def both_powers(options: argparse.Namespace) -> bool:
    well = simulate(options) if options.states else True
    return (cut(options) if options.cuts else True) and well


def contend(options: argparse.Namespace) -> bool:
    import duckdb

    figures = contention.contend(options.seconds)
    say(
        f"contention: {contention.WRITERS} writers and {contention.READERS} readers for {options.seconds:g} s, "
        f"DuckDB {duckdb.__version__}"
    )
    table(
        [
            ("acknowledged rows", figures.acknowledged),
            ("ingests", f"{figures.ingests}, and {figures.busy} that left it to another process"),
            ("reports", len(figures.reports)),
            ("report, p50 and p99 (s)", f"{figures.percentile(0.5):.2f}, {figures.percentile(0.99):.2f}"),
        ]
    )
    show_findings(figures.findings)
    return not figures.findings


def ci(options: argparse.Namespace) -> bool:
    """What CI runs: the sizes that the README and docs/reliability.md name."""
    seed = ["--seed", str(options.seed)]
    stages: list[tuple[Callable[[argparse.Namespace], bool], list[str]]] = [
        (kill, ["kill", "--kills", "300", "--cover", "--minutes", "5", *seed]),
        (kill, ["kill", "--task", "real", "--kills", "10", "--minutes", "5", *seed]),
        (both_powers, ["power", "--states", "10000", "--cuts", "20", *seed]),
        (contend, ["contention", "--seconds", "20"]),
    ]
    well = True
    for stage, arguments in stages:
        began = time.monotonic()
        say(f"$ python -m tests.campaign {' '.join(arguments)}")
        well = stage(parser().parse_args(arguments)) and well
        say(f"  {'took':<34} {time.monotonic() - began:.0f} s\n")
    return well


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="tests.campaign", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    one = _command(commands, "kill", kill, "SIGKILL at random and at named moments; every run resumed and compared")
    one.add_argument("--minutes", type=float, help="stop after so long")
    one.add_argument("--kills", type=int, help="stop after so many kills of processes that held a lease")
    one.add_argument("--cover", action="store_true", help="go on until each named moment was hit five times")
    one.add_argument("--strict", action="store_true", help="fail if one was not")
    one.add_argument("--task", choices=("toy", "real"), default="toy")
    one.add_argument("--moments", action="store_true", help="list the named moments, and how often each was hit")
    one = _command(commands, "power", both_powers, "simulated and real power cuts")
    one.add_argument("--states", type=int, default=10_000, help="simulated states of the disk")
    one.add_argument("--resumed", type=int, help="of these, trained to their end (default: one in 25)")
    one.add_argument("--ingested", type=int, default=300, help="of these, taken into a database")
    one.add_argument("--cuts", type=int, default=20, help="real cuts of a loop-mounted ext4 image")
    one = _command(commands, "contention", contend, "eight writers and four readers at one database")
    one.add_argument("--seconds", type=float, default=60.0)
    _command(commands, "ci", ci, "all of these, in the sizes that CI runs")
    return top


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], bool],
    text: str,
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    command.add_argument("--seed", type=int, default=0, help="the same seed draws the same moments")
    return command


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    if options.run is kill and options.kills is None and options.minutes is None:
        parser().error("kill needs --minutes, --kills or both")
    return 0 if options.run(options) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
