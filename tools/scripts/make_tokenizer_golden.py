#!/usr/bin/env python3
"""Writes tests/golden/tokenizers: hard texts, small tokenizers, and the ids that Hugging Face and SentencePiece give.

    python tools/scripts/make_tokenizer_golden.py [--shared ../shared/data]

Needs tokenizers, transformers, sentencepiece, tiktoken and mistral-common; depthlens itself never runs Python.

    corpus.json          the texts; {"repeat": TEXT, "times": N} stands for a long one
    FOLDER/              a small tokenizer as a Hugging Face folder has it, trained here on data/corpora and the texts
    FOLDER.golden.json   what the reference says of it (the keys are explained at `golden`)
    shared-*.golden.json the same for real tokenizers, which are read from --shared and not committed
    variants.json        folders made of the small tokenizers that say little, or whose files disagree, with the ids that
                         AutoTokenizer makes of them (the keys are explained at `variants`)
    families.json        the pipelines of families of models over two vocabularies, bytes/ and pieces/ (`make_families`)

The reference of tokenizer.json is the package `tokenizers`; the classes of transformers must agree with it, or the run
stops. The reference of a SentencePiece tokenizer.model is the SentencePiece library for plain text, and transformers'
LlamaTokenizer for text that holds special tokens, as far as that agrees with the library in what stands between them.
transformers 5 differs from the library, and from the tokenizers of transformers 4, in three ways; the golden ids have the
library's for plain text, and leave a text out that holds special tokens as well:
  - where what it encodes begins with a space, it drops the space mark that the model puts before every text;
  - in runs of spaces it merges two space marks before a space mark and the word, against the scores of the pieces
    (Llama 2: "Hello  world");
  - "<unk>" in a text becomes token 0, the special token, and is text for the library.
"""
import argparse
import base64
import collections
import io
import json
import shutil
import tempfile
import unicodedata
from pathlib import Path

import sentencepiece
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/golden/tokenizers"
GPT2_END = "<|endoftext|>"
LLAMA3_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                  r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
# of Mistral's Tekken, and of Moonshot's Kimi and Moonlight
TEKKEN_PATTERN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
                  r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}"
                  r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
