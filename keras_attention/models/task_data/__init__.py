"""`Task.data`: how each task reads, checks, batches and evaluates its raw examples."""
