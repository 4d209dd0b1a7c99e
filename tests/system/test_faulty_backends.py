"""Embedders and stores that are not whole are refused in a sentence that names what they lack or answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from multimodal_search import ColorEmbedder, MemoryStore, MultimodalIndex, StoreError


class Half:
    """Has a method of either protocol."""

    def ensure(self, schema: Any, /) -> Any:
        return schema

    def embed(self, contents: Any, /, *, role: Any) -> Any:
        return contents


def test_what_a_backend_lacks_is_named() -> None:
    with pytest.raises(TypeError, match=r"a store, such as MemoryStore\(\), not <.*: it lacks close, count, delete"):
        MultimodalIndex(ColorEmbedder(), Half())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"the embedder is .* not <.*: it lacks spec$"):
        MultimodalIndex(Half(), MemoryStore())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"not 'color'$"):
        MultimodalIndex("color", MemoryStore())  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", [None, [], [[], []]], ids=["None", "no page", "too many pages"])
def test_a_store_that_answers_with_something_else_is_named(answer: Any) -> None:
    class Wrong(MemoryStore):
        def search(self, *_: Any, **__: Any) -> Any:
            return answer

    with MultimodalIndex(ColorEmbedder(), Wrong(), auto_calibrate=False) as index:
        index.add_texts(["red"])
        with pytest.raises(StoreError, match=r"MemoryStore.* answered 1 searches with (NoneType|[02] pages)"):
            index.search("red")
        with pytest.raises(StoreError, match=r"MemoryStore.* answered 1 searches with (NoneType|[02] pages)"):
            index.search("red", diversity=0.5)


def test_a_store_without_a_schema_is_named() -> None:
    class Wrong(MemoryStore):
        def ensure(self, schema: Any, /) -> Any:
            super().ensure(schema)

    with pytest.raises(StoreError, match="answered `ensure` with None"):
        MultimodalIndex(ColorEmbedder(), Wrong())


def test_the_folder_of_an_index_is_told_from_one_that_was_never_indexed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from multimodal_search.__main__ import main

    MultimodalIndex.open(tmp_path / "photos.index", embedder=ColorEmbedder()).close()
    monkeypatch.setattr("sys.argv", ["multimodal-search", "status", str(tmp_path / "photos.index")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "is an index itself" in capsys.readouterr().err
