"""What one session has learnt of whose resource or task something is."""

from collections.abc import Iterable

from gateway.wire.params import decode_object, encode


class ResourceRoutes:
    """The upstream of each resource URI, as listed; for a connection to many upstreams."""

    def __init__(self) -> None:
        self._uris: dict[str, str] = {}
        self._templates: dict[str, str] = {}

    def learn(self, upstream: str, items: Iterable[object]) -> None:
        """Take the items of a resource or template listing. The first upstream keeps a URI."""
        for item in items:
            if not isinstance(item, dict):
                continue
            uri, template = item.get("uri"), item.get("uriTemplate")
            if isinstance(uri, str):
                self._uris.setdefault(uri, upstream)
            if isinstance(template, str):
                self._templates.setdefault(template, upstream)

    def find(self, uri: str, candidates: tuple[str, ...]) -> str:
        """The upstream that has `uri`, "" where none or several of `candidates` might."""
        known = self._uris.get(uri) or self._templates.get(uri)
        if known is not None:
            return known
        fitting = {
            upstream
            for template, upstream in self._templates.items()
            if uri.startswith(template.split("{", 1)[0])
        }
        if len(fitting) == 1:
            return fitting.pop()
        return candidates[0] if len(candidates) == 1 else ""


class TaskOwners:
    """Which agent started which task on which upstream, within one session."""

    def __init__(self) -> None:
        self._owners: dict[tuple[str, str], str | None] = {}

    def started(self, upstream: str, task: str, agent: str | None) -> None:
        """An upstream answered an agent's call with a task."""
        self._owners.setdefault((upstream, task), agent)

    def owns(self, upstream: str, task: str, agent: str | None) -> bool:
        """Whether that agent started it there."""
        return agent is not None and self._owners.get((upstream, task)) == agent

    def noted(
        self, upstream: str, agent: str | None, method: str, result: bytes | memoryview
    ) -> bytes | memoryview:
        """Note the task that a result says was started; cut a listing to the agent's own tasks.

        Raises MalformedFrame.
        """
        if method != "tasks/list" and b'"task' not in bytes(result):
            return result  # a task id that is hidden behind escapes is nobody's
        value = decode_object(bytes(result), "members of the result")
        task = value.get("task", value)
        if not method.startswith("tasks/") and isinstance(task, dict):
            identifier = task.get("taskId")
            if isinstance(identifier, str):
                self.started(upstream, identifier, agent)
        listed = value.get("tasks")
        if method == "tasks/list" and isinstance(listed, list):
            value["tasks"] = [
                item
                for item in listed
                if isinstance(item, dict) and self.owns(upstream, str(item.get("taskId")), agent)
            ]
            return encode(value)
        return result

    def upstream_of(self, task: str) -> str:
        """The upstream of a task, "" where none or several have one of that id."""
        found = [upstream for upstream, identifier in self._owners if identifier == task]
        return found[0] if len(found) == 1 else ""
