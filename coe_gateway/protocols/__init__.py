"""Other protocols than OpenAI's chat completions, translated to those and back: pure, no I/O, no clock of their own."""
