"""Read special tokens from the files of a Hugging Face directory; files that disagree are an error.

| file | content |
|---|---|
| `tokenizer_config.json`, `special_tokens_map.json` | the piece of each role, such as `sep_token`; additional ones |
| `tokenizer.json`, `added_tokens_decoder`, `added_tokens.json` | the ids and flags of added pieces |
| `tokenizer.json` | the special tokens that the post-processor puts before and after a text |
| `config.json` | the ids of roles, such as `eos_token_id` |
| `config.json`, `generation_config.json` | ids that are never generated: `suppress_tokens`, `bad_words_ids` |

A role that no file names has the default piece of the transformers tokenizer class.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from keras_attention.data.tokenization.special_tokens import AddedToken, SpecialTokens, fill_missing_ids
from keras_attention.weights.files import optional_json


class SpecialTokenRole(NamedTuple):
    """A special token of a family.

    Attributes:
        name: the attribute of transformers, such as `"sep_token"`.
        kind: the field of `SpecialTokens` that has its id; None if this library does not use it.
        piece: the default of the transformers tokenizer class; None for none.
        lstrip: it includes the spaces before it, if no file has flags for it.
    """

    name: str
    kind: str | None
    piece: str | None
    lstrip: bool = False


_AROUND = {  # template -> ids before and after a text
    "start_end": lambda start, end: ([start], [end]),
    "end_start": lambda start, end: ([], [end, start]),
    "end": lambda start, end: ([], [end]),
}


class _Added(NamedTuple):
    """An added piece, and the file that declares it."""

    id: int | None
    token: AddedToken
    is_special: bool
    file: str


def read_special_tokens(
    path: pathlib.Path,
    roles: Iterable[SpecialTokenRole],
    vocabulary: Mapping[str, int],
    template: str | None,
    lowercase: bool = False,
) -> tuple[dict[str, int], SpecialTokens]:
    """Return the vocabulary with the added pieces, and the special tokens.

    Args:
        path: the directory.
        roles: the special tokens of the family.
        vocabulary: piece -> id, without added pieces.
        template: the special-token template of the family; None if its files say whether texts begin with the start
            token (GPT-2).
        lowercase: texts are converted to lower case.

    Raises:
        ValueError: two files disagree, or a file names a piece that the vocabulary lacks.
    """
    added, named = _added_pieces(path), _named_pieces(path)
    ids = _merge_ids(vocabulary, added)
    role_ids = {role.name: _role_id(path, role, named.get(role.name), ids) for role in roles}
    kinds = {role.kind: role_ids[role.name] for role in roles if role.kind and role_ids[role.name] is not None}
    others = [ids[piece] for piece in _additional_pieces(path) if piece in ids]
    others += [ids[piece] for piece, entry in added.items() if entry.is_special]
    special_ids = [i for i in (*role_ids.values(), *others) if i is not None]
    pieces = {i: piece for piece, i in ids.items()}
    tokens = {piece: entry.token for piece, entry in added.items()}
    for role in roles:
        piece = pieces.get(role_ids[role.name])
        if piece is not None:
            tokens.setdefault(piece, _token(named.get(role.name, (piece, ""))[0], piece, role))
    for piece in _additional_pieces(path):
        tokens.setdefault(piece, AddedToken(piece))
    if "end" not in kinds:
        end = next(role for role in reversed(list(roles)) if role.kind == "end")
        raise ValueError(f"{str(path)!r} has no {end.name}: its vocabulary lacks {end.piece!r}. Add it to the files.")
    known = fill_missing_ids(kinds)
    added_tokens = tuple(tokens[piece] for piece in sorted(tokens.keys() & ids.keys(), key=ids.__getitem__))
    special = SpecialTokens(
        **known,
        special_ids=tuple(special_ids),
        added_tokens=added_tokens,
        add_start_token=_check_processor(path, template, known, pieces),
        lowercase=lowercase,
        suppress_tokens=sorted(_suppressed(path) - {known["end"]}),
    )
    return ids, special


def _suppressed(path: pathlib.Path) -> set[int]:
    """Return the ids that transformers never generates. It may generate other special tokens, and removes them."""
    ids: set[int] = set()
    for file in ("config.json", "generation_config.json"):
        content = optional_json(path / file)
        ids.update(content.get("suppress_tokens") or ())
        ids.update(words[0] for words in content.get("bad_words_ids") or () if len(words) == 1)
    return ids


def _token(value: Any, piece: str, role: SpecialTokenRole) -> AddedToken:
    if isinstance(value, Mapping):
        return _from_flags(piece, value)
    return AddedToken(piece, lstrip=role.lstrip, normalized=role.lstrip)  # as transformers' class


def _from_flags(piece: str, flags: Mapping[str, Any]) -> AddedToken:
    names = ("lstrip", "rstrip", "single_word", "normalized")
    return AddedToken(piece, **{name: bool(flags.get(name, False)) for name in names})


def _named_pieces(path: pathlib.Path) -> dict[str, tuple[Any, str]]:
    """Return attribute -> (its value, a piece or a dict with flags; the file), such as `sep_token`."""
    named: dict[str, tuple[Any, str]] = {}
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        for name, value in optional_json(path / file).items():
            if not name.endswith("_token") or not isinstance(value, (str, Mapping)):
                continue
            first, first_file = named.setdefault(name, (value, file))
            if _content(first) != _content(value):
                raise ValueError(
                    f"{first_file} has {name} = {_content(first)!r}, but {file} has {_content(value)!r}; expected the "
                    "same piece. Correct one of the two files."
                )
    return named


def _content(value: Any) -> str:
    return value["content"] if isinstance(value, Mapping) else value


def _additional_pieces(path: pathlib.Path) -> list[str]:
    pieces: list[str] = []
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        content = optional_json(path / file)
        for name in ("additional_special_tokens", "extra_special_tokens"):
            values = content.get(name) or ()
            pieces += map(_content, values.values() if isinstance(values, Mapping) else values)
    return list(dict.fromkeys(pieces))


def _added_pieces(path: pathlib.Path) -> dict[str, _Added]:
    """Return the pieces that were added after training, or are special, from all files."""
    added: dict[str, _Added] = {}

    def add(piece: str, index: int, token: AddedToken, is_special: bool, file: str) -> None:
        first = added.setdefault(piece, _Added(index, token, is_special, file))
        if first.id != index:
            raise ValueError(
                f"{first.file} has {piece!r} = {first.id}, but {file} has {index}; expected the same id. Correct one "
                "of the two files."
            )

    for flags in optional_json(path / "tokenizer.json").get("added_tokens", ()):
        piece = flags["content"]
        add(piece, flags["id"], _from_flags(piece, flags), bool(flags.get("special")), "tokenizer.json")
    decoder = optional_json(path / "tokenizer_config.json").get("added_tokens_decoder", {})
    for index, flags in decoder.items():
        piece = flags["content"]
        add(piece, int(index), _from_flags(piece, flags), bool(flags.get("special")), "tokenizer_config.json")
    special = {*map(_content, (value for value, _ in _named_pieces(path).values())), *_additional_pieces(path)}
    for piece, index in optional_json(path / "added_tokens.json").items():
        token = AddedToken(piece, normalized=piece not in special)
        add(piece, index, token, piece in special, "added_tokens.json")
    return added


def _merge_ids(vocabulary: Mapping[str, int], added: Mapping[str, _Added]) -> dict[str, int]:
    ids = dict(vocabulary)
    for piece, entry in added.items():
        if ids.setdefault(piece, entry.id) != entry.id:
            raise ValueError(
                f"The vocabulary has {piece!r} = {ids[piece]}, but {entry.file} has {entry.id}; expected the same id. "
                "Correct one of the two files."
            )
    return ids


def _role_id(
    path: pathlib.Path, role: SpecialTokenRole, named: tuple[Any, str] | None, ids: Mapping[str, int]
) -> int | None:
    """Return the id of a role: of the piece in a file, else of the class's default piece, else that of config.json."""
    config = optional_json(path / "config.json")
    value = config.get(f"{role.name}_id")
    stored = [value] if isinstance(value, int) else list(value or ())
    if named is not None and _content(named[0]) not in ids:
        raise ValueError(
            f"{named[1]} has {role.name} = {_content(named[0])!r}, which the vocabulary lacks; expected one of its "
            "pieces, or an id in added_tokens.json."
        )
    piece = _content(named[0]) if named is not None else role.piece
    index = ids.get(piece) if piece is not None else None
    if index is None:
        return stored[0] if stored and named is None and role.piece is not None else None
    if stored and index not in stored:
        source = named[1] if named is not None else "the tokenizer"
        raise ValueError(
            f"config.json has {role.name}_id = {value}, but {source} has {role.name} = {piece!r}, whose id is {index}; "
            "expected the same id. Correct one of the two files, pass another `tokenizer`, or tokenizer=None to load "
            "no tokenizer."
        )
    return index


