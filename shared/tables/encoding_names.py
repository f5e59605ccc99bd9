"""Naming the encoding of a text that is not UTF-8, for the sentence that refuses it."""
# ruff: noqa: RUF001 - letters that look alike are what this is about

import re

import charset_normalizer

# Words with a byte above ASCII: what is around them, URLs above all, would make every encoding likely.
_WORDS = re.compile(rb"[A-Za-z'\x80-\xff][@-Z\[-z{|}\x80-\xff]*")
_JAPANESE = r"[ぁ-んァ-ヶー一-龠、。・]"
_CYRILLIC = r"(?<![а-яё])[А-ЯЁ]|[а-яёіїєґ]"
# A codec, its name, and the characters that texts in it are mostly made of; the first of equals is taken.
_USUAL = {
    (
        "cp1252",
        "windows-1252",
    ): r"(?<=[A-Za-z])[ß-öø-ü’]|[À-ÖØ-Ü](?=[a-zß-ü])|[äöüÄÖÜßçéèà€°®™–—“”„’…·«»©£²³½×]",
    ("cp1250", "windows-1250"): r"[ąćęłńóśźżĄĆĘŁŃŚŹŻáčďéěíňřšťúůýžČŠŽŘőűăâîşţ]",
    ("cp1254", "windows-1254"): r"[çğıöşüÇĞİÖŞÜ]",
    ("iso8859_2", "ISO-8859-2"): r"[ąćęłńóśźżĄĆĘŁŃŚŹŻáčďéěíňřšťúůýžČŠŽŘőűăâîşţ]",
    ("cp932", "Shift_JIS"): _JAPANESE,
    ("cp1251", "windows-1251"): _CYRILLIC,
    ("koi8_r", "KOI8-R"): _CYRILLIC,
    ("cp1253", "windows-1253"): r"[α-ωά-ώΑ-Ω]",
    ("cp949", "EUC-KR"): r"[가-힣]",
    ("gb18030", "GB18030"): r"[一-龠，。、]",
    ("euc_jp", "EUC-JP"): _JAPANESE,
    ("big5", "Big5"): r"[一-龠，。、]",
}
_LEAST_SHARE = 0.75
_NEVER = ["utf_8", "utf_16", "utf_16_be", "utf_16_le", "utf_32", "utf_32_be", "utf_32_le", "utf_7", "ascii"]


def encoding_name(data: bytes) -> str:
    """Return what the encoding of this text most likely is called, or a guess where nothing is likely."""
    words = b" ".join(word for word in _WORDS.findall(data) if not word.isascii())
    best, most = "", _LEAST_SHARE
    for (codec, name), usual in _USUAL.items():
        try:
            text = words.decode(codec)
        except UnicodeDecodeError:
            continue
        share = len(re.findall(usual, text)) / max(sum(not character.isascii() for character in text), 1)
        if share > most:
            best, most = name, share
    found = None if best else charset_normalizer.from_bytes(data, cp_exclusion=_NEVER).best()
    return best if found is None else found.encoding
