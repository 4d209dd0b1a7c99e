"""Which words name which colour, and where in an image: English, French, German, Italian and Spanish."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

Place: TypeAlias = Literal["top", "centre", "bottom"]
"""A part of an image that texts can name."""

PLACES: tuple[Place, ...] = ("top", "centre", "bottom")

TERMS = ("black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
"""The 11 basic colour terms (B. Berlin and P. Kay, Basic Color Terms, 1969)."""

SHADES: dict[str, tuple[str, ...]] = {
    **{term: (term,) for term in TERMS},
    **{f"{tone} {term}": (term,) for term in TERMS[2:] for tone in ("light", "dark")},
    "burgundy": ("red",),
    "rust": ("red", "brown"),
    "salmon": ("pink", "orange"),
    "peach": ("orange", "brown"),
    "gold": ("yellow",),
    "lime": ("green",),
    "olive": ("green",),
    "khaki": ("green", "brown"),
    "turquoise": ("green", "blue"),
    "teal": ("green", "blue"),
    "cyan": ("blue",),
    "lavender": ("purple",),
    "magenta": ("pink", "purple"),
    "beige": ("brown",),
    "cream": ("white",),
}
"""Every shade that a text can name, and the basic terms it belongs to, in equal parts."""

# Words by shade: English | French | Italian | Spanish | German. "noir+e+s" also stands for "noire" and "noirs",
# "rosso/a/i" for "rossa" and "rossi"; German stems get their endings below. "_" joins the words of a phrase.
# Left out, for what else they mean in one of the languages: "or" and "argent" (French), "plata", "café", "crema",
# "pesca", "pêche", "sand", "blues"; and fruit, spices and animals that are colours only now and then.
_COLORS = {
    "black": "black blackish | noir+e+s+es noirâtre+s | nero/a/i/e nerastro/a/i/e | negro/a/os/as negruzco/a/os/as"
    "| schwarz schwärzlich",
    "white": "white whitish | blanc+s blanche+s blanchâtre+s | bianco/a bianchi bianche biancastro/a/i/e"
    "| blanco/a/os/as blanquecino/a/os/as | weiß weißlich",
    "grey": "grey gray greyish grayish | gris+e+es grisâtre+s | grigio/a grigi grigie grigiastro/a/i/e"
    "| gris+es grisáceo/a/os/as | grau gräulich",
    "red": "red reddish scarlet crimson | rouge+s rougeâtre+s écarlate+s cramoisi+e+s+es | rosso/a/i/e rossastro/a/i/e"
    " scarlatto/a/i/e cremisi"
    "| rojo/a/os/as rojizo/a/os/as escarlata+s carmesí | rot rötlich scharlachrot karmesinrot",
    "orange": "orange orangish | orange+s orangé+e+s+es | arancione/i arancio arancia aranciato/a/i/e"
    "| naranja+s anaranjado/a/os/as | orange",
    "yellow": "yellow yellowish | jaune+s jaunâtre+s | giallo/a/i/e giallastro/a/i/e"
    "| amarillo/a/os/as amarillento/a/os/as | gelb gelblich",
    "green": "green greenish | vert+e+s+es verdâtre+s | verde/i verdastro/a/i/e | verde+s verdoso/a/os/as"
    "| grün grünlich",
    "blue": "blue bluish | bleu+e+s+es bleuâtre+s bleuté+e+s+es | blu bluastro/a/i/e | azul+es azulado/a/os/as"
    "| blau bläulich",
    "purple": "purple purplish | violet+s violette+s violacé+e+s+es pourpre+s | viola violetto/a/i/e porpora"
    "| morado/a/os/as violeta+s púrpura+s | lila violett purpur purpurn",
    "pink": "pink pinkish rosy | rose+s rosé+e+s+es rosâtre+s | rosa rosato/a/i/e | rosa+s rosado/a/os/as"
    "| rosa rosé pink",
    "brown": "brown brownish chestnut | marron+s brun+e+s+es brunâtre+s | marrone/i bruno/a/i/e castano/a/i/e"
    "| marrón marrones pardo/a/os/as castaño/a/os/as | braun bräunlich",
    "light grey": "silver silvery | argenté+e+s+es | argentato/a/i/e | plateado/a/os/as | silber silbern silbrig",
    "dark grey": "charcoal anthracite | anthracite | antracite | antracita | anthrazit",
    "dark red": "maroon blood_red | rouge_sang | rosso_sangue | rojo_sangre | blutrot",
    "burgundy": "burgundy wine_red | bordeaux lie_de_vin | bordò | granate+s burdeos | weinrot bordeaux",
    "rust": "rust rusty terracotta | rouille | ruggine | terracota | rost",
    "salmon": "salmon coral | saumon corail | salmone corallo | salmón coral | lachs koralle korallen",
    "peach": "peach apricot | abricot | albicocca | melocotón albaricoque | pfirsich aprikose aprikosen",
    "dark yellow": "ochre ocher | ocre+s | ocra | ocre+s | ocker",
    "gold": "gold golden | doré+e+s+es | oro dorato/a/i/e | dorado/a/os/as | gold golden",
    "lime": "lime | vert_citron | verde_lime | verde_lima | limette limetten",
    "light green": "mint_green | vert_menthe | verde_menta | verde_menta | mintgrün minzgrün",
    "dark green": "forest_green bottle_green | vert_sapin vert_bouteille | verde_bosco verde_bottiglia | verde_botella"
    "| tannengrün flaschengrün",
    "olive": "olive | olive | oliva | oliva | oliv",
    "khaki": "khaki | kaki+s | cachi | caqui+s | khaki",
    "turquoise": "turquoise aquamarine | turquoise+s | turchese/i | turquesa+s | türkis",
    "teal": "teal | bleu_canard bleu_pétrole | verde_petrolio | verde_petróleo | petrolblau",
    "cyan": "cyan aqua | cyan+s | ciano | cian | cyan",
    "light blue": "azure sky_blue baby_blue | azur bleu_ciel | azzurro/a/i/e celeste/i | celeste+s azul_cielo"
    "| himmelblau azurblau babyblau eisblau",
    "dark blue": "navy royal_blue midnight_blue | bleu_marine bleu_nuit bleu_roi | blu_notte blu_marino"
    "| azul_marino azul_noche | marineblau nachtblau königsblau",
    "light purple": "lilac mauve | lilas mauve+s | lilla malva | malva+s | flieder malve",
    "dark purple": "indigo | indigo+s | indaco | índigo | indigo",
    "lavender": "lavender | lavande | lavanda | lavanda | lavendel",
    "magenta": "magenta fuchsia | magenta fuchsia | magenta fucsia | magenta fucsia | magenta",
    "light brown": "tan | fauve+s | nocciola | avellana | haselnussbraun",
    "beige": "beige | beige+s | beige | beige+s beis | beige sandbraun sandfarben",
    "cream": "cream ivory | crème ivoire | avorio | marfil | creme elfenbein",
}

_NOT_COLORS = ("ice_cream", "whipped_cream", "crème_glacée", "crème_brûlée")
"""Phrases whose colour word names no colour."""

# Tones stand before their colour in English and German, and after it in the others.
_TONES_BEFORE = {
    "light": "light pale pastel | hell helle heller helles hellen hellem blass blasse blasser blasses blassen zart",
    "dark": "dark deep | dunkel dunkle dunkler dunkles dunklen dunklem tief tiefe tiefes tiefer tiefen",
}
_TONES_AFTER = {
    "light": "clair+e+s+es pâle+s pastel | chiaro/a/i/e pallido/a/i/e pastello | claro/a/os/as pálido/a/os/as pastel",
    "dark": "foncé+e+s+es sombre+s | scuro/a/i/e | oscuro/a/os/as",
}
_PLACES = {
    "top": "top upper | en_haut | in_alto superiore/i | arriba superior+es | oben obere oberen oberer oberes",
    "centre": "centre center middle | milieu | mezzo centro | centro medio | mitte mittig mittlere mittleren zentrum",
    "bottom": "bottom lower | en_bas | in_basso inferiore/i | abajo inferior+es | unten untere unteren unterer unteres",
}

# A place holds for its own clause: "green, with a white dog in the middle" is green all over.
_CLAUSE_END = re.compile(r"[,;.!?\n]|\b(?:with|avec|con|mit)\b")


class Mention(NamedTuple):
    """A colour that a text names, and where in the image; None is anywhere."""

    shade: str
    place: Place | None


def read_mentions(text: str) -> list[Mention]:
    """The colours that a text names, each once, in the order of their first mention.

    Words count whole, in any case and any Unicode form; "ß", "ü" and "é" may be spelt "ss", "ue" and "e".
    """
    found: dict[Mention, None] = {}
    for clause in _CLAUSE_END.split(_plain(text)):
        found |= dict.fromkeys(_read_clause(list(_words(clause))))
    return list(found)


def _read_clause(words: list[str]) -> Iterator[Mention]:
    colors = _colors_of(words)
    places = {i: _PLACE_OF[word] for i, word in enumerate(words) if word in _PLACE_OF}
    # "top blue, bottom green" names the place first, "blue top, green bottom" the colour.
    place_first = bool(places and colors) and min(places) < min(colors)
    for i, shade in colors.items():
        if place_first:
            at = max((j for j in places if j < i), default=None)
        else:
            at = min((j for j in places if j > i), default=None)
        yield Mention(shade, None if at is None else places[at])


def _colors_of(words: list[str]) -> dict[int, str]:
    """The shades that words name, by the position of the word."""
    colors: dict[int, str] = {}
    around = ["", *words, ""]
    for i, (before, word, after) in enumerate(zip(around, words, around[2:], strict=False)):
        shade = _SHADE_OF.get(word)
        if shade is None:
            continue
        if word == "tan" and (after in _SHADE_OF or after in _TONE_AFTER):
            continue  # Spanish: "un cielo tan azul" is "such a blue sky"
        tone = _TONE_BEFORE.get(before) or _TONE_AFTER.get(after)
        if tone is not None and f"{tone} {shade}" in SHADES:
            shade = f"{tone} {shade}"
        last = colors.get(i - 1)
        if last is not None and last not in TERMS and shade in SHADES[last]:
            continue  # "olive green" is olive
        if last in TERMS and shade not in TERMS and last in SHADES[shade]:
            del colors[i - 1]  # "verde oliva" is olive
        colors[i] = shade
    return colors


def _words(clause: str) -> Iterator[str]:
    """The words of a clause, phrases as one, German compounds as their parts."""
    for token in _TOKEN.findall(clause):
        word = "_".join(_GAP.split(token))
        yield from _parts(word) or [word]


def _parts(word: str) -> list[str]:
    """The parts of a compound, as "dunkel" and "grüne" of "dunkelgrüne"; none where the word names no colour."""
    if word in _SHADE_OF:
        return [word]
    if len(word) > _MAX_WORD_LENGTH:
        return []
    for stem in _STEMS:
        if word.startswith(stem) and (rest := _parts(word[len(stem) :])):
            return [stem, *rest]
    return []


def _plain(text: str) -> str:
    """Lower case, without accents, "ß" as "ss"."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def _spellings(word: str) -> Iterator[str]:
    """A word's plain form, and the one with "ue" for "ü"."""
    yield _plain(word)
    yield _plain(word.translate({ord("ä"): "ae", ord("ö"): "oe", ord("ü"): "ue"}))


