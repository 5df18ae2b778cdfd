"""The matrix as one HTML page that needs nothing else: no script, no font, no picture."""

import html
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from string import Template

from gateway.cli.matrix import SEVERAL, word_of
from gateway.cli.output import escape
from gateway.policy.matrix import Cell, Row

_LEGEND = (
    ("reachable", "yes", "declared, and nothing says no"),
    ("depends", "if", "declared; rules on arguments, time or caller may say no"),
    ("asked", "ask", "a person must say yes to each call"),
    ("denied", "denied", "declared, but something else says no"),
    ("drifted", "gone", "declared, but the upstream does not offer it"),
    ("undeclared", "-", "not in the agent's list"),
)


def page(
    title: str, agents: Sequence[str], rows: Iterable[Row], cells: Iterable[Cell], *, live: bool
) -> str:
    """The whole page. Whatever stands in it from files and servers is escaped."""
    found = {(cell.tool, cell.agent): cell for cell in cells}
    rows = tuple(rows)
    head = "".join(f'<th scope="col">{_safe(agent)}</th>' for agent in agents)
    body = "\n".join(
        _group(upstream, tuple(members), agents, found)
        for upstream, members in groupby(rows, key=lambda row: row.upstream)
    )
    legend = "".join(
        f'<li><b class="{state}">{word}</b> {meaning}</li>' for state, word, meaning in _LEGEND
    )
    notes = ["Open a cell to see the line that decides it."]
    if any(row.several for row in rows):
        notes.append(SEVERAL)
    if not live:
        notes.append("The upstreams were not asked what they offer.")
    told = "".join(f"<p>{note}</p>" for note in notes)
    return _PAGE.substitute(title=_safe(title), legend=legend, notes=told, head=head, body=body)


def _group(
    upstream: str,
    rows: Sequence[Row],
    agents: Sequence[str],
    found: Mapping[tuple[str, str], Cell],
) -> str:
    """The tools of one upstream, below its name."""
    lines = "\n".join(_row(row, [found[row.tool_id, agent] for agent in agents]) for row in rows)
    name = f'<th scope="rowgroup" colspan="{len(agents) + 1}">{_safe(upstream)}</th>'
    return f'<tbody>\n<tr class="group">{name}</tr>\n{lines}\n</tbody>'


def _row(row: Row, cells: Iterable[Cell]) -> str:
    return f'<tr><th scope="row">{_safe(row.tool_id)}</th>{"".join(map(_cell, cells))}</tr>'


def _cell(cell: Cell) -> str:
    if cell.state == "undeclared":
        return '<td><span aria-hidden="true">-</span><span class="said">no</span></td>'
    where = f"{cell.rule}, {cell.file}:{cell.line}" if cell.file else cell.rule
    if not cell.enforced:
        where += ", only observed"
    told = "".join(
        f"<p>If this rule lets it: {_safe(each.rule)} "
        f"<code>{_safe(f'{each.file}:{each.line}')}</code></p>"
        for each in cell.conditions
    )
    state = "depends" if cell.state == "reachable" and cell.conditions else cell.state
    return (
        f'<td class="{state}"><details><summary>{word_of(cell)}</summary>'
        f"<p>{_safe(cell.reason)}</p><p><code>{_safe(where)}</code></p>{told}</details></td>"
    )


def _safe(text: str) -> str:
    return html.escape(escape(text))


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem; }
h1 { font-size: 1.4rem; }
ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; }
div { overflow: auto; max-height: 90vh; width: fit-content; max-width: 100%; }
table { border-collapse: separate; border-spacing: 0; }
caption { text-align: left; padding: .3rem 0; }
th, td { border: 1px solid #8886; border-width: 0 0 1px 1px; padding: .15rem .6rem;
  text-align: left; vertical-align: baseline; }
th:last-child, td:last-child { border-right-width: 1px; }
thead th { position: sticky; top: 0; background: Canvas; z-index: 2; border-top-width: 1px; }
tbody th { font: .85rem/1.5 ui-monospace, monospace; position: sticky; left: 0;
  background: Canvas; z-index: 1; }
thead th:first-child { left: 0; z-index: 3; }
.group th { font: bold 1rem/1.8 system-ui, sans-serif; background: #8882; }
summary { cursor: pointer; white-space: nowrap; }
p { margin: .3rem 0; max-width: 40rem; }
.reachable { background: #2a83; }
.depends { background: #48d3; }
.asked { background: #c903; }
.denied { background: #c333; }
.drifted { background: #83c3; }
@media print { div { max-height: none; overflow: visible; } }
.said { position: absolute; width: 1px; height: 1px; overflow: hidden; }
b { padding: 0 .4rem; }
</style>
</head>
<body>
<main>
<h1>$title</h1>
<ul aria-label="What the words mean">$legend</ul>
$notes
<div role="region" aria-label="Agents and tools" tabindex="0">
<table>
<caption>What each agent may do with each tool</caption>
<thead><tr><th scope="col">Tool</th>$head</tr></thead>
$body
</table>
</div>
</main>
</body>
</html>""")
