"""``littlefoot serve``: OpenAI's transcription API, live speech, a page. Needs the extra serve."""
