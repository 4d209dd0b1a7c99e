"""Mask passwords, tokens and keys in messages, reprs and logs; the only place that does so."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,20}:/+")
"""Start of an address, also with one slash only, as `pathlib` leaves it. A single letter is a Windows drive."""

_ADDRESS = re.compile(SCHEME.pattern + r"[^\s\"'<>]*")
_HOST = re.compile(r"(?:[^\s:]+\.[^\s:]+|localhost)", re.IGNORECASE)
_CUT_OFF = re.compile(r"([^\s:/?#\[]+:)(?=[^/?#]*[^0-9/?#]).+", re.DOTALL)
"""An address that ends within a password: the text after its colon is not a port."""

_PARAMETER = re.compile(r"([A-Za-z][\w.-]{0,40})=.+", re.DOTALL)
_UNIT = re.compile(
    r"\\u(?P<u>[0-9A-Fa-f]{4})|\\x(?P<x>[0-9A-Fa-f]{2})|\\(?P<escaped>[nrtbf\"'/\\])|%(?P<percent>[0-9A-Fa-f]{2})"
    r"|&#(?P<decimal>[0-9]{1,7});|&#[xX](?P<hex>[0-9A-Fa-f]{1,6});|&(?P<entity>amp|lt|gt|quot|apos);|(?P<plain>.)",
    re.DOTALL,
)
"""One character, as written in JSON, HTML, an address or a Python repr."""

_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_HEAD = 8
"""Leading characters of a secret that are masked anywhere, since the rest may have been cut off."""

_MIN_LENGTH = 6
"""Minimum length of a secret that is masked in other notations, too: ordinary words may contain shorter ones."""

_MASK = "***"


def shown_address(address: str) -> str:
    """Mask an address: without user, password and fragment, and without the values of its query.

    If a password contains an unescaped `/`, `?`, `#` or `@`, which no program parses right, everything up to the last
    `@` is removed: too much rather than a part of the password.
    """
    begin, _, rest = _parts(address)
    if begin and (cut_off := _CUT_OFF.fullmatch(rest)):
        return f"{begin}{cut_off[1]}{_MASK}"
    path, has_query, query = rest.partition("#")[0].partition("?")
    return f"{begin}{path}{'?' + '&'.join(map(_shown_parameter, query.split('&'))) if has_query else ''}"


def without_secrets(text: str, *secrets: str | None) -> str:
    """Replace secrets in a text by `***`, and mask the addresses in it.

    A secret is found in the notations of JSON, HTML and addresses, with spaces, line ends and invisible marks inside,
    and if only its first 8 characters are left.

    Args:
        text: Foreign text, such as a server's answer or a library's error.
        secrets: The secrets; None and empty ones are ignored.
    """
    for secret in secrets:
        if secret:
            text = _hidden(text.replace(secret, _MASK), secret)
    return _ADDRESS.sub(_shown_within, text)


def secrets_of(address: str) -> tuple[str, ...]:
    """User and password in an address, escaped and unescaped, and the pieces that wrong parsing makes of them."""
    _, userinfo, _ = _parts(address)
    user, _, password = userinfo.partition(":")
    pieces = [userinfo, password, user, unquote(password), unquote(user), *re.split(r"[/?#@:\\]", userinfo)]
    return tuple(dict.fromkeys(piece for piece in pieces if len(piece) > 2))


def _shown_within(found: re.Match[str]) -> str:
    address = found[0].rstrip("),.:;]}")  # they belong to the sentence
    return f"{shown_address(address)}{found[0][len(address) :]}"


def _parts(address: str) -> tuple[str, str, str]:
    """The scheme with its slashes, user and password, and the rest."""
    address = address.lstrip()
    scheme = SCHEME.match(address)
    begin = "" if scheme is None else scheme[0]
    rest = address[len(begin) :]
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" not in authority and _HOST.fullmatch(authority):  # the rest belongs to the path
        return begin, "", rest
    userinfo, _, rest = rest.rpartition("@")
    return begin, userinfo, rest


def _shown_parameter(parameter: str) -> str:
    named = _PARAMETER.fullmatch(parameter)
    return f"{named[1]}={_MASK}" if named else _MASK


def _hidden(text: str, secret: str) -> str:
    """Mask a secret that is written in another notation."""
    wanted = "".join(character for character, _, _ in _letters(secret))
    head = wanted[:_HEAD]
    if len(head) < _MIN_LENGTH:
        return text
    letters = list(_letters(text))
    plain = "".join(character for character, _, _ in letters)
    pieces, written, at = [], 0, plain.find(head)
    while at >= 0:
        end = at + len(head)
        while end < len(plain) and end - at < len(wanted) and plain[end] == wanted[end - at]:
            end += 1
        pieces += [text[written : letters[at][1]], _MASK]
        written = letters[end - 1][2]
        at = plain.find(head, end)
    return "".join([*pieces, text[written:]])


def _letters(text: str) -> list[tuple[str, int, int]]:
    """The visible ASCII characters of a text, with their start and end; secrets have no others."""
    found = []
    for unit in _UNIT.finditer(text):
        groups = unit.groupdict()
        code = groups["u"] or groups["x"] or groups["percent"] or groups["hex"]
        if code:
            character = chr(min(int(code, 16), 0x10FFFF))
        elif groups["decimal"]:
            character = chr(min(int(groups["decimal"]), 0x10FFFF))
        elif groups["escaped"]:
            character = groups["escaped"] if groups["escaped"] in "\"'/\\" else " "
        else:
            character = _ENTITIES.get(groups["entity"] or "", groups["plain"] or "")
        if not character.isascii():
            character = unicodedata.normalize("NFKC", character)
        if len(character) == 1 and "!" <= character <= "~":
            found.append((character, unit.start(), unit.end()))
    return found
