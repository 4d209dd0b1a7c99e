"""The file of an image: on its own, or a member of a zip or tar file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from multimodal_search.contents import Image
from multimodal_search.media.archives.members import is_archive, member_name, read_member


@dataclass(frozen=True, slots=True)
class ImageFile:
    """Where the file of an image is.

    Attributes:
        path: Its path; of a member, that of the archive with the member's name below it.
        archive: The archive that it is a member of; None for a file on its own.
    """

    path: Path
    archive: Path | None = None

    @classmethod
    def below(cls, root: Path, filename: Path) -> ImageFile:
        """The file with a relative name below a folder, or in an archive."""
        return cls(root / filename, root if is_archive(root) else None)

    @property
    def name(self) -> str:
        """What errors call it: its path, or `photos.zip!/2024/a.jpg`."""
        return str(self.path) if self.archive is None else member_name(self.archive, self._member)

    @property
    def _member(self) -> str:
        return self.path.relative_to(self.archive or self.path).as_posix()

    def image(self) -> Image:
        """The image, to be decoded; a member is read into memory.

        Raises:
            UnreadableContentError: The archive is gone or broken, or has no such member.
        """
        if self.archive is None:
            return Image(self.path)
        return Image(read_member(self.archive, self._member), name=self.name)
