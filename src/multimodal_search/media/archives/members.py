"""Read the files inside zip and tar archives one after the other, without unpacking to disk.

Archives are untrusted: names that lead out, links, devices and encrypted files are refused, sizes are measured while
inflating, and reading stops at a limit on the inflated size. Memory depends on the largest member, and for zip files on
the length of the table of contents.
"""

from __future__ import annotations

import os
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from multimodal_search._files import open_regular
from multimodal_search.errors import UnreadableContentError
from multimodal_search.media.archives.entry import CHUNK_BYTES, Entry, InflationBudget, TooLargeError
from multimodal_search.media.archives.tar import Compression, tar_entries
from multimodal_search.media.archives.zip import zip_entries
from multimodal_search.media.refusals import RefusedError
from multimodal_search.media.system_files import HOME, is_below_clutter, is_hidden
from multimodal_search.report import Failure

_Format: TypeAlias = Literal["zip"] | Compression

MAX_MEMBER_BYTES = 100 * 1024 * 1024
"""Maximum size of one member, which is held in memory."""

MAX_RATIO = 100
"""Maximum ratio of inflated size to file size, plus one member; photos hardly shrink at all."""

_SEPARATOR = "!/"
_MAGICS: dict[bytes, _Format] = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # without files
    b"\x1f\x8b": "gz",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
}
_ZIPS = (".zip", ".cbz")
_TARS = (".tar", ".cbt", ".tgz", ".tar.gz", ".tbz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz")
_OTHERS = (".7z", ".rar", ".gz", ".bz2", ".xz", ".zst")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file inside an archive.

    Attributes:
        name: POSIX path inside the archive, without `.`, `..` or a leading `/`.
        data: Content.
        mtime_ns: Modification time in nanoseconds since 1970, as stored in the archive; times in zip files have no zone
            and are taken as UTC. None if it is invalid.
    """

    name: str
    data: bytes
    mtime_ns: int | None


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar file by its name and its first bytes; a file of another name is not opened."""
    if not path.name.lower().endswith(_ZIPS + _TARS):
        return False
    try:
        return _format(path) is not None
    except (OSError, ValueError):  # ValueError: not a file name in this locale
        return False


def member_name(archive: str | os.PathLike[str], name: str) -> str:
    """The name of a member with its archive: `photos.zip!/2024/a.jpg`."""
    return f"{os.fspath(archive)}{_SEPARATOR}{name}"


def members(
    path: Path,
    passed_over: Counter[str] | None = None,
    *,
    max_member_bytes: int = MAX_MEMBER_BYTES,
    max_ratio: float = MAX_RATIO,
) -> Iterator[Member | Failure]:
    """Read every file inside an archive, lazily and in order.

    Hidden files and system files are passed over as in a folder. What cannot be read is a failure named
    `ARCHIVE!/member`, or `ARCHIVE` if the member is unknown: names that lead out of the archive, links, devices, sparse
    and encrypted files, archives inside the archive, members that are too large. Where a tar file is
    cut off or damaged, the members before that are yielded, then one failure; a zip file without its table of contents
    is one failure.

    Of several members with one name the last one counts. A zip file yields the last one only; a tar file, which has no
    table of contents, yields all of them, and later ones replace earlier ones.

    Args:
        path: The archive.
        passed_over: Counts what is passed over, by its kind.
        max_member_bytes: Maximum size of a member.
        max_ratio: Maximum ratio of inflated size to file size, plus `max_member_bytes`.
    """
    passed_over = Counter() if passed_over is None else passed_over
    return _members(path, None, passed_over, max_member_bytes, max_ratio)


def read_member(
    archive: Path, name: str, *, max_member_bytes: int = MAX_MEMBER_BYTES, max_ratio: float = MAX_RATIO
) -> bytes:
    """Read the content of one member.

    A tar file is read to its end, since a later member may replace an earlier one.

    Args:
        archive: The archive.
        name: As in `Member.name`.
        max_member_bytes: As for `members`.
        max_ratio: As for `members`.

    Raises:
        UnreadableContentError: The archive or the member does not exist, is refused or is damaged.
    """
    whole = str(archive)
    called = member_name(archive, name)
    if not archive.is_file():
        missing = FileNotFoundError(whole)
        raise UnreadableContentError(f"{called}: there is no such archive") from missing
    data: bytes | None = None
    reason = "there is no such file in the archive"
    for found in _members(archive, name, Counter(), max_member_bytes, max_ratio):
        if isinstance(found, Member):
            data = found.data
        elif found.name == called:
            data, reason = None, found.reason
        elif found.name == whole and data is None:
            reason = f"not found; {found.reason}"
    if data is None:
        raise UnreadableContentError(f"{called}: {reason}")
    return data


