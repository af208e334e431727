"""`Task.data`: how each task reads, checks, batches and scores its raw examples."""
