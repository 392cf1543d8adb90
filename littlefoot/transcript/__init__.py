"""Transcriptions: words, segments, subtitles, and the formats that they are written in."""
