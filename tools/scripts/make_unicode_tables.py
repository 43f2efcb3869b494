#!/usr/bin/env python3
"""Writes src/text/unicode_tables.inc: what Hugging Face's `tokenizers` takes each code point for.

    python tools/scripts/make_unicode_tables.py > src/text/unicode_tables.inc

Nothing is read from a Unicode database: every table is asked of the installed package, code point by code point, so
that depthlens splits text as the package does, whatever version of Unicode stands behind each of its parts.
"""
import sys
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
EVERYTHING = "".join(map(chr, CODE_POINTS))
CATEGORIES = ("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn").split()


def matched_by(pattern):
    """The code points that a one-character pattern of the package's regular expressions matches."""
    split = pre_tokenizers.Split(Regex(pattern), behavior="removed")
    left = {c for piece, _ in split.pre_tokenize_str(EVERYTHING) for c in piece}
    return {c for c in CODE_POINTS if chr(c) not in left}


def word_characters():
    """What the matching of added tokens takes for a part of a word: a `single_word` token is not found before it."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.add_tokens([AddedToken("@@", single_word=True, normalized=False)])
    at = tokenizer.token_to_id("@@")
    encodings = tokenizer.encode_batch(["@@" + chr(c) for c in CODE_POINTS], add_special_tokens=False)
    return {c for c, e in zip(CODE_POINTS, encodings) if at not in e.ids}


def stripped_characters():
    """What an `lstrip` token swallows on its left."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.add_tokens([AddedToken("@@", lstrip=True, normalized=False)])
    encodings = tokenizer.encode_batch([chr(c) + "@@" for c in CODE_POINTS], add_special_tokens=False)
    return {c for c, e in zip(CODE_POINTS, encodings) if len(e.ids) == 1}


def nfc_active():
    """Code points that NFC of the package may change, move, or join to what stands before them. All others begin
    something new, and stay as they are."""
    nfc = normalizers.NFC().normalize_str
    seconds = {}  # of a composition, with one first
    for c in CODE_POINTS:
        decomposed = unicodedata.normalize("NFD", chr(c))
        for first, second in zip(decomposed, decomposed[1:]):
            seconds.setdefault(ord(second), set()).add(first)
        if len(decomposed) > 2:  # a composite and the last mark
            seconds.setdefault(ord(decomposed[-1]), set()).add(unicodedata.normalize("NFC", decomposed[:-1]))
    active = set()
    for c in CODE_POINTS:
        text = chr(c)
        before = seconds.get(c, set()) | {"\u1100", "\uac00"}
        # U+0334 has combining class 1 and U+0345 has 240: a mark of any other class trades places with one of them.
        if (nfc(text) != text or nfc(text + "\u0334") != text + "\u0334" or nfc("\u0345" + text) != "\u0345" + text
                or any(nfc(b + text) != nfc(b) + text for b in before)):
            active.add(c)
    return active


def ranges(code_points):
    out = []
    for c in sorted(code_points):
        # The hole of the surrogates does not end a range: no text has them.
        if out and (c == out[-1][1] + 1 or (c == 0xE000 and out[-1][1] == 0xD7FF)):
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def write(name, comment, code_points):
    print(f"\n// {comment}")
    print(f"constexpr CodePointRange k{name}Ranges[] = {{")
    line = ""
    for first, last in ranges(code_points):
        item = f"{{0x{first:x}, 0x{last:x}}},"
        if len(line) + len(item) > 105:
            print("    " + line.strip())
            line = ""
        line += " " + item
    print("    " + line.strip())
    print("};")


def main():
    print("// What Hugging Face's tokenizers takes each code point for. Written by tools/scripts/make_unicode_tables.py")
    print(f"// with tokenizers {tokenizers.__version__}; do not edit.")
    category_of = {}
    for name in CATEGORIES:
        if name == "Cn":
            continue
        for c in matched_by(rf"\p{{{name}}}"):
            assert c not in category_of, (hex(c), name)
            category_of[c] = name
    runs = []
    for c in range(0x110000):
        name = category_of.get(c, "Cn")
        if 0xD800 <= c <= 0xDFFF:
            name = "Cs"
        if not runs or runs[-1][1] != name:
            runs.append((c, name))
    print("\n// General categories: each run goes up to the start of the next one.")
    print("constexpr CategoryRun kCategoryRuns[] = {")
    line = ""
    for start, name in runs:
        item = f"{{0x{start:x}, k{name}}},"
        if len(line) + len(item) > 105:
            print("    " + line.strip())
            line = ""
        line += " " + item
    print("    " + line.strip())
    print("};")
    spaces = matched_by(r"\s")
    assert spaces == stripped_characters(), "two notions of a space: the tables need both"
    letters = {c for c, name in category_of.items() if name[0] == "L"}
    assert letters == matched_by(r"\p{L}")
    numbers = {c for c, name in category_of.items() if name[0] == "N"}
    assert numbers == matched_by(r"\p{N}")
    digits = pre_tokenizers.Digits(individual_digits=True)
    alone = {p for p, _ in digits.pre_tokenize_str("".join("a" + chr(c) for c in CODE_POINTS)) if len(p) == 1}
    numeric = {c for c in CODE_POINTS if chr(c) in alone and c != ord("a")}
    assert numbers <= numeric
    write("WhiteSpace", r"\s", spaces)
    write("Han", r"\p{Han}", matched_by(r"\p{Han}"))
    words = word_characters()
    alone = {p for p, _ in pre_tokenizers.Punctuation("isolated").pre_tokenize_str("".join("a" + chr(c) for c in CODE_POINTS))
             if len(p) == 1}
    punctuation = {c for c in CODE_POINTS if chr(c) in alone and c != ord("a")}
    write("ExtraNumeric", r"A number for the pre-tokenizer Digits, although not in \p{N}.", numeric - numbers)
    write("WordCharacter", "A part of a word for added tokens with `single_word`.", words)
    write("Punctuation", "What the pre-tokenizer Punctuation cuts at.", punctuation)
    write("NfcActive", "NFC may change or move these, or join them to what stands before them.", nfc_active())
    print(f"letters {len(letters)}, numbers {len(numbers)}, spaces {len(spaces)}", file=sys.stderr)


if __name__ == "__main__":
    main()
