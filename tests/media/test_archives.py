"""What `media.archives` promises of strangers' zip and tar files: read in bounded memory and time, or refused."""

from __future__ import annotations

import io
import random
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from multimodal_search.errors import UnreadableContentError
from multimodal_search.media.archives.members import Member, is_archive, members, read_member
from multimodal_search.results import Failure

MIB = 1024 * 1024
FILES: dict[str, bytes] = {
    **{f"a/{n}.jpg": random.Random(n).randbytes(700 + 37 * n) for n in range(6)},
    "b/ünï 日本.txt": b"hello " * 500,
    "empty.jpg": b"",
}


FASTEST: dict[str, dict[str, int]] = {
    "w": {},
    "w:gz": {"compresslevel": 1},
    "w:bz2": {"compresslevel": 1},
    "w:xz": {"preset": 1},  # its dictionary, which a reader must hold, has 1 MiB
}


class Pipe(io.RawIOBase):
    """A place to write to that cannot seek, so that sizes stand behind the files of a zip."""

    def __init__(self, target: io.BytesIO) -> None:
        self.target = target

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        return self.target.write(data)  # type: ignore[arg-type]


def zipped(files: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED, streamed: bool = False) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(Pipe(target) if streamed else target, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 5, 6, 7, 8, 10)), data, compress_type=method)
    return target.getvalue()


def tarred(files: Mapping[str, bytes], mode: str = "w", *, kind: int = tarfile.PAX_FORMAT) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode, format=kind, **FASTEST[mode]) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mtime = 1_700_000_000
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


def tar_of(*headers: tarfile.TarInfo, mode: str = "w", data: bytes = b"") -> bytes:
    """A tar of headers written as they are, the last one followed by `data`."""
    raw = b"".join(header.tobuf(tarfile.GNU_FORMAT) for header in headers) + data
    raw += bytes(-len(raw) % 512 + 1024)
    target = io.BytesIO()
    if mode == "w":
        return raw
    with tarfile.open(fileobj=target, mode=mode) as archive:  # type: ignore[call-overload]
        assert archive.fileobj is not None
        archive.fileobj.write(raw)
    return target.getvalue()


