"""State that lives and moves: shards, their journal, the stream that feeds them, and every storage."""
