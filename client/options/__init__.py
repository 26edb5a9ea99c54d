"""Options that several commands share, and what commands make of them."""
