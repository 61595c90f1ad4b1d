"""What the checks collect: problems that stop the start, warnings that do not."""

from __future__ import annotations

from ztproxy.config.document import Place
from ztproxy.config.keys import closest
from ztproxy.config.models import Config
from ztproxy.errors import Problem


class Findings:
    """Everything the cross-checks have to say about one configuration."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._problems: list[Problem] = []
        self._warnings: list[Problem] = []

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What must be corrected."""
        return tuple(self._problems)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is legal and worth a look, by place."""
        return tuple(sorted(self._warnings))

    def refuse(self, place: Place, message: str) -> None:
        """Note a problem."""
        self._problems.append(self._config.problem(place, message))

    def warn(self, place: Place, message: str) -> None:
        """Note a warning."""
        self._warnings.append(self._config.problem(place, message))

    def unknown(self, place: Place, what: str, name: str, known: tuple[str, ...]) -> None:
        """Note that `name` means nothing of this kind."""
        close = closest(name, known)
        self.refuse(place, f"no {what} is called `{name}`" + (f"; did you mean `{close}`?" if close else ""))
