"""Messages to token ids and back, and supervised samples made of messages."""
