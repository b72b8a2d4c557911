"""Options of `ablate` itself that are taken after the name of a command too: `ablate run STUDY --plugins DIR`."""

from __future__ import annotations

from copy import copy
from typing import Any

from typer.core import TyperGroup

ANYWHERE = ("--plugins",)


class Group(TyperGroup):
    """The root: every command below it, groups included, takes the options named in `ANYWHERE`.

    They act by their callbacks alone, so no command has a parameter for them.
    """

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        shared = [option for option in self.params if set(option.opts) & set(ANYWHERE)]
        if command is not None:
            _give(command, shared)
        return command


def _give(command: Any, shared: list[Any]) -> None:
    if isinstance(command, TyperGroup):
        for inner in command.commands.values():
            _give(inner, shared)
        return
    known = {name for option in command.params for name in option.opts}
    for option in shared:
        if not known & set(option.opts):
            mine = copy(option)
            mine.expose_value = False
            command.params.append(mine)
