"""What `gateway check` says of texts that look like secrets, in any file of a configuration."""

from collections.abc import Iterator

from gateway.cli.notes import Note
from gateway.config.files import MAX_FILE_BYTES, named_files
from gateway.config.load import Loaded
from gateway.config.plain_secrets import secrets_in
from gateway.config.reading import read_regular


def of_texts_with_secrets(loaded: Loaded) -> Iterator[Note]:
    """Lines of the configuration, agent files and rules with something of a secret's form.

    Where an upstream's entry holds one, loading it has told so already.
    """
    told = {
        (finding.path, finding.line)
        for finding in loaded.findings
        if finding.code == "plain-secret"
    }
    place = loaded.place
    for path in named_files(place, loaded.sources):
        if path == place.lock or not path.is_file():
            continue
        try:
            data, _ = read_regular(path, MAX_FILE_BYTES)
        except OSError:
            continue
        shown = place.shown(path)
        for line in secrets_in(data.decode(errors="replace")):
            if (shown, line) not in told:
                yield Note(
                    severity="warning",
                    code="plain-secret",
                    message="Something here looks like a secret in plain text; take it out of the "
                    "file, and replace it where it is valid.",
                    path=shown,
                    line=line,
                )
