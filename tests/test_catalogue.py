"""Titles of works: the rules on real names of all families, the tables, and what holds for every name whatever."""

import csv
import re
import unicodedata
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import thorough
from composer_classify.archives import list_members
from composer_classify.catalogue import (
    WorkTitle,
    _names,
    _rows,
    clean_name,
    plain_name,
    title_all,
    title_of,
    works_of,
)
from composer_classify.collection import categorise

ROOT = Path(__file__).resolve().parent.parent
ACCIDENTALS = {"", "-flat", "-sharp"}
FILE_LIKE = re.compile(r"\d ?mov\b|_|Nueva carpeta|\.mid|Bwv0|\bn0?\d+\b", re.IGNORECASE)  # never in a title

FAMILIES = [
    # composer, name, title
    ("Bach", "Bwv846-869 The Well Tempered Clavier Book 1/WT1_X3B",
     "Prelude and Fugue No. 13 in F-sharp major (The Well-Tempered Clavier, Book I), BWV 858: Fugue"),
    ("Bach", "Bwv870-893 The Well Tempered Clavier Book 2/Wtcii08b",
     "Prelude and Fugue No. 8 in D-sharp minor (The Well-Tempered Clavier, Book II), BWV 877: Fugue"),
    ("Bach", "BWV-0780 No-09 2-part invention", "Two-Part Invention No. 9 in F minor, BWV 780"),
    ("Bach", "Bwv772-786 Two Part Inventions/Bwv772-786 Two Part Inventions/invent10",
     "Two-Part Invention No. 10 in G major, BWV 781"),
    ("Bach", "Bwv001- 400 Chorales/003706b_", "Wer da gläubet und getauft wird, BWV 37: No. 6. Chorale"),
    ("Bach", "Bwv001- 400 Chorales/025300b_", "Ach bleib bei uns, Herr Jesu Christ, BWV 253"),
    ("Bach", "Bwv001- 400 Chorales/Bwv005.7", "Wo soll ich fliehen hin, BWV 5: No. 7. Chorale"),
    ("Bach", "Bwv001- 400 Chorales/Bwv768 Chorale and Variations/bsgjg_b",
     "Partita on “Sei gegrüßet, Jesu gütig”, BWV 768: Variation 1"),
    ("Bach", "Bwv988 The Goldberg Variations/Variation 07", "Goldberg Variations, BWV 988: Variation 7"),
    ("Bach", "Bwv0806 English Suite n1 10mov", "English Suite No. 1 in A major, BWV 806: X. Gigue"),
    ("Bach", "Concertos/Bwv1050 Brandenburg Concert n5 1-2-3movs",
     "Brandenburg Concerto No. 5 in D major, BWV 1050: I–III"),
    ("Mozart", "Piano Sonatas/Nueva carpeta/K545 Piano Sonata",
     "Piano Sonata No. 16 in C major, K. 545 “Sonata facile”"),
    ("Mozart", "5 Klaviersonate KV545 2nd Mov",
     "Piano Sonata No. 16 in C major, K. 545 “Sonata facile”: II. Andante"),
    ("Mozart", "Symphonies/Symphony n41 K551 2mov _Jupiter_",
     "Symphony No. 41 in C major, K. 551 “Jupiter”: II. Andante cantabile"),
    ("Beethoven", "Piano Sonatas/Piano Sonata n14 op27 1mov _Moonlight_",
     "Piano Sonata No. 14 in C-sharp minor, Op. 27 No. 2 “Moonlight”: I. Adagio sostenuto"),
    ("Beethoven", "Symphonies/Symphony n3 2mov _Eroica_",
     "Symphony No. 3 in E-flat major, Op. 55 “Eroica”: II. Marcia funebre: Adagio assai"),
    ("Beethoven", "WoO055 Prelude", "Prelude in F minor, WoO 55"),
    ("Beethoven", "Hess057 Bagatella", "Bagatelle in C major, Hess 57"),
    ("Scarlatti", "sonatas/K009", "Keyboard Sonata in D minor, K. 9"),
    ("Scarlatti", "Sonata Longo375", "Keyboard Sonata in E major, K. 20"),
    ("Handel", "Messiah Oratorio Hwv056/mesiah44", "Messiah, HWV 56: No. 44. Hallelujah"),
    ("Handel", "Harpsichord Suite n3 Hwv428 3mov", "Suite No. 3 in D minor, HWV 428: III. Allemande"),
    ("Vivaldi", "The Four Seasons op8 n1 RV269 _Spring_ 1mov Allegro",
     "The Four Seasons: Violin Concerto in E major, Op. 8 No. 1, RV 269 “Spring”: I. Allegro"),
    ("Haydn", "Nueva carpeta/Sonata n54 1mov XVI40",
     "Keyboard Sonata in G major, Hob. XVI:40: I. Allegretto innocente"),
    ("Haydn", "Symphony n94 2mov _Surprise_", "Symphony No. 94 in G major, Hob. I:94 “Surprise”: II. Andante"),
    ("Schubert", "Impromptus op90 D899 n3", "Impromptu in G-flat major, Op. 90 No. 3, D. 899 No. 3"),
    ("Schubert", "D550__forelle__1", "Die Forelle, D. 550"),
    ("Chopin", "Prelude op.28-15 Raindrop", "Prelude No. 15 in D-flat major, Op. 28 No. 15 “Raindrop”"),
    ("Chopin", "Nocturne No-08", "Nocturne No. 8 in D-flat major, Op. 27 No. 2"),
    ("Schumann", "Kinderszenen Opus Furchtenmachen", "Kinderszenen, Op. 15: No. 11. Fürchtenmachen"),
    ("Liszt", "Paganini Etude n3",
     "Grandes études de Paganini: No. 3 in G-sharp minor, S. 141 No. 3 “La campanella”"),
    ("Brahms", "Op-118 No-2 Intermezzo in A", "Intermezzo in A major, Op. 118 No. 2"),
    ("Satie", "Cinq grimaces pour le songe d_une D_e_te_, No.1. Pre_ambule",
     "Cinq grimaces pour « Le songe d’une nuit d’été »: No. 1. Préambule"),
    ("Albéniz", "Suite Espagnole Cadiz", "Suite española No. 1, Op. 47: No. 4. Cádiz"),
    ("Dvořák", "O96__dvorak-o96__1", "String Quartet No. 12 in F major, Op. 96 “American”"),
    ("Burgmüller", "O100__25EF-15__1", "25 études faciles et progressives, Op. 100: No. 15. Ballade"),
    ("Buxtehude", "Buxwv153 Prelude", "Praeludium in A minor, BuxWV 153"),
    ("Moszkowski", "Sonata No-14 in Mondscheinsonate-2",
     "Piano Sonata No. 14 in C-sharp minor, Op. 27 No. 2 “Moonlight”: II. Allegretto"),
    ("Monteverdi", "madrigal.4.16", "Madrigals, Book IV: No. 16. Sì ch’io vorrei morire"),
]  # fmt: skip

