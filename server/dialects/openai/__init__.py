"""OpenAI's protocols: Realtime transcription, `POST /v1/audio/transcriptions`, ephemeral keys."""