MAKERS: dict[str, Callable[[Mapping[str, bytes]], bytes]] = {
    "deflated.zip": zipped,
    "stored.zip": lambda files: zipped(files, method=zipfile.ZIP_STORED),
    "streamed.zip": lambda files: zipped(files, streamed=True),
    "pax.tar": tarred,
    "gnu.tar": lambda files: tarred(files, kind=tarfile.GNU_FORMAT),
    "plain.tar.gz": lambda files: tarred(files, "w:gz"),
    "plain.tar.bz2": lambda files: tarred(files, "w:bz2"),
    "plain.tar.xz": lambda files: tarred(files, "w:xz"),
}
every_format = pytest.mark.parametrize("kind", MAKERS)
zip_and_tar = pytest.mark.parametrize("kind", ["deflated.zip", "pax.tar"])


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def made(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return made


Make = Callable[[str, bytes], Path]


def split(found: Iterator[Member | Failure]) -> tuple[dict[str, bytes], list[Failure]]:
    both = list(found)
    failures = [each for each in both if isinstance(each, Failure)]
    assert all(failure.stage == "scan" for failure in failures)
    return {each.name: each.data for each in both if isinstance(each, Member)}, failures


@contextmanager
def most_memory(bytes_allowed: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < bytes_allowed


@every_format
def test_every_file_of_an_archive_is_read(kind: str, make: Make) -> None:
    """The point of it all: name and bytes arrive, in whatever an archive was packed."""
    path = make(kind, MAKERS[kind](FILES))
    assert is_archive(path)
    assert split(members(path)) == (FILES, [])
    assert all(read_member(path, name) == data for name, data in FILES.items())


@every_format
def test_reading_is_lazy_and_an_archive_can_be_left_early(kind: str, make: Make) -> None:
    """The first image is there at once; files left open would be a warning, which is an error here."""
    files = {f"{n}.jpg": random.Random(n).randbytes(MIB // 4) for n in range(14)}
    path = make(kind, MAKERS[kind](files))
    with most_memory(2_700_000):
        first = next(members(path))
        assert isinstance(first, Member)
        assert first.name == "0.jpg"
        assert sum(isinstance(each, Member) for each in members(path)) == 14


@pytest.mark.parametrize("kind", ["pax.tar", "plain.tar.gz"])
def test_memory_does_not_grow_with_the_number_of_files_in_a_tar(kind: str, make: Make) -> None:
    """Python's tarfile keeps each header it has seen: a gigabyte, for a million images."""
    path = make(kind, MAKERS[kind]({f"{n}.jpg": b"x" for n in range(1_500)}))
    with most_memory(400_000):
        assert sum(isinstance(each, Member) for each in members(path)) == 1_500


def test_what_is_an_archive_is_told_by_name_and_content(make: Make, tmp_path: Path) -> None:
    """A photo called .zip is a photo, and a Word document, which is a zip file too, is not looked into."""
    archive = zipped(FILES)
    assert is_archive(make("A.ZIP", archive))
    assert is_archive(make("really-a-tar.zip", tarred(FILES, "w:gz")))
    assert is_archive(make("no-files.zip", zipped({})))
    assert is_archive(make("no-files.tar", tarred({})))
    assert is_archive(make("unpacks-itself.zip", b"#!/bin/sh\n" + b"#" * 600 + archive))
    assert split(members(tmp_path / "unpacks-itself.zip")) == (FILES, [])
    assert split(members(tmp_path / "no-files.tar")) == split(members(tmp_path / "no-files.zip")) == ({}, [])
    assert not is_archive(make("letter.docx", archive))
    assert not is_archive(make("photo.zip", b"\xff\xd8\xff\xe0" + bytes(2000)))
    assert not is_archive(make("nothing.zip", b""))
    assert not is_archive(make("nothing.tar", b""))
    assert not is_archive(tmp_path / "missing.zip")
    (tmp_path / "folder.zip").mkdir()
    assert not is_archive(tmp_path / "folder.zip")


def test_what_is_no_archive_is_one_failure(make: Make, tmp_path: Path) -> None:
    """It may have been replaced since it was found."""
    for path in (make("a.zip", b"\xff\xd8 a photo"), tmp_path / "missing.zip"):
        found, [failure] = split(members(path))
        assert not found
        assert failure.name == str(path)


# -- cut off and damaged -----------------------------------------------------------------------------------------------


every_tar = pytest.mark.parametrize("kind", [kind for kind in MAKERS if ".tar" in kind])


@every_tar
def test_a_tar_cut_off_anywhere_gives_what_stands_before_and_one_failure(kind: str, make: Make) -> None:
    """Half a download still has half the photos; what is given is right, and the rest is not passed over silently."""
    whole = MAKERS[kind](FILES)
    names = list(FILES)
    most = 0
    for size in range(0, len(whole), 97):
        found, failures = split(members(make("cut." + kind, whole[:size])))
        assert list(found) == names[: len(found)]
        assert all(FILES[name] == data for name, data in found.items())
        assert len(found) >= most
        most = len(found)
        assert len(failures) == 1 or (not failures and len(found) == len(FILES))
    assert most >= len(FILES) - 1 or kind == "plain.tar.bz2"  # which is one block, and so all or nothing


def test_no_whole_file_of_a_tar_before_the_cut_is_lost(make: Make) -> None:
    """Measured in the archive itself: where the third file ends, three can be read."""
    three = {name: FILES[name] for name in list(FILES)[:3]}
    size = sum(512 + -(-len(data) // 512) * 512 for data in three.values())
    found, failures = split(members(make("a.tar", tarred(three)[:size])))
    assert found == three
    assert len(failures) == 1


@pytest.mark.parametrize("kind", ["deflated.zip", "stored.zip", "streamed.zip"])
def test_a_zip_without_its_table_of_contents_is_one_failure_that_says_what_to_do(kind: str, make: Make) -> None:
    whole = MAKERS[kind](FILES)
    for size in range(4, len(whole), 97):
        path = make("cut.zip", whole[:size])
        [failure] = members(path)
        assert isinstance(failure, Failure)
        assert failure.name == str(path)
        assert failure.reason.startswith("its table of contents is missing or damaged (")
        assert failure.reason.endswith("repair it with: zip -FF cut.zip --out repaired.zip")
        with pytest.raises(UnreadableContentError, match="zip -FF"):
            read_member(path, "a/0.jpg")


@every_format
def test_damage_is_never_an_exception(kind: str, make: Make) -> None:
    """Bits tip over on old disks; zipfile and tarfile answer with a dozen kinds of exceptions."""
    whole = MAKERS[kind](FILES)
    chance = random.Random(7)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 1, 5, 50])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        list(members(make("damaged." + kind, bytes(damaged))))


def test_a_damaged_file_in_a_zip_costs_itself_alone(make: Make) -> None:
    """The table of contents tells where the others are."""
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        data = bytearray(zipped(FILES, method=method))
        data[data.find(b"a/2.jpg") + 60] ^= 0xFF
        path = make("a.zip", bytes(data))
        found, [failure] = split(members(path))
        assert found == {name: content for name, content in FILES.items() if name != "a/2.jpg"}
        assert failure.name == f"{path}!/a/2.jpg"
        assert "CRC" in failure.reason or "invalid" in failure.reason


def test_a_damaged_header_in_a_tar_is_not_taken_for_the_end(make: Make) -> None:
    """Python's tarfile passes over the rest without a word (python/cpython#120740)."""
    data = bytearray(tarred(FILES))
    data[data.find(b"a/3.jpg")] ^= 0x01
    path = make("a.tar", bytes(data))
    found, [failure] = split(members(path))
    assert list(found) == ["a/0.jpg", "a/1.jpg", "a/2.jpg"]
    assert failure == Failure(name=str(path), stage="scan", reason="the archive is cut off or damaged: bad checksum")


# -- bombs -------------------------------------------------------------------------------------------------------------


def zeros(size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo("zeros.bmp")
    info.size = size
    return info


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if "stored" not in kind])
def test_a_file_beyond_the_limit_is_refused_before_it_fills_the_memory(kind: str, make: Make) -> None:
    """20 MB of zeros fit into a few kB."""
    path = make(kind, MAKERS[kind]({"a.bmp": bytes(20 * MIB), "b.jpg": b"b"}))
    with most_memory(8 * MIB):
        found, [failure] = split(members(path, max_member_bytes=MIB, max_ratio=1e9))
    assert found == {"b.jpg": b"b"}
    assert failure.name == f"{path}!/a.bmp"
    assert "more than 1,048,576 bytes" in failure.reason


def test_a_size_beyond_the_limit_is_believed(make: Make) -> None:
    """Nothing is inflated to find out."""
    data = zipped({"a.bmp": b"x" * 123_457})
    path = make("a.zip", data.replace(struct.pack("<I", 123_457), struct.pack("<I", 2**31)))
    _, [failure] = split(members(path))
    assert "more than 104,857,600 bytes" in failure.reason


def test_a_zip_that_lies_about_sizes_costs_no_memory(make: Make) -> None:
    """Its headers say 9 bytes; 20 MB come out, were they let."""
    data = zipped({"a.bmp": bytes(20 * MIB), "b.jpg": b"b"})
    path = make("a.zip", data.replace(struct.pack("<I", 20 * MIB), struct.pack("<I", 9)))
    with most_memory(4 * MIB):
        found, [failure] = split(members(path, max_member_bytes=MIB))
    assert found == {"b.jpg": b"b"}
    assert "damaged" in failure.reason


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_that_zipfile_inflates_without_bound_are_refused(method: int, make: Make) -> None:
    """It inflates 4 kB of bzip2 at once, which may be gigabytes."""
    path = make("a.zip", zipped({"a.bmp": bytes(10 * MIB)}, method=method))
    with most_memory(MIB):
        found, [failure] = split(members(path))
    assert not found
    assert "repack the archive with deflate" in failure.reason


@pytest.mark.parametrize("kind", ["deflated.zip", "streamed.zip", "plain.tar.gz", "plain.tar.bz2", "plain.tar.xz"])
def test_an_archive_that_inflates_out_of_proportion_is_given_up(kind: str, make: Make) -> None:
    """Each file is within the limit, but there is no end of them. What came before stays."""
    files = {"first.jpg": FILES["a/0.jpg"], **{f"{n}.bmp": bytes(900_000) for n in range(40)}}
    path = make(kind, MAKERS[kind](files))
    found, failures = split(members(path, max_member_bytes=MIB, max_ratio=20))
    assert found["first.jpg"] == FILES["a/0.jpg"]
    assert sum(map(len, found.values())) <= 20 * path.stat().st_size + MIB
    assert len(failures) == 1
    assert "far beyond its size" in failures[0].reason
    assert split(members(path, max_ratio=1e9))[0] == files


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_passing_over_a_huge_file_counts_too(mode: str, make: Make) -> None:
    """A hidden, or too large, member is not read, but inflating it costs as much."""
    path = make("a.tar", tarred({".hidden": bytes(60 * MIB), "a.jpg": b"a"}, mode))
    begun = time.process_time()
    with most_memory(8 * MIB):
        found, [failure] = split(members(path, max_member_bytes=MIB, max_ratio=2))
    assert not found
    assert "far beyond its size" in failure.reason
    assert time.process_time() - begun < 1


def overlapping(count: int, data: bytes) -> bytes:
    """A zip whose table of contents names the same file many times."""
    whole = zipped({"0000.bmp": data})
    begin = zipfile.ZipFile(io.BytesIO(whole)).start_dir
    entry = whole[begin : begin + 46 + 8]
    entries = b"".join(entry.replace(b"0000", b"%04d" % n) for n in range(count))
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(entries), begin, 0)
    return whole[:begin] + entries + end


def test_files_that_share_their_bytes_do_not_inflate_for_ever(make: Make) -> None:
    """A zip of 10 MB made so can inflate to 281 TB (Fifield, "A better zip bomb")."""
    path = make("a.zip", overlapping(900, bytes(MIB)))
    begun = time.process_time()
    with most_memory(8 * MIB):
        found, failures = split(members(path, max_member_bytes=MIB))
    assert sum(map(len, found.values())) <= 101 * path.stat().st_size + MIB
    assert failures
    assert time.process_time() - begun < 3


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_tar_header_of_endless_length_is_not_read(kind: bytes, make: Make) -> None:
    """Python's tarfile reads the text of a header whole, as long as it claims to be."""
    header = zeros(60 * MIB)
    header.type = kind
    path = make("a.tar.gz", tar_of(header, mode="w:gz", data=bytes(60 * MIB)))
    with most_memory(4 * MIB):
        found, [failure] = split(members(path, max_ratio=1e9))
    assert not found
    assert "header of more than" in failure.reason


def test_headers_that_announce_headers_end(make: Make) -> None:
    """Python's tarfile calls itself for each, until Python gives up."""
    header = zeros(1)
    header.type = tarfile.GNUTYPE_LONGNAME
    block = header.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")
    found, [failure] = split(members(make("a.tar", block * 5_000)))
    assert not found
    assert "archive" in failure.reason


@pytest.mark.timeout(20)
def test_a_tar_whose_header_points_backwards_ends(make: Make) -> None:
    """A negative size leads tarfile round in circles (CVE-2025-8194)."""
    found, failures = split(members(make("a.tar", tar_of(zeros(0), zeros(-512)))))
    assert found == {"zeros.bmp": b""}
    assert failures


def test_an_xz_file_that_asks_for_gigabytes_is_refused(make: Make) -> None:
    """Its header says how much memory its reader must have, up to 4 GiB."""
    data = bytearray(tarred(FILES, "w:xz"))
    length = (data[12] + 1) * 4
    data[16] = 40  # a dictionary of 4 GiB (xz-file-format, 5.3.1)
    data[12 + length - 4 : 12 + length] = struct.pack("<I", zlib.crc32(data[12 : 12 + length - 4]))
    found, [failure] = split(members(make("a.tar.xz", bytes(data))))
    assert not found
    assert "Memory usage limit" in failure.reason


def test_xz_files_of_several_streams_are_read_whole(make: Make) -> None:
    """As `cat a.xz b.xz` and parallel compressors make them, with zeros between."""
    import lzma

    whole = tarred(FILES)
    parts = [lzma.compress(whole[start : start + 1000]) for start in range(0, len(whole), 1000)]
    assert split(members(make("a.tar.xz", (bytes(8)).join(parts)))) == (FILES, [])


# -- refused -----------------------------------------------------------------------------------------------------------


@zip_and_tar
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/passwd", "absolute"),
        ("//server/share/a.jpg", "absolute"),
        ("\\\\server\\share\\a.jpg", "absolute"),
        ("C:/a.jpg", "absolute"),
        ("c:a.jpg", "absolute"),
        ("C:\\a.jpg", "absolute"),
        ("../a.jpg", "leads out"),
        ("a/../../b.jpg", "leads out"),
        ("a\\..\\..\\b.jpg", "leads out"),
        ("a/b/..", "leads out"),
    ],
)
def test_names_that_lead_out_are_refused(name: str, reason: str, kind: str, make: Make) -> None:
    """Nothing is unpacked, but the name lands in payloads, where others take it for a path."""
    path = make(kind, MAKERS[kind]({name: b"x", "good.jpg": b"good"}))
    found, [failure] = split(members(path))
    assert found == {"good.jpg": b"good"}
    assert failure.name == f"{path}!/{name}"
    assert reason in failure.reason


