"""OpenAI-compatible endpoints: the client, its limits, its costs, and a policy behind it."""
