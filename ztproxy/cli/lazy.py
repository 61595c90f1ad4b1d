"""Commands that are known by name and help text, and imported only when resolved.

click asks a group's commands for their help when it prints a listing, completes a word or suggests a name:
a `LazyCommand` answers all of that. Resolving, the step before a command runs, replaces it by the real one.
"""

from __future__ import annotations

from importlib import import_module

import click


class LazyCommand(click.Command):
    """The name and one-line help of a command that lives elsewhere."""

    def __init__(self, name: str, target: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self.target = target
        """`<module>:<attribute>` of the real command."""

    def load(self) -> click.Command:
        """The real command.

        Raises: `TypeError` when the target is not a command.
        """
        module, _, attribute = self.target.partition(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"`{self.target}` is not a command")
        return command


class LazyGroup(click.Group):
    """A group that imports a `LazyCommand` once it is certain that this one will run."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's own, with the placeholder replaced."""
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(command, LazyCommand):
            command = command.load()
        return name, command, rest
