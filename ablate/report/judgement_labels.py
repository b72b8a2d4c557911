"""The headings and columns of what may be concluded, in English and in Spanish; verdicts themselves stay English."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class JudgementLabels:
    """Texts with `{}` fields are templates; `costs` and `estimands` are by the name they stand for."""

    title: str
    about: str
    arms: str
    arm: str
    failed: str
    costs: Mapping[str, str]
    estimands: Mapping[str, str]
    not_comparable: str
    imported_pairs: str
    unknown_of_all: str
    others: str
    comparison: str
    against: str
    main_effects: str
    effect_columns: tuple[str, ...]
    interaction: str
    interval: str
    outside_grid: str
    cut_short: str
    pareto: str
    best: str
    no_value: str
    detectable: str
    with_seeds: str
    more: str


EN = JudgementLabels(
    title="What may be concluded",
    about="Verdicts are about {metric} ({split} split, {size}, selected epoch); compared: {estimand}.",
    arms="Arms, mean ± standard deviation over seeds (seeds that have a result)",
    arm="arm",
    failed="failed",
    costs={"images_per_second": "images/s", "peak_memory_mb": "peak MiB", "parameters": "parameters"},
    estimands={},
    not_comparable="Not comparable",
    imported_pairs="Pairs with imported runs",
    unknown_of_all="unknown of all these, so that they may differ in it: {what}",
    others="Other metrics, described without a claim: difference (95 % interval)",
    comparison="comparison",
    against="{arm} against {baseline}",
    main_effects="Main effects on {metric}, against the mean of all values",
    effect_columns=("axis", "value", "mean", "effect", "95 % interval", "arms", "runs"),
    interaction="Interaction of {rows} and {columns}",
    interval="95 % interval",
    outside_grid="{name}: not in a balanced grid, so left out: {who}",
    cut_short="{name}: the search was cut short; a larger balanced grid may exist",
    pareto="Pareto front",
    best="no other arm is better in all of {columns} at once: {who}",
    no_value="left out, for want of a value: {who}",
    detectable="Smallest difference in {metric} that this study can show (power 0.8): {found}.",
    with_seeds="{smallest} with {seeds} seeds",
    more="and {count} more, in the JSON report",
)

ES = JudgementLabels(
    title="Qué se puede concluir",
    about="Los veredictos son sobre {metric} (partición {split}, {size}, epoch seleccionada); comparación: {estimand}.",
    arms="Variantes, media ± desviación típica entre semillas (semillas con resultado)",
    arm="variante",
    failed="fallidos",
    costs={"images_per_second": "imágenes/s", "peak_memory_mb": "pico MiB", "parameters": "parámetros"},
    estimands={"matched": "solo difiere el factor (matched)"},
    not_comparable="No comparables",
    imported_pairs="Pares con entrenamientos importados",
    unknown_of_all="no consta en ninguno, así que pueden diferir en ello: {what}",
    others="Otras métricas, descritas sin veredicto: diferencia (intervalo del 95 %)",
    comparison="comparación",
    against="{arm} frente a {baseline}",
    main_effects="Efectos principales en {metric}, respecto a la media de todos los valores",
    effect_columns=("eje", "valor", "media", "efecto", "intervalo del 95 %", "variantes", "entrenamientos"),
    interaction="Interacción de {rows} y {columns}",
    interval="intervalo del 95 %",
    outside_grid="{name}: fuera de toda rejilla equilibrada, y por tanto omitidas: {who}",
    cut_short="{name}: la búsqueda se cortó; puede haber una rejilla equilibrada mayor",
    pareto="Frente de Pareto",
    best="ninguna otra variante es mejor en {columns} a la vez: {who}",
    no_value="omitidas, por falta de un valor: {who}",
    detectable="Menor diferencia en {metric} que este estudio puede mostrar (potencia 0.8): {found}.",
    with_seeds="{smallest} con {seeds} semillas",
    more="y {count} más, en el informe JSON",
)

_CATALOGUE: Mapping[str, JudgementLabels] = {"en": EN, "es": ES}


def judgement_labels(lang: str) -> JudgementLabels:
    """Of a language that `labels.labels` knows."""
    return _CATALOGUE[lang]