def _members(
    path: Path, wanted: str | None, passed_over: Counter[str], max_member_bytes: int, max_ratio: float
) -> Iterator[Member | Failure]:
    """All members, or only those called `wanted`."""
    try:
        meter = InflationBudget(max_ratio * path.stat().st_size + max_member_bytes)
        with closing(_entries(path, meter)) as entries:
            for entry in entries:
                name = entry.raw_name
                try:
                    name = _checked_name(name)
                    if (kind := _kind_left_out(name)) is not None:
                        passed_over.update([kind] if kind else [])
                        continue
                    if wanted not in (None, name):
                        continue
                    data = _content(entry, name, max_member_bytes)
                except RefusedError as refusal:
                    yield Failure(name=member_name(path, name), stage="scan", reason=str(refusal))
                except Exception as error:  # noqa: BLE001 (damage makes decompressors raise nearly anything)
                    yield Failure(name=member_name(path, name), stage="scan", reason=_reason(error))
                    return
                else:
                    yield Member(name=name, data=data, mtime_ns=entry.mtime_ns)
    except Exception as error:  # noqa: BLE001 (and so do zipfile and tarfile)
        yield Failure(name=str(path), stage="scan", reason=_reason(error))


def _entries(path: Path, meter: InflationBudget) -> Generator[Entry, None, None]:
    match _format(path):
        case None:
            raise RefusedError("not a zip or tar file")
        case "zip":
            return zip_entries(path, meter)
        case compression:
            return tar_entries(path, compression, meter)


def _format(path: Path) -> _Format | None:
    with open_regular(path) as file:
        head = file.read(tarfile.BLOCKSIZE)
    for magic, kind in _MAGICS.items():
        if head.startswith(magic):
            return kind
    if head[257:262] == b"ustar" or _is_old_tar(head):
        return "none"
    return "zip" if zipfile.is_zipfile(path) else None  # as behind a self-extracting program


def _is_old_tar(head: bytes) -> bool:
    """Whether these are the first bytes of a tar file without a magic number, or without files."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return len(head) == tarfile.BLOCKSIZE and not any(head)
    return True


def _checked_name(raw_name: str) -> str:
    """The POSIX path of an entry.

    A backslash counts as a separator, as old Windows programs write it.

    Raises:
        RefusedError: It leads out of the archive, or is not a valid name.
    """
    if "\0" in raw_name:
        raise RefusedError("its name holds a NUL")
    name = raw_name.replace("\\", "/")
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        raise RefusedError("its name is absolute, and would lead out of the archive")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if os.pardir in parts:
        raise RefusedError("its name leads out of the archive")
    if not parts:
        raise RefusedError("it has no name")
    return "/".join(parts)


def _kind_left_out(name: str) -> str | None:
    """The kind of a file that is passed over, empty if it is not counted; None if it is read."""
    folders = name.split("/")
    if HOME in folders:
        return ""
    if is_below_clutter(name):
        return "system file"
    return "hidden file" if any(map(is_hidden, folders)) else None


def _content(entry: Entry, name: str, max_member_bytes: int) -> bytes:
    """The whole content.

    Raises:
        RefusedError: It cannot be read.
    """
    if entry.refusal is not None:
        raise RefusedError(entry.refusal)
    if name.lower().endswith(_ZIPS + _TARS + _OTHERS):
        raise RefusedError("an archive inside an archive is not read; unpack the outer one first")
    too_large = f"more than {max_member_bytes:,} bytes, the maximum of a member of an archive"
    if entry.size_bytes > max_member_bytes:
        raise RefusedError(too_large)
    pieces = []
    size = 0
    while piece := entry.read(CHUNK_BYTES):
        size += len(piece)
        if size > max_member_bytes:
            raise RefusedError(too_large)
        pieces.append(piece)
    return b"".join(pieces)


def _reason(error: Exception) -> str:
    match error:
        case RefusedError():
            return str(error)
        case TooLargeError():
            return f"the archive {error}"
        case OSError(strerror=str(reason)):
            return reason
        case _:
            return f"the archive is cut off or damaged: {str(error) or type(error).__name__}"
