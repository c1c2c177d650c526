"""What a run costs, each row a ratio to a peer that was timed in the same run."""
