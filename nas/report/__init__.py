"""What is said of a run: JSON documents, the printed front, the table of all trials."""
