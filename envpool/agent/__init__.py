"""One episode: prompt, context, stop rules, journal, replay."""