@zip_and_tar
def test_names_are_tidied(kind: str, make: Make) -> None:
    """`tar -C photos .` writes ./a.jpg, and old Windows programs write backslashes."""
    path = make(kind, MAKERS[kind]({"./a.jpg": b"a", "b//./c.jpg": b"c", "d\\e.jpg": b"e", "..f/g...jpg": b"g"}))
    assert split(members(path)) == ({"a.jpg": b"a", "b/c.jpg": b"c", "d/e.jpg": b"e"}, [])  # ..f is hidden
    assert read_member(path, "d/e.jpg") == b"e"


def test_a_zip_name_with_a_nul_is_refused(make: Make) -> None:
    """Python's zipfile cuts it off there: what is evil.jpg to one program is evil to another."""
    path = make("a.zip", zipped({"evil_.jpg": b"x", "a.jpg": b"a"}).replace(b"evil_", b"evil\0"))
    found, [failure] = split(members(path))
    assert found == {"a.jpg": b"a"}
    assert "NUL" in failure.reason


def test_links_and_devices_are_refused_and_folders_passed_over(make: Make) -> None:
    """A link to /etc/passwd must not become an image of it."""
    headers = []
    for number, kind in enumerate(
        [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
    ):
        header = zeros(0)
        header.name, header.type, header.linkname = f"{number}.jpg", kind, "/etc/passwd"
        headers.append(header)
    found, failures = split(members(make("a.tar", tar_of(*headers))))
    assert not found
    assert ["link" in failure.reason for failure in failures] == [True, True, False, False, False]

    link = zipfile.ZipInfo("link.jpg")
    link.create_system = 3
    link.external_attr = 0o120777 << 16
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.mkdir("folder") if hasattr(archive, "mkdir") else archive.writestr("folder/", b"")
    found, [failure] = split(members(make("a.zip", target.getvalue())))
    assert not found
    assert "link" in failure.reason


def test_sparse_files_are_refused(make: Make) -> None:
    """A header of 512 bytes may stand for terabytes of zeros."""
    header = zeros(0)
    header.type = tarfile.GNUTYPE_SPARSE
    found, [failure] = split(members(make("a.tar", tar_of(header, zeros(0)))))
    assert found == {"zeros.bmp": b""}
    assert "sparse" in failure.reason


def test_encrypted_files_are_refused(make: Make) -> None:
    """The flag is all that tells; the others go on."""
    data = bytearray(zipped({"secret.jpg": b"x" * 50, "a.jpg": b"a"}, method=zipfile.ZIP_STORED))
    data[data.find(b"PK\3\4") + 6] |= 1
    data[data.find(b"PK\1\2") + 8] |= 1
    path = make("a.zip", bytes(data))
    found, [failure] = split(members(path))
    assert found == {"a.jpg": b"a"}
    assert failure.name == f"{path}!/secret.jpg"
    assert "encrypted" in failure.reason


@zip_and_tar
def test_archives_inside_archives_are_not_opened(kind: str, make: Make) -> None:
    """A zip of zips of zips is how the first bombs were made."""
    path = make(kind, MAKERS[kind]({"inner.ZIP": zipped(FILES), "a.jpg": b"a", "b/c.tar.gz": b""}))
    found, failures = split(members(path))
    assert found == {"a.jpg": b"a"}
    assert ["inside an archive" in failure.reason for failure in failures] == [True, True]


@zip_and_tar
def test_hidden_files_are_passed_over(kind: str, make: Make) -> None:
    """As in a folder, and counted as there; a zip made on a Mac holds a shadow of each photo."""
    hidden = ["__MACOSX/._a.jpg", ".DS_Store", ".git/b.jpg", "c/Thumbs.db", "desktop.ini"]
    hidden += [".multimodal-search/index/schema.json"]  # of this library, and so no news
    path = make(kind, MAKERS[kind]({**dict.fromkeys(hidden, b"x"), "a.jpg": b"a"}))
    passed_over = Counter[str]()
    assert split(members(path, passed_over)) == ({"a.jpg": b"a"}, [])
    assert passed_over == {"system file": 3, "hidden file": 2}


# -- the rest ----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_files_with_one_name_the_last_counts(make: Make) -> None:
    """`tar -u` and `zip -g` add the newer version behind the old one."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a.jpg", b"old")
        archive.writestr("b.jpg", b"b")
        archive.writestr("a.jpg", b"new")
    path = make("a.zip", target.getvalue())
    assert split(members(path)) == ({"a.jpg": b"new", "b.jpg": b"b"}, [])
    assert len(list(members(path))) == 2
    assert read_member(path, "a.jpg") == b"new"

    path = make("a.tar", tarred({"a.jpg": b"old", "b.jpg": b"b", "./a.jpg": b"new"}))
    assert [each.data for each in members(path) if isinstance(each, Member)] == [b"old", b"b", b"new"]
    assert read_member(path, "a.jpg") == b"new"


def test_times_are_the_same_on_every_machine(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unchanged file is known by its time; a zip has no zone, so the machine's must play no part."""
    for zone in ("UTC", "America/New_York"):
        monkeypatch.setenv("TZ", zone)
        if hasattr(time, "tzset"):
            time.tzset()
        for data, expected in ((zipped(FILES), 1_714_979_290), (tarred(FILES), 1_700_000_000)):
            first = next(members(make("a.zip", data)))
            assert isinstance(first, Member)
            assert first.mtime_ns == expected * 1_000_000_000
    monkeypatch.undo()
    if hasattr(time, "tzset"):
        time.tzset()


def test_times_that_make_no_sense_are_none(make: Make) -> None:
    """Month 0 in a zip, and the year 300 million in a tar."""
    header = zeros(0)
    header.mtime = 2**60
    data = bytearray(zipped({"a.jpg": b"a"}))
    for at in (data.find(b"PK\3\4") + 12, data.find(b"PK\1\2") + 14):
        data[at : at + 2] = b"\0\0"
    for path in (make("a.tar", tar_of(header)), make("a.zip", bytes(data))):
        [member] = members(path)
        assert isinstance(member, Member)
        assert member.mtime_ns is None


def test_a_member_that_cannot_be_read_says_why(make: Make, tmp_path: Path) -> None:
    """The message of a hit that cannot be shown names the archive and the file, and a lost archive is told apart."""
    for name, data in (("a.zip", zipped(FILES)), ("a.tar.gz", tarred(FILES, "w:gz"))):
        path = make(name, data)
        with pytest.raises(UnreadableContentError, match=rf"{path}!/no.jpg: there is no such file in the archive"):
            read_member(path, "no.jpg")
        with pytest.raises(UnreadableContentError, match=r"!/a/0.jpg: more than 5 bytes"):
            read_member(path, "a/0.jpg", max_member_bytes=5)
    cut = make("cut.tar.gz", data[: len(data) // 2])
    assert read_member(cut, "a/1.jpg") == FILES["a/1.jpg"]
    with pytest.raises(UnreadableContentError, match=r"!/empty.jpg: not found; the archive is cut off"):
        read_member(cut, "empty.jpg")
    with pytest.raises(UnreadableContentError, match=r"gone.zip!/a.jpg: there is no such archive") as caught:
        read_member(tmp_path / "gone.zip", "a.jpg")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(UnreadableContentError, match=r"photo.zip!/a.jpg: not found; not a zip or tar file"):
        read_member(make("photo.zip", b"\xff\xd8\xff"), "a.jpg")


# -- names -------------------------------------------------------------------------------------------------------------


def zip_of(entries: Sequence[tuple[bytes, bytes, int]], extra: Mapping[bytes, bytes] | None = None) -> bytes:
    """A zip of stored files, by names as they are, contents and flags."""
    body = directory = b""
    for name, data, flags in entries:
        field = (extra or {}).get(name, b"")
        header = struct.pack(
            "<HHHHIIIHH", flags, 0, 0, 0x5821, zlib.crc32(data), len(data), len(data), len(name), len(field)
        )
        directory += b"PK\1\2" + struct.pack("<HH", 20, 20) + header + struct.pack("<HHHII", 0, 0, 0, 0, len(body))
        directory += name + field
        body += b"PK\3\4" + struct.pack("<H", 20) + header + name + field + data
    return (
        body
        + directory
        + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, *(len(entries),) * 2, len(directory), len(body), 0)
    )


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("cp932", ["機能.jpg", "ソ.jpg", "写真/表.jpg", "東京タワー.jpg"]),
        ("big5", ["成功.jpg", "許功蓋.jpg", "我的照片/台北101.jpg"]),
        ("gbk", ["照片/北京.jpg", "春天来了.jpg", "上海旅游.jpg"]),
        ("cp949", ["사진.jpg", "서울 여행.jpg"]),
        ("cp437", ["Übersicht.jpg", "Größe.jpg", "réunion.jpg"]),
        ("cp1252", ["été.jpg", "Größe.jpg", "café crème.jpg"]),
        ("cp866", ["Фото.jpg", "Москва.jpg"]),
        ("cp1251", ["Фото.jpg", "Москва.jpg"]),
        ("utf-8", ["日本.jpg", "é.jpg", "Фото.jpg"]),
    ],
)
def test_names_that_are_not_marked_are_read_in_the_encoding_of_their_country(
    encoding: str, names: list[str], make: Make
) -> None:
    """Zip files of Windows and of Unix do not say; a Japanese or Chinese letter may end in the byte of a backslash."""
    data = zip_of([(name.encode(encoding), name.encode(), 0) for name in [*names, "plain.jpg"]])
    path = make("a.zip", data)
    assert split(members(path)) == ({name: name.encode() for name in [*names, "plain.jpg"]}, [])
    assert all(read_member(path, name) == name.encode() for name in names)


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("cp932", ["写真/表示.jpg", "ソ.jpg", "機能.jpg"]),
        ("big5", ["成功.jpg", "許功蓋.jpg", "我的照片/台北.jpg"]),
        ("gbk", ["照片/北京.jpg", "春天来了.jpg"]),
        ("latin-1", ["Größe.jpg", "été.jpg"]),
    ],
)
@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_in_a_tar_that_are_not_utf_8_are_read_in_the_encoding_of_their_country(
    kind: int, encoding: str, names: list[str], make: Make
) -> None:
    """Of old disks, and of programs on Windows."""
    files = {name.encode(encoding).decode("utf-8", "surrogateescape"): name.encode() for name in names} | {
        "é.jpg": b"in UTF-8"
    }
    path = make("a.tar", tarred(files, kind=kind))
    assert split(members(path)) == ({name: name.encode() for name in names} | {"é.jpg": b"in UTF-8"}, [])
    assert all(read_member(path, name) == name.encode() for name in names)