PRINTED = [
    ("Schubert", "Op.22 - 1 Der Zwerg, D.771", "Der Zwerg, D. 771"),
    ("Schubert", "Winterreise, D.911 - 15 Die Kraehe", "Winterreise, D. 911: No. 15. Die Krähe"),
    ("Fauré", "Op.27 - 1 Chanson d’amour", "Chanson d’amour, Op. 27 No. 1"),
    ("Kinkel", "6 Lieder, Op.19 - 4 Beduinen-Romanze", "6 Lieder, Op. 19: No. 4. Beduinen-Romanze"),
    ("Holmès", "Les Heures - 2 L’Heure d’Or", "Les Heures: No. 2. L’Heure d’Or"),
    ("Boulton", "12 New Songs - 9 A Pretty Maid", "12 New Songs: No. 9. A Pretty Maid"),
    ("Chaminade", "Amour d’automne", "Amour d’automne"),
    ("Schumann", "Dichterliebe, Op.48 - 7 Ich grolle nicht", "Dichterliebe, Op. 48: No. 7. Ich grolle nicht"),
]


@pytest.mark.parametrize(("composer", "name", "title"), FAMILIES, ids=[name for _, name, _ in FAMILIES])
def test_a_name_of_each_family(composer, name, title):
    found = title_of(composer, name)
    assert str(found) == title and found.how in ("rule", "by hand")


