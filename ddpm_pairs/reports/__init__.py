"""What a person looks at after a run: contact sheets, summaries and tables."""
