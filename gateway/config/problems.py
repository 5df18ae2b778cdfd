"""All mistakes of a configuration at once."""

from collections.abc import Sequence

from gateway.errors import UserError


class ConfigurationError(UserError):
    """One or more mistakes in the configuration; `problems` holds them in file and line order.

    The message has one located sentence a line.
    """

    def __init__(self, problems: Sequence[UserError]) -> None:
        self.problems = tuple(
            sorted(problems, key=lambda problem: (problem.path or "", problem.line or 0))
        )
        super().__init__("\n".join(map(str, self.problems)))
