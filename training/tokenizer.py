"""A lower-case byte-level BPE in CLIP's tokenizer format, trained on the captions."""

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

MERGED_TOKENS = 6000
CONTEXT = 32  # tokens a text, start and end included
# OpenAI CLIP's own word pattern, from its released tokenizer.
WORDS = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def train_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(
        captions,
        trainers.BpeTrainer(
            vocab_size=MERGED_TOKENS,
            end_of_word_suffix="</w>",
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    learned = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    tokens = dict.fromkeys([*alphabet, *(a + "</w>" for a in alphabet), *(a + b for a, b in learned)])
    tokens.update(dict.fromkeys(("<|startoftext|>", "<|endoftext|>")))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = [(a, b) for a, b in learned if a in vocabulary and b in vocabulary]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)
