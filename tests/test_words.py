"""The field's words: phrases that a reader would have to translate are banned from package, docs and help."""

import functools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FOLDERS = ("keras_attention", "docs", "examples", "benchmarks", "tests")
# A banned phrase, as a regular expression -> what to write.
BANNED = {
    r"networks? that (sees?|learned to see)|what sees|to see with": "image encoder",
    r"\bsights?\b|\bsee_pictures\b": "encode_images",
    r"looks? (back )?at|looked at|look(s|ed|ing)? again|\blooks are\b|(it|each word) look(s|ed)": "attend",
    r"\blook_(first|again)\b": "attend_first, grounded_attention",
    r"\bimage_enters\b": "image_injection",
    r"\bhidden_dim\b": "intermediate_dim",
    r"\bhead_dim\b": "key_dim",
    r"\breturn_weights\b": "return_attention_scores",
    r"\bDECLINES?\b|--decline\b|\bdeclines?\b": "decay, schedule",
    r"\bby chance\b|\bchances\b|where chance begins": "at random, probability, seed",
    r"\banswer(s|ed|ing)?\b": "return, output",
    r"\b(CaptionedPicture|PictureError|decode_picture|read_pictures)\b": "image",
    r"\bgaps?\b|\bFillings?\b": "mask, FilledMask",
    r"\bFRAMES\b|\bframe_ids\b": "special-token template",
    r"\bLeftToRight\b|\bSearchCache\b": "AutoregressiveLM, CompiledFunction",
    r"\blineage\b|\btake_beams\b|\bwritten_so_far\b": "parent_beams, gather_beams, cache_mask",
    r"\bat_summary\b|\bkeep_last\b": "pool_sequence, gather_last",
    r"\bWordSpelling\b|\bspell(s|ed|ing|ings)?\b": "CharacterEncoder",
    r"\bMaskedLanguageHead\b|\bLearnedPositions\b": "MaskedLMHead, PositionEmbedding",
    r"\bn_best\b|--n-best\b|--samples\b": "num_return_sequences",
    r"\bno_repeat_ngram\b|--no-repeat-ngram\b(?!-size)": "no_repeat_ngram_size",
    r"--batch-tokens\b|--select\b|--accumulate\b|--average\b(?!-)|--together\b": "the option's new name",
    r"\bharmless\b": "ignored_attributes",
    r"\broads?\b|\bthe house\b|\banew\b|\bmend(s|ed|ing)?\b|\bbeside\b": "path, structure, again, fix, next to",
    r"\bembedded (English|phrases|scenes|data)\b": "built-in",
    r"\bknobs?\b": "option",
    r"\"fed\"|\bseeing\b": "last_output, image_encoder",
    r"\blecture's\b": "the paper",
    r"\bneither verbs\b|weights, the sizes\b": "prediction methods, config",
    r"\baddress(es)?\b(?!, which a new layer)|\bfingerprint\b(?!\":)": "path, digest",
    r"\b\w*(normal|quant|initial|material|memor|recogn|serial|standard|token)is(e|ed|es|ing|ations?)\b": "-ize",
    r"\bby heart\b": "memorized",
    r"\bstands? (for|in|before|after|behind|around|next|where|what)\b|what stands": "is",
    r"--encoder\b|\bencoder_weights\b|\b(model|captioner|self)\.vision\b": "image_encoder",
    r"('s|\ba|\bthe|Every) verbs?\b|\.verb\b|`verb`|\brun_verb\b": "prediction method",
    r"\b[Ss]tock(_loader| TensorFlow| C\+\+| server| loader)|\bStockLoader\b": "unmodified, TensorFlowLoader",
    r"\bholds\b(?! (out|nothing out))": "contains",
    r"\*\*(sizes|parts): |\bresized\(cls\b": "overrides, override_config",
    r"\b(Text|Image|Word)Inputs\b|\btext_inputs\b|\bmake_inputs\b": "EncodedTexts, RawImages, text_input_tensors",
    r"\bcolumn_option\b|\bdescribe_start\b|\bstarts_texts\b|\*\*chosen\b": "column_hint, run_identity, overrides",
    r"\bforce_candidates\b|\bnum_forced\b|\b_between\b": "force_prefix, prefix_lengths, _clip",
    r"\bshares? of\b|writing systems?\b|foreign arrays?\b": "fraction, script, checkpoint array",
    r"\bencode_segment\b|\bsource_tokens\b|\bare_empty\b": "encode_part, source_pieces, valid",
    r"--remat\b": "--rematerialize, the name of the argument in Python",
    r"--features\b|--device\b|quoted_parameters|usually quoted": "--region-cache, --step-costs, published_parameters",
    r"other way a?round|\bwith them, |\blearns\(self|\.learns\b": "the field's noun, is_trainable",
    r"\bgiven_flags\b|\b(scores|metrics)\.settings\b|`settings`": "command_line_options, signature",
    r"(padding|tokens?|prompt) included\b": "including padding, including special tokens",
    r"two aligned|aligned (text )?files?|aligned line by line": "parallel files",
    r"[Ff]ollows? from the (data|size)|\bfollows? the data\b": "depends on the data, computed from",
    r"\blearns_from_pairs\b|learns? from pairs": "trained on pairs of texts",
    r"\bsay\(|\bhomes\b": "write_message, modules",
    r"no region cache then|is a list of up to|mirror (each|the) image": "turns the region cache off, flip",
}
# The changelog lists old names, this file lists what is banned, and the grammar of the built-in phrases is data.
EXEMPT = ("CHANGELOG.md", "tests/test_words.py", "keras_attention/quickstart/phrases.py")


@functools.cache
def texts() -> dict[str, str]:
    """Return a dict: the name of a file -> its text."""
    paths = [path for folder in FOLDERS for kind in ("*.py", "*.md") for path in (ROOT / folder).rglob(kind)]
    names = {path.relative_to(ROOT).as_posix(): path for path in [*paths, *ROOT.glob("*.md")]}
    return {name: path.read_text() for name, path in names.items() if name not in EXEMPT}


@pytest.mark.parametrize("pattern", BANNED)
def test_a_banned_phrase_is_nowhere(pattern):
    lines = [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts().items()
        if re.search(pattern, text)
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not lines, f"write {BANNED[pattern]} instead:\n" + "\n".join(lines)
