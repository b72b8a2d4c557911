"""`ablate score`: predictions as files, whatever made them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from ablate.depth.scoring import FolderScore


def score(
    predictions: Annotated[Path, typer.Argument(metavar="PRED_DIR", help="A folder of 16-bit PNGs.")],
    truths: Annotated[Path, typer.Argument(metavar="GT_DIR", help="The ground truth, in the data set's layout.")],
    dataset: Annotated[Literal["kitti", "nyu"], typer.Option(help="Whose names, units and protocol.")] = "kitti",
    mask: Annotated[
        Literal["garg", "eigen", "none"] | None,
        typer.Option(help="Which pixels are scored. Default: garg for kitti, eigen for nyu.", show_default=False),
    ] = None,
    kb_crop: Annotated[bool, typer.Option("--kb-crop", help="Predictions cover KITTI's benchmark crop.")] = False,
    min_depth: Annotated[float | None, typer.Option(help="Metres. Default: 0.001.", show_default=False)] = None,
    max_depth: Annotated[
        float | None, typer.Option(help="Metres. Default: 80 for kitti, 10 for nyu.", show_default=False)
    ] = None,
    form: Annotated[Literal["md", "json", "csv"], typer.Option("--format", help="What to print.")] = "md",
    per_image: Annotated[bool, typer.Option("--per-image", help="A row for each image; JSON always has them.")] = False,
) -> None:
    """Score depth maps against ground truth as the published evaluator does (BTS's eval_with_pngs.py).

    Example: ablate score output_monodepth data/kitti/data_depth_annotated --kb-crop --mask garg
    """
    from ablate.cli.console import emit, say
    from ablate.depth.scoring import rules, score_folder, unscored

    protocol, chosen = rules(dataset, mask, kb_crop=kb_crop, min_depth=min_depth, max_depth=max_depth)
    result = score_folder(predictions, truths, protocol, chosen)
    for line in unscored(result):
        say(line)
    emit({"md": _markdown, "json": _json, "csv": _csv}[form](result, per_image))


def _json(result: FolderScore, per_image: bool) -> str:
    return json.dumps(
        {
            "mean": dict(result.mean),
            "images": [{"file": image.file, **image.metrics} for image in result.images],
            "scored": len(result.images),
            "skipped": len(result.skipped),
        },
        indent=1,
        ensure_ascii=False,
    )


def _csv(result: FolderScore, per_image: bool) -> str:
    from ablate.report.tabular import safe

    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["file", *result.mean])
    for image in result.images if per_image else ():
        table.writerow([safe(image.file), *(safe(image.metrics[key]) for key in result.mean)])
    table.writerow(["mean", *(safe(value) for value in result.mean.values())])
    return out.getvalue()


def _markdown(result: FolderScore, per_image: bool) -> str:
    from tabulate import tabulate

    from ablate.report.markdown import escape

    arrows = {"max": "↑", "min": "↓"}
    headers = ["File", *(f"{escape(metric.header)} {arrows[metric.better]}" for metric in result.metrics)]
    rows = [[escape(image.file), *_rounded(image.metrics.values())] for image in result.images if per_image]
    rows.append([f"mean of {len(result.images)}", *_rounded(result.mean.values())])
    align = ["left", *["center"] * len(result.mean)]
    table = tabulate(rows, headers=headers, tablefmt="pipe", colalign=align, disable_numparse=True)
    said = [f"{len(result.images)} scored, {len(result.skipped)} skipped"]
    said += [f"{key} {value}" for key, value in result.protocol.items()]
    return f"{', '.join(said)}\n\n{table}"


def _rounded(values: Iterable[float]) -> list[str]:
    return [f"{value:.3f}" for value in values]
