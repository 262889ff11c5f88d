"""Lists of classes in the forms that people have them, and the ones that are not guessed."""

import json

import pytest

from tasks.annotations.class_list import UncertainNames, parse

ANIMALS = ["cat", "hot dog"]


def names_in(text: str, file_name: str, column: str | None = None) -> list[str]:
    return [name for _, name in parse(text, file_name, column).names]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "rows",
    [
        ["0~cat", "1~hot dog"],
        ["id~name", "0~cat", "1~hot dog"],
        ["class_id~class_name", "0~cat", "1~hot dog"],
        ["~Label", "0~cat", "1~hot dog"],
        ["Unnamed: 0~breed", "0~cat", "1~hot dog"],
        ["ClassId~SignName", "10~cat", "20~hot dog"],
        ["name~description", "cat~purrs", '"hot dog"~"eaten warm"'],
        ["description~Class Name", "a pet~cat", "a dish~hot dog"],
        ["label~animal", "0~cat", "1~hot dog"],
        ["class_id~class_name~supercategory", "1~cat~animal", "2~hot dog~food"],
        ["idx~class~note", "1~cat~", "2~hot dog~warm"],
        ["cat~1", "hot dog~2"],
        ["n02121808~cat", "n07697537~hot dog"],
        ["cat~a small pet that purrs", "hot dog~a sausage in a roll"],
        ["7~cat~a small pet that purrs", "8~hot dog~a sausage in a roll"],
        ["cat~hot dog"],
    ],
    ids=lambda rows: rows[0],
)
def test_tables(rows: list[str], delimiter: str) -> None:
    text = "\n".join(rows).replace("~", delimiter) + "\n"
    assert names_in(text, "classes.csv") == ANIMALS
    assert names_in(text, "classes.txt") == ANIMALS


@pytest.mark.parametrize(
    ("file_name", "text", "expected"),
    [
        ("c.txt", "cat\n\n# a comment\n  hot dog \n", ANIMALS),
        ("c.txt", "tench, Tinca tinca\ngoldfish\n", ["tench, Tinca tinca", "goldfish"]),
        ("c.txt", "classes\ncat\nhot dog\n", ANIMALS),
        ("c.csv", "Class\ncat\nhot dog\n", ANIMALS),
        ("c.csv", '"cat"\n"hot dog"\n', ANIMALS),
        ("c.csv", '"dog, hot"\ncat\n', ["dog, hot", "cat"]),
        ("c.txt", '"cat"\n"hot dog"\n', ANIMALS),
        ("c.txt", "0: cat\n1: hot dog\n", ANIMALS),
        ("c.names", "1. cat\n2. hot dog\n", ANIMALS),
        ("synset.txt", "n02121808 cat\nn07697537 hot dog\n", ANIMALS),
        ("c.txt", "id name\n0 cat\n1 hot dog\n", ANIMALS),
        ("c.csv", "species_name\ncat\nhot dog\n", ANIMALS),
        ("c.csv", "cat,0.5\nhot dog,0.7\n", ANIMALS),
        ("c.csv", "sep=;\nid;name\n1;cat\n2;hot dog\n", ANIMALS),
        ("c.csv", "# made by hand\nid,name\n1,cat\n2,hot dog\n", ANIMALS),
        ("digits.txt", "0\n1\n2\n", ["0", "1", "2"]),
        ("c.txt", "7 up\ncola\n", ["7 up", "cola"]),
        ("c.txt", "[cat]\n{dog}\n", ["[cat]", "{dog}"]),
        ("c.csv", "C++,1\n[a-z]+,2\n*?,3\n../x,4\na;b,5\n", ["C++", "[a-z]+", "*?", "../x", "a;b"]),
        ("c.csv", "'; drop table x --\n**bold**\n", ["'; drop table x --", "**bold**"]),
        ("c.json", json.dumps(ANIMALS), ANIMALS),
        ("c.json", '{"1": "hot dog", "0": "cat"}', ANIMALS),
        ("c.json", '{"0": ["n1", "cat"], "1": ["n2", "hot dog"]}', ANIMALS),
        ("c.json", '{"hot dog": 1, "cat": 0}', ANIMALS),
        ("c.json", '{"id2label": {"0": "cat", "1": "hot dog"}}', ANIMALS),
        ("coco.json", '{"categories": [{"id": 2, "name": "hot dog"}, {"id": 1, "name": "cat"}]}',
         ANIMALS),
        ("data.yaml", "names:\n  0: cat\n  1: hot dog\n", ANIMALS),
        ("data.yml", "names: [cat, hot dog]\n", ANIMALS),
        ("c.csv", "cat;0,5\nhot dog;1,7\n", ANIMALS),
        ("c.csv", "1;cat;0,5\n2;hot dog;1,7\n", ANIMALS),
        ("c.csv", '"cup, mug"\n"plate, dish"\n', ["cup, mug", "plate, dish"]),
        ("c.csv", 'name\n"cup, mug"\n"plate, dish"\n', ["cup, mug", "plate, dish"]),
        ("c.csv", '0,"cup, mug"\n1,"plate, dish"\n', ["cup, mug", "plate, dish"]),
        ("c.txt", 'class_name\n"cup, mug"\nplate\n', ["cup, mug", "plate"]),
        ("c.csv", "#made by hand\nid,name\n1,cat\n2,hot dog\n", ANIMALS),
        ("c.md", "| id | name |\n|----|:----:|\n| 0 | cat |\n| 1 | hot dog |\n", ANIMALS),
        ("c.md", "- cat\n- hot dog\n", ANIMALS),
        ("c.txt", "(0) cat\n(1) hot dog\n", ANIMALS),
        ("c.csv", "Klasse\ncat\nhot dog\n", ANIMALS),
        ("c.csv", "classe;commentaire\ncat;beau\nhot dog;bon\n", ANIMALS),
        ("c.csv", "\u7c7b\u522b\ncat\nhot dog\n", ANIMALS),
        ("c.jsonl", '{"id": 0, "name": "cat"}\n{"id": 1, "name": "hot dog"}\n', ANIMALS),
        ("c.jsonl", '"cat"\n"caf\\u00e9"\n', ["cat", "caf\u00e9"]),
        ("labels.txt", "{0: 'cat',\n 1: 'hot dog'}", ANIMALS),
        ("c.txt", "['cat', 'hot dog']", ANIMALS),
        ("data.yaml", "names: [no, yes, null, 010, 12:30]", ["no", "yes", "null", "010", "12:30"]),
        ("data.yaml", "names:\n  0: off\n  1: 1.0\n", ["off", "1.0"]),
    ],
)  # fmt: skip
def test_lists(file_name: str, text: str, expected: list[str]) -> None:
    assert names_in(text, file_name) == expected