MOONSHOT_PATTERN = "|".join([
    r"[\p{Han}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
SPACE = "\u2581"
# ids of longer texts are kept as their count, a checksum and the two ends
LONGEST_LIST = 96


# --- the texts ---

def categories():
    """A text for each general category: its first, middle and last code point between letters, digits and spaces."""
    members = {}
    for c in range(0x110000):
        name = unicodedata.category(chr(c))
        if name != "Cs":
            members.setdefault(name, []).append(chr(c))
    for name in sorted(members):
        first, middle, last = (members[name][i] for i in (0, len(members[name]) // 2, -1))
        yield f"x{first}y {middle}{middle} 7{last} {first}"


def corpus():
    texts = [
        "", " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r", " \n", "\n ", "a", " a", "  a", "a ", "a  ", "   a   b   ",
        "Hello, world!", " Hello world", "Hello  world", "Hello\nworld", "Hello \n world", "Hello\n\n\nworld \n\n x",
        "The quick brown fox jumps over the lazy dog.", "The bridge was built in 1871, and it still stands (mostly).",
        # contractions
        "I'm we're you've he'll she'd it's don't", "I'M WE'RE YOU'VE HE'LL SHE'D IT'S DON'T", "I’m we’re you’ve it’s don’t",
        "'s 't 're'S 'Re'LL''d' ' s", "o'clock 'tis rock'n'roll's", "it'ſ 'ſ \u212a'\u017f",
        # white space
        "a\tb\t\tc \t d", "x\r\ny\r\n\r\nz", "tab\tnewline\nreturn\rfeed\fvertical\vend", "  \n  \n\t\n x", "end   \n", "end\n   ",
        "a\u00a0b\u2003c\u3000d\u1680e", "a \u00a0 b", "\u2028line\u2029paragraph\u0085next", "\u180emongolian\u180e\u180e x",
        "a\u200bb\u200cc\u2060d", "\ufeffmark \ufeff\ufeff", "if x:\n        return  y\n\n\n    else:\n\treturn -1",
        " " * 7 + "x" + " " * 16 + "y" + " " * 24 + "z" + " " * 31, "\n" * 9 + "x" + "\t" * 9, "\x1c\x1d\x1e\x1f x",
        # digits
        "1 12 123 1234 12345 123456 1234567", "3.14159e-10 0xDEADBEEF 1,000,000", "x1y22z333w4444", "٠١٢٣ ०१२३४ ১২৩ 𝟘𝟙𝟚𝟛𝟜 ０１２",
        "½ ¼ Ⅷ ⅻ ² ³ ₁ ① ㊿ 百二十三 𐄇 𒐀", "\U00010d40\U00010d41 \U0001ccf0\U0001ccf5 \U00011de0",
        # scripts
        "Größe Straße ÄÖÜ façade naïve œuvre", "Привет, как дела? Ёлка", "Γειά σου Κόσμε ΣΊΣΥΦΟΣ ς", "你好，世界！这是一个测试。",
        "こんにちは世界 カタカナ ｶﾀｶﾅ", "안녕하세요 세계", "שלום עולם 123 abc", "مرحبا بالعالم ١٢٣", "สวัสดีชาวโลก", "नमस्ते दुनिया क्षत्रिय",
        "வணக்கம் உலகம்", "ខ្មែរ မြန်မာ བོད་ཡིག", "ꙮ Ꙁ ⰰ 𐌰𐌱 𓀀𓂀 𝔘𝔫𝔦", "ǅ ǈ ǋ ʰ ˈ ة ـ", "\U0002ebf0\U00031350 \U0001e5d0\U0001e5d1 \U00010d4a\U00010d50",
        # marks and normalization
        "e\u0301 \u00e9 E\u0301\u0323 E\u0323\u0301", "cafe\u0301 caf\u00e9", "a\u0323\u0307 a\u0307\u0323 \u1ea1\u0307", "\u0301alone \u0301\u0302",
        "\u1112\u1161\u11ab\u1100\u1173\u11af \ud55c\uae00 \uac00\u11a8 \u1100\u1100\u1161", "\u212b \u2126 \u212a \ufb01 \uf900 \u2f8bd",
        "\u0958 \u095c \u09dc \u0a33 \ufb1d \u2adc", "\u0344 \u0374 \u037e \u0387 \u1f71 \u0340", "q\u0307\u0323x\u0334\u0345 \u0f71\u0f72\u0f74",
        "\u0bc6\u0bbe \u0bca \u1025\u102e \u3046\u3099 \U00011131\U00011127", "Z\u0351\u036b\u0343\u036a\u0302\u032b\u033d\u034f\u0334\u0319 zalgo",
        # emoji
        "😀 😃😄 🙂", "👨‍👩‍👧‍👦 👩🏽‍🚀 🏳️‍🌈", "🇩🇪🇫🇷🇯🇵 🏴󠁧󠁢󠁳󠁣󠁴󠁿", "👍👍🏻👍🏿 ✊🏾", "1️⃣ #️⃣ *️⃣ ☎️ ☺︎", "🚀 (normal) 😶‍🌫️ (multiple emojis concatenated) ✅",
        # controls, private use, noncharacters
        "a\x00b\x00", "\x00", "\x01\x02\x03 \x07\x08\x1b[0m\x7f", "\x80\x9f\xad", "\ue000\uf8ff \U000f0000\U0010fffd", "\ufffe\uffff\ufdd0 \U0001ffff\U0010ffff",
        "\ufffd\ufffd", "\u202eright to left\u202c \u2066x\u2069",
        # punctuation and code
        "!!!???...---", "a.b,c;d:e!f?g", "(x)[y]{z}<w>", " (paren", "'quoted' \"double\" «guillemets» „low“", "https://example.org/a_b?c=d&e=f#g",
        "user.name+tag@example.com", "snake_case camelCase SCREAMING_CASE kebab-case", "x=1;y+=2;\n\tz<<=3;//done\n", "#include <cstdint>\n", "$5.00 €10 ¥100 £3",
        "== Title ==\n\nText.\n", "—–‐ … · • ※", "\\n \\t \\\\ %s %d", "a_b__c___d", "'''''' \"\"\" ```", "...\n\n...\r\n!\n",
        # what looks like a special token, and added tokens
        "<s>", "a<s>b", "<s> a </s> b", "</s>", "x </s>", "<unk>", "a <unk> b", "<pad>", "< s > <S> <s", "<0x0A> <0x41>", "<s></s><s>  x",
        GPT2_END, f"one{GPT2_END}two", f"one {GPT2_END} two", f"{GPT2_END}{GPT2_END}\n", "<|endoftext|", "|endoftext|> <|ENDOFTEXT|>",
        "<|begin_of_text|>x<|end_of_text|>", "a <|eot_id|>\n\n<|start_header_id|>user<|end_header_id|>", "<|reserved_special_token_5|>",
        "<|im_start|>user\nHi<|im_end|>\n", "left \t<|left|> right", "left <|right|> \n right", "both  <|both|>  sides <|both|>", " <|left|><|both|> <|right|> ",
        "word words sword word-word _word word_ word.", "wordword word\u0301 é word 7word word7", "cafe\u0301token caf\u00e9token", "raw e\u0301! and \u00e9! raw",
        "<|a|> <|a|><|b|> <|a|<|b|>", "lower TOKEN Token", "x\u2581y \u2581 \u2581\u2581z", "\u0120a \u010ab \u0100",
        # long
        "supercalifragilisticexpialidocious antidisestablishmentarianism", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    ]
    texts += categories()
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    scrambled = "".join(letters[(i * i * 7 + i * 11) % 613 % 26] for i in range(5000))
    for piece, times in [("a", 5000), (scrambled[:125], 40), ("е́", 1000), (" ", 3000), ("\n", 1000), ("7", 5000), ("語", 800), ("!?", 1500),
                         ("word ", 500), ("\x00", 300)]:
        texts.append({"repeat": piece, "times": times})
    return texts


def spelled_out(text):
    return text["repeat"] * text["times"] if isinstance(text, dict) else text


# --- the small tokenizers ---

def training_text():
    lines = [line for path in sorted((ROOT / "data/corpora").glob("*.txt")) for line in path.read_text("utf8").split("\n\n")]
    return lines + [t for t in corpus() if isinstance(t, str)]


def byte_level_bpe(size, normalizer, pre_tokenizer, special, ignore_merges=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(training_text(), trainer)
    return tokenizer


def split_then_bytes(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", "utf8")


def save(name, tokenizer, config, old_merges=False):
    folder = OUT / name
    folder.mkdir(parents=True)
    content = json.loads(tokenizer.to_str())
    if old_merges:  # as files were written up to 2024
        content["model"]["merges"] = [" ".join(merge) for merge in content["model"]["merges"]]
    write_json(folder / "tokenizer.json", content)
    write_json(folder / "tokenizer_config.json", config)


def special(content, **flags):
    return AddedToken(content, special=True, normalized=False, **flags)


def make_gpt2():
    tokenizer = byte_level_bpe(700, None, pre_tokenizers.ByteLevel(add_prefix_space=False), [GPT2_END])
    save("gpt2", tokenizer, {"tokenizer_class": "GPT2Tokenizer", "bos_token": GPT2_END, "eos_token": GPT2_END,
                             "unk_token": GPT2_END, "add_prefix_space": False}, old_merges=True)
    # The same kind as GPT-2's first files have it.
    folder = OUT / "gpt2-merges"
    folder.mkdir()
    small = byte_level_bpe(450, None, pre_tokenizers.ByteLevel(add_prefix_space=False), [])
    model = json.loads(small.to_str())["model"]
    vocab = model["vocab"] | {GPT2_END: len(model["vocab"])}
    write_json(folder / "vocab.json", vocab)
    write_json(folder / "config.json", {"model_type": "gpt2"})
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in model["merges"]), "utf8")


def make_neox():
    tokenizer = byte_level_bpe(600, normalizers.NFC(), pre_tokenizers.ByteLevel(add_prefix_space=False),
                               [GPT2_END, "<|padding|>"])
    tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    tokenizer.add_special_tokens([special("<|left|>", lstrip=True), special("<|right|>", rstrip=True),
                                  special("<|both|>", lstrip=True, rstrip=True), special("<|a|>"), special("<|a|><|b|>")])
    tokenizer.add_tokens([AddedToken("word", single_word=True, normalized=True),
                          AddedToken("cafe\u0301token", normalized=True), AddedToken("raw e\u0301!", normalized=False),
                          AddedToken("TOKEN", normalized=True, lstrip=True)])
    save("neox", tokenizer, {"tokenizer_class": "GPTNeoXTokenizer", "bos_token": GPT2_END, "eos_token": GPT2_END,
                             "unk_token": GPT2_END, "add_prefix_space": False}, old_merges=True)


def make_llama3():
    tokenizer = byte_level_bpe(900, None, split_then_bytes(LLAMA3_PATTERN), [], ignore_merges=True)
    # A word that no merges lead to: only ignore_merges finds it.
    content = json.loads(tokenizer.to_str())
    for word in ("\u0120jumps", "antidisestablishmentarianism"):
        assert word not in content["model"]["vocab"]
        content["model"]["vocab"][word] = len(content["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(content))
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer.add_special_tokens([special(name) for name in names])
    begin = names[0]
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{begin} $A", pair=f"{begin} $A {begin}:1 $B:1",
                                      special_tokens=[(begin, tokenizer.token_to_id(begin))])])
    save("llama3", tokenizer, {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": begin,
                               "eos_token": "<|eot_id|>", "clean_up_tokenization_spaces": True})


def make_qwen2():
    tokenizer = byte_level_bpe(500, normalizers.NFC(), split_then_bytes(QWEN2_PATTERN), [])
    names = [GPT2_END, "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens([special(name) for name in names])
    decoder = {str(tokenizer.token_to_id(name)): {"content": name, "lstrip": False, "normalized": False, "rstrip": False,
                                                  "single_word": False, "special": True} for name in names}
    save("qwen2", tokenizer, {"tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": "<|im_end|>",
                              "pad_token": GPT2_END, "unk_token": None, "add_bos_token": False,
                              "add_prefix_space": False, "added_tokens_decoder": decoder})


LLAMA_CONFIG = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
                "add_bos_token": True, "add_eos_token": False}


def make_sentencepiece():
    """As Llama 2 has it: byte fallback, a space before the text, digits apart."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(t.replace("\x00", "") for t in training_text()), model_writer=written, vocab_size=900,
        model_type="bpe", byte_fallback=True, character_coverage=0.98, normalization_rule_name="identity",
        remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True, num_threads=1,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2)
    folder = OUT / "sentencepiece"
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    write_json(folder / "tokenizer_config.json", LLAMA_CONFIG | {"legacy": False})

    # The same pieces in tokenizer.json: a merge for every two pieces that make up a third, best piece first.
    processor = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = []
    for piece in pieces[259:]:
        merges += sorted([(piece[:k], piece[k:]) for k in range(1, len(piece)) if piece[:k] in vocab and piece[k:] in vocab],
                         key=lambda merge: (vocab[merge[0]], vocab[merge[1]]))
    for name in ("sentencepiece-json", "metaspace-json"):
        tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        if name == "metaspace-json":
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="first", split=False)
        else:
            tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
        tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(),
                                               decoders.Strip(" ", 1, 0)])
        tokenizer.add_special_tokens([special("<unk>"), special("<s>"), special("</s>")])
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1",
                                                                 special_tokens=[("<s>", 1)])
        save(name, tokenizer, LLAMA_CONFIG | {"tokenizer_class": "PreTrainedTokenizerFast",
                                              "legacy": name != "metaspace-json"})


def make_unigram():
    """A Unigram model without pieces for bytes, and the same in tokenizer.json."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(t.replace("\x00", "") for t in training_text()), model_writer=written, vocab_size=500,
        model_type="unigram", character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False,
        num_threads=1, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2)
    folder = OUT / "unigram"
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    vocab = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.get_piece_size())]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0))
    tokenizer.add_special_tokens([special("<unk>"), special("<s>"), special("</s>")])
    write_json(folder / "tokenizer.json", json.loads(tokenizer.to_str()))


def golden_of_unigram():
    """Unigram models in tokenizer.json alone: with bytes and a mark where the text begins, as llm-jp has them, and with an
    unknown token, in words."""
    for name in ("unigram-bytes", "unigram-words"):
        shutil.rmtree(OUT / name, ignore_errors=True)
        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(t.replace("\x00", "") for t in training_text()), model_writer=written, vocab_size=800,
            model_type="unigram", byte_fallback=name == "unigram-bytes", character_coverage=0.98,
            normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
            num_threads=1, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2)
        processor = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
        vocab = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.get_piece_size())]
        tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=name == "unigram-bytes"))
        if name == "unigram-bytes":
            tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(Regex(r"(?<!\n)^"), SPACE),
                                                         normalizers.Replace(Regex(" "), SPACE)])
            tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Replace(Regex(SPACE), " "),
                                                   decoders.Fuse(), decoders.Replace(Regex(r"(?<!\n)^ "), "")])
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="always", split=True)
            tokenizer.decoder = decoders.Metaspace(SPACE, prepend_scheme="always", split=True)
        tokenizer.add_special_tokens([special("<unk>"), special("<s>"), special("</s>")])
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1",
                                                                 special_tokens=[("<s>", 1)])
        save(name, tokenizer, {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
                               "unk_token": "<unk>"})
        golden(name, load_json(OUT / name), transformers.AutoTokenizer.from_pretrained(OUT / name), version())


