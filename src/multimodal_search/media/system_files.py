"""System files: trash, thumbnails, previews and indexes that systems and programs keep among images.

They are recognized by names that only such programs use, so that no folder of the user is left out by its name.
"""

from __future__ import annotations

import re
from collections.abc import Collection

HOME = ".multimodal-search"
"""Name, or end of the name, of the folder in which the shell keeps an index."""

_FOLDERS = frozenset(
    {
        # Windows: trash, restore points, what a check of the disk has found (GitHub's gitignore/Global/Windows)
        "$recycle.bin",
        "recycler",
        "system volume information",
        "found.000",
        # Linux, Android: what a check of the disk has found (e2fsck(8); Android's vold)
        "lost+found",
        "lost.dir",
        # macOS: in zip files, and on servers (GitHub's gitignore/Global/macOS)
        "__macosx",
        "network trash folder",
        "temporary items",
        # Synology: thumbnails and metadata, trash, snapshots (DSM's knowledge base; digiKam ignores @eaDir as well)
        "@eadir",
        "@tmp",
        "#recycle",
        "#snapshot",
        # QNAP: trash, snapshots, converted videos (QTS user guide); others' snapshots on SMB shares (NetApp)
        "@recycle",
        "@recently-snapshot",
        "@transcode",
        "@__thumb",
        "~snapshot",
        # Nextcloud and ownCloud, below their data folder: trash, former versions (their administration manuals)
        "files_trashbin",
        "files_versions",
    }
)

_FILES = frozenset(
    {
        # Windows (GitHub's gitignore/Global/Windows; Syncthing's default ignore patterns)
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        # macOS: a folder's own icon
        "icon\r",
        # Picasa, Canon ZoomBrowser, digiKam: notes and thumbnails
        "picasa.ini",
        "zbthumbnail.info",
        "thumbnails-digikam.db",
    }
)

_FOLDER_PATTERN = re.compile(
    r".*\.lrdata"  # Lightroom: previews and smart previews
    r"|.*\.lrcat-data"
    r"|appdata_oc[0-9a-z]+",  # Nextcloud and ownCloud: previews, by the id of the instance
)

_PAIRS = frozenset(
    {
        # Capture One, in each folder of a session: thumbnails, proxies, settings
        ("captureone", "cache"),
        ("captureone", "settings"),
        # Nextcloud's folders of groups
        ("__groupfolders", "trash"),
        ("__groupfolders", "versions"),
    }
)

_LIBRARIES: dict[str, Collection[str]] = {
    # Photos (before macOS 10.15: Masters), iPhoto, Aperture, Capture One: the rest are previews, edits and databases
    ".photoslibrary": ("originals", "masters"),
    ".photolibrary": ("originals", "masters"),
    ".migratedphotolibrary": ("originals", "masters"),
    ".aplibrary": ("masters",),
    ".migratedaplibrary": ("masters",),
    ".cocatalog": ("originals",),
}
"""Photo libraries that are folders, by their extensions, and the folders in them with the original images."""

_IMMICH = frozenset({"thumbs", "encoded-video", "profile", "backups"})  # which it marks with a file (its manual)

_INDEXES = (
    frozenset({"schema.json", "shard"}),  # of this library
    frozenset({"lock", "shard"}),  # of this library, not complete
    frozenset({"lock", "shard.new"}),
    frozenset({"meta.json", "collection"}),  # of qdrant-client, local mode
    frozenset({"raft_state.json", "collections"}),  # of a Qdrant server
)

HEAD = 256
"""Number of entries of a folder to look at for `index_marks` and `is_marked`: such folders have few at their top."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden by its name; file servers for Macs write `:2e` for the dot."""
    return name.startswith((".", ":2e"))


def is_clutter(parent: str, name: str, *, is_folder: bool) -> bool:
    """Whether a file or folder belongs to a system or program, by its name and that of its parent."""
    name = name.lower()
    if "." in parent and (kept := _LIBRARIES.get(parent[parent.rfind(".") :].lower())) is not None:
        return not is_folder or name not in kept
    if not is_folder:
        return name in _FILES
    return name in _FOLDERS or (parent.lower(), name) in _PAIRS or _FOLDER_PATTERN.fullmatch(name) is not None


def is_below_clutter(path: str, *, parent: str = "") -> bool:
    """Whether a file, or a folder on its POSIX path below `parent`, belongs to a system or program."""
    *folders, name = path.split("/")
    for folder in folders:
        if is_clutter(parent, folder, is_folder=True):
            return True
        parent = folder
    return is_clutter(parent, name, is_folder=False)


def index_marks(names: Collection[str]) -> frozenset[str]:
    """The entries that show that a folder is an index; empty if it is not."""
    return next((marks for marks in _INDEXES if marks.issubset(names)), frozenset())


def is_marked(folder: str, names: Collection[str]) -> bool:
    """Whether a program has marked a folder as its storage: Immich's thumbnails, PhotoPrism's storage."""
    return ".ppstorage" in names or (".immich" in names and folder.lower() in _IMMICH)
