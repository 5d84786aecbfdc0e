"""Names of composers: every spelling of the collections, people who must not be merged, and the table itself.

`names.csv` holds each spelling that occurs in a collection, the composer whom it means, and how many files have it. It
was reviewed by hand.
"""

import csv
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import thorough
from composer_classify.collection import _labels, categorise, contradictions, read_corrections, suspicious_label
from composer_classify.composers import (
    PERIODS,
    SPELLINGS,
    TABLE,
    WELL_KNOWN,
    Composer,
    by_birth,
    composer_name,
    composer_names,
    find_composer,
    fold_name,
    match_composers,
    who,
)

with open(Path(__file__).with_name("names.csv"), encoding="utf-8", newline="") as file:
    NAMES = list(csv.DictReader(file))
with open(TABLE, encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))
UNIDENTIFIED = set(
    "Ambroise Bartelet Becker Cons Heidrich Hemery Hiller Laurent Lemire Morel Pollen Pridhan Rothchild".split()
) | {"Le Thiere"}
MUSIC21 = """Bach Beach Beethoven C. Schumann C.P.E. Bach Chopin Ciconia Corelli Foster Gherardello Gratiosus Handel
    Haydn Johnson Joplin Josquin Landini Liliuokalani Lusitano Machaut Monteverdi Mozart Palestrina Perrinet Piero
    Schoenberg Schubert Schumann Verdi Vitry Weber Webern Zacara""".replace(". ", ".~").split()


