"""What a run is on disk: its trials, folder, storage and journal."""