def ranks_of(size, pattern):
    """Tokens in the order in which they merge: the bytes, then what a small model merges."""
    vocabulary = json.loads(byte_level_bpe(size, None, split_then_bytes(pattern), []).to_str())["model"]["vocab"]
    tokens = [bytes(byte_of()[c] for c in token) for token in sorted(vocabulary, key=vocabulary.get)]
    return [bytes([b]) for b in range(256)] + [token for token in tokens if len(token) > 1]


def make_tekken():
    """As Mistral has it: special tokens before the others, more tokens than count."""
    ranks = ranks_of(700, TEKKEN_PATTERN)
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer
    names = [token["token_str"].value for token in Tekkenizer.DEPRECATED_SPECIAL_TOKENS] + ["[ARGS]", "[CALL_ID]"]
    folder = OUT / "tekken"
    folder.mkdir()
    write_json(folder / "tekken.json", {
        "config": {"pattern": TEKKEN_PATTERN, "num_vocab_tokens": len(ranks), "default_vocab_size": 680,
                   "default_num_special_tokens": 30, "version": "v11"},
        "vocab": [{"rank": i, "token_bytes": base64.b64encode(token).decode(),
                   "token_str": None}
                  for i, token in enumerate(ranks)],
        "special_tokens": [{"rank": i, "token_str": name, "is_control": True} for i, name in enumerate(names)]})
    write_json(folder / "config.json", {"model_type": "mistral", "architectures": ["MistralForCausalLM"]})


def make_moonshot():
    """As Moonshot has it: ranks alone; the pattern stands in Python code beside them."""
    ranks = ranks_of(600, MOONSHOT_PATTERN)
    folder = OUT / "moonshot"
    folder.mkdir()
    (folder / "tiktoken.model").write_text("".join(f"{base64.b64encode(token).decode()} {i}\n" for i, token in enumerate(ranks)))
    names = {0: "[BOS]", 1: "[EOS]", 2: "<|im_end|>", 254: "[UNK]", 255: "[PAD]"}
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "TikTokenTokenizer", "bos_token": "[BOS]", "eos_token": "[EOS]", "unk_token": "[UNK]",
        "pad_token": "[PAD]", "additional_special_tokens": ["<|im_end|>"],
        "added_tokens_decoder": {str(len(ranks) + i): {"content": name, "lstrip": False, "normalized": False, "rstrip": False,
                                                       "single_word": False, "special": True} for i, name in names.items()}})


# --- references ---

BYTE_OF = {}  # of the characters that stand for bytes in byte-level vocabularies


def byte_of():
    if not BYTE_OF:
        shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        hidden = [b for b in range(256) if b not in shown]
        BYTE_OF.update({chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(hidden)})
    return BYTE_OF


class JsonReference:
    """A tokenizer.json, by the package `tokenizers`."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.added = {i: t.content for i, t in tokenizer.get_added_tokens_decoder().items()}
        self.byte_level = "ByteLevel" in tokenizer.to_str()

    def ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def token_bytes(self, i):
        if i in self.added:
            return self.added[i].encode()
        token = self.tokenizer.id_to_token(i)
        if self.byte_level:
            return bytes(byte_of()[c] for c in token)
        return piece_bytes(token)


def piece_bytes(token):
    if len(token) == 6 and token.startswith("<0x"):
        return bytes([int(token[3:5], 16)])
    return token.replace(SPACE, " ").encode()


class RanksReference:
    """Ranks, by tiktoken. With the names of special tokens that are found in texts."""

    byte_level = True

    def __init__(self, pattern, ranks, first, size, special):
        import tiktoken
        self.encoding = tiktoken.Encoding("golden", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
        self.first, self.size = first, size

    def ids(self, text):
        return [self.first + i for i in self.encoding.encode(text, allowed_special="all")]

    def token_bytes(self, i):
        return self.encoding.decode_bytes([i - self.first])


class Moonshot(RanksReference):
    """A tiktoken.model, by what Moonshot's code does with it; also what `golden` asks transformers."""

    def __init__(self, folder):
        ranks = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in (folder / "tiktoken.model").read_text().splitlines()}
        config = json.loads((folder / "tokenizer_config.json").read_text())
        named = {int(i): token["content"] for i, token in config["added_tokens_decoder"].items()}
        special = {named.get(i, f"<|reserved_token_{i}|>"): i for i in range(len(ranks), len(ranks) + 256)}
        super().__init__(MOONSHOT_PATTERN, ranks, 0, len(ranks) + 256, special)
        self.bos_token_id, self.eos_token_id = (special[config[key]] for key in ("bos_token", "eos_token"))

    def encode(self, text, add_special_tokens=True):
        return self.ids(text)


def tekken_reference(folder):
    content = json.loads((folder / "tekken.json").read_text())
    config = content["config"]
    first, size = config["default_num_special_tokens"], config["default_vocab_size"]
    ranks = {base64.b64decode(token["token_bytes"]): token["rank"] for token in content["vocab"][:size - first]}
    return RanksReference(config["pattern"], ranks, first, size, {})


class SentencePieceReference:
    """A tokenizer.model: the library for plain text; for special tokens in a text, transformers."""

    def __init__(self, folder):
        self.processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        self.transformers = transformers.AutoTokenizer.from_pretrained(folder)
        self.legacy = json.loads((folder / "tokenizer_config.json").read_text())["legacy"]
        self.size = self.processor.get_piece_size()

    def ids(self, text):
        plain = self.processor.encode(text)
        fast = self.transformers.encode(text, add_special_tokens=False)
        runs_of_spaces = "  " in text.replace(SPACE, " ")
        if not any(name in text for name in ("<s>", "</s>", "<unk>")):
            assert fast == plain or runs_of_spaces or text.startswith((" ", SPACE)), (text, fast, plain)
            return plain
        drops_space = self.legacy and any(name + " " in text for name in ("<s>", "</s>"))
        return None if "<unk>" in text or runs_of_spaces or drops_space else fast

    def token_bytes(self, i):
        return piece_bytes(self.processor.id_to_piece(i))


def fnv1a(ids):
    """64-bit FNV-1a over the ids as four bytes each, lowest first."""
    value = 0xCBF29CE484222325
    for i in ids:
        for b in i.to_bytes(4, "little"):
            value = (value ^ b) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def compact(ids):
    if ids is None or len(ids) <= LONGEST_LIST:
        return ids
    return {"count": len(ids), "fnv1a": fnv1a(ids), "first": ids[:8], "last": ids[-8:]}


def golden(name, reference, loaded, source):
    """Writes NAME.golden.json. `loaded` is the transformers tokenizer that says whether BOS is added.

    size, bos, eos, adds_bos   of the tokenizer (bos and eos may be null)
    ids                        a list for each text of the corpus; null: left out; an object with `count` and a checksum
                               (FNV-1a, 64 bits, over the ids as little-endian 32-bit words) where there are many
    changed                    texts that the bytes of their tokens do not give back exactly (normalized, stripped)
    """
    texts = [spelled_out(t) for t in corpus()]
    all_ids, changed = [], []
    prefix = b"" if getattr(reference, "byte_level", False) else b" "
    for index, text in enumerate(texts):
        ids = reference.ids(text)
        all_ids.append(ids)
        if ids is None:
            continue
        if not isinstance(reference, SentencePieceReference):
            other = loaded.encode(text, add_special_tokens=False)
            if other != ids:
                print(f"{name}: transformers differs for {text[:60]!r}: {other[:20]}, tokenizers {ids[:20]}")
        back = b"".join(reference.token_bytes(i) for i in ids)
        if back != (prefix if text else b"") + text.encode():
            changed.append(index)
    with_bos = loaded.encode("a")
    value = {"reference": source, "size": reference.size, "bos": loaded.bos_token_id, "eos": loaded.eos_token_id,
             "adds_bos": with_bos[0] == loaded.bos_token_id, "changed": changed, "ids": [compact(i) for i in all_ids]}
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(v, separators=(',', ':'))}" for key, v in value.items())
    (OUT / f"{name}.golden.json").write_text("{" + lines + "}\n")
    left_out = [t for t, i in zip(texts, all_ids) if i is None]
    print(f"{name}: {sum(map(len, filter(None, all_ids)))} ids, {len(changed)} texts changed: "
          f"{[texts[i][:24] for i in changed]}, left out {left_out}")


def version():
    return (f"tokenizers {__import__('tokenizers').__version__}, transformers {transformers.__version__}, "
            f"sentencepiece {sentencepiece.__version__}")


def load_json(folder):
    return JsonReference(Tokenizer.from_file(str(folder / "tokenizer.json")))


