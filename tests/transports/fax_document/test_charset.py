"""Character sets of mail, as mail programs mean them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transports.fax.document.charset import decode, decode_words, language

ROWS = (1, 3, 4, 5, 16, 40, 84)
JIS = "".join(bytes((row + 160, cell + 160)).decode("euc_jp", "ignore") for row in ROWS for cell in range(1, 95))
ODD = ["iso-2022-jp", "big5", "hz", "utf-7", "gb2312", "", "x", "utf-16", "iso-2022-kr"]


@pytest.mark.parametrize("charset, codec, text", [
    ("utf-8", "utf-8", "Grüße, 日本, 😀"),
    ("UTF-8", "utf-8-sig", "Grüße"),
    ("iso-2022-jp", "iso2022_jp", "こんにちは 世界\n二行目"),
    ("iso-2022-jp", "iso2022_jp_ext", "ｶﾀｶﾅと漢字"),
    ("iso-2022-jp-1", "iso2022_jp_1", "丂と漢字"),
    ("shift_jis", "cp932", "①㈱髙橋ソ表"),
    ("Windows-31J", "cp932", "～－∥"),
    ("euc-jp", "euc_jp", "日本語"),
    ("gb2312", "gb18030", "简体中文镕€"),
    ("GB18030", "gb18030", "𠀀简"),
    ("hz-gb-2312", "hz", "中文"),
    ("big5", "cp950", "繁體中文碁"),
    ("ks_c_5601-1987", "cp949", "한국어 똠방각하"),
    ("euc-kr", "cp949", "한국어"),
    ("iso-2022-kr", "iso2022_kr", "한국어"),
    ("koi8-r", "koi8_r", "Привет"),
    ("koi8-u", "koi8_u", "Їжак"),
    ("windows-1251", "cp1251", "Привет"),
    ("windows-1255", "cp1255", "שלום"),
    ("iso-8859-8-i", "iso-8859-8", "שלום"),
    ("windows-1256", "cp1256", "مرحبا"),
    ("tis-620", "cp874", "สวัสดี"),
    ("iso-8859-1", "cp1252", "“quotes” – €"),
    ("us-ascii", "utf-8", "Grüße"),
    ("", "utf-8", "Grüße"),
    ("", "cp1252", "Grüße"),
    ("", "iso2022_jp", "こんにちは"),
    ("x-unknown", "utf-8", "Grüße"),
    ("iso-8859-15", "iso-8859-15", "€ Š"),
    ("macintosh", "mac_roman", "Grüße"),
    ("utf-7", "utf-7", "Grüße"),
    ("utf-16", "utf-16", "Grüße"),
])
def test_text_comes_back(charset, codec, text):
    assert decode(text.encode(codec), charset) == text


def test_necs_and_ibms_characters_in_iso_2022_jp():
    assert decode(b"\x1b$B-!-jy!|b\x1b(B!", "iso-2022-jp") == "①㈱纊髙!"


def test_what_is_wrongly_named():
    assert decode("日本".encode(), "euc-jp") == "日本"
    assert decode(b"plain", "no-such-set") == "plain"
    assert decode(b"a\xffb", "utf-8") == "a\ufffdb"


@pytest.mark.parametrize("name", ["no-such-set", "zlib", "rot13", "idna", "unicode_escape", "\0", "../x", "mbcs"])
def test_what_is_no_character_set(name):
    with pytest.raises(LookupError, match="character set .* is unknown"):
        decode(b"a\xff", name)


@pytest.mark.parametrize("raw, text", [
    ("=?ISO-2022-JP?B?GyRCJDMkcyRLJEEkTxsoQg==?=", "こんにちは"),
    ("=?utf-8?q?Gr=C3=BC=C3?= =?utf-8?q?=9Fe_da?= du", "Grüße da du"),
    ("=?utf-8?b?8J+Y?=\n =?utf-8?b?gA==?=", "😀"),
    ("=?iso-8859-1*de?Q?Gr=FC=DFe?=", "Grüße"),
    ("=?utf-8?B?broken!?= x", None),
    ("=?nonsense?Q?abc?=", "abc"),
    ("a\n b", "a b"),
    (b"raw Gr\xc3\xbc\xc3\x9fe", "raw Grüße"),
    (b"raw Gr\xfc\xdfe".decode("utf-8", "surrogateescape"), "raw Grüße"),
    ("\ud800 \udcfc", None),
    ("=?utf-8?b?abcde?=", None),
    ("=?utf-8?q?a=?", "=?utf-8?q?a=?"),
])
def test_encoded_words(raw, text):
    assert text is None or decode_words(raw) == text
    decode_words(raw)


@settings(max_examples=200)
@given(st.binary(max_size=60), st.sampled_from(ODD))
def test_any_bytes_are_text_or_of_an_unknown_set(data, charset):
    try:
        assert isinstance(decode(data, charset), str)
    except LookupError:
        assert charset == "x"


@settings(max_examples=100)
@given(st.text(alphabet=st.sampled_from(JIS + "abc\n "), max_size=40))
def test_iso_2022_jp_is_read_as_the_codec_writes_it(text):
    # The codec and Windows differ about a few signs.
    same = str.maketrans("〜‖−¢£¬—", "～∥－￠￡￢―")
    assert decode(text.encode("iso2022_jp_1", "replace"), "iso-2022-jp").translate(same) == text.encode(
        "iso2022_jp_1", "replace").decode("iso2022_jp_1").translate(same)


@settings(max_examples=100)
@given(st.text(alphabet=st.characters(), max_size=60) | st.binary(max_size=60))
def test_any_header_field_is_text(raw):
    assert isinstance(decode_words(raw), str)


def test_the_language_of_a_text_with_chinese_characters():
    assert language("日本の") == "ja"
    assert language("日本", "gb2312") == "zh-CN"
    assert language("日本", "Big5") == "zh-TW"
    assert language("한국어") == "ko"
    assert language("日本", "utf-8") == language("Grüße") == ""
