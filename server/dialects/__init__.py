"""Wire protocols as thin adapters over the same sessions: `base` is what all share, `hooks` what each defines."""
