"""From verdicts to a document: figures, captions, page, and each number's way back to its file."""
