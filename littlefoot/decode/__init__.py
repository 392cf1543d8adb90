"""From logits to text: CTC decoding, alignment, words with times, segments."""
