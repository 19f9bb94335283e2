"""What every noun of a configuration file can do, and what follows from it: the steps from what there is to what is wanted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tallystick.cli.client import Api, parsed
from tallystick.errors import TallystickError

Entry = dict[str, Any]
"""One thing, in the form of a file: the API's, without what is the server's own."""

Kind = Literal["create", "restore", "change", "archive"]


@dataclass(frozen=True, slots=True)
class Present:
    """A thing there is. `path` is where the API has it. `doubtful`: another one bears the same key, so that a file cannot
    say which is meant. `kept`: it is never archived by `--prune`."""

    key: str
    entry: Entry
    path: str
    archived: bool = False
    doubtful: bool = False
    kept: bool = False


class Noun(Protocol):
    """One kind of thing. `name` is its list in a file, `label` what one is called."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...

    def checked(self, raw: Any) -> Entry:
        """An entry of a file, put right. Raises Invalid with every fault; pointers begin within the entry."""
        ...

    def key_of(self, entry: Entry) -> str: ...

    def listed(self, api: Api) -> list[Present]:
        """All there are, archived ones too."""
        ...

    def read(self, document: dict[str, Any]) -> Present:
        """A thing as the API answers it."""
        ...

    def fresh(self, api: Api, present: Present) -> tuple[Present, str | None]:
        """How it is now, and the validator (ETag) of that, where there is one."""
        ...

    def ordered(self, steps: list["Step"]) -> list["Step"]:
        """The steps in an order in which each is possible."""
        ...

    def create(self, api: Api, entry: Entry) -> str | None:
        """Make it; answers what is to be told, such as a secret."""
        ...

    def change(
        self, api: Api, present: Present, changes: Entry, wanted: Entry, headers: Mapping[str, str]
    ) -> None:
        """Make it as wanted. `headers`: what says which state the changes were worked out from."""
        ...

    def archive(self, api: Api, present: Present) -> None: ...

    def exported(self, present: Present) -> Entry:
        """The entry for a file, without what is the default."""
        ...


class Patched:
    """What most nouns do: GET reads one, PATCH changes it, DELETE archives it."""

    def read(self, document: dict[str, Any]) -> Present:
        raise NotImplementedError

    def fresh(self, api: Api, present: Present) -> tuple[Present, str | None]:
        answer = api.send("GET", present.path)
        return self.read(parsed(answer.text)), answer.headers.get("etag")

    def body(self, changes: Entry, wanted: Entry) -> Entry:
        """The body of a PATCH."""
        return changes

    def change(
        self, api: Api, present: Present, changes: Entry, wanted: Entry, headers: Mapping[str, str]
    ) -> None:
        api.send("PATCH", present.path, json=self.body(changes, wanted), headers=dict(headers))

    def archive(self, api: Api, present: Present) -> None:
        api.send("DELETE", present.path)


@dataclass(frozen=True, slots=True)
class Step:
    """One change. `wanted`: None, it is to go. `present`: None, there is none."""

    kind: Kind
    key: str
    wanted: Entry | None
    present: Present | None

    def differences(self) -> list[tuple[str, Any, Any]]:
        """(member, before, after) of every member that changes."""
        before = self.present.entry if self.present is not None else {}
        return [
            (name, before.get(name), after)
            for name, after in (self.wanted or {}).items()
            if (before.get(name) or None) != (after or None)
        ]


def changes_to(wanted: Entry, present: Present) -> Entry:
    """The members that are not as wanted. What an entry does not name stays as it is."""
    return {name: value for name, value in wanted.items() if present.entry.get(name) != value}


def steps_to(noun: Noun, wanted: Sequence[Entry], present: Iterable[Present], *, prune: bool) -> list[Step]:
    """What is to be done so that the things wanted are there. What nobody wants stays, unless `prune`: then it is
    archived."""
    by_key = {one.key: one for one in present}
    steps: list[Step] = []
    for entry in wanted:
        key = noun.key_of(entry)
        found = by_key.pop(key, None)
        if found is None:
            steps.append(Step("create", key, entry, None))
        elif found.doubtful:
            raise TallystickError(
                f"There are several {noun.name} named {key!r}; a file cannot say which is meant."
            )
        elif found.archived:
            steps.append(Step("restore", key, entry, found))
        elif changes_to(entry, found):
            steps.append(Step("change", key, entry, found))
    ordered = noun.ordered(steps)
    if prune:
        ordered += [
            Step("archive", key, None, one)
            for key, one in sorted(by_key.items())
            if not one.archived and not one.kept and not one.doubtful
        ]
    return ordered
