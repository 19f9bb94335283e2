"""RFC 9535 singular paths into an event's data: `$.usage.tokens`, `$['odd name']`, `$.items[-1]`.

A singular path names at most one place (RFC 9535, section 2.3.5.1), so a reading has at most one value.
"""

import re
from functools import lru_cache

import jsonpath_rfc9535 as jsonpath
from jsonpath_rfc9535.selectors import IndexSelector, NameSelector

PATH_CHARACTERS_MAX = 512
PATH_STEPS_MAX = 16

_NAME = re.compile(
    r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?<!\.)\.(?P<name>[a-zA-Z_\u0080-\ud7ff\ue000-\U0010ffff]"""
    r"""[a-zA-Z0-9_\u0080-\ud7ff\ue000-\U0010ffff]*)"""
)

Steps = tuple[str | int, ...]
"""Member names and array indices, from the outermost in. An index may be negative: -1 is the last element."""


class PathError(ValueError):
    """The text is no usable path. `code` is stable: invalid_path, path_not_singular, path_too_long."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@lru_cache(maxsize=4096)
def steps_of(path: str) -> Steps:
    """The steps of a singular path. The first is always a member name: data is an object.

    Raises PathError for what is no path, can name several places, names all of data, or begins with an index.
    """
    if len(path) > PATH_CHARACTERS_MAX:
        raise PathError("path_too_long", f"The path has more than {PATH_CHARACTERS_MAX} characters.")
    if not path.startswith("$"):
        raise PathError("invalid_path", f"{path!r} is not a path into data: write it as $.member.")
    try:
        path.encode("utf-8")
        query = jsonpath.compile(path if path.isascii() else _NAME.sub(_bracketed, path))
    except (jsonpath.JSONPathError, RecursionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it cannot be read"
        raise PathError("invalid_path", f"{path!r} is not a JSONPath of RFC 9535: {reason}.") from error
    if not query.singular_query():
        raise PathError(
            "path_not_singular",
            f"{path!r} can name several places; use member names and single indices only, like $.a.b[0].",
        )
    steps: list[str | int] = []
    for segment in query.segments:
        (selector,) = segment.selectors
        if isinstance(selector, NameSelector):
            steps.append(selector.name)
        elif isinstance(selector, IndexSelector):
            steps.append(selector.index)
    if not steps:
        raise PathError("invalid_path", "$ names all of data; name one member of it, like $.tokens.")
    if not isinstance(steps[0], str):
        raise PathError("invalid_path", f"{path!r} begins with an index, but data is an object.")
    if len(steps) > PATH_STEPS_MAX:
        raise PathError("path_too_long", f"The path has more than {PATH_STEPS_MAX} steps.")
    return tuple(steps)


def _bracketed(match: re.Match[str]) -> str:
    """`.日本` as `['日本']`: the library's short form stops at U+10FF within a name, where RFC 9535 does not."""
    return match.group() if match["name"] is None else f"['{match['name']}']"


def follow(value: object, steps: Steps) -> object:
    """What `steps` lead to from `value` (parsed JSON), or None when they lead nowhere."""
    for step in steps:
        if isinstance(step, str):
            if not isinstance(value, dict):
                return None
            value = value.get(step)  # pyright: ignore[reportUnknownVariableType]
        else:
            if not isinstance(value, list) or not -len(value) <= step < len(value):  # pyright: ignore[reportUnknownArgumentType]
                return None
            value = value[step]  # pyright: ignore[reportUnknownVariableType]
    return value  # pyright: ignore[reportUnknownVariableType]
