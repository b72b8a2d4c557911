"""`ablate report`: the tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ablate.cli import options
from ablate.cli.options import DEFAULT_DB, DEFAULT_RUNS

Selectors = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SELECTOR]...",
        help="Studies (name or file), runs (start of id or name), axis=value, status=…, tag=…; all if none.",
        show_default=False,
    ),
]
Format = Annotated[str, typer.Option("--format", metavar="md|latex|csv|json|html", help="What to print.")]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Write to this file; `-` is stdout as it is.", show_default=False),
]
Lang = Annotated[str, typer.Option("--lang", metavar="en|es", help="The language of headings and names.")]
Style = Annotated[
    str | None,
    typer.Option(
        "--style",
        metavar="progress|table",
        help="`progress`: a section per run below the tables; default, but on a terminal `table`.",
        show_default=False,
    ),
]
Metrics = Annotated[
    list[str] | None, typer.Option("--metric", metavar="NAME", help="Only these metrics; may be repeated.")
]
Columns = Annotated[
    list[str] | None, typer.Option("--columns", metavar="A,B,…", help="Only these columns, in this order.")
]
Sort = Annotated[
    str | None,
    typer.Option("--sort", metavar="COLUMN", help="A metric, best first, or any column; `-NAME`: the other way."),
]
GroupBy = Annotated[str | None, typer.Option("--group-by", metavar="AXIS", help="A table for each value of an axis.")]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="AXIS=VALUE", help="Only the runs with this setting; may be repeated."),
]
Figures = Annotated[
    bool, typer.Option("--figures/--no-figures", help="Draw pictures for a Markdown file, into a folder beside it.")
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Write the page again and again while runs train; with --format html and -o.")
]
Every = Annotated[float, typer.Option("--every", help="Seconds between two versions of a watched page.")]


def report(
    selectors: Selectors = None,
    form: Format = "md",
    output: Output = None,
    lang: Lang = "en",
    style: Style = None,
    metric: Metrics = None,
    columns: Columns = None,
    sort: Sort = None,
    group_by: GroupBy = None,
    only: Only = None,
    figures: Figures = True,
    watch: Watch = False,
    every: Every = 5.0,
    db: options.Db = DEFAULT_DB,
    runs_dir: options.Runs = DEFAULT_RUNS,
) -> None:
    """Print the results: one row per run, all numbers of a row from one checkpoint.

    `--format html` makes one page with charts, pictures and a page for each run, which sorts and filters by itself;
    `--watch` writes it again while runs train.

    Example: ablate report quickstart --sort abs_rel --only model.attention=standard,performer
    """
    from ablate.cli.console import emit, say
    from ablate.cli.tables import filters, tables
    from ablate.cli.terminal import show_markdown
    from ablate.report.options import Options, split_names

    if form == "html" or watch:
        from ablate.cli.pages import print_page, refuse_options

        given = {"--lang": lang != "en", "--style": style, "--metric": metric, "--columns": columns}
        refuse_options({**given, "--sort": sort, "--group-by": group_by})
        words = [*(selectors or ()), *filters(only)]
        print_page(words, form, output, every if watch else None, db, runs_dir)
        return
    drawn = form == "md" and output is None and sys.stdout.isatty()
    style = style or ("table" if drawn else "progress")
    wanted = Options(lang, style, split_names(columns), split_names(metric), sort or None, group_by or None)
    drawn_into = None
    if figures and form == "md" and output is not None and str(output) != "-":
        drawn_into = output.with_name(f"{output.stem}.figures")
    chosen = [*(selectors or ()), *filters(only)]
    text, summaries, freshness = tables(chosen, form, wanted, db, runs_dir, drawn_into)
    say(freshness)
    if not summaries and selectors:
        say("no run fits")
    if drawn:
        show_markdown(text)
    elif output is None or str(output) == "-":
        emit(text)
    else:
        output.write_text(text, encoding="utf-8")
        say(f"written to {output}")
