"""Tokenizers of each kind of model, trained on the spot on a few sentences in eight scripts."""

import io
import json
from pathlib import Path
from typing import Any

_SENTENCES = (
    "a photo of a red car on a wet street at night",
    "two black cats sleep on the old wooden table",
    "the quick brown fox jumps over the lazy dog",
    "μια κόκκινη ομπρέλα στην παραλία το καλοκαίρι",
    "ένα ψάρι κολυμπά στη γαλάζια θάλασσα",
    "красная машина стоит на мокрой улице ночью",
    "سيارة حمراء في شارع مبلل في الليل",
    "قطة سوداء تنام على الطاولة الخشبية",
    "रात में गीली सड़क पर लाल कार",
    "लकड़ी की मेज पर सोती हुई काली बिल्ली",
    "夜の濡れた道にある赤い車",
    "木のテーブルの上で眠る黒い猫",
    "夜晚湿漉漉的街道上的一辆红色汽车",
    "一只黑猫睡在旧木桌上",
    "밤의 젖은 거리에 있는 빨간 자동차",
)


def clip_tokenizer(max_length: int) -> Any:
    """CLIP's byte pairs without merges: a token a byte."""
    from tokenizers.pre_tokenizers import ByteLevel  # noqa: PLC0415
    from transformers import CLIPTokenizer  # noqa: PLC0415

    alphabet = sorted(ByteLevel.alphabet())
    marks = ("<|startoftext|>", "<|endoftext|>")
    tokens = [*alphabet, *(f"{character}</w>" for character in alphabet), *marks]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=max_length
    )


def _unigrams() -> bytes:
    """A sentencepiece model of lower-cased text, the same each time."""
    import sentencepiece  # noqa: PLC0415

    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([sentence.lower() for sentence in _SENTENCES]),
        model_writer=trained,
        vocab_size=400,
        hard_vocab_limit=False,
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return trained.getvalue()


def sentencepiece_tokenizer(max_length: int, folder: Path) -> Any:
    """SigLIP's: a sentencepiece unigram model of lower-cased text, written to `folder`."""
    from transformers import SiglipTokenizer  # noqa: PLC0415

    path = folder / "spiece.model"
    path.write_bytes(_unigrams())
    return SiglipTokenizer(str(path), model_max_length=max_length, model_input_names=["input_ids"])


def gemma_tokenizer() -> Any:
    """SigLIP 2's: byte pairs that fall back to bytes, in the order of Gemma's, of no longest text."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers  # noqa: PLC0415
    from tokenizers.models import BPE  # noqa: PLC0415
    from tokenizers.trainers import BpeTrainer  # noqa: PLC0415
    from transformers import GemmaTokenizer  # noqa: PLC0415

    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    trainer = BpeTrainer(vocab_size=512, special_tokens=marks, show_progress=False)
    tokenizer.train_from_iterator([sentence.lower() for sentence in _SENTENCES], trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    return GemmaTokenizer(
        vocab=trained["vocab"],
        merges=[tuple(pair) for pair in trained["merges"]],
        add_bos_token=False,
        add_eos_token=True,
        padding_side="right",
    )


def xlm_roberta_tokenizer(max_length: int) -> Any:
    """MetaCLIP 2's and AltCLIP's: a unigram model."""
    import sentencepiece  # noqa: PLC0415
    from transformers import XLMRobertaTokenizer  # noqa: PLC0415

    # The trainer of `tokenizers` gives another one each time.
    trained = sentencepiece.SentencePieceProcessor(model_proto=_unigrams())
    pieces = [
        (trained.id_to_piece(i), trained.get_score(i))
        for i in range(len(trained))
        if not trained.is_control(i) and not trained.is_unknown(i)
    ]
    marks = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return XLMRobertaTokenizer(vocab=[*marks, *pieces, ("<mask>", 0.0)], model_max_length=max_length)


def bert_tokenizer(max_length: int) -> Any:
    """Chinese-CLIP's: word pieces, of Chinese a character each."""
    from transformers import BertTokenizer  # noqa: PLC0415

    characters = sorted({character for sentence in _SENTENCES for character in sentence.lower()} - {" "})
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*marks, *characters, *(f"##{character}" for character in characters)]
    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}, model_max_length=max_length)
