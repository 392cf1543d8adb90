"""Turn logits into text: CTC decoding, alignment, words with times."""
