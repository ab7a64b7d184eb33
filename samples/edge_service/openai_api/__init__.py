"""OpenAI's chat completions over the stages of an agent."""