UNCERTAIN = [
    ("c.csv", "english,german\ncat,Katze\ndog,Hund\n", r"\['english', 'german'\], \['cat'"),
    ("c.csv", "id,animal,habitat\n0,cat,house\n1,dog,yard\n", r"\['0', 'cat', 'house'\]"),
    ("c.csv", "class,name\npet,cat\nfood,hot dog\n", r"\['class', 'name'\]"),
    ("c.csv", "scientific_name,common_name\nFelis,cat\nCanis,dog\n", r"\['Felis', 'cat'\]"),
    ("c.csv", "id,name\n1,cat\n2,\n3,dog\n", "line 3 has no name in column 'name'"),
    ("c.csv", "class;name\n", r"\['class', 'name'\]"),
    ("c.csv", "name\nice cream, vanilla\n", r"\['name'\], \['ice cream', 'vanilla'\]"),
    ("c.csv", "name,description\ncat,small, furry\n", "line 2 has 3 cells and the first row 2"),
    ("c.txt", "id,name\n0,cat\n1,dog, hot\n", "line 3 has 3 cells and the first row 2"),
    ("c.txt", "crane, bird\ncrane, machine\n", r"\['crane', 'bird'\]"),
    ("c.txt", "0 cat\n1 dog\n", r"--class-column 2 or --class-column line"),
    ("c.txt", "label\ncat\ndog\n", "--class-column label or --class-column line"),
    ("c.txt", "cat\n#tag\n", "line 2, '#tag', may be a name, a comment"),
    ("c.csv", '"cat\ndog\n', "close the quotes"),
    ("c.json", '["cat", ', "repair it"),
    ("c.json", '{"cat": "miaow"}', "an object with cat"),
    ("c.json", "[1.5, []]", "float where a name should be"),
    ("c.yaml", "cat", "a single str"),
    ("c.yaml", "names:\n  0: cat\n  0: dog\n", "a key stands there twice"),
    ("c.json", '{"0": "cat", "0": "dog", "1": "bird"}', "the key '0' stands there twice"),
    ("c.json", '{"cat": 0, "dog": 0}', "the same number for several names"),
    ("c.json", '{"3": 0, "5": 1}', "numbers by numbers"),
    ("c.json", '["cat", " "]', "an empty name"),
    ("c.txt", "cat,\ndog,\nbird\n", "most lines end in ',': .* --class-column 1"),
    ("c.txt", "0.cat\n1.dog\n", "--class-column 2 or --class-column line"),
    ("c.txt", "10: cat\n11: dog\n", "--class-column 2 or --class-column line"),
    ("c.txt", "<!DOCTYPE html>\n<body>404</body>\n", "a name, a comment or markup"),
    ("c.txt", "// pets\ncat\ndog\n", "a name, a comment or markup"),
    ("c.csv", "species\ncat\ndog\n", "--class-column species or --class-column line"),
    ("c.txt", "Klasse\nKatze\nHund\n", "--class-column Klasse or --class-column line"),
    ("c.txt", "names = ['cat', 'dog']", "--class-column"),
]


