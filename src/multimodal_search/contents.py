"""The arithmetic of queries: terms can be weighed with `*`, and added and subtracted with `+` and `-`.

A weighed term or a sum is a value: it can be compared, is hashable as far as its parts are, and prints as it was
written. Nothing is computed before it is searched with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from multimodal_search._bounds import DEEPEST, MOST_PARTS, check_length
from multimodal_search._text import brief
from multimodal_search.errors import QueryError


class Term:
    """What can be a part of a query: a text, a picture, a stored point, a vector, and combinations of such."""

    __slots__ = ()
    __array_ufunc__ = None  # so that NumPy leaves `weight * term` to this class

    def __add__(self, other: object) -> Sum:
        return _sum(self, other) if isinstance(other, Term) else NotImplemented

    def __sub__(self, other: object) -> Sum:
        return _sum(self, -other) if isinstance(other, Term) else NotImplemented

    def __mul__(self, weight: object) -> Weighted:
        if isinstance(weight, bool) or not isinstance(weight, (int, float, np.integer, np.floating)):
            return NotImplemented
        try:
            return Weighted(float(weight), self)
        except OverflowError:
            return Weighted(math.inf, self)

    __rmul__ = __mul__

    def __neg__(self) -> Weighted:
        return self * -1


@dataclass(frozen=True, slots=True, repr=False)
class Weighted(Term):
    """A term that counts more, less, or against; made with `*` and unary `-`.

    Attributes:
        weight: How much it counts; finite.
        term: What is weighed; never another `Weighted`.

    Raises:
        QueryError: The weight is not finite.
    """

    weight: float
    term: Term

    def __post_init__(self) -> None:
        if isinstance(self.term, Weighted):
            object.__setattr__(self, "weight", self.weight * self.term.weight)
            object.__setattr__(self, "term", self.term.term)
        if not math.isfinite(self.weight):
            raise QueryError(f"the weight of {brief(self.term)} must be a finite number, not {self.weight}")

    def __repr__(self) -> str:
        inner = f"({self.term!r})" if isinstance(self.term, Sum) else repr(self.term)
        if abs(self.weight) == 1:
            return f"-{inner}" if self.weight < 0 else inner
        return f"{self.weight!r}".removesuffix(".0") + f" * {inner}"


@dataclass(frozen=True, slots=True, repr=False)
class Sum(Term):
    """Several terms together; made with `+` and `-`.

    Attributes:
        terms: At least two, in the order in which they were written.
    """

    terms: tuple[Term, ...]

    def __repr__(self) -> str:
        text = ""
        for term in self.terms:
            sign = " + "
            if isinstance(term, Weighted) and term.weight < 0 and text:
                sign, term = " - ", -term  # noqa: PLW2901 (shown with the other sign)
            text += (sign if text else "") + (f"({term!r})" if isinstance(term, Sum) else repr(term))
        return text


def _sum(left: Term, right: Term) -> Sum:
    return Sum((*(left.terms if isinstance(left, Sum) else (left,)), right))


def check_parts(term: Term) -> None:
    """See that a term has a size that can be worked with; operators make any, as deeply nested as they are written.

    Raises:
        QueryError: It has too many parts, or they are nested too deeply.
    """
    parts = 0
    waiting = [(term, 0)]
    while waiting:
        each, depth = waiting.pop()
        if depth > DEEPEST:
            raise QueryError(f"the query is nested more than {DEEPEST} deep: write its sum without parentheses")
        match each:
            case Weighted(_, inner):
                waiting.append((inner, depth + 1))
            case Sum(terms):
                parts += len(terms)
                check_length(parts, MOST_PARTS, named="the query", of="parts", error=QueryError)
                waiting += [(inner, depth + 1) for inner in terms]


def weighed_parts(term: Term, weight: float = 1.0) -> Iterator[tuple[float, Term]]:
    """The parts of a term that are no combinations, each with all the weights it stands under multiplied."""
    match term:
        case Weighted(factor, inner):
            yield from weighed_parts(inner, weight * factor)
        case Sum(terms):
            for inner in terms:
                yield from weighed_parts(inner, weight)
        case _:
            yield weight, term
