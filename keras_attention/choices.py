"""Values of options that the library and the command line both accept; without Keras, so that `--help` is fast."""

TOKENIZER_KINDS = ("sentencepiece", "bpe", "wordpiece", "words", "characters")
NORMALIZATIONS = ("identity", "nfkc")
PRECISIONS = ("float32", "bfloat16", "int8")
