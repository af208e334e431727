"""Text generation with the layers: caches, prompts and single steps."""
