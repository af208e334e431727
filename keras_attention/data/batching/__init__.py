"""Split examples, and turn them into padded batches of similar length."""
