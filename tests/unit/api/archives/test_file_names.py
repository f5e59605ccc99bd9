import time
import unicodedata

import pytest

from api.archives.file_names import MAX_NAME_CHARS, decoded_names, display_name, fit_names

KEPT = [
    "Screenshot 2024-05-01 at 10.02.33\u202fAM.png",
    "می\u200cروم.jpg",
    "👩\u200d👩\u200d👧.jpg",
    "a\u00a0b.jpg",
    "日本\u3000語.jpg",
    "a\u00adb.jpg",
    "\u05d0\u05d1 \u200f\u05d2\u200e.jpg",
    "❤\ufe0f 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f 👍🏽.jpg",
    "\ue000\U0010fffd.jpg",
    "\u0378\ufdd0.jpg",
    "\ufeffa\u2060b.jpg",
    "e\u0301.jpg",
    " a .jpg ",
    "a:b*?.jpg",
]


def escaped(name: str, encoding: str) -> str:
    return name.encode(encoding).decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("name", KEPT, ids=ascii)
def test_names_are_kept_as_given(name: str) -> None:
    assert fit_names([name], distinct=True) == [name]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.jpg", "a.jpg"),
        ("/etc/passwd", "etc/passwd"),
        ("C:\\fakepath\\cat.jpg", "fakepath/cat.jpg"),
        ("../../a/./b.jpg", "a/b.jpg"),
        ("line\nbreak\x1b[31m\x7f\x85.jpg", "line\ufffdbreak\ufffd[31m\ufffd\ufffd.jpg"),
        ("\u202egpj.exe\u2066\u2028\u2029", "\ufffdgpj.exe\ufffd\ufffd\ufffd"),
        ("half \ud83d.jpg", "half \ufffd.jpg"),
        ("", ""),
    ],
)
def test_names_are_made_fit_to_show(name: str, shown: str) -> None:
    assert display_name(name) == shown


def test_a_file_without_a_name_has_its_number() -> None:
    assert fit_names(["a.jpg", "", "../.."], distinct=False) == ["a.jpg", "file 1", "file 2"]


@pytest.mark.parametrize(
    "cluster",
    ["é", "e\u0301", "👩\u200d👩\u200d👧", "👍🏽", "🇨🇭", "\u1112\u1161\u11ab", "क\u094dष\u093f", "❤\ufe0f"],
)
def test_long_names_keep_their_end_whole_and_stay_distinct(cluster: str) -> None:
    for shift in range(len(cluster) + 1):
        one = display_name("1" + "x" * shift + cluster * 300 + "cat.jpg")
        other = display_name("2" + "x" * shift + cluster * 300 + "cat.jpg")
        assert one != other
        assert len(one) <= MAX_NAME_CHARS
        kept = one.partition("…")[2]
        assert kept.endswith("cat.jpg")
        assert not unicodedata.category(kept[0]).startswith("M")
        assert kept.removesuffix("cat.jpg") == cluster * kept.count(cluster) or "🇨" in cluster


def test_names_that_are_alike_in_an_archive_are_numbered() -> None:
    names = ["a.jpg", "a (2).jpg", "a.jpg", "d/a.jpg", "a.jpg", "a\x01.jpg", "a\x02.jpg", "b", "b"]
    assert fit_names(names, distinct=True) == [
        "a.jpg", "a (2).jpg", "a (3).jpg", "d/a.jpg", "a (4).jpg", "a\ufffd.jpg", "a\ufffd (2).jpg", "b",
        "b (2)",
    ]  # fmt: skip
    assert fit_names(["a.jpg", "a.jpg"], distinct=False) == ["a.jpg", "a.jpg"]


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("cp437", ["Größe.jpg"]),
        ("cp850", ["été à la plage.jpg", "Île de Ré.jpg", "São Paulo.png", "Ærø.jpg"]),
        ("cp1252", ["Noël à Besançon.jpg", "Año nuevo.jpg"]),
        ("cp932", ["写真/東京タワー.jpg", "写真/家族旅行 (2).jpg", "表/桜.jpg", "ノート.png", "運動会.jpg"]),
        ("gbk", ["照片/北京.jpg", "照片/全家福.jpg", "新建文件夹/截图.png", "我的旅行照片.jpg"]),
        ("big5", ["圖片/臺北.jpg", "相片.jpg", "新增資料夾/螢幕擷取畫面.png"]),
        ("cp1251", ["Отпуск/Пляж.jpg", "Новая папка/Скриншот.png", "День рождения.jpg"]),
        ("cp866", ["Отпуск/Пляж.jpg", "Новая папка/Скриншот.png", "День рождения.jpg", "Свадьба.jpg"]),
        ("cp1253", ["Φωτογραφίες/θάλασσα.jpg", "Νέος φάκελος/Εικόνα.jpg"]),
    ],
)
def test_names_in_an_older_encoding_are_read_where_they_speak_for_it(encoding: str, names: list[str]) -> None:
    assert decoded_names(["日本.jpg", *[escaped(name, encoding) for name in names]]) == ["日本.jpg", *names]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"\xce\xa2\xd0\xc5.jpg", "%CE%A2%D0%C5.jpg"),
        (b"\x8e\xca\x90\x5e.jpg", "%8E%CA%90^.jpg"),
        (b"\x95\x5c\xff.jpg", "%95%5C%FF.jpg"),
        (b"\xfe\x81\xe2\x82\xac.jpg", "%FE%81%E2%82%AC.jpg"),
    ],
)
def test_bytes_that_several_encodings_would_read_are_shown_each(name: bytes, shown: str) -> None:
    assert decoded_names([name.decode("utf-8", "surrogateescape")]) == [shown]


def test_every_name_of_odd_bytes_has_its_own_spelling() -> None:
    names = [
        bytes([one, other]).decode("utf-8", "surrogateescape")
        for one in range(128, 256)
        for other in range(1, 256)
    ]
    shown = fit_names([name + ".jpg" for name in names], distinct=True)
    assert len(set(shown)) == len(names)


def test_any_number_of_odd_names_is_read_in_no_time() -> None:
    began = time.process_time()
    fit_names([f"{number}\udcff\udc81" * 30 for number in range(10_000)], distinct=True)
    assert time.process_time() - began < 5