def golden_of_ranks():
    for name in ("tekken", "moonshot"):
        shutil.rmtree(OUT / name, ignore_errors=True)
    make_tekken()
    make_moonshot()
    source = f"tiktoken {__import__('tiktoken').__version__}"
    loaded = transformers.AutoTokenizer.from_pretrained(OUT / "tekken")  # of mistral-common
    golden("tekken", tekken_reference(OUT / "tekken"), loaded, f"{source}, mistral-common {__import__('mistral_common').__version__}")
    golden("moonshot", Moonshot(OUT / "moonshot"), Moonshot(OUT / "moonshot"), source)


def golden_of_shared(shared):
    """Real tokenizers: a folder is made for each, as its model's is on the hub, with the settings that matter."""
    with tempfile.TemporaryDirectory() as scratch:
        def folder(name, file, target, config):
            path = Path(scratch) / name
            path.mkdir()
            shutil.copy(shared / "tokenizers" / file, path / target)
            write_json(path / "tokenizer_config.json", config)
            return path
        gpt2 = {"bos_token": GPT2_END, "eos_token": GPT2_END, "unk_token": GPT2_END, "add_prefix_space": False}
        path = folder("gpt2", "gpt2-hf-tokenizer.json", "tokenizer.json", gpt2 | {"tokenizer_class": "GPT2Tokenizer"})
        golden("shared-gpt2", load_json(path), transformers.AutoTokenizer.from_pretrained(path), version())
        path = folder("neox", "gpt-neox-20B_tokenizer.json", "tokenizer.json", gpt2 | {"tokenizer_class": "GPTNeoXTokenizer"})
        golden("shared-neox", load_json(path), transformers.AutoTokenizer.from_pretrained(path), version())
        path = folder("llama2", "llama2-tokenizer.model", "tokenizer.model", LLAMA_CONFIG | {"legacy": False})
        golden("shared-llama2", SentencePieceReference(path), transformers.AutoTokenizer.from_pretrained(path), version())
        golden("shared-llama3", *llama3_of_tiktoken(shared / "tokenizers/llama3-tokenizer.model", Path(scratch)), version())


def llama3_of_tiktoken(file, scratch):
    """tokenizer.json made of Meta's ranks by transformers' TikTokenConverter, with the pattern and the 256 special tokens
    of Meta's code and the BOS of the published tokenizer.json."""
    from transformers.convert_slow_tokenizer import TikTokenConverter
    names = ["<|begin_of_text|>", "<|end_of_text|>", *(f"<|reserved_special_token_{i}|>" for i in range(4)),
             "<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_4|>", "<|eot_id|>",
             *(f"<|reserved_special_token_{i}|>" for i in range(5, 251))]
    assert len(names) == 256
    tokenizer = TikTokenConverter(vocab_file=str(file), pattern=LLAMA3_PATTERN,
                                  extra_special_tokens={name: 128000 + i for i, name in enumerate(names)}).converted()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))])
    folder = scratch / "llama3"
    folder.mkdir()
    content = json.loads(tokenizer.to_str())
    content["model"]["ignore_merges"] = True
    write_json(folder / "tokenizer.json", content)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast",
                                                  "bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"})
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.token_to_id("<|begin_of_text|>") == 128000 and tokenizer.token_to_id(names[-1]) == 128255
    for line in file.read_bytes().splitlines()[::997]:
        token, rank = line.split()
        assert JsonReference(tokenizer).token_bytes(int(rank)) == base64.b64decode(token)
    return JsonReference(tokenizer), transformers.AutoTokenizer.from_pretrained(folder)


# --- folders whose files disagree, or say little ---

VARIANT_TEXTS = ["The old mill stands by the river.", "Ask (the miller).\n\nDON'T ask in 2024.", "it.\n\n(the caf\u00e9 cafe\u0301",
                 "a <|im_end|>b<|eot_id|> c</s>d", " if x:\n\treturn  y"]
PLAIN_TEXTS = ["The old mill stands by the river.", "Ask (the miller) in 2024, a caf\u00e9.", "one<s>two</s>three"]
# two more pieces, each with the merge that makes it of two that are there
EXTENSION = [{"op": "add", "path": "/model/vocab/" + token, "value": 900 + k} for k, token in enumerate(["iver.", SPACE + "mill"])] + [
    {"op": "add", "path": "/model/merges/-", "value": merge} for merge in (["iver", "."], [SPACE + "m", "ill"])]
NEW_MARKS = ["e\u07fd\u0301\u0323", "a\u0898\u0327\u0301z", "x\u1ace\u0316\u0300 \u0915\u093c\u1dfa\u0325", "o\U00010eab\u0323\u0302",
             "\u0d46\u0d3e \u0bc6\u0d3b\u0bbe", "\u1100\u1161\u1ac0\u11a8 u\u0c3c\u0308\u031b"]


def patched(document, patch):
    """RFC 6902, as far as it is needed here."""
    for step in patch:
        *parents, last = step["path"].lstrip("/").split("/")
        at = document
        for key in parents:
            at = at[int(key) if isinstance(at, list) else key]
        if step["op"] == "remove":
            del at[last]
        elif isinstance(at, list) and last == "-":
            at.append(step["value"])
        else:
            at[last] = step["value"]
    return document


