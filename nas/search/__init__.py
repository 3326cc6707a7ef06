"""What to try next, when to stop a trial, what to confirm, and which trials stand on the front."""
