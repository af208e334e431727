"""From strings and images to outputs: encoded inputs, batches, detokenized results; embeddings and scores of texts."""