def unaccented(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", name) if not unicodedata.combining(c))


# ---------------------------------------------------------------- the spellings of the collections


@pytest.mark.parametrize("row", NAMES, ids=lambda row: f"{row['collection']}-{row['found']}")
def test_every_spelling_of_the_collections(row):
    if row["found"] == "Bakairew Islamei":  # a title follows, so it is not a name alone
        assert categorise("Bakairew Islamei - x.mid")[0] == row["composer"]
    else:
        assert composer_name(row["found"]) == row["composer"]


def test_files_of_the_second_download_get_their_composers():
    "At least 99 of 100, counted by file."
    rows = [row for row in NAMES if row["collection"] == "midi_players"]
    labels = _labels([f"{row['found']} - Sonata.mid" for row in rows])
    right = sum(int(row["files"]) for row, (composer, _) in zip(rows, labels) if composer == row["composer"])
    assert right >= 0.99 * sum(int(row["files"]) for row in rows) > 1800


def test_folders_of_openscore_are_all_in_the_table():
    found = {row["composer"] for row in NAMES if row["collection"].startswith("openscore")}
    assert len(found) > 150 and all(map(who, found))


def test_the_kaggle_names_differ_from_the_folders_only_where_these_were_wrong():
    "But for accents, the folder's name; the others are spellings that were looked up."
    other = {r["found"]: r["composer"] for r in NAMES if r["collection"] == "kaggle"}
    other = {found: to for found, to in other.items() if fold_name(found) != fold_name(to)}
    assert other == {
        "Albe_niz": "Albéniz",
        "Bacewitz": "Bacewicz",
        "Buxehude": "Buxtehude",
        "Fucick": "Fučík",
        "Haendel": "Handel",
        "Mendelsonn": "Mendelssohn",
        "Mussorgski": "Mussorgsky",
        "Skriabin": "Scriabin",
        "Straus": "O. Straus",
        "Strauss, J": "Strauss",
        "Stravinski": "Stravinsky",
        "Tchakoff": "Tchaikovsky",
        "Vaughan": "Vaughan Williams",
    }


# ---------------------------------------------------------------- forms and spellings


FORMS = {
    "Schubert": ["Franz Schubert", "Schubert, Franz", "Schubert,_Franz", "SchubertF", "F. Schubert", "SCHUBERT"],
    "Bach": ["J.S. Bach", "J. S. Bach", "JS Bach", "Bach, JS", "BachJS", "Johann Sebastian Bach", "Bach (1685-1750)"],
    "Beethoven": ["BeethovenLv", "Ludwig van Beethoven", "L. v. Beethoven", "Beethoven, Ludwig von"],
    "Mozart": ["W.A. Mozart", "MozartWA", "Mozart, Wolfgang Amadeus", "Amadeus Mozart"],
    "Tchaikovsky": ["Tschaikowsky", "Chaikovsky", "Peter Tchaikovsky", "P.I. Tchaikovsky", "Tchaikovski, Piotr Ilyich"],
    "Rachmaninov": ["Rachmaninoff", "Rachmaninow", "Sergey Rachmaninov", "Rachmaninof", "RachmaninoffS"],
    "Shostakovich": ["Schostakowitsch", "Shostakovitch, Dmitri", "D. Shostakovich"],
    "Prokofiev": ["Prokofieff", "Prokofjew", "Sergei Prokofyev"],
    "Mussorgsky": ["Moussorgsky", "Modest Musorgsky", "Mussorgskij"],
    "Saint-Saëns": ["Saint Saens", "Saint-Saens, Camille", "SaintSaens", "Sait-Saens"],
    "Rimsky-Korsakov": ["Rimsky Korsakov", "N. Rimsky-Korsakov", "Rimski-Korsakow"],
    "Mendelssohn": ["Mendelssohn-BartholdyF", "Felix Mendelssohn Bartholdy", "Mendelsohn"],
    "Dvořák": ["Dvorak", "DvorakA", "Antonín Dvořák", "Dvořák".encode().decode()],
    "Burgmüller": ["Burgmuller", "Burgmueller", "Buegmueller", "BurgmullerJFF", "Friedrich Burgmüller"],
    "Janáček": ["Janacek", "Leos Janacek"],
    "Martinů": ["Martinu", "Bohuslav Martinu"],
    "Weber": ["Von Weber", "Carl Maria von Weber", "C.M. von Weber"],
    "Villa-Lobos": ["Villa Lobos", "Heitor Villa-Lobos"],
    "d'Indy": ["Indy, Vincent d’", "Vincent d'Indy", "D'Indy"],
}


@pytest.mark.parametrize("composer", FORMS)
def test_forms_of_a_name(composer):
    assert {form: find_composer(form) for form in FORMS[composer]} == dict.fromkeys(FORMS[composer], composer)


@pytest.mark.parametrize(
    "found, composer",
    [
        ("C.P.E. Bach", "C.P.E. Bach"),
        ("Carl Philipp Emanuel Bach", "C.P.E. Bach"),
        ("Bach, CPE", "C.P.E. Bach"),
        ("W.F. Bach", "W.F. Bach"),
        ("Bach, Wilhelm Friedemann", "W.F. Bach"),
        ("J.C. Bach", "J.C. Bach"),
        ("Johann Christian Bach", "J.C. Bach"),
        ("J.C.F. Bach", "J.C.F. Bach"),
        ("Johann Strauss", "Strauss"),
        ("Johann Strauss II", "Strauss"),
        ("Johann Strauss I", "J. Strauss I"),
        ("Strauss, Richard", "R. Strauss"),
        ("Oscar Straus", "O. Straus"),
        ("Michael Haydn", "M. Haydn"),
        ("Joseph Haydn", "Haydn"),
        ("Alessandro Scarlatti", "A. Scarlatti"),
        ("Domenico Scarlatti", "Scarlatti"),
        ("Fanny Mendelssohn", "Hensel"),
        ("Fanny Hensel", "Hensel"),
        ("Clara Schumann", "C. Schumann"),
        ("Robert Schumann", "Schumann"),
        ("Leopold Mozart", "L. Mozart"),
        ("William Schuman", "Schuman"),
        ("Liza Lehmann", "L. Lehmann"),
        ("Lehmann, Amelia", "A. Lehmann"),
        ("Lili Boulanger", "Boulanger"),
        ("Nadia Boulanger", "N. Boulanger"),
        ("Webern", "Webern"),
    ],
)
def test_people_of_one_surname_are_not_merged(found, composer):
    assert find_composer(found) == composer


@pytest.mark.parametrize(
    "name",
    "Chapin|Barton|Webber|Frank Sinatra|Meyer|Handl|Rosina|Lehmann|Waltz|Sonata|Symphony|Concerto|Serenade|Prelude|"
    "Alma Mahler|Siegfried Wagner|Franz Xaver Mozart|Bach, Peter|Josef Strauss|Janis Joplin|Claude-Michel Schönberg|"
    "Harry Chapin|Andrew Lloyd Webber|Bachelor party|Mozzart|Lady Gaga|".split("|"),
)
def test_other_people_and_words_are_not_taken_for_a_composer(name):
    assert find_composer(name) is None


@pytest.mark.parametrize(
    "file, composer, title",
    [
        ("Greig - Kobold Op-71, No-3.mid", "Grieg", "Kobold Op-71, No-3"),
        ("Liszt, Franz - Sonata in B-min S-178 (Gasanov06).mid", "Liszt", "Sonata in B-min S-178"),
        ("Haydn, Joseph - Quartet (Hob16).mid", "Haydn", "Quartet (Hob16)"),
        ("Beethoven, Ludwig van - Sonata (1799).mid", "Beethoven", "Sonata (1799)"),
        ("Chopin_-_Nocturne_9_2.mid", "Chopin", "Nocturne_9_2"),
        ("01 - Chopin - Nocturne.mid", "Chopin", "Nocturne"),
        ("Bach CPE Solfeggietto.mid", "C.P.E. Bach", "Solfeggietto"),
        ("Bach Christmas Oratorio.mid", "Bach", "Christmas Oratorio"),
        ("Schumann A minor Concerto.mid", "Schumann", "A minor Concerto"),
        ("Debussy Clair de lune.mid", "Debussy", "Clair de lune"),
        ("Liszt Faust Symphony.mid", "Liszt", "Faust Symphony"),
        ("German Dance.mid", None, "German Dance"),
        ("Sonata - Allegro.mid", None, "Sonata - Allegro"),
        ("lieder/Schubert,_Franz/Winterreise/Gute Nacht.mid", "Schubert", "Winterreise/Gute Nacht"),
        ("Nobody Known/Piece.mid", "Nobody Known", "Piece"),
    ],
)
def test_names_of_files(file, composer, title):
    assert categorise(file) == (composer, title)


def test_a_folder_that_only_holds_composers_is_none():
    names = [
        "all/lieder/Schubert,_Franz/a.mid",
        "all/lieder/Nobody, Known/b.mid",
        "all/lieder/Wolf,_Hugo/c.mid",
        "all/lieder/Chopin Waltz.mid",
        "all/lieder/untitled.mid",
        "Lemire/Filonor.mid",
        "Lemire/Bach Variations.mid",
        "Lemire/Waltz.mid",
    ]
    composers = ["Schubert", "Nobody, Known", "Wolf", "Chopin", None, "Lemire", "Lemire", "Lemire"]
    assert [composer for composer, _ in _labels([*names, "all/Bach/d.mid"])][:8] == composers


# ---------------------------------------------------------------- the table


def test_the_table_is_sorted_and_has_each_composer_once():
    names = [row["composer"] for row in ROWS]
    assert names == sorted(names, key=lambda name: (fold_name(name), name)) and len(set(names)) == len(names) > 300
    assert all(unicodedata.is_normalized("NFC", value) and value == value.strip() for r in ROWS for value in r.values())


def test_the_table_is_plausible():
    for row in ROWS:
        assert row["period"] in PERIODS and row["school"] and row["name"]
        if row["born"] and row["died"]:
            assert 15 < int(row["died"]) - int(row["born"]) < 105, row
        elif row["born"]:
            assert int(row["born"]) > 1850, row  # living, or nobody knows


def test_periods_agree_with_years():
    "Nobody stands in a period that lay a hundred years away."
    spans = dict(
        Medieval=(1200, 1400), Renaissance=(1390, 1600), Baroque=(1550, 1730), Classical=(1690, 1810),
        Romantic=(1770, 1890), Modern=(1850, 1990),
    )  # fmt: skip
    wrong = [r for r in ROWS if r["born"] and not spans[r["period"]][0] <= int(r["born"]) <= spans[r["period"]][1]]
    assert wrong == []


def test_every_composer_of_the_collections_has_a_row():
    ours = {row["composer"] for row in NAMES} | {name.replace("~", " ") for name in MUSIC21}
    ours |= {*WELL_KNOWN, *SPELLINGS.values(), *read_corrections()["composer"]}
    assert {name for name in ours if not who(name)} <= UNIDENTIFIED


def test_every_row_is_found_by_its_names():
    "The name that we write, also without accents, and the full name."
    wrong = [
        (form, row["composer"])
        for row in ROWS
        for form in (row["composer"], unaccented(row["composer"]), row["name"], f"{row['composer']} (1800-1850)")
        if find_composer(form) != row["composer"]
    ]
    assert wrong == []


def test_who_has_no_year_has_only_a_period():
    assert str(Composer("A", "A", None, None, "Medieval", "French")) == "Medieval"
    assert by_birth(["Zacara", "Bach"]) == ["Bach", "Zacara"]


def test_names_of_old_models_are_mapped_in_place():
    assert composer_names(["Dvorak", "Bach", "Faure"]) == ["Dvořák", "Bach", "Fauré"]
    assert match_composers(["Dvorak"], ["Bach", "Dvořák"]) == ["Dvořák"]


# ---------------------------------------------------------------- any text


@thorough(400)
@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from(["Bach", "J.", "Ł", "(1900)", "_", "von", "İ", "ß", "Fr"])).map(" ".join)
)
def test_any_text_is_a_name_that_stays(text):
    name = composer_name(text)
    assert composer_name(name) == name
    composer, title = categorise(f"{text.replace('/', '')}.mid")
    assert isinstance(title, str) and (composer is None or composer_name(composer) == composer)
    assert isinstance(suspicious_label(composer, text), str)


