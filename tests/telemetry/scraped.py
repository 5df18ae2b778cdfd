"""Reads the text format that Prometheus scrapes, and takes nothing that is not quite right."""

import re
from typing import NamedTuple

_NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"'
_SAMPLE = re.compile(rf"({_NAME})(?:\{{((?:{_LABEL})(?:,{_LABEL})*)\}})? (\S+)")
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}


class Sample(NamedTuple):
    """One line: a name, its labels and a number."""

    name: str
    labels: dict[str, str]
    value: float


def parse(text: str) -> list[Sample]:
    """Every sample; raises AssertionError where anything is not as the format has it."""
    assert text.endswith("\n")
    samples: list[Sample] = []
    kinds: dict[str, str] = {}
    told: set[str] = set()
    family = ""
    for line in text.split("\n")[:-1]:
        if line.startswith("# HELP "):
            family, about = line.removeprefix("# HELP ").split(" ", 1)
            assert re.fullmatch(_NAME, family)
            assert about
            assert family not in told, f"{family} comes twice"
            told.add(family)
        elif line.startswith("# TYPE "):
            name, kind = line.removeprefix("# TYPE ").split(" ")
            assert name == family
            assert kind in _SUFFIXES
            kinds[name] = kind
        else:
            found = _SAMPLE.fullmatch(line)
            assert found is not None, line
            names = [family + suffix for suffix in _SUFFIXES[kinds[family]]]
            assert found[1] in names, f"{found[1]} stands among {family}"
            pairs = re.findall(_LABEL, found[2] or "")
            assert len({name for name, _ in pairs}) == len(pairs)
            labels = {name: _meant(value) for name, value in pairs}
            samples.append(Sample(found[1], labels, float(found[8 - 1])))
    keys = [(each.name, tuple(sorted(each.labels.items()))) for each in samples]
    assert len(set(keys)) == len(keys), "a sample comes twice"
    _check_histograms(samples, kinds)
    return samples


def value(samples: list[Sample], name: str, **labels: str) -> float:
    """The sum of the samples with these labels, whatever others they have."""
    return sum(
        each.value
        for each in samples
        if each.name == name and labels.items() <= each.labels.items()
    )


def _meant(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text)


def _check_histograms(samples: list[Sample], kinds: dict[str, str]) -> None:
    for family in (name for name, kind in kinds.items() if kind == "histogram"):
        counts = {
            tuple(sorted(each.labels.items())): each.value
            for each in samples
            if each.name == f"{family}_count"
        }
        assert counts
        for labels, count in counts.items():
            buckets = [
                (float(each.labels["le"]), each.value)
                for each in samples
                if each.name == f"{family}_bucket"
                and dict(labels).items()
                == {k: v for k, v in each.labels.items() if k != "le"}.items()
            ]
            assert buckets == sorted(buckets)
            assert [number for _, number in buckets] == sorted(number for _, number in buckets)
            assert buckets[-1] == (float("inf"), count)
