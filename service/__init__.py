"""The online part: where bytes come from, where memory is kept, who is notified."""
