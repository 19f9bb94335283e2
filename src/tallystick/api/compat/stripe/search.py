"""Stripe's language for searches: `email:'a@b.example' AND -metadata['team']:'red'`, clauses joined by AND or by OR.

`:` is equal (case does not matter), `~` contains (at least three characters), `>`, `<`, `>=`, `<=` compare numbers, `-`
before a clause turns it round, and `null` stands for a field that is not there.
Source: Stripe's documentation of its search APIs.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from tallystick.api.compat.stripe.parameters import Parameters

QUERY_CHARACTERS_MAX = 5000
CLAUSES_MAX = 10
CONTAINED_CHARACTERS_MIN = 3
FIELDS = ("created", "email", "name", "phone")

Accepts = Callable[[Mapping[str, Any]], bool]
_QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_CLAUSE = re.compile(
    rf"\s*(-)?(\w+)(?:\[({_QUOTED})\])?\s*(:|~|>=|<=|>|<)\s*({_QUOTED}|null\b|\d{{1,18}}\b)\s*", re.ASCII
)
_JOINT = re.compile(r"(AND|OR)\b", re.IGNORECASE)


def searched(parameters: Parameters, text: str) -> Accepts:
    """Whether an object, as Stripe shows it, is found. Faults are left in `parameters`."""
    clauses: list[Accepts] = []
    joints: set[str] = set()
    at = 0
    while True:
        clause = _CLAUSE.match(text, at)
        made = None if clause is None else _clause(*clause.groups())
        if clause is None or made is None or len(clauses) == CLAUSES_MAX:
            place = text[at : at + 40].strip()
            detail = f"We were unable to parse your search query at '{place}': clauses like email:'a@b.example' of {', '.join(FIELDS)} and metadata['key'], at most {CLAUSES_MAX}, are joined by AND or by OR."
            parameters.fault("query", "invalid_value", detail)
            return lambda _: False
        clauses.append(made)
        at = clause.end()
        if at == len(text):
            break
        joint = _JOINT.match(text, at)
        if joint is not None:
            joints.add(joint[1].upper())
            at = joint.end()
        else:
            joints.add("AND")  # a space alone
    if len(joints) > 1:
        parameters.fault("query", "invalid_value", "AND and OR cannot be mixed in one search query.")
    met = any if joints == {"OR"} else all
    return lambda document: met(accepts(document) for accepts in clauses)


def _clause(negated: str | None, name: str, key: str | None, sign: str, operand: str) -> Accepts | None:
    if (name == "metadata") != (key is not None) or (name not in FIELDS and name != "metadata"):
        return None
    wanted = None if operand == "null" else _unquoted(operand).casefold()
    numeric = name == "created"
    if sign in (":", "~"):
        if sign == "~" and (wanted is None or numeric or len(wanted) < CONTAINED_CHARACTERS_MIN):
            return None
    elif not numeric or wanted is None or not wanted.isascii() or not wanted.isdecimal():
        return None
    inner = None if key is None else _unquoted(key)

    def accepts(document: Mapping[str, Any]) -> bool:
        value = document.get(name) if inner is None else document["metadata"].get(inner)
        return _is(value, sign, wanted) is (negated is None)

    return accepts


def _is(value: Any, sign: str, wanted: str | None) -> bool:
    if value is None or wanted is None:
        return sign == ":" and value is wanted
    text = str(value).casefold()
    if sign == "~":
        return wanted in text
    if sign == ":":
        return text == wanted
    number, bound = Decimal(text), Decimal(wanted)
    if sign.startswith(">"):
        return number > bound or (sign == ">=" and number == bound)
    return number < bound or (sign == "<=" and number == bound)


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text[:1] in ("'", '"') else text
