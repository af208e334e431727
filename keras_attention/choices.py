"""Values of options that several parts of the library accept; without Keras, so that `--help` is fast."""

TOKENIZER_KINDS = ("sentencepiece", "bpe", "wordpiece", "words", "characters")
NORMALIZATIONS = ("identity", "nfkc")
PRECISIONS = ("float32", "bfloat16", "int8")
CELLS = {"simple": "SimpleRNN", "gru": "GRU", "lstm": "LSTM"}  # name of a recurrent cell -> its layer in keras.layers
