"""Research on recorded or replayed signals: replay and its reports."""