@pytest.mark.parametrize(("composer", "name", "title"), PRINTED, ids=[name for _, name, _ in PRINTED])
def test_a_printed_name(composer, name, title):
    found = title_of(composer, name, "lieder/a/b.musicxml")
    assert (str(found), found.how) == (title, "rule")


def test_a_printed_quartet():
    name = "String Quartet in D minor, Hob.III76, Op.76 No.2"
    found = title_of("Haydn", name, "quartets/a/b.musicxml")
    assert str(found) == "String Quartet in D minor, Op. 76 No. 2, Hob. III:76 “Fifths”"
    other = title_of("Nobody", "String Quartet No.3 in A minor (“Dawn”)", "quartets/a/b.musicxml")
    assert (str(other), other.key, other.genre) == (
        "String Quartet No. 3 in A minor “Dawn”",
        "A minor",
        "string quartet",
    )


@pytest.mark.parametrize("name", ["Symphonies/Symphony n5 op67 9mov", "Symphony n5 op67 0mov"])
def test_there_is_no_such_movement(name):
    assert str(title_of("Beethoven", name)) == "Symphony No. 5 in C minor, Op. 67"


def test_a_name_with_the_headings_of_all_parts_is_that_of_the_whole():
    assert str(title_of("Bach", "Bwv0906 Fantasia and Fugue")) == "Fantasia and Fugue in C minor, BWV 906"


@pytest.mark.parametrize("composer", ["Bach", "Beethoven", "Ciconia", "German", "Mozart", "Scarlatti", "Vivaldi"])
def test_the_title_of_a_work_is_read_as_that_work(composer):
    for work in works_of(composer).values():
        found = title_of(composer, ", ".join(filter(None, [work.work, work.catalogue])))
        assert (found.work, found.catalogue, found.movement) == (work.work, work.catalogue, "")


def test_what_no_table_knows_keeps_its_name_cleaned():
    assert title_of("Albéniz", "Título Desconocido") == WorkTitle("Título Desconocido")
    assert str(title_of("Nobody", "Nueva carpeta/Symphony _Great_")) == "Symphony “Great”"
    assert title_of("Haydn", "Piano Piece n1").how == "unresolved"


@pytest.mark.parametrize("row", list(csv.DictReader((ROOT / "results/catalogue_sample.csv").open(encoding="utf-8"))))
def test_the_rows_that_were_checked_one_by_one(row):
    found = title_of(row["composer"], row["title"], row["source"])
    assert (str(found), found.key, found.genre, found.how) == (row["answer"], row["key"], row["genre"], row["how"])
    assert not FILE_LIKE.search(str(found))


@pytest.mark.parametrize("row", list(csv.DictReader((ROOT / "results/catalogue_sample.csv").open(encoding="utf-8"))))
def test_a_title_reads_as_itself(row):
    "So a file that was named by its title keeps it."
    assert str(title_of(row["composer"], row["answer"])) == row["answer"]


def test_at_least_98_in_100_of_them_are_right():
    right = pd.read_csv(ROOT / "results/catalogue_sample.csv")["right"]
    assert len(right) == 200 and right.eq("yes").mean() >= 0.98


# ---------------------------------------------------------------- the tables


def test_a_work_has_one_row():
    seen = defaultdict(list)
    for row in _rows("works"):
        for name in [row["catalogue"] or row["work"], *filter(None, row["also"].split("|"))]:
            seen[row["composer"], name].append(row["work"])
    assert {name: works for name, works in seen.items() if len(works) > 1} == {}


def test_keys_are_keys_and_those_of_the_titles():
    for row in _rows("works"):
        if row["key"]:
            tonic, mode = row["key"].split()
            assert tonic[0] in "ABCDEFG" and tonic[1:] in ACCIDENTALS and mode in ("major", "minor"), row
        if said := re.search(r"\bin ([A-G](?:-flat|-sharp)? (?:major|minor))", row["work"]):
            assert said[1] == row["key"] or "(" in row["work"], row


