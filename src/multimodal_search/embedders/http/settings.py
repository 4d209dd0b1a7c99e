"""The settings of `HttpEmbedder`, and where its key comes from."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TypedDict
from urllib.parse import urlsplit

from multimodal_search._text import brief, is_unicode
from multimodal_search.contents import Modality
from multimodal_search.embedders.http.dialects import DIALECTS, Dialect
from multimodal_search.embedders.service.settings import checked_key, require
from multimodal_search.errors import ConfigurationError
from multimodal_search.types import Role


class HttpSettings(TypedDict, total=False):
    """The keyword settings of `HttpEmbedder`, for its constructors by name."""

    api_key: str | None
    dimensions: int | None
    known_dimension: int | None
    prompts: Mapping[Role, str] | None
    modalities: Collection[Modality] | None
    image_size: int | None
    timeout_s: float
    retries: int
    max_concurrency: int | None
    max_batch_size: int | None


def base_of(url: str, dialect: Dialect) -> str:
    """The address below which the dialect's paths are, for an address that may hold one of them, or `/v1`, already."""
    url = url.removesuffix(dialect.path)
    version = f"/{dialect.path.split('/')[1]}"
    return url.removesuffix(version) if dialect.path.count("/") > 1 else url


def key_for(url: str, dialect: Dialect, given: str | None) -> str:
    """The key to send to an address: the given one, else that of the environment; empty if there is none.

    A vendor's key is sent to the vendor's own address alone, which needs one. Everybody's own servers have variables of
    their own.

    Raises:
        ConfigurationError: It is no key, or the vendor needs one.
    """
    vendors = {each.vendor: each for each in DIALECTS.values() if each.vendor}
    vendor = vendors.get("{0.scheme}://{0.netloc}".format(urlsplit(url)).lower())
    names = vendor.key_variables if vendor else () if dialect.vendor else dialect.key_variables
    names = ("VLLM_API_KEY",) if vendor is None and dialect is DIALECTS["cohere"] else names
    advice = f"pass api_key=, or set the environment variable {names[0]}" if names else "leave it out, or pass a key"
    if given is not None:
        return checked_key(given, setting="api_key", advice=advice)
    found = next((value for name in names if (value := os.environ.get(name, "").strip())), "")
    require(bool(found) or vendor is None, f"set the environment variable {names[0] if names else ''} to an API key")
    return checked_key(found, setting="api_key", advice=advice) if found else ""


def checked_prompts(given: object, dialect: Dialect) -> Mapping[Role, str]:
    """What the service is told of each role.

    Raises:
        ConfigurationError: It is something else, or the dialect has no word for it.
    """
    if given is None:
        return dialect.prompts
    wanted = 'prompts maps the roles "document" and "query" to texts'
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{wanted}; this is {brief(given)}")
    for role, prompt in given.items():
        is_text = isinstance(prompt, str) and bool(prompt.strip()) and is_unicode(prompt)
        require(role in ("document", "query") and is_text, f"{wanted}; {brief(role)} is mapped to {brief(prompt)}")
    require(not given or dialect is not DIALECTS["infinity"], "infinity knows no roles: leave out prompts")
    return {role: given[role] for role in ("document", "query") if role in given}


def checked_modalities(given: object, dialect: Dialect) -> frozenset[Modality]:
    """What may be sent.

    Raises:
        ConfigurationError: The dialect has no word for it.
    """
    if given is None:
        return dialect.modalities
    possible = frozenset[Modality](("text", "image", "mixed")) if dialect is DIALECTS["jina"] else dialect.modalities
    chosen = frozenset(each for each in possible if isinstance(given, (list, tuple, set, frozenset)) and each in given)
    are_known = bool(chosen) and isinstance(given, (list, tuple, set, frozenset)) and len(chosen) == len(set(given))
    require(are_known, f"modalities are some of {', '.join(sorted(possible))}, not {brief(given)}")
    return chosen