def test_a_zip_name_that_is_marked_as_utf_8_and_is_none_costs_nothing(make: Make) -> None:
    """Python opens nothing of such an archive; names that are what they say keep their mark."""
    names = [("表.jpg", "cp932", 0x800), ("日本.jpg", "utf-8", 0x800), ("機能.jpg", "cp932", 0x800)]
    path = make("a.zip", zip_of([(name.encode(code), b"PK\1\2" + name.encode(), flags) for name, code, flags in names]))
    assert split(members(path)) == ({name: b"PK\1\2" + name.encode() for name, _, _ in names}, [])
    assert read_member(path, "表.jpg") == b"PK\1\2" + "表.jpg".encode()


def test_no_file_is_lost_to_a_name_in_another_encoding(make: Make) -> None:
    """One encoding is chosen for an archive; what it cannot spell, or spells as nonsense, has a name all the same."""
    names = [
        ("機能.jpg", "cp932"),
        ("ソ.jpg", "cp932"),
        ("写真表.jpg", "cp932"),
        ("成功.jpg", "big5"),
        ("許功.jpg", "big5"),
    ]
    path = make("a.zip", zip_of([(name.encode(code), name.encode(), 0) for name, code in names]))
    found, failures = split(members(path))
    assert not failures
    assert sorted(found.values()) == sorted(name.encode() for name, _ in names)
    assert {"機能.jpg", "ソ.jpg", "写真表.jpg"} <= set(found)
    assert all(read_member(path, name) == data for name, data in found.items())


def test_a_unicode_name_beside_the_other_goes_before_it(make: Make) -> None:
    """Info-ZIP writes it; one whose checksum fits another name is left over from a renaming."""
    raw = "Grüße.jpg".encode("cp850")

    def field(name: bytes) -> bytes:
        text = struct.pack("<BI", 1, zlib.crc32(name)) + "日本.jpg".encode()
        return struct.pack("<HH", 0x7075, len(text)) + text

    assert list(split(members(make("a.zip", zip_of([(raw, b"x", 0)], {raw: field(raw)}))))[0]) == ["日本.jpg"]
    assert list(split(members(make("a.zip", zip_of([(raw, b"x", 0)], {raw: field(b"other")}))))[0]) == ["Grüße.jpg"]


def test_two_names_that_become_one_are_both_kept(make: Make) -> None:
    path = make("a.zip", zip_of([("é.jpg".encode(), b"marked", 0x800), ("é.jpg".encode("cp437"), b"not", 0)]))
    assert split(members(path)) == ({"é.jpg": b"marked", "é (2).jpg": b"not"}, [])
    assert read_member(path, "é (2).jpg") == b"not"
