"""Words in the first row of a list of classes that say that it is a header, in many languages."""

from tasks.annotations.spelling import fold

PRECISE = ("class name", "classname", "label name", "category name", "display name")
ONLY_HEADERS = frozenset((*PRECISE, "class names", "classes", "label names", "category names"))
_OTHER_LANGUAGES = (
    "Klasse Klassen Klassenname Kategorie Bezeichnung Benennung "  # German
    "nom noms classe catégorie libellé étiquette "  # French
    "nombre nombres clase clases categoría etiqueta "  # Spanish
    "nome nomi nomes categoria etichetta rótulo "  # Italian, Portuguese
    "naam klasse categorie namn klass nazwa klasa kategoria "  # Dutch, Swedish, Polish
    "имя название класс категория метка "
    "s\u0131n\u0131f etiket kategori "
    "名称 名字 类别 类名 标签 名前 クラス ラベル カテゴリ 이름 클래스 라벨"
)
WORDS = ONLY_HEADERS | {"name", "names", "class", "label", "labels", "category", "title"}
WORDS |= frozenset(map(fold, _OTHER_LANGUAGES.split()))
# Above one column these may be a header or a name; they do not tell which of several has the names.
TITLES = frozenset(
    ("id", "idx", "index", "class id", "label id", "species", "breed", "target", "value", "concept")
)
