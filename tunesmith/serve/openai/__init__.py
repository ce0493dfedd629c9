"""OpenAI's API: requests, what they ask of the engine, answers and errors in its form."""