@pytest.mark.parametrize(("file_name", "text", "words"), UNCERTAIN)
def test_what_is_not_certain_is_refused(file_name: str, text: str, words: str) -> None:
    with pytest.raises(UncertainNames, match=words) as caught:
        parse(text, file_name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("english,german\ncat,Katze\ndog,Hund\n", "german", ["Katze", "Hund"]),
        ("cat,Katze\ndog,Hund\n", "2", ["Katze", "Hund"]),
        ("cat,1\ndog,2\n", "1", ["cat", "dog"]),
        ("crane, bird\ncrane, machine\n", "line", ["crane, bird", "crane, machine"]),
        ("0 cat\n1 dog\n", "2", ["cat", "dog"]),
        ("0 cat\n1 dog\n", "line", ["0 cat", "1 dog"]),
        ("label\ncat\n", "label", ["cat"]),
        ("label\ncat\n", "line", ["label", "cat"]),
        ("cat\n#tag\n", "line", ["cat", "#tag"]),
        ("[1]\n[2]\n", "line", ["[1]", "[2]"]),
        ("cat,\ndog,\nbird\n", "1", ["cat", "dog", "bird"]),
        ("0.cat\n1.dog\n", "2", ["cat", "dog"]),
        ("0.cat\n1.dog\n", "line", ["0.cat", "1.dog"]),
        ("species\ncat\n", "species", ["cat"]),
        ("Class;Sub-Class\nx;cat\ny;dog\n", "sub_class", ["cat", "dog"]),
    ],
)
def test_the_option_decides(text: str, column: str, expected: list[str]) -> None:
    assert names_in(text, "classes.csv", column) == expected


def test_a_column_that_is_not_there() -> None:
    with pytest.raises(UncertainNames, match=r"no column 'x'; the first rows are \['id', 'a'\]"):
        parse("id,a\n0,cat\n", "c.csv", "x")


def test_names_keep_the_lines_that_they_stand_in() -> None:
    found = parse('# pets\nid,name\n0,cat\n\n1,"hot dog"\n', "c.csv")
    assert found.names == [(3, "cat"), (5, "hot dog")]
    assert found.reading == "column 'name', split by ','"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat,a small pet that purrs\nhot dog,a sausage in a roll\n", 2),
        ("name;what\ncat;a small pet that purrs\nhot dog;a sausage in a roll\n", 2),
        ("id,name,note\n0,cat,a small pet that purrs\n1,hot dog,a sausage in a roll\n", 2),
        ("name,description\ncat,a small pet that purrs\nhot dog,warm\n", 0),
        ("name,a,b\ncat,a small pet,it does purr\nhot dog,a warm sausage,in a roll\n", 0),
        ("name,number\ncat,1\nhot dog,2\n", 0),
        ("cat\nhot dog\n", 0),
    ],
)
def test_a_column_of_sentences_beside_the_names_describes_them(text: str, expected: int) -> None:
    found = parse(text, "classes.csv")
    assert [name for _, name in found.names] == ANIMALS
    assert found.descriptions == ("a small pet that purrs", "a sausage in a roll")[:expected]
