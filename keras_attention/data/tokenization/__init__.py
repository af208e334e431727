"""Strings to token ids and back: tokenizers, special tokens, readers of texts and of words."""
