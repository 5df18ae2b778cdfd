"""What a run yields: samples, problems, and what they were taken on."""

from collections.abc import Iterator
from statistics import median

import msgspec

from bench.subjects.subject import Combo


class Sample(msgspec.Struct, frozen=True):
    """One figure of one round. The unit is the end of the metric's name."""

    subject: str
    combo: str
    metric: str
    round: int
    value: float


class Problem(msgspec.Struct, frozen=True):
    """Why a subject has no figure; `metric` is "" where it has none at all."""

    subject: str
    combo: str
    metric: str
    reason: str


class Machine(msgspec.Struct, frozen=True):
    """What the run was taken on. `load` is the load average before and after it."""

    cpus: int
    cpu: str
    python: str
    kernel: str
    load: tuple[float, float]


class Results(msgspec.Struct):
    """One run. `peers` has the installed versions."""

    started: str
    mode: str
    rounds: int
    machine: Machine
    peers: dict[str, str] = {}
    samples: list[Sample] = []
    problems: list[Problem] = []
    duration_s: float = 0.0

    def add(self, subject: str, combo: str, number: int, **values: float) -> None:
        """Add figures of one round."""
        self.samples += [
            Sample(subject, combo, metric, number, value) for metric, value in values.items()
        ]

    def fail(self, subject: str, combo: str, metric: str, reason: str) -> None:
        """Note why something could not be measured, once."""
        problem = Problem(subject, combo, metric, " ".join(reason.split())[:300])
        known = ((each.subject, each.combo, each.metric) for each in self.problems)
        if (subject, combo, metric) not in known:
            self.problems.append(problem)

    def value(self, subject: str, combo: str, metric: str) -> float | None:
        """The median over the rounds; None where there is no figure."""
        values = [
            sample.value
            for sample in self.samples
            if (sample.subject, sample.combo, sample.metric) == (subject, combo, metric)
        ]
        return median(values) if values else None

    def subjects(self, combo: Combo) -> Iterator[str]:
        """Who was measured in a combination, in order."""
        seen: set[str] = set()
        for sample in self.samples:
            if sample.combo == combo and sample.subject not in seen:
                seen.add(sample.subject)
                yield sample.subject
