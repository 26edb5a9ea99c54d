"""Voice commands: grammars, their compilation, matching and wake phrases; and hotwords."""
