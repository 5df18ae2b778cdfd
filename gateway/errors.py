"""Errors that a person can mend: one sentence, shown without a traceback, exit code 2."""


class UserError(Exception):
    """A mistake in the user's input or surroundings.

    `message` is one clear sentence with the remedy. `path` and `line` say where, when it is a
    file; they are printed in front of the message as `path:line: message`.
    """

    def __init__(self, message: str, *, path: str | None = None, line: int | None = None) -> None:
        self.message = message
        self.path = path
        self.line = line
        where = ""
        if path is not None:
            where = f"{path}:{line}: " if line is not None else f"{path}: "
        super().__init__(where + message)