def added(content, i, **flags):
    return {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": False} | flags


def decoder(*tokens):
    return {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in tokens}


def append(*tokens):
    return [{"op": "add", "path": "/added_tokens/-", "value": t} for t in tokens]


def fill_folder(folder, case):
    """Makes the folder of a case of variants.json or families.json."""
    folder.mkdir()
    tokenizer = json.loads((OUT / case["from"] / "tokenizer.json").read_text("utf8"))
    own_model = OUT / case["from"] / "tokenizer.model"
    files = {"tokenizer.json": lambda: json.dumps(patched(tokenizer, case["patch"])).encode(),
             "tokenizer.model": lambda: (own_model if own_model.exists() else OUT / "sentencepiece/tokenizer.model").read_bytes(),
             "vocab.json": lambda: json.dumps(tokenizer["model"]["vocab"]).encode(),
             "merges.txt": lambda: "".join(" ".join(m) + "\n" for m in tokenizer["model"]["merges"]).encode()}
    for name in case["take"]:
        (folder / name).write_bytes(files[name]())
    for name, content in case["files"].items():
        write_json(folder / name, content)


def variants():
    """from: the small tokenizer; take: its files (vocab.json and merges.txt are those of its model, tokenizer.model is
    that of sentencepiece where it has none); patch: changes of tokenizer.json, as RFC 6902; files: the others; texts. Then, of AutoTokenizer:
    ids, without BOS; bos: what it puts before a text, or null; told: they are not what tokenizer.json and add_bos_token
    say by themselves."""
    def variant(name, source, model_type, config, take=("tokenizer.json",), patch=(), texts=VARIANT_TEXTS, **files):
        more = {"config.json": {"model_type": model_type}, "tokenizer_config.json": config}
        return {"name": name, "from": source, "take": list(take), "patch": list(patch),
                "files": more | {key.replace("_json", ".json"): value for key, value in files.items()}, "texts": texts}

    slow = ("vocab.json", "merges.txt")
    for model_type, config in [("qwen2", {"tokenizer_class": "Qwen2Tokenizer", "bos_token": None}), ("qwen3", {}), ("gpt2", {}),
                               ("gpt_neox", {}), ("llama", {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True}),
                               ("llama", {"tokenizer_class": "GPTNeoXTokenizer", "add_bos_token": None}),
                               ("llama", {"tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": True}),
                               ("llama", {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}),
                               ("qwen2", {"tokenizer_class": "GPT2Tokenizer"})]:
        yield variant("without tokenizer.json", "qwen2", model_type, config, slow)
    names = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
    no_template = [{"op": "add", "path": "/post_processor", "value": None}]
    for tokenizer_class in ("PreTrainedTokenizerFast", "GPT2Tokenizer", "GPTNeoXTokenizerFast", "Qwen2TokenizerFast",
                            "LlamaTokenizerFast"):
        for patch in ([], no_template):
            for flags in ({}, {"add_bos_token": True}, {"add_bos_token": False}, {"add_bos_token": None},
                          {"add_eos_token": True}, {"add_eos_token": False}):
                yield variant("BOS", "llama3", "llama", names | {"tokenizer_class": tokenizer_class} | flags, patch=patch,
                              texts=["in"])
    for model_type, tokenizer_class in [("llama", "GPT2Tokenizer"), ("llama", "GPTNeoXTokenizer"), ("llama", "Qwen2Tokenizer"),
                                        ("llama", "LlamaTokenizerFast"), ("gpt2", "LlamaTokenizer"), ("llama", "OwnTokenizer"),
                                        ("qwen2", "PreTrainedTokenizerFast"), ("qwen3", "PreTrainedTokenizerFast"),
                                        ("mistral", "GPT2Tokenizer")]:
        yield variant("the class's steps", "llama3", model_type, names | {"tokenizer_class": tokenizer_class})
    for model_type, config in [("llama", {"tokenizer_class": "LlamaTokenizer", "legacy": True}), ("mistral", {"tokenizer_class": "LlamaTokenizer"}),
                               ("llama", {"tokenizer_class": "LlamaTokenizer", "legacy": None}),
                               ("llama", {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False}),
                               ("llama", {"tokenizer_class": "CodeLlamaTokenizer", "add_bos_token": False}), ("llama", {})]:
        yield variant("SentencePiece in tokenizer.json", "sentencepiece-json", model_type, config, patch=no_template)
    for config in ({"tokenizer_class": "LlamaTokenizer", "legacy": False}, {"tokenizer_class": "PreTrainedTokenizerFast"}):
        yield variant("an extended tokenizer.json beside the tokenizer.model of before", "sentencepiece-json", "llama", config,
                      ("tokenizer.json", "tokenizer.model"), EXTENSION, PLAIN_TEXTS)
    for model_type, config in [("llama", {"tokenizer_class": "LlamaTokenizer", "legacy": False}), ("llama", {}),
                               ("llama", {"tokenizer_class": "LlamaTokenizer", "legacy": True, "add_bos_token": True}),
                               ("llama", {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False, "add_bos_token": None}),
                               ("mistral", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}), ("mistral", {"legacy": None})]:
        yield variant("tokenizer.model alone", "sentencepiece-json", model_type, config, ("tokenizer.model",), texts=PLAIN_TEXTS)
    x, y = added("<x>", 700), added("<y>", 701)
    texts = ["a <x>b<y> c<|endoftext|>d"]
    for config in ({"tokenizer_class": "PreTrainedTokenizerFast"},
                   {"tokenizer_class": "GPT2Tokenizer", "bos_token": GPT2_END, "eos_token": GPT2_END, "unk_token": GPT2_END}):
        def with_added(patch, more=None, **files):
            return variant("added tokens", "gpt2", "llama", config | (more or {}), patch=patch, texts=texts, **files)
        yield with_added(append(added("<x>", 705), added("<y>", 710)))
        yield with_added(append(added("<x>", 50)))
        yield with_added(append(x, y), {"added_tokens_decoder": decoder(added("<x>", 700, lstrip=True), y)})
        yield with_added(append(x, y), {"added_tokens_decoder": decoder(added("<y>", 700), added("<x>", 701))})
        yield with_added(append(x, y), {"added_tokens_decoder": decoder(x)})
        yield with_added(append(x), {"added_tokens_decoder": decoder(x, y)})
        yield with_added([], {"added_tokens_decoder": decoder(added("<y>", 710), added("<x>", 720))})
        yield with_added([], added_tokens_json={"<y>": 700, "<x>": 701})
        yield with_added(append(x, y), added_tokens_json={"<y>": 700, "<x>": 701})
        yield with_added([], {"added_tokens_decoder": decoder(x)}, added_tokens_json={"<y>": 701})
        yield with_added(append(x), {"pad_token": "<y>", "split_special_tokens": True})
        split = {"split_special_tokens": True}
        flags = {"__type": "AddedToken", "content": "<y>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}
        yield with_added(append(x), split | {"extra_special_tokens": [flags]})
        yield with_added(append(x), split | {"additional_special_tokens": [flags, "<x>"]})
        yield with_added(append(x), split | {"extra_special_tokens": {"y": flags}})
        yield with_added(append(x | {"special": True}), split | {"added_tokens_decoder": decoder(x, y)})
        yield with_added(append(added("<x>b", 700, special=True), added("b<y>", 701)), split)
        yield with_added(append(x, y), split | {"added_tokens_decoder": decoder(x), "pad_token": "<x>", "sep_token": "<y>"})
    yield variant("marks that NFC does not know", "qwen2", "qwen2", {}, texts=NEW_MARKS)

    def step(key, value):
        return {"op": "add", "path": f"/{key}", "value": value if isinstance(value, dict) else state(value)}

    marked = [step("normalizer", normalizers.Replace(" ", SPACE))]
    fast = {"tokenizer_class": "PreTrainedTokenizerFast"}
    yield variant("the class's normalizer", "gpt2", "llama", {"tokenizer_class": "GPT2Tokenizer"}, texts=["the miller\u2019s ``wheel"],
                  patch=[step("normalizer", normalizers.Sequence([normalizers.Replace("\u2019", "'"), normalizers.Replace("``", '"')]))])
    yield variant("the class's normalizer", "pieces", "llama", {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False},
                  patch=marked + append(added("<x>", 1100, rstrip=True, normalized=True), added("a b", 1101, normalized=True)),
                  texts=["q<x> b", f"q{SPACE}a{SPACE}b", "qa b"])
    of_byte = json.loads((OUT / "pieces/tokenizer.json").read_text("utf8"))["model"]["vocab"]["<0x98>"]
    few_bytes = [{"op": "remove", "path": "/model/vocab/<0x98>"}, {"op": "add", "path": "/model/vocab/<none>", "value": of_byte}]
    for tokenizer_class, unknown, of_model in [("LlamaTokenizer", "<unk>", "<unk>"), ("LlamaTokenizer", "<unk>", None), ("CodeLlamaTokenizer", "</s>", "<unk>"),
                                               ("GemmaTokenizer", "<unk>", "<unk>"), ("GemmaTokenizer", "</s>", "<unk>"), ("GemmaTokenizer", "</s>", None)]:
        yield variant("what is unknown to the class", "pieces", "llama", {"tokenizer_class": tokenizer_class, "unk_token": unknown, "bos_token": "<s>", "eos_token": "</s>"},
                      patch=marked + few_bytes + [{"op": "add", "path": "/model/unk_token", "value": of_model}], texts=["a\U0001f600b", "\U0001f600"])
    first = pre_tokenizers.Metaspace(SPACE, prepend_scheme="first", split=True)
    for more in ([], [pre_tokenizers.Digits(True)]):
        yield variant("the start of a text behind a Replace", "pieces", "llama", fast, texts=["1 x", "1x", "xa", "1ax x", "x", " x", " 1x"],
                      patch=[step("normalizer", normalizers.Sequence([normalizers.Replace(" ", SPACE), normalizers.Replace("x", "y")])),
                             step("pre_tokenizer", pre_tokenizers.Sequence([*more, first]))])
    for pattern in (r"\p{N}{,3}", r"a{,2}?b", r"(?i:\p{Lu}+|'s|'ll)", r"(?i:\P{Lu})\p{Lu}", r"(?i:[^a-m]+)", r"(?i)m\p{Ll}+"):
        yield variant("patterns", "bytes", "llama", fast, texts=["1234567 a12b", "aaab ab", "the Mill'S xx'LL \u0130 \u017f\u212a", "Straße"],
                      patch=[step("pre_tokenizer", split_then_bytes(pattern))])
    for kind, more in (("RobertaProcessing", {"trim_offsets": True, "add_prefix_space": True}), ("BertProcessing", {})):
        around = {"type": kind, "sep": ["</s>", 2], "cls": ["<s>", 0]} | more
        for config in ({"bos_token": "<s>"}, {"cls_token": "<s>"}):
            yield variant("BOS and EOS", "bytes", "llama", fast | config, patch=[step("post_processor", around), step("pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=False))], texts=["in"])
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    for legacy in (False, True):
        yield variant("tokenizer.model alone, without pieces for bytes", "unigram", "llama", fast | names | {"legacy": legacy}, ("tokenizer.model",), texts=PLAIN_TEXTS)
    others = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    for key, value in (("additional_special_tokens", None), ("extra_special_tokens", ["<y>"]), ("extra_special_tokens", {"y": "<y>"})):
        for tokenizer_class in ("LlamaTokenizer", "PreTrainedTokenizerFast"):
            config = others | {"tokenizer_class": tokenizer_class, "legacy": False}
            yield variant("control pieces", "sentencepiece-json", "llama", config | {key: value}, ("tokenizer.model",), texts=["one<s>two</s>three", "a<y>b"])
            yield variant("control pieces", "sentencepiece-json", "llama", config, ("tokenizer.model",), texts=["one<s>two</s>three", "a<y>b"],
                          special_tokens_map_json={key: value})
    yield variant("control pieces", "unigram", "llama", others | fast, ("tokenizer.json", "tokenizer.model"), texts=["one<s>two</s>three"],
                  patch=[{"op": "add", "path": "/added_tokens", "value": []}, step("pre_tokenizer", first)])
    for tokenizer_class in ("LlamaTokenizer", "PreTrainedTokenizerFast"):
        yield variant("two rounds of added tokens", "sentencepiece-json", "llama",
                      {"tokenizer_class": tokenizer_class, "legacy": False, "added_tokens_decoder": decoder(added("a<", 900, normalized=True), added("<x>", 901), added("b ", 902, normalized=True))},
                      ("tokenizer.model",), texts=["ba<x>c", "b a<b", "b  c"])
    for scheme in ("always", "first", "never"):
        yield variant("Unigram beside its tokenizer.model", "unigram", "llama", fast | names, ("tokenizer.json", "tokenizer.model"), texts=PLAIN_TEXTS,
                      patch=[step("pre_tokenizer", pre_tokenizers.Metaspace(SPACE, prepend_scheme=scheme, split=True))])


# --- the pipelines of families of models, over vocabularies that respect none of their cuts ---

O200K_CASES = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
               r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*")
O200K_END = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K_PATTERN = "|".join([c + CONTRACTION for c in O200K_CASES] + [r"\p{N}{1,3}", O200K_END])
TEKKEN_PATTERN = "|".join([*O200K_CASES, r"\p{N}", O200K_END])
CL100K_PATTERN = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
BLOOM_PATTERN = r" ?[^(\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+".encode().decode("raw_unicode_escape")
GEMMA_RUNS = [mark * n for mark in ("\n", SPACE) for n in range(2, 8)]


def family_texts():
    """Texts for the tokens and the cuts of families, beside the corpus."""
    return [
        "a,b;c...d(e)f!?g", "1234 56,789.0 3rd 4x4 x12345y", "2\u00b2 \u00bc1\u00be \u0661\u0662\u0663\u0664 12\u06613", "\u4e8c\u4e09 \u00e2\u00b2\u00bc \u017e\u00b9 \u00f3\u00b3",
        "CamelCaseWORDSHere aB ABc ABC's HTTPServer2Go iPhone \u01c5x \u02b0a", "don't DON'T Don'T we'LL x's'S l'\u00e9t\u00e9 '\u017f x'\u017f", "path/to/file // \n/\n/ -/\r\n",
        "stop. Go, now! What?No\u2026yes\u3002\u597d\uff0c\u3001\u0928\u0964\u0645\u06d4\u060c (a|b) [c] |", "\u0915\u094d\u0937 \u0e01\u0e33 a\u0301\u0302b \u0300\u0301 x\u20dd", "a\u200d\u0301b \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f\u200d\U0001f525",
        "a\n\n\nb\n\nc\n\n\n\n\n\n\n\n\nd", "\t\t\tx\t\ty", "a  b   c    d     e", f"a{SPACE}{SPACE}b {SPACE} c {SPACE * 5}d", "   ", "\n\n", " \n\n \n", "\t \t",
        "<bos>x<eos>", "<start_of_turn>user\n\nHi<end_of_turn>\n\n\n", "<pad><mask>a<unused1>", "  <start_of_turn>  ",
        "<|user|>\nHi <|end|>\n <|assistant|>  x", "a <|endoftext|> \n b</s> c <s> d", "a</s>  </s>b <|user|><|user|> <|end|>", "<|im_start|> \n user<|im_sep|>  hi <|im_end|> \n",
        "[INST] Hi [/INST] there</s>", "<s>[INST]a[/INST]</s><s>", "<|startoftext|><|return|>x<|call|>", "<BOS_TOKEN>a<|START_OF_TURN_TOKEN|><|USER_TOKEN|> b<EOS_TOKEN>",
        ">>TITLE<<a >>ABSTRACT<< b", "<|extratoken_1|>x<|extratoken_10|>", "<fim_prefix>a<fim_suffix> b <fim_middle>", "|||IP_ADDRESS||| at |||EMAIL_ADDRESS|||x",
        "a</s></s><pad>b<unk>", "<h1>t</h1><table>x</table>", "x<|endoftext|>" * 3, "<|begin_of_text|>x<|end_of_text|> y",
        "\u0085a\u2028b\u2029c\u00a0d\u3000e\u180ef\u200bg", "\ufeffa\ufeff", "\x00a\x01b\x7fc\x80d", "\ud7ff\ue000\uffff\U0010ffff", "\ufffd\ufffda", "\u1100\u1161\u11a8 \uac01 \u212b\u0340",
        "A" * 200 + "b" * 200, "ab" * 300, "Ab1 " * 120, "\u00e9" * 150 + "e\u0301" * 150, "0" * 301, "?!" * 150 + "x", " " * 201 + "x" + "\n" * 101, "\u4f60\u597d" * 100,
    ]


def state(part):
    """A step of a pipeline as tokenizer.json has it."""
    return None if part is None else json.loads(part.__getstate__())


def make_bases():
    """bytes/ and pieces/: BPE over bytes and over characters, with merges across spaces, digits, punctuation and cases, so
    that every cut of a pipeline shows in the ids."""
    numbers = [f"{i} {i * 7919 % 10007}, {i * 31}.{i % 10};" for i in range(1, 40)]
    names = ["camelCase HTTPServer aBc XMLHttp iPhone ABCdef McDonald", "x's WE'LL l'an don't DON'T", "  a   b    c\n\n\nd \n e\t\tf", "?! ... (a) [b] a/b /\n"]
    lines = [line for text in training_text() + family_texts() for line in text.split("\n\n\n") if len(line) < 400] + (numbers + names) * 2
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=1100, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], show_progress=False, max_token_length=9,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    save_base("bytes", tokenizer)

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    names = ["<unk>", "<s>", "</s>", "<pad>", "<eos>", "<bos>", "<mask>"] + GEMMA_RUNS + [f"<0x{b:02X}>" for b in range(256)]
    count = collections.Counter("".join(lines).replace(" ", SPACE))
    alphabet = sorted(count, key=lambda c: (-count[c], c))[:140]  # the trainer's own choice differs from run to run
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=1100, special_tokens=names, show_progress=False,
                                                             initial_alphabet=alphabet, limit_alphabet=len(alphabet),
                                                             max_token_length=6))
    save_base("pieces", tokenizer)


def save_base(name, tokenizer):
    """Vocabulary and merges only: families bring the rest."""
    content = json.loads(tokenizer.to_str())
    content |= {"added_tokens": [], "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None}
    (OUT / name).mkdir(parents=True, exist_ok=True)
    write_json(OUT / name / "tokenizer.json", content)


def before(token, i):
    return processors.TemplateProcessing(single=f"{token} $A", pair=f"{token} $A {token}:1 $B:1", special_tokens=[(token, i)])


def families():
    """As `variants`; `texts` are left out: the corpus and family_texts."""
    ids = {base: json.loads((OUT / base / "tokenizer.json").read_text("utf8"))["model"]["vocab"] for base in ("bytes", "pieces")}
    split = pre_tokenizers.Split
    sequence = pre_tokenizers.Sequence
    bytes_of_words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    offsets = processors.ByteLevel(trim_offsets=False)
    pieces_decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    llama_decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    with_space = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])

    def family(name, base, model_type, config, tokens=(), model=None, take=("tokenizer.json",), files=None, decoder=None, **steps):
        known = ids[base]
        new = iter(range(len(known), 5000))
        listed = [t | {"id": known[t["content"]] if t["content"] in known else next(new)} for t in tokens]
        decoder = decoder or (decoders.ByteLevel() if base == "bytes" else pieces_decoder)
        patch = [{"op": "add", "path": f"/{key}", "value": state(step)} for key, step in {"decoder": decoder, **steps}.items()]
        patch += [{"op": "add", "path": "/added_tokens", "value": sorted(listed, key=lambda t: t["id"])}]
        patch += [{"op": "add", "path": f"/model/{key}", "value": value} for key, value in (model or {}).items()]
        if config.get("added_tokens_decoder") is True:
            config = config | {"added_tokens_decoder": decoder_entries(listed)}
        return {"name": name, "from": base, "take": list(take), "patch": patch,
                "files": {"config.json": {"model_type": model_type}, "tokenizer_config.json": config} | (files or {})}

    def token(content, **flags):
        return added(content, None, **flags)

    def tokens(*contents, **flags):
        return [token(content, **({"special": True} | flags)) for content in contents]

    listed = {"added_tokens_decoder": True}
    end = {"bos_token": GPT2_END, "eos_token": GPT2_END, "unk_token": GPT2_END}

    gemma_tokens = (tokens("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>") +
                    tokens("<mask>", "<unused0>", "<unused1>", *GEMMA_RUNS, "<table>", "</table>", "<h1>", "</h1>", special=False))
    gemma_steps = {"normalizer": normalizers.Replace(" ", SPACE), "pre_tokenizer": split(" ", "merged_with_previous"),
                   "post_processor": before("<bos>", ids["pieces"]["<bos>"])}
    gemma = {"tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>",
             "add_bos_token": True, "add_eos_token": False, "additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]}
    yield family("Gemma", "pieces", "gemma", gemma | listed, gemma_tokens, **gemma_steps)
    yield family("Gemma 2, without added_tokens_decoder", "pieces", "gemma2", gemma | {"tokenizer_class": "GemmaTokenizerFast"}, gemma_tokens, **gemma_steps)
    yield family("Gemma 3", "pieces", "gemma3_text", gemma | listed | {"boi_token": "<start_of_image>", "image_token": "<image_soft_token>"},
                 gemma_tokens + tokens("<start_of_image>", "<image_soft_token>"), **gemma_steps)
    yield family("Gemma of the class PreTrainedTokenizerFast", "pieces", "gemma3_text", gemma | {"tokenizer_class": "PreTrainedTokenizerFast"}, gemma_tokens, **gemma_steps)
    yield family("Gemma's class over flags of its own", "pieces", "gemma", gemma, gemma_tokens, model={"byte_fallback": False, "fuse_unk": False}, **gemma_steps)

    olmo_tokens = ([token(GPT2_END, special=True), token("<|padding|>", special=True), token("|||IP_ADDRESS|||"), token("|||EMAIL_ADDRESS|||")] +
                   [token(" " * n, normalized=True) for n in range(24, 1, -1)])
    olmo = {"tokenizer_class": "GPTNeoXTokenizer", "bos_token": None, "eos_token": GPT2_END, "pad_token": "<|padding|>", "unk_token": None,
            "add_bos_token": False, "add_eos_token": False}
    behind = processors.TemplateProcessing(single=f"$A {GPT2_END}", pair=f"$A {GPT2_END} $B {GPT2_END}", special_tokens=[(GPT2_END, len(ids["bytes"]))])
    yield family("OLMo", "bytes", "olmo", olmo | listed, olmo_tokens, normalizer=normalizers.NFC(), pre_tokenizer=gpt2, post_processor=behind)
    yield family("OLMoE", "bytes", "olmoe", olmo | {"bos_token": GPT2_END}, olmo_tokens, normalizer=normalizers.NFC(), pre_tokenizer=gpt2, post_processor=behind)
    cl100k = sequence([split(Regex(LLAMA3_PATTERN), "removed", invert=True), bytes_of_words])
    olmo2_tokens = tokens(GPT2_END, "<|im_start|>", "<|im_end|>") + tokens("|||IP_ADDRESS|||", "<|fim_prefix|>", special=False)
    yield family("OLMo 2", "bytes", "olmo2", {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, **end}, olmo2_tokens, pre_tokenizer=cl100k)
    yield family("OLMo 3, tiktoken's own spelling", "bytes", "olmo3", {"tokenizer_class": "GPT2Tokenizer", **end}, olmo2_tokens,
                 pre_tokenizer=sequence([split(Regex(CL100K_PATTERN), "isolated"), bytes_of_words]))

    phi_tokens = ([token(GPT2_END, special=True)] + [token(" " * n, normalized=True) for n in range(31, 1, -1)] + [token("\t" * n, normalized=True) for n in range(9, 1, -1)])
    yield family("Phi", "bytes", "phi", {"tokenizer_class": "CodeGenTokenizer", "add_prefix_space": False, **end, **listed}, phi_tokens, pre_tokenizer=gpt2, post_processor=offsets)
    yield family("Phi without a class", "bytes", "phi", {}, phi_tokens, pre_tokenizer=gpt2, post_processor=offsets)
    phi3_tokens = (tokens("<unk>", "<s>") + tokens("</s>", rstrip=True, special=False) + tokens(GPT2_END) +
                   tokens("<|user|>", "<|end|>", "<|assistant|>", "<|system|>", rstrip=True))
    phi3 = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": GPT2_END, "pad_token": GPT2_END, "unk_token": "<unk>", "legacy": False,
            "add_bos_token": False, "add_eos_token": False, **listed}
    yield family("Phi 3", "pieces", "phi3", phi3 | {"add_bos_token": True, "legacy": True}, phi3_tokens, normalizer=with_space, decoder=llama_decoder, post_processor=before("<s>", 1))
    yield family("Phi 3, later", "pieces", "phi3", phi3, phi3_tokens, normalizer=with_space, decoder=llama_decoder,
                 post_processor=processors.TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[]))
    yield family("Phi 3 under Llama's type", "pieces", "llama", phi3, phi3_tokens, normalizer=with_space, decoder=llama_decoder)
    phi4_tokens = tokens(GPT2_END) + tokens("<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|fim_prefix|>", lstrip=True, rstrip=True)
    yield family("Phi 4", "bytes", "phi3", {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, **end, **listed}, phi4_tokens, pre_tokenizer=cl100k)

    mistral_tokens = tokens("<unk>", "<s>", "</s>", "[INST]", "[/INST]")
    mistral = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True, "legacy": False, **listed}
    yield family("Mixtral", "pieces", "mixtral", mistral, mistral_tokens, normalizer=with_space, decoder=llama_decoder, post_processor=before("<s>", 1))
    yield family("Mistral with Metaspace", "pieces", "mistral", mistral, mistral_tokens, decoder=llama_decoder, post_processor=before("<s>", 1),
                 pre_tokenizer=pre_tokenizers.Metaspace(SPACE, prepend_scheme="first", split=False))
    yield family("words of Metaspace", "pieces", "mixtral", mistral, mistral_tokens, decoder=llama_decoder,
                 pre_tokenizer=pre_tokenizers.Metaspace(SPACE, prepend_scheme="always", split=True))
    tekken = sequence([split(Regex(TEKKEN_PATTERN), "isolated"), bytes_of_words])
    for model_type, name in (("mistral", "PreTrainedTokenizerFast"), ("ministral", "LlamaTokenizerFast"), ("llama", "LlamaTokenizerFast")):
        yield family(f"Mistral NeMo: {model_type}", "bytes", model_type, mistral | {"tokenizer_class": name}, mistral_tokens, model={"ignore_merges": True},
                     pre_tokenizer=tekken, post_processor=before("<s>", ids["bytes"]["<s>"]))

    qwen_tokens = tokens(GPT2_END, "<|im_start|>", "<|im_end|>")
    qwen = {"tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": "<|im_end|>", "pad_token": GPT2_END, "unk_token": None, "add_prefix_space": False, **listed}
    for model_type in ("qwen2_moe", "qwen3_moe"):
        yield family(f"Qwen: {model_type}", "bytes", model_type, qwen, qwen_tokens, normalizer=normalizers.NFC(), post_processor=offsets,
                     pre_tokenizer=sequence([split(Regex(QWEN2_PATTERN), "isolated"), bytes_of_words]))
    o200k = sequence([split(Regex(O200K_PATTERN), "isolated"), bytes_of_words])
    for ignore in (False, True):
        yield family(f"GPT-OSS, ignore_merges {ignore}", "bytes", "gpt_oss",
                     {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|startoftext|>", "eos_token": "<|return|>", "pad_token": GPT2_END},
                     tokens("<|startoftext|>", GPT2_END, "<|return|>", "<|call|>"), model={"ignore_merges": ignore}, pre_tokenizer=o200k, post_processor=offsets)

    normal = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "__type": "AddedToken"}
    opt = {"tokenizer_class": "GPT2Tokenizer", "errors": "replace", "add_prefix_space": False, "add_bos_token": True, "pad_token": "<pad>"} | {
        key: {"content": "</s>"} | normal for key in ("unk_token", "bos_token", "eos_token")}
    opt_map = {key: {"content": name} | {k: v for k, v in normal.items() if k != "__type"} for key, name in
               (("bos_token", "</s>"), ("eos_token", "</s>"), ("unk_token", "</s>"), ("pad_token", "<pad>"))}
    slow = ("vocab.json", "merges.txt")
    yield family("OPT", "bytes", "opt", opt, take=slow, files={"special_tokens_map.json": opt_map})
    yield family("OPT without the map", "bytes", "opt", opt, take=slow)
    yield family("OPT with tokenizer.json", "bytes", "opt", opt, tokens("</s>", "<pad>", normalized=True), pre_tokenizer=gpt2, post_processor=before("</s>", ids["bytes"]["</s>"]))
    gptj_tokens = tokens(GPT2_END) + [token(f"<|extratoken_{i}|>", normalized=True) for i in range(1, 12)]
    gptj = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False} | {key: {"content": GPT2_END} | normal for key in ("unk_token", "bos_token", "eos_token")}
    yield family("GPT-J", "bytes", "gptj", gptj, gptj_tokens, pre_tokenizer=gpt2, post_processor=offsets)
    yield family("GPT-J without tokenizer.json", "bytes", "gptj", gptj, take=slow, files={"added_tokens.json": {f"<|extratoken_{i}|>": len(ids["bytes"]) + i - 1 for i in range(1, 12)}})
    yield family("GPT-Neo", "bytes", "gpt_neo", end | {"model_max_length": 2048}, take=slow, files={"special_tokens_map.json": end})
    yield family("GPT-Neo with tokenizer.json", "bytes", "gpt_neo", end | {"tokenizer_class": "GPT2Tokenizer"}, tokens(GPT2_END), pre_tokenizer=gpt2, post_processor=offsets)
    bloom_tokens = tokens("<unk>", "<s>", "</s>", "<pad>")
    for name in ("BloomTokenizerFast", "PreTrainedTokenizerFast"):
        yield family(f"BLOOM: {name}", "bytes", "bloom", {"tokenizer_class": name, "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "add_prefix_space": False},
                     bloom_tokens, pre_tokenizer=sequence([split(Regex(BLOOM_PATTERN), "isolated"), bytes_of_words]), post_processor=processors.ByteLevel(trim_offsets=False))
    falcon = sequence([pre_tokenizers.Punctuation("contiguous"), gpt2, pre_tokenizers.Digits(False), split(Regex("[0-9][0-9][0-9]"), "isolated")])
    yield family("Falcon", "bytes", "falcon", {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": GPT2_END, "add_prefix_space": False},
                 tokens(">>TITLE<<", ">>ABSTRACT<<", GPT2_END), pre_tokenizer=falcon, post_processor=processors.TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[]))
    for behavior in ("isolated", "removed", "merged_with_previous", "merged_with_next"):
        yield family(f"punctuation {behavior}", "bytes", "falcon", {"tokenizer_class": "PreTrainedTokenizerFast"},
                     pre_tokenizer=sequence([pre_tokenizers.Punctuation(behavior), bytes_of_words]))
    digits = sequence([pre_tokenizers.Digits(True), gpt2])
    granite_tokens = tokens(GPT2_END, "<fim_prefix>", "<fim_middle>", "<fim_suffix>")
    for model_type in ("granite", "gpt_bigcode"):
        yield family(f"Granite: {model_type}", "bytes", model_type, {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, **end, **listed}, granite_tokens, pre_tokenizer=digits, post_processor=offsets)
    yield family("StarCoder 2", "bytes", "starcoder2", {"tokenizer_class": "GPT2Tokenizer", **end, **listed}, granite_tokens, pre_tokenizer=digits, post_processor=offsets)
    llama3 = sequence([split(Regex(LLAMA3_PATTERN), "isolated"), bytes_of_words])
    yield family("SmolLM3", "bytes", "smollm3", {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": None, "eos_token": "<|im_end|>", **listed},
                 tokens("<|begin_of_text|>", "<|end_of_text|>", "<|im_end|>"), model={"ignore_merges": True}, pre_tokenizer=llama3, post_processor=processors.Sequence([offsets]))
    cohere_tokens = tokens("<PAD>", "<UNK>", "<CLS>", "<SEP>", "<MASK_TOKEN>", "<BOS_TOKEN>", "<EOS_TOKEN>") + tokens("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", special=False)
    cohere = {"tokenizer_class": "CohereTokenizer", "bos_token": "<BOS_TOKEN>", "eos_token": "<|END_OF_TURN_TOKEN|>", "pad_token": "<PAD>", "unk_token": None, "add_bos_token": True, "add_prefix_space": False}
    cohere_steps = {"normalizer": normalizers.NFC(), "pre_tokenizer": digits, "post_processor": before("<BOS_TOKEN>", len(ids["bytes"]) + 5)}
    yield family("Cohere", "bytes", "cohere", cohere | listed, cohere_tokens, **cohere_steps)
    yield family("Cohere 2 without a class", "bytes", "cohere2", {}, cohere_tokens, **cohere_steps)
    yield family("Cohere's class over other steps", "bytes", "cohere2", cohere | {"tokenizer_class": "CohereTokenizerFast", "add_prefix_space": True, "additional_special_tokens": ["<|USER_TOKEN|>"]},
                 cohere_tokens[:-1] + tokens("<|USER_TOKEN|>", lstrip=True, special=False), pre_tokenizer=llama3)
    yield family("StableLM", "bytes", "stablelm", {"tokenizer_class": "GPTNeoXTokenizer", "add_prefix_space": False, **end}, olmo_tokens, normalizer=normalizers.NFC(), pre_tokenizer=gpt2, post_processor=offsets)
    yield family("StableLM 2", "bytes", "stablelm", {"tokenizer_class": "GPT2Tokenizer", **end}, olmo2_tokens, pre_tokenizer=llama3)


def decoder_entries(listed):
    return {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in listed}


def make_families():
    """families.json: cases as in variants.json, for the corpus and `texts`. `sums`: of each text's ids the last four digits of
    the checksum; `size`, `bos`, `eos`, `adds_bos` as in `golden`."""
    texts = [spelled_out(t) for t in corpus()] + family_texts()
    cases = []
    with tempfile.TemporaryDirectory() as scratch:
        for index, case in enumerate(families()):
            folder = Path(scratch) / str(index)
            fill_folder(folder, case)
            loaded = transformers.AutoTokenizer.from_pretrained(folder)
            all_ids = [loaded.encode(t, add_special_tokens=False) for t in texts]
            first = loaded.encode("a")[0]
            adds_bos = first != loaded.encode("a", add_special_tokens=False)[0]
            assert not adds_bos or first == loaded.bos_token_id
            if "tokenizer.json" in case["take"]:
                plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
                differ = sum(plain.encode(t, add_special_tokens=False).ids != i for t, i in zip(texts, all_ids))
                if differ:
                    print(f"{case['name']}: AutoTokenizer differs from tokenizers for {differ} texts")
            cases.append(case | {"size": max(loaded.get_vocab().values()) + 1, "bos": loaded.bos_token_id, "eos": loaded.eos_token_id, "adds_bos": adds_bos,
                                 "sums": "".join(fnv1a(i)[12:] for i in all_ids)})
    lines = ",\n".join(json.dumps(case, separators=(",", ":"), ensure_ascii=False) for case in cases)
    extra = json.dumps(family_texts(), separators=(",", ":"))
    (OUT / "families.json").write_text(f'{{"reference": {json.dumps(version())},\n"texts": {extra},\n"cases": [\n{lines}]}}\n', "utf8")
    print(f"{len(cases)} families")


def reads_as_file(folder, texts, ids, bos):
    """Whether AutoTokenizer gives the ids of the tokenizer.json, if there is one, and BOS as the flag says it."""
    flag = json.loads((folder / "tokenizer_config.json").read_text()).get("add_bos_token")
    if flag is not None and flag != (bos is not None):
        return False
    if not (folder / "tokenizer.json").exists():
        return True
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    plain = [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
    with_bos = tokenizer.encode(texts[0]).ids[0] != plain[0][0]
    return plain == ids and with_bos == (bos is not None)


def make_variants():
    cases = []
    with tempfile.TemporaryDirectory() as scratch:
        for index, case in enumerate(variants()):
            folder = Path(scratch) / str(index)
            fill_folder(folder, case)
            loaded = transformers.AutoTokenizer.from_pretrained(folder)
            ids = [loaded.encode(t, add_special_tokens=False) for t in case["texts"]]
            full = loaded.encode(case["texts"][0])
            adds_bos = full[:1] != ids[0][:1]
            bos = full[0] if adds_bos else None
            cases.append(case | {"ids": ids, "bos": bos, "told": not reads_as_file(folder, case["texts"], ids, bos)})
    lines = ",\n".join(json.dumps(case, separators=(",", ":"), ensure_ascii=False) for case in cases)
    (OUT / "variants.json").write_text(f'{{"reference": {json.dumps(version())},\n"cases": [\n{lines}]}}\n', "utf8")
    print(f"{len(cases)} variants")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--families", action="store_true", help="write families.json and its vocabularies only")
    parser.add_argument("--variants", action="store_true", help="write variants.json and unigram/ only")
    parser.add_argument("--ranks", action="store_true", help="write tekken and moonshot only")
    parser.add_argument("--unigram", action="store_true", help="write unigram-bytes and unigram-words only")
    arguments = parser.parse_args()
    shared = arguments.shared
    if arguments.families:
        make_bases()
        make_families()
        return
    if arguments.variants:
        make_unigram()
        make_variants()
        return
    if arguments.ranks:
        golden_of_ranks()
        return
    if arguments.unigram:
        golden_of_unigram()
        return
    if not (shared / "tokenizers").is_dir():
        parser.error(f"no tokenizers in {shared}")
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    write_json(OUT / "corpus.json", corpus())
    make_gpt2()
    make_neox()
    make_llama3()
    make_qwen2()
    make_sentencepiece()
    auto = transformers.AutoTokenizer.from_pretrained
    for name in ("gpt2", "neox", "llama3", "qwen2", "sentencepiece-json", "metaspace-json"):
        golden(name, load_json(OUT / name), auto(OUT / name), version())
    loaded = transformers.GPT2Tokenizer.from_pretrained(OUT / "gpt2-merges")
    golden("gpt2-merges", JsonReference(loaded.backend_tokenizer), loaded, version())
    golden("sentencepiece", SentencePieceReference(OUT / "sentencepiece"), auto(OUT / "sentencepiece"), version())
    golden_of_ranks()
    golden_of_unigram()
    golden("demo", SentencePieceReference(ROOT / "data/demo"), auto(ROOT / "data/demo"), version())
    make_bases()
    make_unigram()
    make_variants()
    make_families()
    golden_of_shared(shared)


if __name__ == "__main__":
    main()
