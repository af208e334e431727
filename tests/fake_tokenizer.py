"""A tokenizer with fixed ids, and the special tokens of several model families."""

import re

from keras_attention.data import special_tokens_of


class FakeTokenizer:
    """One token for each part of a word, such as "red-apple"; the ids are the positions in a list."""

    def __init__(self, *special):
        self.vocabulary = [*special, "we", "eat", "red", "apple", "and", "bread"]

    def get_vocabulary(self):
        return self.vocabulary

    def ids(self, pieces):
        """Return the ids of pieces with spaces between, such as "<s> we eat </s>"; pieces may be special tokens."""
        return [self.vocabulary.index(piece) for piece in pieces.split()]

    def tokenize(self, texts):
        unknown = special_tokens_of(self).unknown
        parts = [[part for part in re.split("[ \t\n-]+", text) if part] for text in texts]
        return [[self.vocabulary.index(x) if x in self.vocabulary else unknown for x in row] for row in parts]


START, END = 2, 3  # of PLAIN, and of tokenizers that this library trains
PLAIN = FakeTokenizer("<pad>", "<unk>", "<s>", "</s>")  # pad 0, unknown 1, start 2, end 3; we 4 ... bread 9
GPT2 = FakeTokenizer("<|endoftext|>")  # pad, unknown, start and end 0; we 1 ... bread 6
XLNET = FakeTokenizer("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>")  # start 3, end 4, pad 5; we 6 ... bread 11
MARIAN = FakeTokenizer("</s>", "<unk>", "<pad>")  # start and pad 2, end 0; we 3 ... bread 8
