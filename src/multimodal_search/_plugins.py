"""Backends by name: this library's own, and those of other packages through entry points."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import Distribution, EntryPoint, distributions
from os import PathLike
from typing import Any, Generic, TypeAlias, TypeVar

from multimodal_search._secrets import without_secrets
from multimodal_search._text import brief
from multimodal_search.errors import ConfigurationError, MissingExtraError, MultimodalSearchError

Backend = TypeVar("Backend")

Option: TypeAlias = (
    "str | int | float | bool | PathLike[str] | list[Option] | tuple[Option, ...] | Mapping[str, Option] | None"
)
"""An option of a backend that can be written down."""

_OWN_PACKAGE = "multimodal-search"
_SECRETS = (
    "token",
    "api_key",
    "apikey",
    "access_key",
    "secret_key",
    "private_key",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "credentials",
    "authorization",
)
"""How the names of options end that hold secrets."""


@dataclass(frozen=True, slots=True)
class OwnBackend:
    """A backend of this library, which works without the metadata of an installed package.

    Attributes:
        value: What makes it, as an entry point writes it: `module:attribute`.
        module: The module that it needs, of another package.
        install: What to give pip for that module.
        environment: The variables that must be set for it.
        before: The first Python that the module has no release for.
    """

    value: str
    module: str | None = None
    install: str = ""
    environment: tuple[str, ...] = ()
    before: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendState:
    """What there is under a name, and whether it can be used.

    Attributes:
        kind: `"embedder"` or `"store"`.
        name: What `load_embedder` or `load_store` calls it; of a package that cannot be read, the package's.
        package: The package that brings it.
        problem: What is missing or broken; empty if it can be used.
        remedy: What to do about it, where that is known: a command, or variables to set.
    """

    kind: str
    name: str
    package: str
    problem: str = ""
    remedy: str = ""


class Plugins(Generic[Backend]):
    """The backends of one kind.

    Args:
        kind: What messages call them: `"embedder"` or `"store"`.
        group: The entry-point group; each entry names a callable that takes options and gives a backend.
        protocol: What they are instances of.
        own: This library's, by name; they go before others of the same name.
    """

    def __init__(self, kind: str, group: str, protocol: type[Backend], own: Mapping[str, OwnBackend]) -> None:
        self._kind = kind
        self._group = group
        self._protocol = protocol
        self._own = own

    def names(self) -> list[str]:
        """The names that can be loaded, or say why not."""
        return sorted({*self._own, *(entry.name for entry in self._entries())})

    def check(self, name: str) -> None:
        """See that there is a backend of this name, without loading it.

        Raises:
            ConfigurationError: There is none.
        """
        names = self.names()
        if name not in names:
            raise ConfigurationError(f"no {self._kind} is called {brief(name)}; there are: {', '.join(names)}")

    def load(self, name: str, options: Mapping[str, object]) -> Backend:
        """Make the backend of a name.

        Raises:
            ConfigurationError: There is none, it cannot be loaded, or it does not take these options.
        """
        self.check(name)
        entry = self._entry(name)
        make, who = self._loaded(entry), self._described(entry)
        try:
            made = make(**options)
        except MultimodalSearchError:
            raise
        except Exception as error:
            given = f" with the options {', '.join(options)}" if options else ""
            said = without_secrets(f"{type(error).__name__}: {error}", *_secrets_in(options))
            raise ConfigurationError(f"{who} cannot be made{given}: {said}") from error
        if isinstance(made, type) or not isinstance(made, self._protocol):
            raise ConfigurationError(f"{who} gives {brief(made)}, which is no {self._kind}")
        return made

    def states(self) -> Iterator[BackendState]:
        """What there is, loaded to see whether it can be; one that fails does so alone."""
        for name, own in sorted(self._own.items()):
            problem, remedy = missing(own)
            yield BackendState(kind=self._kind, name=name, package=_OWN_PACKAGE, problem=problem, remedy=remedy)
        broken: dict[str, str] = {}
        others = {entry.name: entry for entry in self._entries(broken) if entry.name not in self._own}
        for name in sorted(others):
            state = BackendState(kind=self._kind, name=name, package=_package(others[name]))
            try:
                self._loaded(self._entry(name))
            except MultimodalSearchError as error:
                is_told = isinstance(error, (MissingExtraError, _SeveralPackagesError))  # what to do, in the message
                remedy = "" if is_told else _reinstalled(others[name])
                state = BackendState(
                    kind=self._kind, name=name, package=state.package, problem=str(error), remedy=remedy
                )
            yield state
        for package, problem in sorted(broken.items()):
            yield BackendState(
                kind=self._kind,
                name=package,
                package=package,
                problem=f"the entry points of the package {package} cannot be read: {problem}",
                remedy=f"pip install --force-reinstall {package}",
            )

    def _entry(self, name: str) -> EntryPoint:
        if name in self._own:
            return EntryPoint(name, self._own[name].value, self._group)
        entries = [entry for entry in self._entries() if entry.name == name]
        packages = sorted({_package(entry) for entry in entries})
        if len(packages) > 1:
            raise _SeveralPackagesError(
                f"several packages bring the {self._kind} {name!r}: {', '.join(packages)}. Uninstall all but one"
            )
        return entries[0]

    def _loaded(self, entry: EntryPoint) -> Any:
        who = self._described(entry)
        try:
            make = entry.load()
        except MultimodalSearchError:
            raise
        except (Exception, SystemExit) as error:  # whatever somebody else's module raises when it is imported
            raise ConfigurationError(f"{who} cannot be loaded: {type(error).__name__}: {error}") from error
        if not callable(make):
            raise ConfigurationError(f"{who} is {brief(make)}, which cannot be called")
        return make

    def _described(self, entry: EntryPoint) -> str:
        return f"the {self._kind} {entry.name!r} ({entry.value}, of {_package(entry)})"

    def _entries(self, broken: dict[str, str] | None = None) -> Iterator[EntryPoint]:
        """The entries of this group, package by package: what one of them has wrong does not hide the others."""
        for package in distributions():
            try:
                yield from [entry for entry in package.entry_points if entry.group == self._group]
            except Exception as error:  # noqa: BLE001 (a file that anybody may have written)
                if broken is not None and self._may_be_in(package):
                    broken[_name_of(package)] = f"{type(error).__name__}: {error}"

    def _may_be_in(self, package: Distribution) -> bool:
        """Whether the entry points of a package are of this group, as far as they can be read."""
        try:
            return self._group in (package.read_text("entry_points.txt") or "")
        except (OSError, ValueError):
            return True


class _SeveralPackagesError(ConfigurationError):
    """Several packages bring a backend of one name."""


@dataclass(frozen=True, slots=True, init=False, repr=False)
class BackendRef:
    """A backend by its name and options, which can be pickled, shown and written to a file.

    Args:
        name: Its name.
        options: What it takes, without secrets: texts, numbers, paths, and lists and mappings of them.

    Raises:
        ConfigurationError: The name is no text, or an option is a secret, or no such value.
    """

    name: str
    options: Mapping[str, Option] = field(hash=False)

    def __init__(self, name: str, /, **options: Option) -> None:
        if not isinstance(name, str):
            raise ConfigurationError(f"the name of a backend is a str, not {brief(name)}")
        who = f"{type(self).__name__}({name!r})"
        for option, value in options.items():
            if _is_secret(option):
                raise ConfigurationError(
                    f"{who} holds no secrets, as it is pickled and shown: leave out {option!r}, and set the "
                    "environment variable that the backend takes it from"
                )
            _check_plain(f"the option {option!r} of {who}", value)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "options", options)

    def __repr__(self) -> str:
        options = "".join(f", {option}={value!r}" for option, value in self.options.items())
        return f"{type(self).__name__}({self.name!r}{options})"


def _check_plain(named: str, value: object) -> None:
    match value:
        case None | bool() | int() | float() | PathLike():
            return
        case str():
            if without_secrets(value) != value:
                raise ConfigurationError(
                    f"{named} is an address that holds a secret, which is pickled and shown: set the environment "
                    "variable that the backend takes it from"
                )
            return
        case list() | tuple():
            for each in value:
                _check_plain(named, each)
            return
        case Mapping():
            for name, each in value.items():
                if not isinstance(name, str) or _is_secret(name):
                    raise ConfigurationError(f"{named} holds {brief(name)}, which is a secret or no name")
                _check_plain(named, each)
            return
    raise ConfigurationError(
        f"{named} is {brief(value)}, which cannot be written down: use texts, numbers, paths, lists and mappings"
    )


def _is_secret(option: str) -> bool:
    return option.lower().replace("-", "_").endswith(_SECRETS)


def _secrets_in(options: Mapping[Any, object]) -> Iterator[str]:
    """The values of options that are secrets by their names, also of options within options."""
    for option, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets_in(value)
        elif isinstance(value, str) and value and _is_secret(str(option)):
            yield value


def missing(own: OwnBackend) -> tuple[str, str]:
    """What an own backend lacks, and what to do; two empty texts if nothing."""
    if own.module is not None and importlib.util.find_spec(own.module) is None:
        if own.before is not None and sys.version_info >= own.before:
            return f"{own.install} has no release for Python {own.before[0]}.{own.before[1]} or later", ""
        return f"the package {own.module!r} is not installed", f'pip install "{own.install}"'
    unset = [name for name in own.environment if not os.environ.get(name, "").strip()]
    return ("it is not set up", f"set {' and '.join(unset)} in the environment") if unset else ("", "")


def _package(entry: EntryPoint) -> str:
    return _OWN_PACKAGE if entry.dist is None else _name_of(entry.dist)


def _name_of(package: Distribution) -> str:
    try:
        return str(package.metadata["Name"] or "without a name")
    except Exception:  # noqa: BLE001 (as its entry points)
        return "without a name"


def _reinstalled(entry: EntryPoint) -> str:
    extras = f"[{','.join(entry.extras)}]" if entry.extras else ""
    return f'pip install --upgrade "{_package(entry)}{extras}"'
