"""Vocabulary: BERT's tokenizer from a vocab.txt, for folders that have no tokenizer.json."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from softcue.errors import BackboneError
from softcue.text.template import JsonObject

# A vocab.txt does not say by which rules texts are split. For these tokenizers BERT's rules are known to be
# right.
BERT_LIKE = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer")
BERT_SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}

REBUILD = (
    "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) of transformers writes a tokenizer.json"
)


def from_vocabulary(path: Path) -> Tokenizer:
    """Build BERT's tokenizer from its vocab.txt, with the settings of tokenizer_config.json if it is there.

    Raises BackboneError for a vocabulary that BERT's rules do not fit.
    """
    settings_path = path.with_name("tokenizer_config.json")
    try:
        settings: JsonObject = json.loads(settings_path.read_text("utf-8")) if settings_path.is_file() else {}
    except ValueError as error:
        raise BackboneError(
            f"tokenizer_config.json beside it is not JSON ({error}); fetch it again"
        ) from None
    name = settings.get("tokenizer_class") or BERT_LIKE[0]
    if name.removesuffix("Fast") not in BERT_LIKE:
        raise BackboneError(f"vocab.txt of a {name} does not say how to split words; {REBUILD}")
    if path.with_name("added_tokens.json").is_file():
        raise BackboneError(f"vocab.txt lacks the tokens of added_tokens.json beside it; {REBUILD}")
    with path.open(encoding="utf-8") as lines:
        vocabulary = {line.rstrip("\n"): at for at, line in enumerate(lines)}
    named = {role: settings.get(role) or usual for role, usual in BERT_SPECIAL.items()}
    special = {role: token["content"] if isinstance(token, dict) else token for role, token in named.items()}
    needed = [special[role] for role in ("unk_token", "cls_token", "sep_token")]
    missing = [token for token in needed if token not in vocabulary]
    if missing:
        raise BackboneError(
            f"the vocabulary lacks the special tokens {missing}; expected BERT's, one token per line"
        )
    tokenizer = Tokenizer(
        models.WordPiece(vocabulary, unk_token=special["unk_token"], max_input_chars_per_word=100)
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    cls, sep = special["cls_token"], special["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, vocabulary[cls]), (sep, vocabulary[sep])],
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    known = [token for token in special.values() if token in vocabulary]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in known])
    return tokenizer
