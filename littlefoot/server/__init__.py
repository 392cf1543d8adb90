"""``littlefoot serve``: OpenAI's transcription API, a WebSocket for live speech, a page. Needs the extra serve."""
