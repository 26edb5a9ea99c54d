"""Translations of finals: translators behind one interface, and the thread that runs them. Never in a final's way."""