@thorough(100)
@given(st.sampled_from(ROWS), st.sampled_from(["{0}", "{0} ({1}-{2})", "{0}, ", " {0}_", "[{1}] {0}"]))
def test_dates_and_separators_do_not_matter(row, form):
    assert find_composer(form.format(row["composer"], row["born"], row["died"])) == row["composer"]


# ---------------------------------------------------------------- labels that contradict their title


@pytest.mark.parametrize(
    "composer, title, doubt",
    [
        ("Bach", "Vars on a theme by Paganini Op-35 Book II", "Paganini"),
        ("Bach", "Intermezzo Op-118 No-2 in A-Maj", "opus"),
        ("Schumann", "Moment Musicau No.4 - D 780", "Schubert"),
        ("Haydn", "Sonata K545", "Mozart"),
        ("Schumann", "Liebeslied arr. by Liszt", "Liszt"),
        ("Bach", "Bach-Busoni Chaconne transcription", "transcription"),
        ("Albéniz", "Tango (Arr Godowsky)", "arr"),
    ],
)
def test_what_a_title_says_against_its_composer(composer, title, doubt):
    assert doubt in suspicious_label(composer, title)


@pytest.mark.parametrize(
    "composer, title",
    [
        ("Bach", "BWV-0846 Prelude"),
        ("Mozart", "KV331 Sonata"),
        ("Scarlatti", "Sonata K 27"),
        ("Mendelssohn", "Lied, MWV K.109"),
        ("Beethoven", "Sonata in D op. 10"),
        ("Chopin", "Opera house waltz, dedicated to nobody"),
    ],
)
def test_titles_that_say_nothing_against_their_composer(composer, title):
    assert suspicious_label(composer, title) == ""


def test_reviewed_labels_are_not_listed_again():
    rows = dict(composer="Bach", title="Liszt transcription", source=["a", "b"], review=["", "Label confirmed"])
    assert contradictions(pd.DataFrame(rows))["source"].tolist() == ["a"]
