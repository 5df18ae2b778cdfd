"""Collects what is found while one file is read."""

from gateway.agents.definition import Finding, Severity


class FindingLog:
    """The findings of one file, in the order in which they were made."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.findings: list[Finding] = []

    def error(self, code: str, line: int, message: str) -> None:
        """Something that denies the agent."""
        self._add(code, "error", line, message)

    def warning(self, code: str, line: int, message: str) -> None:
        """Something that does not do what its author meant, and grants nothing."""
        self._add(code, "warning", line, message)

    def info(self, code: str, line: int, message: str) -> None:
        """Something worth knowing."""
        self._add(code, "info", line, message)

    @property
    def denied(self) -> bool:
        """Whether an error was found."""
        return any(finding.severity == "error" for finding in self.findings)

    def _add(self, code: str, severity: Severity, line: int, message: str) -> None:
        self.findings.append(Finding(code, severity, message, self.path, line))


def shown(text: str) -> str:
    """A text from the file in quotes, short, and in printable ASCII only."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")