def _check_processor(
    path: pathlib.Path, template: str | None, special: Mapping[str, Any], pieces: Mapping[int, str]
) -> bool:
    """Return whether texts begin with the start token, and check the post-processor of tokenizer.json.

    Raises:
        ValueError: the special tokens around a text differ from the template of the family.
    """
    content = optional_json(path / "tokenizer.json")
    around = _around_text(content.get("post_processor"), {piece: i for i, piece in pieces.items()})
    start, end = special["start"], special["end"]
    if template is None:
        adds_start = bool(optional_json(path / "tokenizer_config.json").get("add_bos_token"))
        expected = [([], []), ([start], [])]
    else:
        adds_start = True
        expected = [([], []), _AROUND[template](start, end)]
    if around not in expected:
        shown = [[pieces.get(i, i) for i in side] for side in around]
        from_template = [[pieces.get(i, i) for i in side] for side in expected[-1]]
        raise ValueError(
            f"The post_processor of tokenizer.json puts {shown[0]} before a text and {shown[1]} after it, but by the "
            f"other files these are {from_template[0]} and {from_template[1]}. Correct one of the files."
        )
    return adds_start or around == ([start], [])


def _around_text(processor: Mapping[str, Any] | None, ids: Mapping[str, int]) -> tuple[list[int], list[int]]:
    """Return the ids that a post-processor puts before and after a single text."""
    before: list[int] = []
    after: list[int] = []
    kind = (processor or {}).get("type")
    if kind == "Sequence":
        for part in processor["processors"]:
            left, right = _around_text(part, ids)
            before, after = left + before, after + right
    elif kind in ("BertProcessing", "RobertaProcessing"):
        before, after = [processor["cls"][1]], [processor["sep"][1]]
    elif kind == "TemplateProcessing":
        side = before
        for item in processor["single"]:
            if "Sequence" in item:
                side = after
            else:
                side.extend(processor["special_tokens"][item["SpecialToken"]["id"]]["ids"])
    return before, after
