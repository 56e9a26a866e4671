"""The dialects of OpenAI-style clients, from the same jobs and records as every other stream."""