def test_titles_and_headings_look_like_titles():
    for row in _rows("works"):
        text = "|".join([row["work"], row["nickname"], row["headings"]])
        assert not FILE_LIKE.search(text) and "'" not in text and text == unicodedata.normalize("NFC", text), row
        assert row["parts"] in ("", "movements", "pieces", "named") and row["source"] in ("rule", "by hand"), row
        assert bool(row["parts"]) or not row["headings"], row


def test_accents_are_intact():
    accented = [row["work"] + row["headings"] for row in _rows("works")]
    for name in ("Träumerei", "Gnossienne", "Prélude à l’après-midi d’un faune", "Frösöblomster", "Życzenie", "Bydło"):
        assert any(name in text for text in accented), name


def test_each_row_of_the_table_of_names_means_a_work():
    for composer, rows in _names().items():
        for row in rows:
            if not row["name"].startswith("="):
                re.compile(row["name"])
            other, colon, rest = row["catalogue"].partition(":")
            known = works_of(other) if colon and works_of(other) else works_of(composer)
            name = rest if known is not works_of(composer) else row["catalogue"]
            assert not name or "\\" in name or name in known, row


# ---------------------------------------------------------------- whatever the name


@thorough(100)
@given(st.sampled_from(["Bach", "Mozart", "Haydn", "Nobody", ""]), st.text(max_size=80))
def test_any_name_gets_a_title(composer, name):
    found = title_of(composer, name)
    assert found.how in ("rule", "by hand", "unresolved") and (found.work or not name.strip(" _/\x1c\x1d\x1e\x1f\x85"))
    assert title_of(composer, name) == found
    assert plain_name(plain_name(name)) == plain_name(name)
    assert "_" not in clean_name(name) or not clean_name(name).strip("_/ ")


def test_a_long_name_costs_no_time():
    assert title_of("Bach", "variations " * 100_000).how == "unresolved"


# ---------------------------------------------------------------- a whole collection


def collected(names: list[tuple[str, str, str]], hashes: list[str]) -> pd.DataFrame:
    "The columns of a manifest that titles are read from."
    return pd.DataFrame(names, columns=["composer", "title", "source"]).assign(notes_hash=hashes)


def test_files_with_the_same_notes_share_what_a_name_says():
    files = collected(
        [
            ("Beethoven", "tune", ""),
            ("Beethoven", "Pathetique Sonata Op-13 Mvt-2", ""),
            ("Beethoven", "Sonate Pathetique", ""),
            ("Bach", "tune", ""),
            ("Bach", "Bwv001- 400 Chorales/012008ba", ""),
            ("Bach", "Bwv001- 400 Chorales/013705b_", ""),
        ],
        ["a", "a", "a", "a", "b", "b"],
    )
    titles = list(map(str, title_all(files)))
    assert titles[0] == titles[1] == titles[2] and titles[0].endswith("Op. 13 “Pathétique”: II. Adagio cantabile")
    assert titles[3] == "tune"  # another composer
    assert titles[4] != titles[5]  # a chorale that Bach used in two cantatas


def test_files_without_notes_share_nothing():
    files = collected([("Bach", "tune", ""), ("Bach", "BWV 846", "")], ["", ""])
    assert str(title_all(files)[0]) == "tune"


def test_the_kaggle_collection_has_titles(real_zip):
    named = [categorise(member.name) for member in list_members(real_zip) if member.name.lower().endswith(".mid")]
    titles = [title_of(composer, title) for composer, title in named if works_of(composer)]
    found = [title for title in titles if title.how != "unresolved"]
    assert len(titles) > 3500 and len(found) >= 0.95 * len(titles)
    assert [str(title) for title in found if FILE_LIKE.search(str(title))] == []
    works = defaultdict(set)
    for title in found:
        works[title.catalogue or title.work].add((title.work, title.key, title.nickname, title.genre))
    assert len(works) > 1000
