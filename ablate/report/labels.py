"""The words of a report, in English and in Spanish. Spanish keeps the words that the progress log itself has in English.

Names (runs, settings, metrics, splits) and the sentences that other modules find are the same in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ablate.errors import UsageError


@dataclass(frozen=True)
class Labels:
    """Texts with `{}` fields are templates; `headers`, `protocol`, `states` and `sizes` are by the name they stand for."""

    headers: Mapping[str, str]
    protocol: Mapping[str, str]
    states: Mapping[str, str]
    sizes: Mapping[str, str]
    """As they stand within a sentence."""
    outside: str
    as_reported: str
    selected: str
    how_selected: str
    last: str
    last_is_selected: str
    nothing: str
    pictures: str
    output: str
    split: str
    images: str
    one_image: str
    skipped: str
    is_state: str
    not_stated: str
    note: str
    tags: str
    external: str
    unknown: str
    and_more: str
    none_recorded: str
    different_splits: str
    different_images: str
    different_protocol: str
    left_out: str
    one_left_out: str
    weights: str
    wandb: str
    notes: str
    reported: str
    state: str
    epoch_of: str
    epochs: str
    one_epoch: str
    epochs_of: str
    images_per_epoch: str
    best_and_second: str
    never_best: str

    def header(self, name: str) -> str:
        """Of a column that is neither a metric nor an axis; entries of a protocol by their own name."""
        if name.startswith("protocol."):
            entry = name.removeprefix("protocol.")
            return _first_upper(self.protocol.get(entry, entry.replace("_", " ")))
        return self.headers[name]

    def rule(self, entry: str) -> str:
        """An entry of a protocol, within a sentence."""
        return self.protocol.get(entry, entry.replace("_", " "))

    def size(self, resolution: str) -> str:
        return self.sizes.get(resolution, resolution)


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


EN = Labels(
    headers={
        "study": "Study", "run_id": "Run id", "run": "Run", "seed": "Seed", "status": "State", "reason": "Reason",
        "checkpoint": "Checkpoint", "epoch": "Epoch", "last_epoch": "Last epoch", "split": "Split",
        "resolution": "Size", "images": "Images", "skipped": "Skipped", "loss": "Loss", "data": "Data",
        "external": "From", "tags": "Tags",
    },
    protocol={
        "network_input": "network input", "crop": "crop", "mask": "mask", "cap": "cap", "resize": "resize",
        "alignment": "alignment", "flip": "flip", "labels": "labels",
    },
    states={
        "complete": "complete", "failed": "failed", "paused": "paused", "running": "running", "queued": "queued",
    },
    sizes={"full": "full size", "reduced": "reduced size"},
    outside="Runs outside any study",
    as_reported="As reported",
    selected="Selected epoch",
    how_selected="best {metric} on {split}, {size}",
    last="Last epoch",
    last_is_selected="The last epoch is the selected one in every run.",
    nothing="Nothing has been evaluated yet.",
    pictures="Pictures",
    output="Output ({size} size)",
    split="{split} split",
    images="{count} images",
    one_image="1 image",
    skipped="{count} skipped",
    is_state="{run} is {state}",
    not_stated="not stated: {what}",
    note="note {number}: {text}",
    tags="tags: {tags}",
    external="external",
    unknown="unknown",
    and_more="{names} and {count} more",
    none_recorded="not recorded",
    different_splits="scored on different splits: {who}",
    different_images="scored on different numbers of images: {who}",
    different_protocol="protocol differs in {entry}: {who}",
    left_out="{run}: {count} images without a valid pixel left out",
    one_left_out="{run}: 1 image without a valid pixel left out",
    weights="Weights",
    wandb="Wandb",
    notes="Notes",
    reported="Reported",
    state="State",
    epoch_of="epoch {epoch} of {last}",
    epochs="{count} epochs",
    one_epoch="1 epoch",
    epochs_of="{count} of {planned} epochs",
    images_per_epoch="{count} images per epoch",
    best_and_second="Best value bold, second underlined",
    never_best="runs that are not complete are never marked",
)  # fmt: skip

ES = Labels(
    headers={
        "study": "Estudio", "run_id": "Id", "run": "Modelo", "seed": "Semilla", "status": "Estado", "reason": "Motivo",
        "checkpoint": "Checkpoint", "epoch": "Epoch", "last_epoch": "Última epoch", "split": "Partición",
        "resolution": "Tamaño", "images": "Imágenes", "skipped": "Omitidas", "loss": "Pérdida", "data": "Datos",
        "external": "Origen", "tags": "Etiquetas",
    },
    protocol={
        "network_input": "entrada de la red", "crop": "recorte", "mask": "máscara", "cap": "límites",
        "resize": "redimensionado", "alignment": "alineación", "flip": "reflejo", "labels": "anotaciones",
    },
    states={
        "complete": "completo", "failed": "fallido", "paused": "en pausa", "running": "en curso", "queued": "en cola",
    },
    sizes={"full": "tamaño completo", "reduced": "tamaño reducido"},
    outside="Entrenamientos fuera de todo estudio",
    as_reported="Tal como se anotó",
    selected="Epoch seleccionada",
    how_selected="mejor {metric} en {split}, {size}",
    last="Última epoch",
    last_is_selected="La última epoch es la seleccionada en todos los casos.",
    nothing="Todavía no se ha evaluado nada.",
    pictures="Imágenes",
    output="Output ({size} size)",
    split="partición {split}",
    images="{count} imágenes",
    one_image="1 imagen",
    skipped="{count} omitidas",
    is_state="{run}: {state}",
    not_stated="no consta: {what}",
    note="nota {number}: {text}",
    tags="etiquetas: {tags}",
    external="externo",
    unknown="desconocido",
    and_more="{names} y {count} más",
    none_recorded="sin registrar",
    different_splits="evaluados en particiones distintas: {who}",
    different_images="evaluados con distinto número de imágenes: {who}",
    different_protocol="el protocolo difiere en {entry}: {who}",
    left_out="{run}: {count} imágenes sin ningún píxel válido quedan fuera",
    one_left_out="{run}: 1 imagen sin ningún píxel válido queda fuera",
    weights="Pesos",
    wandb="Wandb",
    notes="Notas",
    reported="Resultados",
    state="Estado",
    epoch_of="epoch {epoch} de {last}",
    epochs="{count} epochs",
    one_epoch="1 epoch",
    epochs_of="{count} de {planned} epochs",
    images_per_epoch="{count} imágenes por epoch",
    best_and_second="El mejor valor en negrita, el segundo subrayado",
    never_best="lo que no está completo no se marca",
)  # fmt: skip

_CATALOGUE: Mapping[str, Labels] = {"en": EN, "es": ES}
LANGUAGES = tuple(_CATALOGUE)


def labels(lang: str) -> Labels:
    """Raises UsageError for a language that there is not."""
    if lang not in _CATALOGUE:
        raise UsageError(f"--lang {lang!r}: expected one of {', '.join(LANGUAGES)}")
    return _CATALOGUE[lang]