def _inflected(entry: str) -> Iterator[str]:
    """The words that an entry of the tables above stands for."""
    word, *endings = entry.split("+")
    if endings:
        yield from (_plain(word + ending) for ending in ("", *endings))
        return
    word, *endings = entry.split("/")
    yield _plain(word)
    yield from (_plain(word[:-1] + ending) for ending in endings)


def _german(stem: str) -> Iterator[str]:
    """The forms of a German adjective: "rot", "rote", "rotes", "rosane", "rosafarben"."""
    vowel = stem.endswith(("a", "e", "é"))
    for ending in ("", "e", "er", "es", "en", "em", "farben", "farbene", "farbener", "farbenes", "farbenen"):
        yield stem + ("n" if vowel and ending.startswith("e") else "") + ending
        if stem.endswith("e") and ending.startswith("e"):
            yield stem + ending[1:]


def _table(entries: dict[str, str]) -> dict[str, str]:
    return {
        form: meaning
        for meaning, listed in entries.items()
        for entry in listed.replace("|", " ").split()
        for form in _inflected(entry)
    }


_TONE_BEFORE = _table(_TONES_BEFORE)
_TONE_AFTER = _table(_TONES_AFTER)
_PLACE_OF: dict[str, Place] = {word: place for place in PLACES for word in _table({place: _PLACES[place]})}

_GERMAN_STEMS = {stem: shade for shade, listed in _COLORS.items() for stem in listed.rpartition("|")[2].split()}
_SHADE_OF = {
    **{
        form: shade
        for stem, shade in _GERMAN_STEMS.items()
        for inflected in _german(stem)
        for form in _spellings(inflected)
    },
    **_table(_COLORS),
}
# The longest first, so that "violett" is tried before "viol..."; a compound is stems, then a colour word.
_STEMS = sorted({*_TONE_BEFORE, *(form for stem in _GERMAN_STEMS for form in _spellings(stem))}, key=len, reverse=True)

_MAX_WORD_LENGTH = 100  # letters of a compound; each of its parts costs a level of recursion
_GAP = re.compile(r"[\s_-]+")
_PHRASES = sorted(word for word in (*_SHADE_OF, *_PLACE_OF, *map(_plain, _NOT_COLORS)) if "_" in word)
_TOKEN = re.compile("|".join([rf"\b{_GAP.pattern.join(phrase.split('_'))}\b" for phrase in _PHRASES] + [r"[^\W\d_]+"]))
